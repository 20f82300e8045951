"""Between two expiries: what interpolation linear in total variance leaves of Durrleman's function.

For w = (1−λ)w₁ + λw₂ at a fixed k, λ in [0, 1], with y = i/w as in `calib.arbitrage.shapes` and
r = w₂/w₁, expanding Durrleman's function about its chord in λ gives exactly

    4g(λ) = (1−λ)4g₁ + λ4g₂ + λ(1−λ)H(1/w),
    H(ω) = (w₂−w₁)(y₂−y₁)(2+y₁+y₂)ω − w₁w₂(y₂−y₁)²ω² + w₁w₂(p₁/w₁ − p₂/w₂)²ω + (p₁−p₂)²/4.

The last two terms are not negative; the rest is concave in ω, which runs from 1/w₂ to 1/w₁, so

    H ≥ min(H₁, H₂),  H₁ = 2(r−1)(1+y₁)(y₂−y₁) − (y₂−y₁)²,  H₂ the same with 1 and 2 exchanged.

That is sharp for slices that are alike. For unlike ones the rest, times w², is a quartic in λ,
bounded by the least ratio of its Bernstein coefficients to those of w². With G = 4g and
μ = w₂/(w₁+w₂) these are G₁, G₂ and

    R₁ = ½((1−μ)(G₁ + G₂ + H₁) + 2μG₁),   R₃ = ½(μ(G₁ + G₂ + H₂) + 2(1−μ)G₂),
    R₂ = ((1−μ)²(G₂ + H₁) + 2μ(1−μ)(G₁ + G₂) + μ²(G₁ + H₂)) / (1 + 2μ(1−μ)).

Whichever bound is the better one holds. What is left depends on k alone, and is enclosed on cells
of the line. Arrays are of numpy or jax.numpy.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from calib.arbitrage import cells as line
from calib.arbitrage.cells import Cells, Indices, divided
from calib.arbitrage.course import along
from calib.arbitrage.parabola import Parabola, quotients
from calib.arbitrage.rounding import Amplification
from calib.arbitrage.shapes import Shapes, durrleman, enclose, mixed
from calib.arbitrage.slices import UNIT_ROUNDOFF, SviSlices
from calib.models.arrays import Array, namespace


class Strips(NamedTuple):
    """Cells of the line, each with a part [begin, end] of λ."""

    cells: Cells
    begin: Array
    end: Array

    @classmethod
    def whole(cls, cells: Cells) -> Strips:
        """Cells with all of λ."""
        return cls(cells, np.zeros(cells.u.shape), np.ones(cells.u.shape))

    def take(self, which: Indices) -> Strips:
        """The strips at these indices."""
        return Strips(self.cells.take(which), self.begin[which], self.end[which])

    def divided_in_strike(self, parts: int) -> Strips:
        """Every strip cut into equal parts along its cell."""
        cells = divided(self.cells, parts)
        return Strips(
            cells, np.concatenate([self.begin] * parts), np.concatenate([self.end] * parts)
        )

    def divided_in_time(self, parts: int) -> Strips:
        """Every strip cut into equal parts of λ."""
        fractions = np.arange(parts + 1)[:, None] / parts
        grid = self.begin + fractions * (self.end - self.begin)
        grid[-1] = self.end
        cells = line.joined([self.cells] * parts)
        return Strips(cells, grid[:-1].ravel(), grid[1:].ravel())


def joined(*parts: Strips) -> Strips:
    """All strips of several lists."""
    begin = np.concatenate([part.begin for part in parts])
    end = np.concatenate([part.end for part in parts])
    return Strips(line.joined([part.cells for part in parts]), begin, end)


class StripBounds(NamedTuple):
    """On each cell, for all λ: a lower bound of 4g, and its estimate in the middle of the cell."""

    lower: Array
    middle: Array


class _Side(NamedTuple):
    """One of the two slices: 4g, y, r − 1 with the other's variance over its own, and w″."""

    four_g: Parabola
    y: Parabola
    growth: Parabola


def bounds(
    pair: tuple[SviSlices, SviSlices], strips: Strips, floors: tuple[Array, Array]
) -> StripBounds:
    """Bounds of 4g on strips, one for each pair of slices, of which `floors` hold for 4g."""
    cells, begin, end = strips
    xp = namespace(begin)
    first, second = (enclose(slices, cells, along(slices, cells)) for slices in pair)
    floor, ceiling = floors
    return strip_bounds(
        mixed(first, second, begin),
        mixed(first, second, end),
        (xp.where(begin == 0.0, floor, -xp.inf), xp.where(end == 1.0, ceiling, -xp.inf)),
        Amplification.of(pair),
    )


def strip_bounds(
    first: Shapes, second: Shapes, floors: tuple[Array, Array], amplification: Amplification
) -> StripBounds:
    """Bounds of 4g between two slices; `floors` are known to hold for 4g of the slices themselves.

    nan or -inf where the cells are too wide to say.
    """
    xp = namespace(first.slope.middle)
    one, two = _side(first, second), _side(second, first)
    bulges = (_bulge(one, two.y), _bulge(two, one.y))
    rounding = amplification.error(
        one.y.size + two.y.size,
        xp.maximum(first.curvature.size, second.curvature.size),
        xp.maximum(one.growth.size, two.growth.size),
    )
    floor, ceiling = floors
    lower = lowest_between(
        xp.maximum(one.four_g.lowest - rounding, floor),
        xp.maximum(two.four_g.lowest - rounding, ceiling),
        bulges[0].lowest - rounding,
        bulges[1].lowest - rounding,
        one.growth.lowest,
        one.growth.highest,
    )
    middle = lowest_between(
        xp.maximum(one.four_g.middle, floor),
        xp.maximum(two.four_g.middle, ceiling),
        bulges[0].middle,
        bulges[1].middle,
        one.growth.middle,
        one.growth.middle,
    )
    return StripBounds(lower, middle)


def _side(own: Shapes, other: Shapes) -> _Side:
    y, x, ratio = quotients(
        (own.intercept, own.scaled_slope, other.scaled_variance), own.scaled_variance
    )
    return _Side(durrleman(own, y, x), y, ratio.shifted(-1.0))


def _bulge(side: _Side, other_y: Parabola) -> Parabola:
    """H₁ of a slice, or H₂ of the other."""
    step = other_y.minus(side.y)
    return step.times(side.growth.times(side.y.shifted(1.0).scaled(2.0)).minus(step))


def lowest_between(
    first: Array,
    second: Array,
    bulge_first: Array,
    bulge_second: Array,
    least_growth: Array,
    largest_growth: Array,
) -> Array:
    """A lower bound of 4g over all λ from those of G₁, G₂, H₁ and H₂, rounded down.

    r − 1 is known to lie between the growths. Increasing in the first four.
    """
    xp = namespace(first)
    whole = first + second
    low, high = (
        xp.maximum(1.0 + growth, 0.0) / (2.0 + growth) for growth in (least_growth, largest_growth)
    )
    near, far = whole + bulge_first, whole + bulge_second
    # Linear in μ: the ends decide. The middle one by its blossom, between 1 and 3/2 to divide by.
    lowest = xp.minimum(first, second)
    for share in (low, high):
        rest = 1.0 - share
        lowest = xp.minimum(lowest, 0.5 * rest * near + share * first)
        lowest = xp.minimum(lowest, 0.5 * share * far + rest * second)
    for one, two in ((low, low), (low, high), (high, high)):
        left, right, both = (1.0 - one) * (1.0 - two), one * two, one + two - 2.0 * one * two
        middle = left * (near - first) + both * whole + right * (far - second)
        lowest = xp.minimum(lowest, xp.minimum(middle, middle * (2.0 / 3.0)))
    blur = abs(first) + abs(second) + abs(bulge_first) + abs(bulge_second)
    lowest = lowest - (16.0 * UNIT_ROUNDOFF) * blur
    return xp.maximum(lowest, lowest_chord(first, second, xp.minimum(bulge_first, bulge_second)))


def lowest_chord(first: Array, second: Array, bulge: Array) -> Array:
    """min over λ in [0, 1] of (1−λ)·first + λ·second + λ(1−λ)·bulge, rounded down.

    Increasing in all three.
    """
    xp = namespace(first)
    sag = xp.maximum(-bulge, 0.0)
    difference = second - first
    inside = sag > abs(difference)
    safe = xp.where(inside, sag, 1.0)
    dip = 0.5 * (first + second) - 0.25 * sag - 0.25 * difference * difference / safe
    dip = dip - 8.0 * UNIT_ROUNDOFF * (abs(first) + abs(second) + sag)
    return xp.where(inside, dip, xp.minimum(first, second))
