"""How much total variance grows from one expiry to the next, bounded on cells by cubics.

On each half of a cell W is the cubic through its values and slopes at both ends, and an error of at
most |W⁗|·width⁴/384. w₂/w₁ − 1 = (W₂ − W₁)/W₁ is then no less than the least ratio of the Bernstein
coefficients, each with its error against it. Arrays are of numpy or jax.numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from calib.arbitrage.cells import Cells, Points
from calib.arbitrage.course import Course
from calib.arbitrage.slices import UNIT_ROUNDOFF, SviSlices, minimum_variance
from calib.models.arrays import Array, namespace


class GrowthBounds(NamedTuple):
    """Of w₂/w₁ − 1: a lower bound on each cell, and the least value seen on it."""

    lower: Array
    seen: Array


def growth_bounds(
    pair: tuple[SviSlices, SviSlices], courses: tuple[Course, Course], cells: Cells
) -> GrowthBounds:
    """Bounds of w₂/w₁ − 1 on cells (cells, n) of n pairs; -inf or nan where too wide to say.

    Rounding: with |i| ≤ |a| + b(2|m| + σ) = s and points off by 8u(|k| + |m|), a value of W is
    relatively known within 128u(1 + s/w*), and a slope times the width of a cell within
    64u·width·b(1 + |m|/σ) in the centre, 64u·width·(s + 2bm²/σ) in a wing.
    """
    xp = namespace(cells.u)
    half = 0.5 * cells.width
    first, second = courses
    left = (half * half) * (half * half) * (1.0 / 384.0)
    error = left * first.fourth
    both = left * second.fourth + error
    blur = 0.0
    for slices, course in zip(pair, courses, strict=True):
        a, b, _, m, sigma = slices
        off = abs(m) / sigma
        size = abs(a) + b * (2.0 * abs(m) + sigma)
        largest = xp.maximum(course.start.scaled_variance, course.end.scaled_variance)
        blur = blur + (128.0 * UNIT_ROUNDOFF) * largest * (1.0 + size / minimum_variance(slices))
        bend = xp.where(cells.wing, size + 2.0 * b * abs(m) * off, b * (1.0 + off))
        blur = blur + (128.0 * UNIT_ROUNDOFF) * half * bend
    both = both + blur
    error = error + blur

    def slope(point: Points) -> Array:
        return xp.where(cells.wing, point.intercept, point.slope)

    third = half * (1.0 / 3.0)
    lower, seen = xp.inf, xp.inf
    for begin in (0, 1):
        w1 = _coefficients(first, begin, third, slope)
        w2 = _coefficients(second, begin, third, slope)
        for index, (one, two) in enumerate(zip(w1, w2, strict=True)):
            spare = two - one
            lowered = spare - both
            known = lowered / xp.where(lowered > 0.0, one + error, one - error)
            lower = xp.minimum(lower, xp.where(one > error, known, -xp.inf))
            if index in (0, 6):
                seen = xp.minimum(seen, spare / one)
            elif index == 3:
                raised = spare + both
                top = raised / xp.where(raised > 0.0, one - error, one + error)
                seen = xp.minimum(seen, xp.where(one > error, top, xp.inf))
    return GrowthBounds(lower, seen)


def _coefficients(
    course: Course, begin: int, third: Array, slope: Callable[[Points], Array]
) -> tuple[Array, ...]:
    """Bernstein coefficients on both halves of the cubic on one half of the cell."""
    start, end = course.points[begin], course.points[begin + 1]
    a, d = start.scaled_variance, end.scaled_variance
    b, c = a + third * slope(start), d - third * slope(end)
    ab, bc, cd = 0.5 * (a + b), 0.5 * (b + c), 0.5 * (c + d)
    abc, bcd = 0.5 * (ab + bc), 0.5 * (bc + cd)
    return a, ab, abc, 0.5 * (abc + bcd), bcd, cd, d
