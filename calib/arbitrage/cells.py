"""Cells of the log-moneyness line, infinity included, and what raw SVI slices do on them.

A point is held by homogeneous coordinates (u, v), k = u/v: v = 1 in the centre, u = ±1 in the
wings, v = 0 at infinity. There, with d = u − mv and R = √(d² + σ²v²),

    W = vw = av + b(ρd + R),   p = w′ = b(ρ + d/R),   i = w − kw′ = a − bρm + b(σ²v − md)/R,

are smooth up to infinity, so one set of formulas and finitely many cells cover the line.
Along a cell one coordinate moves: u in the centre, v in a wing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calib.arbitrage.slices import Flags, Floats, SviSlices

Indices = NDArray[np.intp]


class Grid(NamedTuple):
    """Where first cells end: the more of them, the fewer remain undecided. Chosen by timing."""

    steps: tuple[float, ...]
    """In the centre, at m and m ± σ·sinh(step) of each slice."""
    wing: tuple[float, ...]
    """In a wing, in units of the reciprocal of the k where it begins; 0 is infinity."""


COARSE = Grid((1.0, 2.5), (0.0, 1.0))
FINE = Grid((0.7, 1.4, 2.2, 3.2), (0.0, 0.4, 1.0))


class Cells(NamedTuple):
    """Cells of the line, arrays of shape (c,): from (u, v) to (u_end, v_end).

    `owner` is the index of the slice, pair or group that a cell belongs to.
    """

    owner: Indices
    u: Floats
    v: Floats
    u_end: Floats
    v_end: Floats
    wing: Flags

    def take(self, which: Indices) -> Cells:
        """The cells at these indices."""
        owner, u, v, u_end, v_end, wing = self
        return Cells(owner[which], u[which], v[which], u_end[which], v_end[which], wing[which])

    @property
    def width(self) -> Floats:
        """How far the moving coordinate goes."""
        return np.where(self.wing, self.v_end - self.v, self.u_end - self.u)


def cover(groups: tuple[SviSlices, ...], grid: Grid) -> Cells:
    """First cells of the whole line for groups of slices, one of each entry of `groups`.

    Every slice contributes the ends of cells that suit its own location and width.
    """
    offsets = np.sinh(np.concatenate([np.negative(grid.steps[::-1]), [0.0], grid.steps]))
    count = groups[0].number
    m = np.array([slices.m for slices in groups])
    sigma = np.array([slices.sigma for slices in groups])
    ends = (m[:, None, :] + sigma[:, None, :] * offsets[None, :, None]).reshape(-1, count)
    far = (1.5 * np.abs(m) + offsets[-1] * sigma).max(axis=0)
    nodes = np.sort(np.concatenate([-far[None], ends, far[None]]), axis=0)
    rows = nodes.shape[0] - 1
    # The wings begin a few units in the last place inside the centre: no strike falls between.
    outer = np.array(grid.wing)[:, None] * ((1.0 + 2.0**-48) / far)
    centre_ones = np.ones((rows, count))
    wing_ones = np.ones((outer.shape[0] - 1, count))
    u = np.concatenate([nodes[:-1], wing_ones, -wing_ones])
    u_end = np.concatenate([nodes[1:], wing_ones, -wing_ones])
    v = np.concatenate([centre_ones, outer[:-1], outer[:-1]])
    v_end = np.concatenate([centre_ones, outer[1:], outer[1:]])
    wing = np.zeros(u.shape, dtype=np.bool_)
    wing[rows:] = True
    owner = np.concatenate([np.arange(count)] * u.shape[0])
    return Cells(owner, u.ravel(), v.ravel(), u_end.ravel(), v_end.ravel(), wing.ravel())


def divided(cells: Cells, parts: int) -> Cells:
    """Every cell cut into equal parts along its moving coordinate: all first parts, all second…"""
    fractions = np.arange(parts + 1)[:, None] / parts
    u = cells.u + fractions * (cells.u_end - cells.u)
    v = cells.v + fractions * (cells.v_end - cells.v)
    # The last end is the cell's own, to the last bit: nothing may be left out between cells.
    u[-1], v[-1] = cells.u_end, cells.v_end
    return Cells(
        np.concatenate([cells.owner] * parts),
        u[:-1].ravel(),
        v[:-1].ravel(),
        u[1:].ravel(),
        v[1:].ravel(),
        np.concatenate([cells.wing] * parts),
    )


def too_many(owner: Indices, undecided: Flags, number: int, limit: int) -> Flags:
    """Cells of owners (0 to number − 1) that have more than `limit` undecided ones."""
    return np.asarray(np.bincount(owner[undecided], minlength=number)[owner] > limit)


def joined(parts: Sequence[Cells]) -> Cells:
    """All cells of several lists."""
    return Cells(
        np.concatenate([part.owner for part in parts]),
        np.concatenate([part.u for part in parts]),
        np.concatenate([part.v for part in parts]),
        np.concatenate([part.u_end for part in parts]),
        np.concatenate([part.v_end for part in parts]),
        np.concatenate([part.wing for part in parts]),
    )


class Points(NamedTuple):
    """Slices at points (u, v), arrays of shape (slices, c); W, p, i, d, R as in the head."""

    scaled_variance: Floats
    slope: Floats
    intercept: Floats
    distance: Floats
    radius: Floats


def at(parameters: Floats, u: Floats, v: Floats) -> Points:
    """What slices do at points (u, v) of shape (c,); parameters of shape (5, slices, c).

    ρd + R is summed without cancellation: where ρd < 0 it is ((1−ρ²)d² + σ²v²)/(R − ρd).
    """
    a, b, rho, m, sigma = parameters
    d = u - m * v
    sv = sigma * v
    d2, sv2 = d * d, sv * sv
    r = np.sqrt(d2 + sv2)
    leaning = rho * d
    lifted = r + np.abs(leaning)
    against = ((1.0 - rho) * (1.0 + rho) * d2 + sv2) / lifted
    hyperbola = np.where(leaning < 0.0, against, lifted)
    return Points(
        scaled_variance=a * v + b * hyperbola,
        slope=b * (rho + d / r),
        intercept=a - b * (rho * m - (sigma * sv - m * d) / r),
        distance=d,
        radius=r,
    )
