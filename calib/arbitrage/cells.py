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
from calib.models.arrays import Array, Parameters, namespace

Indices = NDArray[np.intp]


class Grid(NamedTuple):
    """Where first cells end: the more of them, the fewer remain undecided. Chosen by timing."""

    steps: tuple[float, ...]
    """In the centre, at m and m ± σ·sinh(step) of each slice."""
    wing: tuple[float, ...]
    """In a wing, in units of the reciprocal of the k where it begins; 0 is infinity."""


COARSE = Grid((1.0, 2.5), (0.0, 1.0))
FINE = Grid((0.7, 1.4, 2.2, 3.2), (0.0, 0.4, 1.0))


# Of `tailored`: chosen on surfaces fitted to BTC, ETH and SPX quotes, of whose pairs 1 in 100 needs
# further cells.
_STEPS = np.arange(15.0)
_TOP = 1.5
_REACH = 0.5
_CROWDING = 3.0
_WING = np.array([0.0, 0.15, 0.4, 0.7, 1.0])[:, None]


class Cells(NamedTuple):
    """Cells of the line, arrays of shape (c,): from (u, v) to (u_end, v_end).

    `owner` is the index of the slice, pair or group that a cell belongs to.
    """

    owner: Indices
    u: Array
    v: Array
    u_end: Array
    v_end: Array
    wing: Flags

    def listed(self) -> Cells:
        """Cells of shape (cells, n) one after the other, each with its owner."""
        shape = self.u.shape
        owner, u, v, u_end, v_end, wing = (np.broadcast_to(part, shape).ravel() for part in self)
        return Cells(owner, u, v, u_end, v_end, wing)

    def take(self, which: Indices) -> Cells:
        """The cells at these indices."""
        owner, u, v, u_end, v_end, wing = self
        return Cells(owner[which], u[which], v[which], u_end[which], v_end[which], wing[which])

    @property
    def width(self) -> Array:
        """How far the moving coordinate goes."""
        xp = namespace(self.u)
        return xp.where(self.wing, self.v_end - self.v, self.u_end - self.u)


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


def tailored(first: Parameters, second: Parameters) -> Cells:
    """Cells of the whole line for pairs of slices (a, b, ρ, m, σ) of shape (n,): arrays (cells, n).

    They end at k = m + σ·sinh(x − artanh ρ), x = 0 being the vertex, for x that lie densely over
    the width √(2w*/depth) in which total variance doubles and reach past the money; those of the
    second slice stand between those of the first where the slices are alike. Neighbours share
    their ends but for rounding, which `calib.arbitrage.rounding` allows for; `owner` is the pair.
    """
    xp = namespace(first[0])
    ends = _merged(_crowd(first, _STEPS), _crowd(second, _STEPS[1:] - 0.5))
    reach = _REACH * xp.maximum(first[4], second[4])
    left = xp.minimum(ends[:1], -reach)
    right = xp.maximum(ends[-1:], reach)
    nodes = xp.concatenate([left, ends[1:-1], right])
    shape = (nodes.shape[0] - 1, nodes.shape[1])
    # The wings begin a few units in the last place inside the centre: no strike falls between.
    outer = (1.0 + 2.0**-48) * _WING
    on_left, on_right = outer / -left, outer / right
    centre, beside = np.ones(shape), np.ones((_WING.size - 1, shape[1]))
    return Cells(
        owner=np.arange(shape[1]),
        u=xp.concatenate([nodes[:-1], beside, -beside]),
        v=xp.concatenate([centre, on_right[:-1], on_left[:-1]]),
        u_end=xp.concatenate([nodes[1:], beside, -beside]),
        v_end=xp.concatenate([centre, on_right[1:], on_left[1:]]),
        wing=np.arange(shape[0] + 2 * beside.shape[0])[:, None] >= shape[0],
    )


def _crowd(parameters: Parameters, steps: Floats) -> Array:
    """Ends of cells of one slice, the more of them the nearer to its vertex."""
    a, b, rho, m, sigma = parameters
    xp = namespace(b)
    depth = b * sigma * xp.sqrt((1.0 - rho) * (1.0 + rho))
    width = xp.minimum(_CROWDING * xp.sqrt(2.0 * (a + depth) / depth), _CROWDING)
    lean, offset = xp.sqrt((1.0 + rho) / (1.0 - rho)), m / sigma  # lean = exp(artanh ρ)
    past_left, past_right = _exp_arcsinh(_REACH + offset), _exp_arcsinh(_REACH - offset)
    left = xp.maximum(_TOP, xp.log(xp.maximum(past_left * lean, 1.0)))
    right = xp.maximum(_TOP, xp.log(xp.maximum(past_right / lean, 1.0)))
    left, right = (xp.log(_exp_arcsinh(x / width)) for x in (left, right))
    stretched = xp.exp((steps[:, None] / (_STEPS.size - 1)) * (left + right) - left)
    x = xp.exp((0.5 * width) * (stretched - 1.0 / stretched)) / lean
    return m + (0.5 * sigma) * (x - 1.0 / x)


def _exp_arcsinh(x: Array) -> Array:
    return x + namespace(x).sqrt(x * x + 1.0)


def _merged(first: Array, second: Array) -> Array:
    """Two lists (…, n) that ascend along the first axis as one (Batcher 1968)."""
    xp = namespace(first)
    count = first.shape[0] + second.shape[0]
    length = 1 << (count - 1).bit_length()
    rest = np.full((length - count, first.shape[1]), np.inf)
    merged = xp.concatenate([first, rest, second[::-1]])
    while length > 1:
        halves = merged.reshape(-1, 2, length // 2, first.shape[1])
        low, high = halves[:, 0], halves[:, 1]
        merged = xp.stack([xp.minimum(low, high), xp.maximum(low, high)], axis=1)
        length //= 2
    return merged.reshape(-1, first.shape[1])[:count]


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
    """Slices at points (u, v), arrays of one shape; W, p, i, d as in the head."""

    scaled_variance: Array
    slope: Array
    intercept: Array
    distance: Array
    nearness: Array
    """1/R."""


def at(parameters: Parameters, u: Array, v: Array) -> Points:
    """What slices (a, b, ρ, m, σ) do at points (u, v) that broadcast with them.

    ρd + R is summed without cancellation: where ρd < 0 it is ((1−ρ²)d² + σ²v²)/(R − ρd).
    """
    a, b, rho, m, sigma = parameters
    xp = namespace(u)
    d = u - m * v
    sv = sigma * v
    d2, sv2 = d * d, sv * sv
    r = xp.sqrt(d2 + sv2)
    nearness = 1.0 / r
    leaning = rho * d
    lifted = r + abs(leaning)
    against = ((1.0 - rho) * (1.0 + rho) * d2 + sv2) / lifted
    hyperbola = xp.where(leaning < 0.0, against, lifted)
    return Points(
        scaled_variance=a * v + b * hyperbola,
        slope=b * (rho + d * nearness),
        intercept=a - b * (rho * m - (sigma * sv - m * d) * nearness),
        distance=d,
        nearness=nearness,
    )
