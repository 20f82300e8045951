"""Between two expiries: interpolation linear in total variance, proved on the whole strip.

For w = (1−λ)w₁ + λw₂ at a fixed k, λ in [0, 1], with y = i/w as in `calib.arbitrage.shapes` and
r = w₂/w₁, expanding Durrleman's function about its chord in λ gives exactly

    4g(λ) = (1−λ)4g₁ + λ4g₂ + λ(1−λ)H(1/w),
    H(ω) = (w₂−w₁)(y₂−y₁)(2+y₁+y₂)ω − w₁w₂(y₂−y₁)²ω² + w₁w₂(p₁/w₁ − p₂/w₂)²ω + (p₁−p₂)²/4.

The last two terms are not negative; the rest is concave in ω, which runs from 1/w₂ to 1/w₁, so

    H ≥ min(H₁, H₂),  H₁ = 2(r−1)(1+y₁)(y₂−y₁) − (y₂−y₁)²,  H₂ the same with 1 and 2 exchanged.

What is left depends on k alone. It is enclosed on cells of the line; a cell that stays undecided
is cut in k, or in λ where the inequality itself is what is weak.

Time enters through λ = (τ − τ₁)/(τ₂ − τ₁) only, the same at every strike. The proof covers all of
[0, 1], so it holds whatever way τ takes from τ₁ to τ₂: for a clock of weekends and events as for
plain years. And where w₂ ≥ w₁, w never falls in time if τ does not, as a clock's may not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from calib.arbitrage.affine import Affine
from calib.arbitrage.cells import FINE, Cells, Indices, cover, divided, joined, too_many
from calib.arbitrage.rounding import Amplification
from calib.arbitrage.shapes import Shapes, durrleman, enclose, mixed
from calib.arbitrage.slices import UNIT_ROUNDOFF, Flags, Floats, SviSlices, has_chart

_PASSES = 24  # a pair of very unlike variances needs many, of few cells each
_PARTS = 4  # of an undecided cell: few passes cost less than few cells
_CELLS = 2048  # undecided ones of a pair: with more it is given up
_PAIRS = 4096  # in a batch: bounds memory
_TURNED = slice(None, None, -1)
_BLOCK = 2048  # cells at once: what they need stays in a core's cache


@dataclass(frozen=True, slots=True)
class InterpolationResult:
    """The verdict on n pairs of expiries, arrays of shape (n,).

    `margin` is a proved lower bound of g over all strikes and all expiries from the first to the
    second; -inf where none was found. `ok` says that it is positive. Undecided is not ok.
    """

    ok: Flags
    margin: Floats


def certify_interpolation(
    first: SviSlices, second: SviSlices, first_margin: Floats, second_margin: Floats
) -> InterpolationResult:
    """Prove that w = (1−λ)w₁ + λw₂ is free of butterfly arbitrage for every λ in [0, 1].

    `first_margin` and `second_margin` are the proved butterfly margins of the slices themselves
    (`calib.arbitrage.butterfly`); a pair of which one is not positive is not ok. Slices without
    a chart (flat ones among them) are not ok. Calendar is a matter of the pair alone: where
    w₂ ≥ w₁ the interpolant increases in λ, and so it never falls in time, by any clock.
    """
    count = first.number
    margin = np.full(count, -np.inf)
    known = has_chart(first) & has_chart(second) & (first_margin > 0.0) & (second_margin > 0.0)
    usable = np.flatnonzero(known)
    for begin in range(0, usable.size, _PAIRS):
        batch = usable[begin : begin + _PAIRS]
        floors = np.array([first_margin[batch], second_margin[batch]])
        margin[batch] = _lower_bound((first.take(batch), second.take(batch)), 4.0 * floors) / 4.0
    return InterpolationResult(ok=margin > 0.0, margin=margin)


def lowest_chord(first: Floats, second: Floats, bulge: Floats) -> Floats:
    """min over λ in [0, 1] of (1−λ)·first + λ·second + λ(1−λ)·bulge, rounded down.

    Increasing in all three.
    """
    sag = np.maximum(-bulge, 0.0)
    difference = second - first
    inside = sag > np.abs(difference)
    safe = np.where(inside, sag, 1.0)
    dip = 0.5 * (first + second) - 0.25 * sag - 0.25 * difference * difference / safe
    dip -= 8.0 * UNIT_ROUNDOFF * (np.abs(first) + np.abs(second) + sag)
    return np.where(inside, dip, np.minimum(first, second))


def _joined(parts: list[_Strips]) -> _Strips:
    begin = np.concatenate([part.begin for part in parts])
    end = np.concatenate([part.end for part in parts])
    return _Strips(joined([part.cells for part in parts]), begin, end)


def _lower_bound(pair: tuple[SviSlices, SviSlices], floors: Floats) -> Floats:
    """A lower bound of 4g over the strips of n pairs; `floors` (2, n) holds for the slices."""
    count = pair[0].number
    weak = floors.min(axis=0)
    amplification = Amplification.of(pair)
    lower = np.full(count, np.inf)
    cells = cover(pair, FINE)
    parameters = np.array(pair).transpose(1, 0, 2)
    strips = _Strips(cells, np.zeros(cells.u.size), np.ones(cells.u.size))
    for number in range(_PASSES):
        undecided: list[_Strips] = []
        # Aim at half of what the slices have; be content with less and less.
        goals = weak * 0.5 ** (1 + number)
        for begin in range(0, strips.cells.u.size, _BLOCK):
            block = strips.take(np.arange(begin, min(begin + _BLOCK, strips.cells.u.size)))
            owner = block.cells.owner
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                bound, middle = _bounds(parameters, block, floors, amplification.take(owner))
            done = bound >= goals[owner]
            np.minimum.at(lower, owner[done], bound[done])
            left = np.flatnonzero(~done)
            if left.size:
                in_time = middle[left] < goals[owner[left]]
                undecided += [
                    block.take(left[in_time]).divided_in_time(),
                    block.take(left[~in_time]).divided_in_strike(),
                ]
        if not undecided:
            return lower
        strips = _joined(undecided)
        owner = strips.cells.owner
        hopeless = too_many(owner, np.ones(owner.shape, dtype=np.bool_), count, _CELLS)
        lower[owner[hopeless]] = -np.inf
        strips = strips.take(np.flatnonzero(~hopeless))
    lower[strips.cells.owner] = -np.inf
    return lower


class _Strips(NamedTuple):
    """Cells of the line, each with a part [begin, end] of λ."""

    cells: Cells
    begin: Floats
    end: Floats

    def take(self, which: Indices) -> _Strips:
        return _Strips(self.cells.take(which), self.begin[which], self.end[which])

    def divided_in_strike(self) -> _Strips:
        cells = divided(self.cells, _PARTS)
        return _Strips(
            cells, np.concatenate([self.begin] * _PARTS), np.concatenate([self.end] * _PARTS)
        )

    def divided_in_time(self) -> _Strips:
        fractions = np.arange(_PARTS + 1)[:, None] / _PARTS
        grid = self.begin + fractions * (self.end - self.begin)
        grid[-1] = self.end
        cells = joined([self.cells] * _PARTS)
        return _Strips(cells, grid[:-1].ravel(), grid[1:].ravel())


def _bounds(
    parameters: Floats, strips: _Strips, floors: Floats, amplification: Amplification
) -> tuple[Floats, Floats]:
    """A lower bound of 4g on each cell and each [begin, end] of λ, and its estimate mid-cell."""
    cells, begin, end = strips
    rows = enclose(parameters, cells)
    known = np.take(floors, cells.owner, axis=1)
    if begin.any() or not end.all():
        rows = mixed(rows, np.array([begin, end]))
        known = np.where(np.array([begin == 0.0, end == 1.0]), known, -np.inf)

    # y, x = w′/w and r − 1: all quotients by W at once. Row j of r is the other slice over j.
    shapes = Shapes.of_rows(rows)
    other = shapes.scaled_variance.row(_TURNED)
    quotients = Affine(
        *(np.array([i, p, w]) for i, p, w in zip(
            shapes.intercept, shapes.scaled_slope, other, strict=True
        ))
    ).over(shapes.scaled_variance)  # fmt: skip
    y, x, growth = quotients.row(0), quotients.row(1), quotients.row(2).shifted(-1.0)
    four_g = durrleman(shapes, y, x)
    step = y.row(_TURNED).minus(y)
    bulge = step.times(growth.times(y.shifted(1.0).scaled(2.0)).minus(step))

    rounding = amplification.error(y, shapes.curvature, growth.size.max(axis=0))
    g = np.maximum(four_g.lowest - rounding, known)
    bound = lowest_chord(g[0], g[1], bulge.lowest.min(axis=0) - rounding)
    g_middle = np.maximum(four_g.middle, known)
    middle = lowest_chord(g_middle[0], g_middle[1], bulge.middle.min(axis=0))
    return bound, middle
