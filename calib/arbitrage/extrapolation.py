"""Before the first expiry and beyond the last one: what the published rules keep free of arbitrage.

Before the first, w = λw₁ with λ = τ/τ₁ in [0, 1]. At a fixed k Durrleman's function of λw₁ is
concave in λ,

    g(λ) = (1 − kw₁′/(2w₁))² − λ(w₁′²/(4w₁) − w₁″/2) − λ²w₁′²/16,

not negative at λ = 0, so that g(λ) ≥ λ·g(1): the slice's own certificate covers all earlier times
(and a certificate at a raised level, of λw with λ > 1, covers all lower levels). w never falls in
time, as τ does not: by a clock of weekends and events as by plain years.

Beyond the last, w = w_N + c with c = (τ/τ_N − 1)·w_N(0) ≥ 0, never falling either. With
μ = w_N/(w_N + c) in (0, 1], and y and g those of w_N (see `calib.arbitrage.shapes`),

    4g(c) = (2(1−μ) + μ(1+y))² − μw′²/w − w′²/4 + 2w″,

a quadratic in μ with the Bernstein coefficients

    B₀ = 4 − w′²/4 + 2w″,   B₁ = 2(1+y) − w′²/(2w) − w′²/4 + 2w″,   B₂ = 4g.

Where kw′ ≥ 0, y ≤ 1; and y ≥ −1 on slices without arbitrage (Fukasawa 2012, theorem 2.8, says that
1 − kw′/(2w) ± w′/4 > 0). Then B₀ ≥ B₁ ≥ B₂, and a raise only helps. Where kw′ < 0, between the
money and the vertex, y > 1, |w′| ≤ |w′(0)| and w ≥ w*, so B₁ ≥ 4 − w′(0)²(1/(2w*) + ¼): hardly
ever too little, and then the three coefficients are bounded from below on cells of the line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.arbitrage.cells import FINE, Cells, cover, divided, too_many
from calib.arbitrage.course import along
from calib.arbitrage.parabola import quotients
from calib.arbitrage.rounding import Amplification
from calib.arbitrage.shapes import durrleman, enclose
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
_CELLS = 256  # undecided ones of a slice: with more it is given up
_BATCH = 64  # slices at once: their cells stay in a core's cache


@dataclass(frozen=True, slots=True)
class ExtrapolationResult:
    """The verdict on n last slices, arrays of shape (n,).

    `margin` is a proved lower bound of g of w + c over all k and all c ≥ 0; -inf where none was
    found. `ok` says that it is positive. Undecided is not ok.
    """

    ok: Flags
    margin: Floats


def certify_extrapolation(last: SviSlices, butterfly_margin: Floats) -> ExtrapolationResult:
    """Prove that w + c is free of butterfly arbitrage for every c ≥ 0, slice by slice.

    `butterfly_margin` is the proved margin of the slices themselves; one that is not positive
    is not ok. Flat slices stay flat, with g = 1.
    """
    margin = np.full(last.number, -np.inf)
    margin[is_flat(last) & (butterfly_margin > 0.0)] = 1.0
    usable = np.flatnonzero(has_chart(last) & (butterfly_margin > 0.0))
    margin[usable] = quick_bound(last.take(usable), 4.0 * butterfly_margin[usable]) / 4.0
    # A bound that is much below what the slice has may only be weak: look closer.
    weak = usable[~enough(margin[usable], butterfly_margin[usable])]
    for begin in range(0, weak.size, _BATCH):
        batch = weak[begin : begin + _BATCH]
        closer = _lower_bound(last.take(batch), 4.0 * butterfly_margin[batch]) / 4.0
        margin[batch] = np.maximum(margin[batch], closer)
    return ExtrapolationResult(ok=margin > 0.0, margin=margin)


def enough(bound: Array, floor: Array) -> Array:
    """Whether a bound is at least half of what the slice itself has."""
    return (floor > 0.0) & (bound >= 0.5 * floor)


def lowest_quadratic(start: Floats, middle: Floats, end: Floats) -> Floats:
    """The minimum on [0, 1] of a quadratic with these Bernstein coefficients, rounded down.

    Increasing in all three.
    """
    bend = (start - middle) + (end - middle)
    inside = (middle < start) & (middle < end)
    safe = np.where(inside, bend, 1.0)
    # Written from the coefficient: middle + (start − middle)(end − middle)/bend.
    rise = (start - middle) * ((end - middle) / safe)
    dip = middle + rise - 8.0 * UNIT_ROUNDOFF * (np.abs(start) + 2.0 * np.abs(middle) + np.abs(end))
    return np.where(inside, dip, np.minimum(start, end))


def quick_bound(last: SviSlices, floor: Array) -> Array:
    """A lower bound of 4g over all c ≥ 0 from the slope at the money and the vertex alone.

    `floor` is one at c = 0. Arrays are of numpy or jax.numpy.
    """
    a, b, rho, m, sigma = last
    xp = namespace(b)
    blur = 16.0 * UNIT_ROUNDOFF
    slope = abs(b * (rho - m / xp.hypot(m, sigma))) + blur * b
    lowest = minimum_variance(last)
    lowest = lowest - blur * (2.0 * abs(a) + lowest)
    between = 4.0 - (1.0 + blur) * slope * slope * (0.5 / lowest + 0.25)
    return xp.minimum(floor, between)


def _lower_bound(last: SviSlices, floor: Floats) -> Floats:
    """A lower bound of 4g over all c ≥ 0; `floor` holds at c = 0."""
    lower = np.full(last.number, np.inf)
    parameters = np.array(last)
    amplification = Amplification.of((last,))
    cells = cover((last,), FINE)
    for number in range(_PASSES):
        owner = cells.owner
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            bound = _bounds(parameters, cells, floor[owner], amplification.take(owner))
        done = bound >= floor[owner] * 0.5 ** (1 + number)
        np.minimum.at(lower, owner[done], bound[done])
        hopeless = ~done & too_many(owner, ~done, last.number, _CELLS)
        lower[owner[hopeless]] = -np.inf
        left = np.flatnonzero(~done & ~hopeless)
        if left.size == 0:
            return lower
        cells = divided(cells.take(left), _PARTS)
    lower[cells.owner] = -np.inf
    return lower


def _bounds(
    parameters: Floats, cells: Cells, floor: Floats, amplification: Amplification
) -> Floats:
    own = np.take(parameters, cells.owner, axis=1)
    shapes = enclose(own, cells, along(own, cells))
    y, x = quotients((shapes.intercept, shapes.scaled_slope), shapes.scaled_variance)
    p = shapes.slope
    rest = shapes.curvature.scaled(2.0).minus(p.squared().scaled(0.25))
    middle = rest.plus(y.shifted(1.0).scaled(2.0)).minus(p.times(x).scaled(0.5))
    rounding = amplification.error(y.size, shapes.curvature.size, np.zeros_like(floor))
    return lowest_quadratic(
        rest.shifted(4.0).lowest - rounding,
        middle.lowest - rounding,
        np.maximum(durrleman(shapes, y, x).lowest - rounding, floor),
    )
