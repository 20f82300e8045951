"""Adjacent SABR expiries: calendar on the hull of their ranges, and all that lies between them.

Between expiries w = (1−λ)w₁ + λw₂ at constant k, each continued linearly outside its own range.
The range itself is linear in λ: on a strip of (k, λ) no g may be negative. In λ it is a ratio of
quartics (`calib.arbitrage.quartics`), in k each coefficient is bounded on cells by its values at
nine points (`calib.arbitrage.interpolants`). A cell that stays undecided is cut in k, or in λ
where the coefficients inside are what is weak. The ends of the ranges cut the line into pieces on
each of which both curves are analytic. Across them w′ is continuous but where the published limit
of slopes acts: a kink upwards is an atom of density, one downwards an arbitrage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from calib.arbitrage.cells import Indices, too_many
from calib.arbitrage.interpolants import MIDDLE, POINTS, bernstein, truncation
from calib.arbitrage.intervals import Intervals, partition, samples
from calib.arbitrage.quartics import Curves, denominator, mixed, numerator, numerator_size
from calib.arbitrage.sabr_butterfly import FARTHEST, FINENESS, bounded
from calib.arbitrage.sabr_discs import Columns, Sizes, reach, rounding_share
from calib.arbitrage.sabr_slices import Continued, Edges, is_ordinary
from calib.arbitrage.slices import Flags, Floats
from calib.models import sabr

_SAMPLES = 9
_PASSES = 14
_PARTS = 3
_CELLS = 512  # undecided ones of a pair: with more it is given up
_BLOCK = 256  # cells at once: what they need stays in a core's cache
_PAIRS = 4096  # in a batch: bounds memory
_RELATIVE_GAP = 0.2
_GAP = 1e-3
_BLUR = 1e-14  # of λ: a strip is a little wider than the range, for rounding


@dataclass(frozen=True, slots=True)
class SabrPairResult:
    """The verdict on n pairs of adjacent expiries, arrays of shape (n,).

    `growth` is a proved lower bound of w₂/w₁ − 1 on the hull of the two quoted ranges,
    `calendar_ok` says that it is positive. `between` is a proved lower bound of g on the
    interpolated range for all λ in [0, 1], the ends of the pair included; `between_ok` says that it
    is positive and that no kink inside that range bends down. -inf where nothing could be
    bounded. Undecided is not ok.
    """

    calendar_ok: Flags
    growth: Floats
    between_ok: Flags
    between: Floats


def certify_sabr_pairs(first: Continued, second: Continued) -> SabrPairResult:
    """Prove or refuse w₂ ≥ w₁ and freedom from butterfly arbitrage in between, pair by pair."""
    count = first.slices.number
    growth, between = np.full((2, count), -np.inf)
    smooth = np.zeros(count, np.bool_)
    usable = np.flatnonzero(is_ordinary(first.slices) & is_ordinary(second.slices))
    for begin in range(0, usable.size, _PAIRS):
        batch = usable[begin : begin + _PAIRS]
        with np.errstate(all="ignore"):
            pairs = _Pairs.of(first.take(batch), second.take(batch))
            growth[batch], between[batch] = _lower_bounds(pairs)
        smooth[batch] = _is_smooth(pairs)
    return SabrPairResult(growth > 0.0, growth, (between > 0.0) & smooth, between)


class _Pairs(NamedTuple):
    """n pairs; arrays (…, 2, n), the earlier slice first."""

    columns: Floats  # (5, 2, n)
    edges: Edges  # (side, 2, n) each

    @classmethod
    def of(cls, first: Continued, second: Continued) -> _Pairs:
        return cls(
            np.array([first.slices[:5], second.slices[:5]]).transpose(1, 0, 2),
            Edges(*(np.stack(x, axis=1) for x in zip(first.edges, second.edges, strict=True))),
        )

    @property
    def number(self) -> int:
        return int(self.columns.shape[-1])

    def take(self, which: Indices) -> _Pairs:
        return _Pairs(self.columns[..., which], self.edges.take(which))


def _is_smooth(pairs: _Pairs) -> Flags:
    """No kink bends down where the other slice's range reaches farther, which is in the strip."""
    k = pairs.edges.k
    inside = np.stack([k[0] > k[0, ::-1], k[1] < k[1, ::-1]])
    return np.asarray(~(inside & pairs.edges.concave).any(axis=(0, 1)))


class _Strips(NamedTuple):
    """Cells of k with a part [begin, end] of λ, and where in the cell the slices' ranges are."""

    cells: Intervals
    begin: Floats
    end: Floats
    sides: Floats  # (2, c): −1 left of the slice's range, 0 within, 1 right of it

    def take(self, which: Indices) -> _Strips:
        cells, begin, end, sides = self
        return _Strips(cells.take(which), begin[which], end[which], sides[:, which])

    def divided_in_strike(self) -> _Strips:
        repeated = self.take(np.tile(np.arange(self.begin.size), _PARTS))
        return repeated._replace(cells=self.cells.divided(_PARTS))

    def divided_in_time(self) -> _Strips:
        fractions = np.arange(_PARTS + 1)[:, None] / _PARTS
        grid = self.begin + fractions * (self.end - self.begin)
        grid[-1] = self.end
        repeated = self.take(np.tile(np.arange(self.begin.size), _PARTS))
        return repeated._replace(begin=grid[:-1].ravel(), end=grid[1:].ravel())


def _joined(parts: list[_Strips]) -> _Strips:
    cells, begin, end, sides = zip(*parts, strict=True)
    return _Strips(
        Intervals(*(np.concatenate(column) for column in zip(*cells, strict=True))),
        np.concatenate(begin),
        np.concatenate(end),
        np.concatenate(sides, axis=1),
    )


def _first_strips(pairs: _Pairs) -> _Strips:
    """The hull of the ranges, cut where one begins or ends, and as fine as the discs ask for."""
    nodes = np.sort(pairs.edges.k.reshape(4, -1), axis=0)
    kept = nodes[:-1] < nodes[1:]
    kept[0] |= nodes[0] == nodes[3]  # a hull that is a single point
    owner = np.nonzero(kept)[1]
    pieces = Intervals(np.arange(owner.size), nodes[:-1][kept], nodes[1:][kept])
    own = pairs.take(owner)
    sides = (pieces.centre > own.edges.k[1]) * 1.0 - (pieces.centre < own.edges.k[0])
    k = samples(pieces, _SAMPLES)
    radius = reach(Columns(*own.columns[:, :, None]), k)  # (2, samples, pieces)
    fineness = np.where(sides[:, None] == 0.0, 1.0 / (FINENESS * radius), 0.0).max(axis=0)
    cells = partition(pieces, k, fineness)
    piece = cells.owner
    cells = cells._replace(owner=owner[piece])
    return _Strips(cells, np.zeros(piece.size), np.ones(piece.size), sides[:, piece])


def _lower_bounds(pairs: _Pairs) -> tuple[Floats, Floats]:
    """Lower bounds of w₂/w₁ − 1 and of g, by branch and bound."""
    lower, upper = np.full((2, 2, pairs.number), np.inf)
    strips = _first_strips(pairs)
    for number in range(_PASSES):
        # Aim high; be content with less and less, for the minimum may lie between expiries.
        relative_gap = 1.0 - (1.0 - _RELATIVE_GAP) * 0.5**number
        found: list[_Bounds] = []
        for begin in range(0, strips.begin.size, _BLOCK):
            block = strips.take(np.arange(begin, min(begin + _BLOCK, strips.begin.size)))
            owner = block.cells.owner
            bounds = _bounds(pairs.take(owner), block)
            for row in range(2):
                np.minimum.at(upper[row], owner, bounds.seen[row])
            best = upper[:, owner]
            goal = best - np.maximum(relative_gap * np.abs(best), _GAP)
            goal = np.where(np.isinf(best), 0.0, goal)
            done = ((bounds.lowest > 0.0) | (best < 0.0)) & (bounds.lowest >= goal)
            settled = done.all(axis=0)
            for row in range(2):
                np.minimum.at(lower[row], owner[settled], bounds.lowest[row, settled])
            wanted = np.maximum(goal[1], 0.0)
            in_time = ~done[1] & (bounds.inner < wanted) & (bounds.outer >= wanted)
            found += [bounds._replace(in_time=in_time).take(np.flatnonzero(~settled))]
        owner = np.concatenate([part.strips.cells.owner for part in found])
        hopeless = too_many(owner, np.ones(owner.shape, np.bool_), pairs.number, _CELLS)
        hopeless |= number == _PASSES - 1
        lowest = np.concatenate([part.lowest for part in found], axis=1)
        for row in range(2):
            np.minimum.at(lower[row], owner[hopeless], lowest[row, hopeless])
        if hopeless.all():
            break
        left = _joined([part.strips for part in found])
        in_time = np.concatenate([part.in_time for part in found])
        strips = _joined(
            [
                left.take(np.flatnonzero(~hopeless & in_time)).divided_in_time(),
                left.take(np.flatnonzero(~hopeless & ~in_time)).divided_in_strike(),
            ]
        )
    return lower[0], lower[1]


class _Bounds(NamedTuple):
    """What is known of strips, rows (2, c) of w₂/w₁ − 1 and of g."""

    strips: _Strips  # without the λ whose range does not reach into the cell
    lowest: Floats  # lower bounds
    seen: Floats  # values that occur
    inner: Floats  # the least ratio of coefficients inside [begin, end] at the points
    outer: Floats  # the least g at its ends
    in_time: Flags  # whether to cut in λ

    def take(self, which: Indices) -> _Bounds:
        strips, lowest, seen, inner, outer, in_time = self
        return _Bounds(
            strips.take(which),
            lowest[:, which],
            seen[:, which],
            inner[which],
            outer[which],
            in_time[which],
        )


def _bounds(own: _Pairs, strips: _Strips) -> _Bounds:
    values, sizes, share = _evaluate(own, strips)
    least, most = _limits(own.edges.k, strips.cells)
    begin, end = np.maximum(strips.begin, least), np.minimum(strips.end, most)
    outside = begin > end
    begin = np.minimum(begin, end)

    one, two = mixed(values, begin), mixed(values, end)
    one_size, two_size = mixed(sizes, begin), mixed(sizes, end)
    above, below = numerator(one, two), denominator(one, two)
    table = bernstein(np.concatenate([above, below, values.w]).transpose(1, 0, 2))
    above_blur = share * numerator_size(one_size, two_size)
    below_blur = share * denominator(one_size, two_size)
    g = _ratio(table[:, :5] - above_blur, table[:, 5:10], below_blur).min(axis=(0, 1))
    w1, w2 = table[:, 10], table[:, 11]
    rise = w2 - w1 - share * sizes.w.sum(axis=0)
    growth = _ratio(rise, w1, share * sizes.w[0]).min(axis=0)

    pointwise = above / below
    inner, outer = pointwise[1:4].min(axis=(0, 1)), pointwise[[0, 4]]
    seen = np.where(_in_range(own.edges.k, strips.cells, np.stack([begin, end])), outer, np.inf)
    return _Bounds(
        strips._replace(begin=begin, end=end),
        np.stack([bounded(growth), np.where(outside, np.inf, bounded(g))]),
        np.stack([(values.w[1] / values.w[0] - 1.0).min(axis=0), seen.min(axis=(0, 1))]),
        inner,
        outer.min(axis=(0, 1)),
        np.zeros(begin.shape, np.bool_),
    )


def _ratio(numerator: Floats, denominator: Floats, blur: Floats) -> Floats:
    """Lower bounds of a quotient by something positive that is known within `blur`."""
    quotient = numerator / (denominator + np.copysign(blur, numerator))
    return np.where(denominator > blur, quotient, -np.inf)


def _limits(ends: Floats, cells: Intervals) -> tuple[Floats, Floats]:
    """The least and the largest λ for which the interpolated range reaches into each cell."""
    (low, low2), (high, high2) = ends
    down, up = low2 - low, high2 - high
    # k ≥ low + λ·down, k ≤ high + λ·up: each bounds λ on one side, at the cell's inner end.
    by_low = (cells.end - low) / np.where(down == 0.0, 1.0, down)
    by_high = (cells.start - high) / np.where(up == 0.0, 1.0, up)
    least = np.maximum(np.where(down < 0.0, by_low, 0.0), np.where(up > 0.0, by_high, 0.0))
    most = np.minimum(np.where(down > 0.0, by_low, 1.0), np.where(up < 0.0, by_high, 1.0))
    return np.clip(least - _BLUR, 0.0, 1.0), np.clip(most + _BLUR, 0.0, 1.0)


def _in_range(ends: Floats, cells: Intervals, share: Floats) -> Flags:
    """Whether points of cells lie in the interpolated range at λ (2, c): (2, n+1, c)."""
    k = cells.centre + cells.half_width * POINTS[:, None]
    low, high = (1.0 - share) * ends[:, :1] + share * ends[:, 1:]
    slack = 100.0 * _BLUR * (1.0 + np.abs(ends).max(axis=(0, 1)))
    return np.asarray((k >= (low - slack)[:, None]) & (k <= (high + slack)[:, None]))


def _evaluate(own: _Pairs, strips: _Strips) -> tuple[Curves, Curves, Floats]:
    """Values (2, n+1, c) at the points, sizes (2, c) on the discs, and a share of these sizes.

    By so much what is made of the values may be wrong.
    """
    cells, sides = strips.cells, strips.sides
    count = cells.owner.size
    centre, half = cells.centre, cells.half_width
    k = centre + half * POINTS[:, None]

    # Both slices side by side, lanes (2c,); the formula only where it is in force.
    inside = np.flatnonzero(sides.ravel() == 0.0)
    cell = inside % count
    lanes = Columns(*own.columns.reshape(5, -1)[:, inside])
    radii = np.full(2 * count, np.inf)
    radii[inside] = reach(lanes, centre[cell])
    radius = radii.reshape(2, count).min(axis=0)
    radius = np.minimum(radius, np.maximum(FARTHEST * half, 1e-3 * np.minimum(radius, 1.0)))

    end, w_end, slope, _, error, amplification = (
        np.where(sides > 0.0, x[1], x[0]).ravel() for x in own.edges
    )
    w = w_end + slope * (np.tile(k, 2) - end)
    p = np.tile(slope, (k.shape[0], 1))
    q = np.zeros_like(w)
    w[:, inside], p[:, inside], q[:, inside] = sabr.jet(lanes[:4], k[:, cell], lanes.years)

    # The error of a slope at an end of a range acts over the distance from there.
    unknown = error / np.tile(rounding_share(centre, half, radius, np.ones(count)), 2)
    distance = np.abs(np.tile(centre, 2) - end) + np.tile(radius, 2)
    p_size = np.abs(slope) + unknown
    w_size = w[MIDDLE] + np.abs(slope) * np.tile(radius, 2) + unknown * distance
    q_size = np.zeros(2 * count)
    size = Sizes.on(lanes, centre[cell], radius[cell], w[MIDDLE, inside])
    w_size[inside] = size.variance
    p_size[inside] = 2.0 * size.variance * size.first
    q_size[inside] = size.variance * (2.0 * size.second + 4.0 * size.first * size.first)
    amplification[inside] = size.amplification

    a_size = w_size + 0.5 * np.tile(np.abs(centre) + radius, 2) * p_size
    worst = amplification.reshape(2, count).max(axis=0)
    share = truncation(radius / half) + rounding_share(centre, half, radius, worst)
    values = Curves(w, w - 0.5 * np.tile(k, 2) * p, p, q)
    return (
        Curves(*(part.reshape(-1, 2, count).transpose(1, 0, 2) for part in values)),
        Curves(*(part.reshape(2, count) for part in (w_size, a_size, p_size, q_size))),
        share,
    )
