"""SABR on complex discs: how large w and the derivatives of ln σ can become about a real k.

The roots of Q = 1 − 2ρz + z² are e^{±iθ}, cos θ = ρ; the distance to both from a real z is
√Q = d. x(z) = arsinh((z−ρ)/√(1−ρ²)) + artanh ρ is analytic off the cuts that start there and lead
away from the real line, and maps to the strip |Im x| < π/2. With R = √Q,

    ln(z/x) = ln((1+R)/2) + Λ(x),   Λ(x) = ln(tanh(x/2)/(x/2)),   x′ = 1/R,   R″ = (1−ρ²)/R³,

as in `calib.models.sabr`. In that strip |Λ′| ≤ 1 − 2/π and |Λ″| ≤ 4/π² (their moduli on its edge,
where they are largest at x = ±iπ/2; both vanish at infinity). For |z − z₀| ≤ rd, r < 1, about a
real z₀ the two factors of Q turn by at most arcsin r each, so that Re R ≥ |R|√(1−r²), and
d(1−r) ≤ |R| ≤ d(1+r), |x − x₀| ≤ −ln(1−r). No root of x(z)/z lies there, and all terms of ln σ and
of its derivatives are bounded one by one.

D(L) = 1 + L²/24 + L⁴/1920 has four roots, at distance 6.473 from the real line, and
D′/D = Σ 1/(L − root). The powers of e^{(1−β)k/2} grow by known factors; so does 1 + T·H, which has
to keep away from zero.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from calib.arbitrage.slices import UNIT_ROUNDOFF, Floats

_FIRST = 0.3634
_SECOND = 0.4053
"""1 − 2/π and 4/π²: bounds of Λ′ and Λ″, rounded up."""
_POLE = 6.473
"""Distance of the roots of D from the real line, rounded down."""

_SHARE = 0.5
"""Of the distances to singularities that a disc takes: chosen by timing."""
_WIDEST = 0.5
"""Largest (1−β)·R."""
_LARGEST = 20.0
"""Largest R, where nothing else limits it."""


_ROUNDINGS = 16384.0 * UNIT_ROUNDOFF
"""Bounds what rounding does to a value of w, w′, w″, of g or its like, or to a Bernstein
coefficient of these, as a share of the sum of the bounds of all terms on the disc.

Terms pass fewer than 200 roundings, an exp, log1p or sqrt counted as 4, and have these bounds. What
cancels is apart: the sum 1 + T·H (`Sizes.amplification`), and Λ′ and Λ″, which are differences of
8 and 64 at most and are known within 3,000u of their bounds. Bernstein coefficients have three
times the error of the values and 9u more: less than 10,000u in all.
"""


class Columns(NamedTuple):
    """Parameters of the slices of lanes, arrays that broadcast with these."""

    alpha: Floats
    beta: Floats
    rho: Floats
    nu: Floats
    years: Floats


def reach(columns: Columns, k: Floats) -> Floats:
    """A radius about each real k for which `Sizes` finds good bounds; 0 where there is none."""
    alpha, beta, rho, nu, years = columns
    elasticity = 1.0 - beta
    e = np.exp(0.5 * elasticity * k)
    scale = nu / alpha * e
    ahead = scale * k + rho
    distance = np.sqrt(ahead * ahead + (1.0 - rho) * (1.0 + rho))
    by_z = _SHARE * distance / np.maximum(scale * (1.0 + 0.5 * elasticity * np.abs(k)), 1e-12)
    backbone, skew, time = _time(columns, e)
    pull = years * elasticity * (backbone + np.abs(skew))
    by_time = _SHARE * time / np.maximum(pull, 1e-12)
    by_elasticity = _WIDEST / np.maximum(elasticity, 1e-12)
    radius = np.minimum(np.minimum(by_z, by_time), np.minimum(by_elasticity, _LARGEST))
    return np.asarray(np.where(time > 0.0, radius, 0.0))


def _time(columns: Columns, e: Floats) -> tuple[Floats, Floats, Floats]:
    """(1−β)²α²/(24e²), ρβνα/(4e) and 1 + T·H."""
    alpha, beta, rho, nu, years = columns
    scaled = (1.0 - beta) * alpha / e
    backbone = scaled * scaled / 24.0
    skew = rho * beta * nu * alpha / (4.0 * e)
    time = 1.0 + years * (backbone + skew + (2.0 - 3.0 * rho * rho) * nu * nu / 24.0)
    return backbone, skew, time


class Sizes(NamedTuple):
    """Upper bounds on discs, one for each lane; infinite where none was found.

    With u = ln σ: `variance` of |w|, `first` of |u′|, `second` of |u″|.
    """

    variance: Floats
    first: Floats
    second: Floats
    amplification: Floats
    """By how much the sum 1 + T·H amplifies rounding errors of its terms."""

    @classmethod
    def on(cls, columns: Columns, centre: Floats, radius: Floats, w: Floats) -> Sizes:
        """About real centres, where total variance is `w`."""
        alpha, beta, rho, nu, years = columns
        elasticity = 1.0 - beta
        flat = (1.0 - rho) * (1.0 + rho)
        span = elasticity * radius
        growth = np.exp(0.5 * span)
        e = np.exp(0.5 * elasticity * centre)
        away = np.abs(centre) + radius

        scale = nu / alpha * e
        z_shift = scale * (np.abs(centre) * (growth - 1.0) + radius * growth)
        ahead = np.abs(scale * centre + rho)
        distance = np.sqrt(ahead * ahead + flat)
        r = z_shift / distance
        inside = r < 1.0
        r = np.where(inside, r, 0.5)
        near = distance * (1.0 - r)  # ≤ |R|
        above = 1.0 + near * np.sqrt((1.0 - r) * (1.0 + r))  # ≤ |1 + R|
        lean = (ahead + z_shift) / near  # ≥ |R′|
        bend = lean / above
        by_z = bend + _FIRST / near
        by_z_twice = (
            flat / (near * near * near * above) + bend * bend
            + (_SECOND + _FIRST * lean) / (near * near)
        )  # fmt: skip
        z_by_k = scale * growth * (1.0 + 0.5 * elasticity * away)
        z_by_k_twice = scale * growth * elasticity * (1.0 + 0.25 * elasticity * away)

        pole = _POLE - span
        inside &= pole > 0.0
        pole = np.where(pole > 0.0, pole, 1.0)

        backbone, skew, time = _time(columns, e)
        skew = np.abs(skew)
        wide = backbone * growth * growth
        time_shift = years * (wide - backbone + skew * (growth - 1.0))
        least = time - time_shift
        inside &= least > 0.0
        least = np.where(least > 0.0, least, 1.0)
        pull = years * elasticity / least
        by_time = pull * (wide + 0.5 * skew * growth)
        by_time_twice = pull * elasticity * (wide + 0.25 * skew * growth) + by_time * by_time

        first = by_z * z_by_k + elasticity * (0.5 + 4.0 / pole) + by_time
        second = (
            by_z_twice * z_by_k * z_by_k + by_z * z_by_k_twice
            + (2.0 * elasticity / pole) ** 2 + by_time_twice
        )  # fmt: skip
        vol_growth = (
            growth * (_POLE / pole) ** 4 * (1.0 + distance * (1.0 + r)) / (1.0 + distance)
            * (1.0 - r) ** (-_FIRST) * (1.0 + time_shift / least)
        )  # fmt: skip
        terms = 1.0 + years * (backbone + skew + (2.0 + 3.0 * rho * rho) * nu * nu / 24.0)
        lost = np.where(inside, 0.0, np.inf)
        return cls(
            w * vol_growth * vol_growth + lost, first + lost, second + lost, terms / least + lost
        )


def rounding_share(centre: Floats, half: Floats, radius: Floats, amplification: Floats) -> Floats:
    """The share of the bounds on discs that rounding errors stay below on cells inside.

    k, e^{(1−β)k/2} and z are known as if k were off by 8u|k|. A function that is bounded by M and
    analytic within d = radius − half is moved by M·8u|k|/d by that, which the factor 1 + |k|/d
    covers. Infinite where the disc is not larger than the cell.
    """
    room = radius - half
    inside = room > 0.0
    factor = 1.0 + np.abs(centre) / np.where(inside, room, 1.0)
    return np.where(inside, _ROUNDINGS * factor * amplification * amplification, np.inf)
