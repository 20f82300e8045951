"""Butterfly of SABR on the quoted range: a proved lower bound of Durrleman's function.

Gatheral & Jacquier (2014), arXiv:1204.0646, §2: g = (1 − kw′/(2w))² − (w′²/4)(1/w + ¼) + w″/2.
With u = ln σ, whose derivatives `calib.arbitrage.sabr_discs` bounds on complex discs,

    g = (1 − ku′)² + w(u″ + u′²) − w²u′²/4

is analytic there and bounded by the sum of the bounds of its terms. Cells of the range are
decided from values at nine points each (`calib.arbitrage.interpolants`).

Raised slices w + c, c ≥ 0, which the published rule has beyond the last expiry, are quadratic in
μ = w/(w+c) with the Bernstein coefficients 4 − w′²/4 + 2w″, 2(1+y) − w′²/(2w) − w′²/4 + 2w″ and 4g
(`calib.arbitrage.extrapolation`), 1 + y = 2(1 − ku′): all three are treated in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.arbitrage.cells import Indices, too_many
from calib.arbitrage.extrapolation import lowest_quadratic
from calib.arbitrage.interpolants import MIDDLE, POINTS, bernstein, truncation
from calib.arbitrage.intervals import Intervals, partition, samples
from calib.arbitrage.sabr_discs import Columns, Sizes, reach, rounding_share
from calib.arbitrage.sabr_slices import SabrSlices, is_ordinary
from calib.arbitrage.slices import Flags, Floats
from calib.models import sabr

_SAMPLES = 13
FINENESS = 0.8
"""Widths of first cells in radii of their discs, chosen by timing."""
FARTHEST = 6.0
"""Discs larger than so many half-widths gain nothing and have larger bounds."""
_PASSES = 12
_PARTS = 3
_CELLS = 256  # undecided ones of a slice: with more it is given up
_BLOCK = 512  # cells at once: what they need stays in a core's cache
_RELATIVE_GAP = 0.2  # how near to the minimum the margin has to come: tighter costs time only
_GAP = 1e-3


@dataclass(frozen=True, slots=True)
class SabrButterflyResult:
    """The verdict on n slices, arrays of shape (n,).

    `margin` is a proved lower bound of g on the quoted range, close to the minimum itself (a
    fifth of it, or .001) where that is positive; -inf where nothing could be bounded. `raised` is
    such a bound for all w + c, c ≥ 0, of the slices for which it was asked; for the others it
    is `margin`. `ok` and `raised_ok` say that they are positive. Undecided is not ok.
    """

    ok: Flags
    margin: Floats
    raised_ok: Flags
    raised: Floats


def certify_sabr_butterfly(slices: SabrSlices, raised: Flags | bool = False) -> SabrButterflyResult:
    """Prove or refuse freedom from butterfly arbitrage within the quoted ranges, slice by slice.

    `raised` says of which slices the raised ones are to be proved as well. Not ok, with margin
    -inf: parameters out of their domain, and slices with 1 + T·H ≤ 0 on their range.
    """
    margin, lifted = np.full((2, slices.number), -np.inf)
    usable = np.flatnonzero(is_ordinary(slices))
    if usable.size == 0:
        return SabrButterflyResult(margin > 0.0, margin, lifted > 0.0, lifted)
    wanted = np.broadcast_to(np.asarray(raised), margin.shape)[usable]
    with np.errstate(all="ignore"):
        margin[usable], lifted[usable] = _lower_bounds(slices.take(usable), wanted)
    return SabrButterflyResult(margin > 0.0, margin, lifted > 0.0, lifted)


def _lower_bounds(slices: SabrSlices, raised: Flags) -> tuple[Floats, Floats]:
    count = slices.number
    columns = np.array(slices[:5])
    ranges = Intervals(np.arange(count), slices.k_min, slices.k_max)
    k = samples(ranges, _SAMPLES)
    cells = partition(ranges, k, 1.0 / (FINENESS * reach(Columns(*columns), k)))
    lower, upper = np.full((2, 2, count), np.inf)
    for number in range(_PASSES):
        left: list[Indices] = []
        floors: list[Floats] = []
        for begin in range(0, cells.owner.size, _BLOCK):
            block = cells.take(np.arange(begin, min(begin + _BLOCK, cells.owner.size)))
            owner = block.owner
            lowest, seen = _bounds(columns[:, owner], block, raised[owner])
            for row in range(2):
                np.minimum.at(upper[row], owner, seen[row])
            best = upper[:, owner]
            decided = (lowest > 0.0) | (best < 0.0)
            done = decided & (lowest >= best - np.maximum(_RELATIVE_GAP * np.abs(best), _GAP))
            settled = done.all(axis=0)
            for row in range(2):
                np.minimum.at(lower[row], owner[settled], lowest[row, settled])
            left.append(begin + np.flatnonzero(~settled))
            floors.append(lowest[:, ~settled])
        owner = cells.owner[np.concatenate(left)]
        hopeless = too_many(owner, np.ones(owner.shape, np.bool_), count, _CELLS)
        hopeless |= number == _PASSES - 1
        floor = np.concatenate(floors, axis=1)
        for row in range(2):
            np.minimum.at(lower[row], owner[hopeless], floor[row, hopeless])
        if hopeless.all():
            break
        cells = cells.take(np.concatenate(left)[~hopeless]).divided(_PARTS)
    return lower[0], lower[1]


def _bounds(columns: Floats, cells: Intervals, raised: Flags) -> tuple[Floats, Floats]:
    """Lower bounds of g, and of g of the raised slices, on each cell, and the lowest values seen.

    Shapes (2, c).
    """
    centre, half = cells.centre, cells.half_width
    k = centre + half * POINTS[:, None]
    w, p, q = sabr.jet(columns[:4], k, columns[4])
    lanes = Columns(*columns)
    radius = reach(lanes, centre)
    radius = np.minimum(radius, np.maximum(FARTHEST * half, 1e-3 * radius))
    size = Sizes.on(lanes, centre, radius, w[MIDDLE])
    share = truncation(radius / half) + rounding_share(centre, half, radius, size.amplification)

    away = np.abs(centre) + radius
    v, first2 = size.variance, size.first * size.first
    skew = 0.25 * v * v * first2
    largest = (1.0 + away * size.first) ** 2 + v * (size.second + first2) + skew
    y_above = 1.0 - 0.5 * k * p / w
    tilt = 0.25 * p * p
    rest = 0.5 * q - 0.25 * tilt
    g = y_above * y_above - tilt / w + rest
    coefficients = bernstein(g) - share * largest
    lowest = bounded(coefficients.min(axis=0))
    lowest, seen = np.stack([lowest, lowest]), np.stack([g.min(axis=0)] * 2)
    chosen = np.flatnonzero(raised)
    if chosen.size:
        rest_size = skew + v * (size.second + 2.0 * first2)
        start_size = 1.0 + rest_size
        middle_size = start_size + away * size.first + 0.5 * v * first2
        start, middle = (1.0 + rest)[:, chosen], (y_above - 0.5 * tilt / w + rest)[:, chosen]
        least = lowest_quadratic(
            bernstein(start) - (share * start_size)[chosen],
            bernstein(middle) - (share * middle_size)[chosen],
            coefficients[:, chosen],
        )
        lowest[1, chosen] = bounded(least.min(axis=0))
        seen[1, chosen] = lowest_quadratic(start, middle, g[:, chosen]).min(axis=0)
    return lowest, seen


def bounded(lowest: Floats) -> Floats:
    """Lower bounds, those that are no numbers as none."""
    return np.asarray(np.where(np.isnan(lowest), -np.inf, lowest))
