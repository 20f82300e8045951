"""Butterfly: a proved lower bound of Durrleman's function of raw SVI slices on the whole line.

Gatheral & Jacquier (2014), arXiv:1204.0646, §2: a slice is free of butterfly arbitrage when
g(k) = (1 − kw′/(2w))² − (w′²/4)(1/w + ¼) + w″/2 ≥ 0 for all k and both wing slopes are below 2.

With s = √(1−ρ²), t₀ = √((1−ρ)/(1+ρ)) and k = m + σ(t₀τ − 1/(t₀τ))/2, τ > 0, the square root of
SVI is rational, and so is g:

    P = c(1−τ)² + w*τ,  c = bσs/2,  w* = a + 2c          w  = P/τ
    D = 1 + t₀²τ²,      N = b(1−ρ)(τ²−1)                 w′ = N/D
    K = −σ/t₀ + 2mτ + σt₀τ²                              k  = K/(2τ)

    G = D(4PD − KN)² − 4τN²PD − N²P²D + 64(b/σ)t₀³τ³P²,   V = 16P²D³,   g = G/V.

Both polynomials have degree 10, and V has positive Bernstein coefficients on [0, 1], where
therefore g ≥ min Gᵢ/Vᵢ. Cutting the interval tightens the bound quadratically; τ > 1 is the
mirrored slice. g(±∞) = ¼ − β²/16 is the coefficient at τ = 0, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np

from calib.arbitrage.slices import UNIT_ROUNDOFF, Flags, Floats, SviSlices, has_chart, is_flat
from calib.models.arrays import Array, namespace

_DEGREE = 10
_BLOCK = 256  # slices at once: stays in a core's cache, and below BLAS's threshold for threads
_QUARTERINGS = 20  # a piece that is undecided after so many is a failure
_RELATIVE_GAP = 0.2  # how near to the minimum the margin has to come: tighter costs time only
_GAP = 1e-3


@dataclass(frozen=True, slots=True)
class ButterflyResult:
    """The verdict on n slices, arrays of shape (n,).

    `margin` is a proved lower bound of g over the whole line, rounding included, close to the
    minimum itself (a fifth of it, or .001); -inf where nothing could be bounded. `ok` says that
    the margin is positive and that both wing slopes are below 2. Undecided is not ok.
    """

    ok: Flags
    margin: Floats

    @classmethod
    def of(cls, slices: SviSlices, margin: Floats) -> ButterflyResult:
        """The verdict that follows from proved lower bounds of g and from the wing slopes."""
        with np.errstate(invalid="ignore", over="ignore"):
            slope = slices.b * (1.0 + np.abs(slices.rho)) * (1.0 + 8.0 * UNIT_ROUNDOFF)
            lee = (slope < 2.0) | (slices.b == 0.0)
        return cls(ok=(margin > 0.0) & lee, margin=margin)


def certify_butterfly(slices: SviSlices) -> ButterflyResult:
    """Prove or refuse freedom from butterfly arbitrage, slice by slice, on the whole real line.

    Not ok, with margin -inf: non-finite parameters, b < 0, σ ≤ 0, |ρ| ≥ 1, minimum variance not
    visibly positive. A flat slice (b = 0, a > 0) has g = 1.

    Rounding: a coefficient of G or V goes through fewer than 60 roundings, and through 11 more
    in every quartering. Let κV bound, coefficient by coefficient, the sum of the absolute values
    of all terms of G; quartering has positive weights and keeps that bound. Then G/V is known
    within 2(60 + 11·20)uκ < 1024uκ, u = 2⁻⁵³. The minimum variance w* = a + 2c, where a may cancel,
    is relatively wrong by 6uφ, φ = (|a| + 2c)/w*, and enters to the fourth power in G and to the
    second in V: 36uφκ more. Both are taken off the margin, with room for higher orders.
    """
    count = slices.number
    margin = np.full(count, -np.inf)
    margin[is_flat(slices)] = 1.0
    usable = np.flatnonzero(has_chart(slices))
    for start in range(0, usable.size, _BLOCK):
        block = usable[start : start + _BLOCK]
        margin[block] = _lower_bound(slices.take(block))
    return ButterflyResult.of(slices, margin)


# Polynomials are held by the coefficients of xⁿ⁻ⁱyⁱ, x = 1 − τ, y = τ: Bernstein coefficients
# times binomials. Products are then plain convolutions without a sign, and ratios need no
# binomials. A convolution is one outer product and one sum along its anti-diagonals.


def _anti_diagonals(rows: int, columns: int) -> Floats:
    table = np.zeros((rows + columns - 1, rows * columns))
    for i in range(rows):
        for j in range(columns):
            table[i + j, i * columns + j] = 1.0
    return table


def _placed(coefficients: tuple[float, ...], length: int, shift: int) -> Floats:
    """The matrix of multiplication by a fixed polynomial, into degree 10, from `length` rows."""
    table = np.zeros((_DEGREE + 1, length))
    for j in range(length):
        for i, value in enumerate(coefficients):
            table[i + j + shift, j] = value
    return table


def _halving() -> tuple[Floats, Floats]:
    """Coefficients on [0, ½] and on [½, 1]; all entries are positive and exact."""
    left = np.zeros((_DEGREE + 1, _DEGREE + 1))
    for i in range(_DEGREE + 1):
        for j in range(i, _DEGREE + 1):
            left[j, i] = comb(_DEGREE - i, j - i) / 2.0**j
    return left, left[::-1, ::-1]


_THREE_BY_THREE = _anti_diagonals(3, 3)
_FIVE_BY_THREE = _anti_diagonals(5, 3)
_FIVE_BY_FIVE = _anti_diagonals(5, 5)
_NINE_BY_THREE = _anti_diagonals(9, 3)
_X_X_PLUS_2Y = np.array([[1.0, 0, 0], [2, 1, 0], [0, 2, 1], [0, 0, 2], [0, 0, 0]])
# N² = n₀²x²(x + 2y)² beside PD(P + 4τ), and τ³ = y³(x + y)³ beside P².
_ASSEMBLY = np.hstack([np.eye(_DEGREE + 1), -_placed((1, 4, 4), 7, 0), _placed((1, 3, 3, 1), 5, 3)])


def _subdivision(halvings: int) -> Floats:
    """Coefficients on each of 2^halvings equal pieces of [0, 1], one piece after the other."""
    pieces = [np.eye(_DEGREE + 1)]
    for _ in range(halvings):
        pieces = [half @ piece for piece in pieces for half in _halving()]
    return np.vstack(pieces)


_QUARTERS = _subdivision(2)
PIECES = _subdivision(5)
"""On 32 pieces at once; rounded themselves, with a relative error of a few units."""


def _times(p: Array, q: Array, table: Floats) -> Array:
    outer = p[:, None, :] * q[None, :, :]
    return table @ outer.reshape(table.shape[1], -1)


def polynomials(slices: SviSlices) -> tuple[Array, Array, Array]:
    """G and V on τ ∈ [0, 1], shape (11, n), and a bound (n,) on the rounding error of G/V."""
    a, b, rho, m, sigma = slices
    xp = namespace(a)
    ones = xp.ones_like(a)
    t0_squared = (1.0 - rho) / (1.0 + rho)
    t0 = xp.sqrt(t0_squared)
    c = 0.5 * b * sigma * xp.sqrt((1.0 - rho) * (1.0 + rho))
    lowest = a + 2.0 * c
    n0 = b * (1.0 - rho)
    low, high, shift = sigma / t0, sigma * t0, 2.0 * m

    p = xp.array([c, lowest, lowest])
    d = xp.array([ones, 2.0 * ones, 1.0 + t0_squared])
    minus_k = xp.array([low, 2.0 * low - shift, (low - high) - shift])
    k_size = xp.array([low, 2.0 * low + abs(shift), low + high + abs(shift)])
    pd = _times(p, d, _THREE_BY_THREE)
    # −KN = n₀·K·x(x + 2y) because τ² − 1 = −x(x + 2y); it enters the square with its sign turned.
    kn = (_X_X_PLUS_2Y @ minus_k) * n0
    kn_size = (_X_X_PLUS_2Y @ k_size) * n0
    lanes = xp.concatenate([4.0 * pd - kn, 4.0 * pd], axis=1)
    squares = _times(lanes, lanes, _FIVE_BY_FIVE)
    cubes = _times(squares, xp.concatenate([d, d], axis=1), _NINE_BY_THREE)
    v = cubes[:, a.size :]
    p_plus_4tau = xp.array([c, lowest + 4.0, lowest + 4.0])
    slope_part = _times(pd, p_plus_4tau, _FIVE_BY_THREE) * (n0 * n0)
    curvature_part = _times(p, p, _THREE_BY_THREE) * (64.0 * b / sigma * t0 * t0_squared)
    g = _ASSEMBLY @ xp.concatenate([cubes[:, : a.size], slope_part, curvature_part])

    # κ: (4PD + |KN|)² ≤ (1 + q)²(4PD)²; N ≤ n₀D; τ ≤ P/w*; each coefficient by coefficient.
    q = (kn_size / (4.0 * pd)).max(axis=0)
    curvature = ((_ASSEMBLY[:, 18:] @ curvature_part) / v).max(axis=0)
    kappa = (1.0 + q) ** 2 + n0 * n0 * (0.0625 + 0.25 / lowest) + curvature
    cancellation = (abs(a) + 2.0 * c) / lowest
    error = UNIT_ROUNDOFF * (1024.0 + 64.0 * cancellation) * kappa
    return g, v, error


def is_close(lower: Array, seen: Array) -> Array:
    """Whether a lower bound decides, and is as near as promised to a value that g takes."""
    decided = (lower > 0.0) | (seen < 0.0)
    return decided & (lower >= seen - namespace(seen).maximum(_RELATIVE_GAP * abs(seen), _GAP))


def _lower_bound(slices: SviSlices) -> Floats:
    """A lower bound of g for slices that have the chart, by branch and bound on τ."""
    both = SviSlices(*map(np.concatenate, zip(slices, slices.mirrored(), strict=True)))
    count = slices.number
    g, v, error = polynomials(both)
    owner = np.concatenate([np.arange(count)] * 2)
    lower = np.full(count, np.inf)
    upper = np.full(count, np.inf)
    for _ in range(_QUARTERINGS):
        ratio = g / v
        least = ratio.min(axis=0)
        floor = least - error
        np.minimum.at(upper, owner, np.minimum(ratio[0], ratio[-1]))
        best = upper[owner]
        done = is_close(floor, best)
        # Where rounding is what is left, cutting further is of no use.
        done |= ratio.max(axis=0) - least <= error
        np.minimum.at(lower, owner[done], floor[done])
        left = np.flatnonzero(~done)
        if left.size == 0:
            return lower
        pieces = _QUARTERS @ np.concatenate([g[:, left], v[:, left]], axis=1)
        pieces = pieces.reshape(4, _DEGREE + 1, 2, left.size).transpose(2, 1, 0, 3)
        g, v = pieces.reshape(2, _DEGREE + 1, 4 * left.size)
        owner, error = np.concatenate([owner[left]] * 4), np.concatenate([error[left]] * 4)
    np.minimum.at(lower, owner, (g / v).min(axis=0) - error)
    return lower
