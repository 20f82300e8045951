"""What butterfly arbitrage is made of, enclosed on cells: total variance, its tangent, its bend.

With the tangent's intercept i = w − kw′ and y = i/w, Durrleman's function is

    4g = (1 + y)² − w′²/w − w′²/4 + 2w″,

since 1 − kw′/(2w) = (1 + y)/2 (Gatheral & Jacquier 2014, arXiv:1204.0646, §2.2).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from calib.arbitrage.cells import Cells
from calib.arbitrage.course import Course
from calib.arbitrage.parabola import Parabola
from calib.models.arrays import Array, Parameters, namespace


class Shapes(NamedTuple):
    """Enclosures on cells; u, v, W, p, i as in `calib.arbitrage.cells`.

    All are linear in total variance, so that mixing two slices mixes their shapes.
    """

    scaled_variance: Parabola
    """W = vw."""
    intercept: Parabola
    """vi."""
    scaled_slope: Parabola
    """vp."""
    slope: Parabola
    """p = w′."""
    curvature: Parabola
    """q = w″."""


def enclose(parameters: Parameters, cells: Cells, course: Course) -> Shapes:
    """W, vi, vp, p and q of slices (a, b, ρ, m, σ) along cells.

    vi = W − up, so |(vi)‴| ≤ 2|p″| + |up‴| in the centre and |W‴| + |up‴| in a wing;
    (vp)‴ = 3v′p″ + vp‴.
    """
    _, b, _, _, sigma = parameters
    xp = namespace(b)
    _, u, v, u_end, v_end, wing = cells
    in_wing = 1.0 * wing
    centre = 1.0 - in_wing
    width = cells.width
    cubed = width * (width * width)
    u_max, v_max = xp.maximum(abs(u), abs(u_end)), xp.maximum(v, v_end)
    vs = (v, 0.5 * (v + v_end), v_end)
    force = b * (sigma * sigma)
    points = course.points

    def through(values: Iterable[Array], third: Array) -> Parabola:
        start, middle, end = values
        return Parabola.through(start, middle, end, third, cubed)

    return Shapes(
        through((point.scaled_variance for point in points), course.third),
        through(
            (v * point.intercept for v, point in zip(vs, points, strict=True)),
            in_wing * course.third
            + (2.0 * centre) * course.slope_second
            + u_max * course.slope_third,
        ),
        through(
            (v * point.slope for v, point in zip(vs, points, strict=True)),
            (3.0 * in_wing) * course.slope_second + v_max * course.slope_third,
        ),
        through((point.slope for point in points), course.slope_third),
        through(
            (force * _cube(v * point.nearness) for v, point in zip(vs, points, strict=True)),
            course.curvature_third,
        ),
    )


def _cube(x: Array) -> Array:
    return x * x * x


def mixed(first: Shapes, second: Shapes, weight: Array) -> Shapes:
    """Shapes of (1 − weight)·w₁ + weight·w₂."""
    rest = 1.0 - weight
    return Shapes(
        *(
            Parabola(*(rest * x + weight * y for x, y in zip(one, two, strict=True)))
            for one, two in zip(first, second, strict=True)
        )
    )


def durrleman(shapes: Shapes, y: Parabola, x: Parabola) -> Parabola:
    """4g on each cell, with y = i/w and x = w′/w."""
    p = shapes.slope
    skew = p.times(x.plus(p.scaled(0.25)))
    return y.shifted(1.0).squared().minus(skew).plus(shapes.curvature.scaled(2.0))
