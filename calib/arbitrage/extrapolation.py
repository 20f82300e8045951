"""Before the first expiry and beyond the last one: what the published rules keep free of arbitrage.

Before the first, w = w₁·t/T₁. At a fixed k Durrleman's function of λw₁ is concave in λ,

    g(λ) = (1 − kw₁′/(2w₁))² − λ(w₁′²/(4w₁) − w₁″/2) − λ²w₁′²/16,

not negative at λ = 0, so that g(λ) ≥ λ·g(1): the slice's own certificate covers all earlier times
(and a certificate at a raised level, of λw with λ > 1, covers all lower levels). w increases in t.

Beyond the last, w = w_N + c with c ≥ 0 growing in t. With μ = w_N/(w_N + c) in (0, 1], and y and g
those of w_N (see `calib.arbitrage.shapes`),

    4g(c) = (2(1−μ) + μ(1+y))² − μw′²/w − w′²/4 + 2w″,

a quadratic in μ whose Bernstein coefficients are 4 − w′²/4 + 2w″, 2(1+y) − w′²/(2w) − w′²/4 + 2w″
and 4g: three functions of k, bounded from below on cells of the line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.arbitrage.affine import Affine
from calib.arbitrage.cells import FINE, Cells, cover, divided, too_many
from calib.arbitrage.rounding import Amplification
from calib.arbitrage.shapes import Shapes, durrleman, enclose
from calib.arbitrage.slices import Flags, Floats, SviSlices, has_chart, is_flat

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
    for begin in range(0, usable.size, _BATCH):
        batch = usable[begin : begin + _BATCH]
        margin[batch] = _lower_bound(last.take(batch), 4.0 * butterfly_margin[batch]) / 4.0
    return ExtrapolationResult(ok=margin > 0.0, margin=margin)


def lowest_quadratic(start: Floats, middle: Floats, end: Floats) -> Floats:
    """A lower bound of a quadratic on [0, 1] by Bernstein coefficients; increasing in all three.

    It is the minimum itself where all are finite.
    """
    bend = (start - middle) + (end - middle)
    inside = (middle < start) & (middle < end)
    safe = np.where(inside, bend, 1.0)
    # Written from the coefficient: middle + (start − middle)(end − middle)/bend.
    dip = middle + (start - middle) * ((end - middle) / safe)
    return np.where(inside, dip, np.minimum(start, end))


def _lower_bound(last: SviSlices, floor: Floats) -> Floats:
    """A lower bound of 4g over all c ≥ 0; `floor` holds at c = 0."""
    lower = np.full(last.number, np.inf)
    parameters = np.stack(last)[:, None, :]
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
    shapes = Shapes.of_rows(enclose(parameters, cells))
    quotients = Affine(
        *(np.stack(pair) for pair in zip(shapes.intercept, shapes.scaled_slope, strict=True))
    ).over(shapes.scaled_variance)
    y, x = quotients.row(0), quotients.row(1)
    p = shapes.slope
    rest = shapes.curvature.scaled(2.0).minus(p.squared().scaled(0.25))
    middle = rest.plus(y.shifted(1.0).scaled(2.0)).minus(p.times(x).scaled(0.5))
    rounding = amplification.error(y, shapes.curvature, np.zeros_like(floor))
    return lowest_quadratic(
        rest.shifted(4.0).lowest[0] - rounding,
        middle.lowest[0] - rounding,
        np.maximum(durrleman(shapes, y, x).lowest[0] - rounding, floor),
    )
