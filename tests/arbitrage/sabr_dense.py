"""An independent, dense look at SABR surfaces under the published rule: many points, no proof.

Nothing is shared with the package: the formula is written for complex numbers, x(z)/z through
artanh, its first derivative is taken by a complex step, the second by differences on the grid.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.arbitrage.dense import Curves, durrleman

Floats = NDArray[np.float64]

CAP = 1.95
KINK = -1e9
"""Stands for the g of a downward kink."""
LEAST_STEP = 1e-7
"""Of differences in k, where a range is a single quote."""


class Smiles(NamedTuple):
    """n SABR slices with quoted ranges, arrays of shape (n,)."""

    alpha: Floats
    beta: Floats
    rho: Floats
    nu: Floats
    years: Floats
    k_min: Floats
    k_max: Floats

    def take(self, which: slice | NDArray[np.intp] | NDArray[np.bool_]) -> Smiles:
        return Smiles(*(x[which] for x in self))


def formula(smiles: Smiles, k: NDArray[Any]) -> NDArray[Any]:
    """w at complex k of shape (..., n); Hagan et al. (2002), equation 2.17a."""
    alpha, beta, rho, nu, years = smiles[:5]
    e = np.exp((1 - beta) * k / 2)
    wing = (1 - beta) * k
    z = -nu / alpha * e * k
    root = np.sqrt(1 - 2 * rho * z + z * z)
    t = z / (1 + root)  # tanh(x/2)
    x = np.where(t == 0, 0.5, t)
    ratio = (1 + root) / 2 * np.where(t == 0, 1.0, x / np.arctanh(x))
    time = 1 + years * (
        (1 - beta) ** 2 * alpha**2 / (24 * e**2)
        + rho * beta * nu * alpha / (4 * e)
        + (2 - 3 * rho**2) * nu**2 / 24
    )
    vol = alpha / (e * (1 + wing**2 / 24 + wing**4 / 1920)) * ratio * time
    return np.asarray(vol * vol * years)


def with_slope(smiles: Smiles, k: Floats) -> tuple[Floats, Floats]:
    """w and dw/dk at real k."""
    step = 1e-30
    value = formula(smiles, k + 1j * step)
    return np.asarray(value.real), np.asarray(value.imag / step)


def within(smiles: Smiles, k: Floats) -> Curves:
    """The formula on evenly spaced k, shape (points, n); second derivatives by differences.

    At the ends these look one step beyond, where the formula goes on.
    """
    step = np.where(k[1] == k[0], LEAST_STEP, k[1] - k[0])
    w, slope = with_slope(smiles, np.concatenate([k[:1] - step, k, k[-1:] + step]))
    return Curves(w[1:-1], slope[1:-1], (slope[2:] - slope[:-2]) / (2 * step))


def range_of(smiles: Smiles, points: int = 4001) -> Floats:
    return np.linspace(smiles.k_min, smiles.k_max, points)


def lowest_g(smiles: Smiles, points: int = 4001) -> Floats:
    """The smallest g seen on the quoted range of each slice."""
    k = range_of(smiles, points)
    return np.asarray(durrleman(within(smiles, k), k).min(axis=0))


def lowest_g_raised(smiles: Smiles, raises: Floats, points: int = 1001) -> Floats:
    """The smallest g seen on w + c within the quoted range, c in units of w(0)."""
    k = range_of(smiles, points)
    curves = within(smiles, k)
    level = formula(smiles, np.zeros((1, 1)) + 0j).real
    seen = [durrleman(curves._replace(w=curves.w + c * level), k).min(axis=0) for c in raises]
    return np.asarray(np.min(seen, axis=0))


class Wings(NamedTuple):
    """Slopes of the formula at the ends of the range, and as the rule continues it."""

    left: Floats
    right: Floats
    left_limited: Floats
    right_limited: Floats


def wings(smiles: Smiles) -> Wings:
    left, right = (with_slope(smiles, k)[1] for k in (smiles.k_min, smiles.k_max))
    return Wings(left, right, np.clip(left, -CAP, 0), np.clip(right, 0, CAP))


def bends_down(smiles: Smiles) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether the rule puts a downward kink at the left and at the right end of the range."""
    w = wings(smiles)
    return w.left < w.left_limited, w.right > w.right_limited


def published(smiles: Smiles, k: Floats) -> Curves:
    """w, w′ and w″ by the published rule on evenly spaced k of shape (points, n)."""
    slopes = wings(smiles)
    inside = np.clip(k, smiles.k_min, smiles.k_max)
    w, slope = with_slope(smiles, inside)
    # Differences may look beyond the range: the formula goes on there.
    step = np.maximum(1e-4 * (smiles.k_max - smiles.k_min), LEAST_STEP)
    bend = (with_slope(smiles, inside + step)[1] - with_slope(smiles, inside - step)[1]) / step / 2
    left, right = k < smiles.k_min - 1e-12, k > smiles.k_max + 1e-12
    slope = np.where(left, slopes.left_limited, np.where(right, slopes.right_limited, slope))
    bend = np.where(left | right, 0.0, bend)
    return Curves(w + np.where(left | right, slope * (k - inside), 0.0), slope, bend)


class Pairs(NamedTuple):
    """The smallest values seen of pairs of adjacent expiries."""

    growth: Floats
    """w₂/w₁ − 1 on the hull of the ranges."""
    between: Floats
    """g between the expiries, on the interpolated range; KINK where a kink inside bends down."""


def look_at_pairs(first: Smiles, second: Smiles, points: int = 801, steps: int = 40) -> Pairs:
    low = np.minimum(first.k_min, second.k_min)
    high = np.maximum(first.k_max, second.k_max)
    k = np.linspace(low, high, points)
    one, two = published(first, k), published(second, k)
    growth = (two.w / one.w - 1).min(axis=0)
    between = np.full(first.alpha.shape, np.inf)
    for share in np.concatenate([np.linspace(0, 1, steps + 1), [1e-4, 1e-2, 0.99, 0.9999]]):
        start = (1 - share) * first.k_min + share * second.k_min
        end = (1 - share) * first.k_max + share * second.k_max
        mixed = Curves(*((1 - share) * a + share * b for a, b in zip(one, two, strict=True)))
        seen = (k >= start) & (k <= end)
        between = np.minimum(between, np.where(seen, durrleman(mixed, k), np.inf).min(axis=0))
    for mine, other in ((first, second), (second, first)):
        slopes = wings(mine)
        for k, bent, limited, inner in (
            (mine.k_min, slopes.left < -CAP, slopes.left_limited, mine.k_min > other.k_min),
            (mine.k_max, slopes.right > CAP, slopes.right_limited, mine.k_max < other.k_max),
        ):
            # Just outside of a range that the other one reaches beyond, and just off its expiry.
            corner = durrleman(Curves(formula(mine, k + 0j).real, limited, np.zeros_like(k)), k)
            seen = np.where(bent, KINK, corner)
            between = np.minimum(between, np.where(inner, seen, np.inf))
    return Pairs(growth, between)


class Findings(NamedTuple):
    """The smallest values seen on one surface; a negative one is an arbitrage."""

    g: float
    growth: float
    g_between: float
    g_beyond: float


def look(smiles: Smiles, points: int = 4001, steps: int = 16) -> Findings:
    """Everything above on one surface of coupled expiries, in their order: each on its range,
    neighbours on the hull of both, so many smiles between them, and higher ones than the last."""
    pairs = look_at_pairs(smiles.take(slice(0, -1)), smiles.take(slice(1, None)), points, steps)
    raises = np.geomspace(1e-3, 1e3, 13)
    return Findings(
        float(lowest_g(smiles, points).min()),
        float(pairs.growth.min(initial=np.inf)),
        float(pairs.between.min(initial=np.inf)),
        float(lowest_g_raised(smiles.take(slice(-1, None)), raises, points).min()),
    )
