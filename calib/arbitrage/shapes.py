"""What butterfly arbitrage is made of, enclosed on cells: total variance, its tangent, its bend.

With the tangent's intercept i = w − kw′ and y = i/w, Durrleman's function is

    4g = (1 + y)² − w′²/w − w′²/4 + 2w″,

since 1 − kw′/(2w) = (1 + y)/2 (Gatheral & Jacquier 2014, arXiv:1204.0646, §2.2).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from calib.arbitrage.affine import Affine, chord
from calib.arbitrage.cells import Cells, at
from calib.arbitrage.slices import Floats


class Shapes(NamedTuple):
    """Enclosures on cells, each of shape (slices, c); u, v, W, p, i as in `calib.arbitrage.cells`.

    All are linear in total variance, so that mixing two slices mixes their shapes. The curvature
    w″ is kept in the centre; in the wings it is put at zero, from below.
    """

    scaled_variance: Affine
    """W = vw."""
    intercept: Affine
    """vi."""
    scaled_slope: Affine
    """vp."""
    slope: Affine
    """p = w′."""
    curvature: Affine
    """q = w″."""

    @classmethod
    def of_rows(cls, rows: Affine) -> Shapes:
        """From one enclosure of shape (5, slices, c)."""
        return cls(*(rows.row(number) for number in range(5)))


def enclose(parameters: Floats, cells: Cells) -> Affine:
    """Enclosures of W, vi, vp, p, q, one of shape (5, slices, c), of slices (5, slices, groups).

    Chords through the values at the cells' ends, with bounds on second derivatives as errors:
    along a cell W″ = bσ²/R³, |p″| ≤ bσ²(3|d| + [2R²])/R⁵, |(vi)″| ≤ bσ²(R² + 3|ud| + [2R²])/R⁵
    and |(vp)″| ≤ v|p″| + [2bσ²/R³], where [ ] is for the wings only; in the centre
    |w″″| ≤ 3bσ²|4d² − σ²|/R⁷.
    """
    own = np.take(parameters, cells.owner, axis=2)
    count = cells.owner.size
    u, v = np.array([cells.u, cells.u_end]), np.array([cells.v, cells.v_end])
    points = at(np.concatenate([own, own], axis=2), u.ravel(), v.ravel())
    b, sigma = own[1], own[4]
    sigma2 = sigma * sigma
    force = b * sigma2
    centre = ~cells.wing

    d, d_end = points.distance[:, :count], points.distance[:, count:]
    near, far = np.abs(d), np.abs(d_end)
    d_min = np.where(d * d_end < 0.0, 0.0, np.minimum(near, far))
    d_max = np.maximum(near, far)
    r2 = d_min * d_min + sigma2 * v.min(axis=0) ** 2
    r3 = r2 * np.sqrt(r2)
    force5 = force / (r3 * r2)
    in_wing = (2.0 * cells.wing) * r2
    three_d = 3.0 * d_max

    flat_v = v.ravel()
    ends = np.empty((5, own.shape[1], 2 * count))
    ends[0] = points.scaled_variance
    np.multiply(points.intercept, flat_v, out=ends[1])
    np.multiply(points.slope, flat_v, out=ends[2])
    ends[3] = points.slope
    # q in the centre, zero in the wings.
    cubed = points.radius * points.radius * points.radius
    np.divide(np.concatenate([force * centre] * 2, axis=1), cubed, out=ends[4])

    bends = np.empty((5, own.shape[1], count))
    np.divide(force, r3, out=bends[0])
    np.multiply(force5, (r2 + np.abs(u).max(axis=0) * three_d) + in_wing, out=bends[1])
    np.multiply(force5, three_d + in_wing, out=bends[3])
    np.add(v.max(axis=0) * bends[3], force5 * in_wing, out=bends[2])
    np.multiply((3.0 * force5 / r2) * np.maximum(4.0 * d_max * d_max, sigma2), centre, out=bends[4])
    return chord(ends[:, :, :count], ends[:, :, count:], bends, cells.width)


def mixed(shapes: Affine, weights: Floats) -> Affine:
    """Shapes of (1 − weight)·w₁ + weight·w₂ for each row of weights (rows, c)."""
    return Affine(*((1.0 - weights) * part[:, :1] + weights * part[:, 1:] for part in shapes))


def durrleman(shapes: Shapes, y: Affine, x: Affine) -> Affine:
    """4g of each slice on each cell, with y = i/w and x = w′/w."""
    p = shapes.slope
    skew = p.times(x.plus(p.scaled(0.25)))
    return y.shifted(1.0).squared().minus(skew).plus(shapes.curvature.scaled(2.0))
