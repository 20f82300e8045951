"""Calendar: a proved lower bound of w₂/w₁ − 1 for pairs of raw SVI slices, on the whole line.

Total variance at fixed log-moneyness must not fall with expiry (Gatheral & Jacquier 2014,
arXiv:1204.0646, §2.1). The slices are convex, in k and, divided by k, in 1/k: on a cell w₁ lies
below its chord and w₂ above its end tangents, which decides a cell without any square root inside
it. Branch and bound is preferred here to the roots of the quartic that the crossings satisfy
(ibid. §3.1): it gives a margin as well as a verdict, a root does not, and nearly touching
slices have nearly double roots, which rounding moves by the square root of its size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.arbitrage.cells import COARSE, Cells, at, cover, divided, too_many
from calib.arbitrage.slices import (
    UNIT_ROUNDOFF,
    Flags,
    Floats,
    SviSlices,
    has_chart,
    is_flat,
    minimum_variance,
)
from calib.models.arrays import Array, namespace

_PASSES = 12
_PARTS = 6  # of an undecided cell: few passes cost less than few cells
_CELLS = 128  # undecided ones of a pair: with more the slices are too near, and it is given up
_PAIRS = 128  # at once: the cells of a batch stay in a core's cache
_RELATIVE_GAP = 0.2  # how near to the infimum the margin has to come: tighter costs time only
_GAP = 1e-4


@dataclass(frozen=True, slots=True)
class CalendarResult:
    """The verdict on n pairs, arrays of shape (n,).

    `margin` is a proved lower bound of w₂/w₁ − 1 over the whole line, rounding included, close
    to the infimum (a fifth of it, or 1e-4) unless the slices are almost the same, when the pair is
    given up; -inf where nothing could be bounded. `ok` says that
    w₂ ≥ w₁ everywhere is proved. The margin is positive then, or exactly zero where the wings
    have the very same slopes (equal b and ρ) and w₂/w₁ tends to one.
    """

    ok: Flags
    margin: Floats


def certify_calendar(first: SviSlices, second: SviSlices) -> CalendarResult:
    """Prove or refuse w₂ ≥ w₁ for all k, pair by pair; `second` has the longer expiry.

    The same slice twice is ok with margin 0, and so is one that differs by a larger a or σ only.
    Other slices that touch, at a point or in the slope of one wing, are nearer than rounding can
    tell apart and are not ok. Flat slices are compared with the other's minimum. Slices with
    non-finite parameters, b < 0, σ ≤ 0 or |ρ| ≥ 1 are not ok.

    Rounding: w is computed within 32u(1 + 2·max(−a, 0)/w*), relatively, u = 2⁻⁵³ (the hyperbola
    is summed without cancellation); over a cell of width h a tangent adds at most 32ush, where s
    is b₂ in the centre and |a₂| + b₂(2|m₂| + σ₂) in a wing. Both are taken off.
    """
    count = first.number
    margin = np.full(count, -np.inf)
    flat_first, flat_second = is_flat(first), is_flat(second)
    curved_first, curved_second = has_chart(first), has_chart(second)
    proved = np.zeros(count, dtype=np.bool_)

    both = np.flatnonzero(curved_first & curved_second)
    for begin in range(0, both.size, _PAIRS):
        batch = both[begin : begin + _PAIRS]
        margin[batch], proved[batch] = _lower_bound(first.take(batch), second.take(batch))

    # A flat slice below a curved one: the curved one's minimum decides. Above one: its wings do.
    lifted = flat_first & (flat_second | curved_second)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        height = np.where(flat_second, second.a, minimum_variance(second))
        loss = 32.0 * UNIT_ROUNDOFF * (np.abs(second.a) + np.abs(height)) * ~flat_second
        ratio = (height - loss) / first.a - 1.0
    margin[lifted] = ratio[lifted]
    proved |= lifted & (ratio >= 0.0)
    margin[curved_first & flat_second] = -1.0
    return CalendarResult(ok=proved, margin=margin)


def is_close(lower: Array, seen: Array, floor: Array | float = 0.0) -> Array:
    """Whether a lower bound decides, and is as near as promised to a value of w₂/w₁ − 1.

    `floor` is how much has to be seen of a value to tell its sign.
    """
    decided = (lower > floor) | (seen < floor)
    return decided & (lower >= seen - namespace(seen).maximum(_RELATIVE_GAP * abs(seen), _GAP))


def _lower_bound(first: SviSlices, second: SviSlices) -> tuple[Floats, Flags]:
    """Margins and verdicts of pairs of curved slices."""
    count = first.number
    parallel = (first.b == second.b) & (first.rho == second.rho)
    nested = parallel & (first.m == second.m)
    nested &= (second.a >= first.a) & (second.sigma >= first.sigma)
    parameters = np.array([first, second]).transpose(1, 0, 2)
    lowest = np.array([minimum_variance(first), minimum_variance(second)])
    cancellation = 1.0 + 2.0 * (np.maximum(-parameters[0], 0.0) / lowest).sum(axis=0)
    loss = 64.0 * UNIT_ROUNDOFF * cancellation

    lower, upper = np.full(count, np.inf), np.full(count, np.inf)
    # What rounding cannot decide is not pursued.
    floor = np.where(nested, np.inf, 2.0 * loss)
    cells = cover((first, second), COARSE)
    for _ in range(_PASSES):
        owner = cells.owner
        start, bound = _ratios(parameters, cells, parallel)
        np.minimum.at(upper, owner, start)
        best = upper[owner]
        done = is_close(bound, best, floor[owner])
        done |= too_many(owner, ~done, count, _CELLS)
        np.minimum.at(lower, owner[done], bound[done])
        left = np.flatnonzero(~done)
        if left.size == 0:
            break
        cells = divided(cells.take(left), _PARTS)
    else:
        np.minimum.at(lower, cells.owner, _ratios(parameters, cells, parallel)[1])
    lower -= loss * (1.0 + np.abs(lower))
    proved = (lower > 0.0) | nested
    lower = np.where(parallel, np.minimum(lower, 0.0), lower)
    return np.where(nested, 0.0, lower), proved


def _ratios(parameters: Floats, cells: Cells, parallel: Flags) -> tuple[Floats, Floats]:
    """w₂/w₁ − 1 at the start of each cell, and a lower bound of it on each cell.

    In a wing both are divided by |k| and run in 1/|k|, where the slope of W = w/|k| is the
    intercept i. The chord of w₂ less a quarter of (slope change)·h lies below its tangents.
    A cell that reaches infinity may use the asymptote, its tangent there, alone: it meets the
    ratio of the wing slopes without loss. Where these are the same number, infinity itself
    needs no comparison, and only the other end counts.
    """
    own = np.take(parameters, cells.owner, axis=2)
    count = cells.owner.size
    points = at(
        np.concatenate([own, own], axis=2),
        np.concatenate([cells.u, cells.u_end]),
        np.concatenate([cells.v, cells.v_end]),
    )
    w = points.scaled_variance
    direction = np.where(np.concatenate([cells.wing] * 2), points.intercept[1], points.slope[1])
    start, end = direction[:count], direction[count:]
    width = cells.width
    sag = width * (0.25 * np.maximum(end - start, 0.0))
    a, b, _, m, sigma = own[:, 1]
    size = np.where(cells.wing, np.abs(a) + b * (2.0 * np.abs(m) + sigma), b)
    blur = (32.0 * UNIT_ROUNDOFF) * width * size
    w1, w1_end = w[0, :count], w[0, count:]
    w2, w2_end = w[1, :count], w[1, count:]
    ratio = (w2 - w1) / w1
    ratio_end = (w2_end - w1_end) / w1_end
    bound = np.minimum(ratio - (sag + blur) / w1, ratio_end - (sag + blur) / w1_end)
    at_infinity = cells.v == 0.0
    if at_infinity.any():
        asymptote = ((w2 + width * start) - blur - w1_end) / w1_end
        same = parallel[cells.owner]
        bound = np.where(
            at_infinity,
            np.where(same, asymptote, np.maximum(bound, np.minimum(ratio, asymptote))),
            bound,
        )
        ratio = np.where(at_infinity & same, np.inf, ratio)
    return ratio, bound
