"""An independent, dense look for arbitrage: many points, no proof, nothing shared with the proofs.

It can only ever find a violation, never exclude one; the certificates are held against it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class Curves(NamedTuple):
    """w, dw/dk and d²w/dk² on points k, arrays of one shape (slices, points)."""

    w: Floats
    first: Floats
    second: Floats


def raw_svi(parameters: ArrayLike, k: Floats) -> Curves:
    """Raw SVI slices, rows (a, b, ρ, m, σ), on their own rows of k or on one for all."""
    a, b, rho, m, sigma = np.asarray(parameters, dtype=np.float64).T[:, :, None]
    root = np.hypot(k - m, sigma)
    return Curves(
        a + b * (rho * (k - m) + root),
        b * (rho + (k - m) / root),
        b * (sigma / root) ** 2 / root,
    )


def essvi_as_raw(parameters: ArrayLike) -> Floats:
    """Rows (a, b, ρ, m, σ) of eSSVI slices with rows (θ, ρ, ψ)."""
    theta, rho, psi = np.asarray(parameters, dtype=np.float64).T
    flat = 1.0 - rho**2
    return np.stack(
        [theta * flat / 2, psi / 2, rho, -rho * theta / psi, np.sqrt(flat) * theta / psi], axis=1
    )


def durrleman(curves: Curves, k: Floats) -> Floats:
    """g(k) of Gatheral & Jacquier (2014), equation 2.1."""
    w, first, second = curves
    drift = 1 - k * first / (2 * w)
    return np.asarray(drift**2 - first**2 / 4 * (1 / w + 0.25) + second / 2)


def even_points(parameters: Floats, deviations: float = 50.0, points: int = 4001) -> Floats:
    """Evenly spaced k out to so many ATM standard deviations of each slice."""
    at_the_money = raw_svi(parameters, np.zeros((1, 1))).w
    return np.asarray(np.linspace(-deviations, deviations, points) * np.sqrt(at_the_money))


def bending_points(parameters: Floats, points: int = 1201, reach: float = 9.0) -> Floats:
    """k that crowd where each slice bends and reach 4,000 widths into its wings."""
    _, _, rho, m, sigma = parameters.T[:, :, None]
    vertex = np.arctanh(rho)
    return np.asarray(m + sigma * np.sinh(np.linspace(-reach, reach, points) - vertex))


def lowest_g(parameters: Floats) -> Floats:
    """The smallest g seen on each slice, the limits in both wings included."""
    limits = 0.25 - ((1 + np.abs(parameters[:, 2])) * parameters[:, 1]) ** 2 / 16
    seen = [
        durrleman(raw_svi(parameters, k), k).min(axis=1)
        for k in (even_points(parameters), bending_points(parameters))
    ]
    return np.asarray(np.minimum(limits, np.minimum(*seen)))


def lowest_growth(first: Floats, second: Floats) -> Floats:
    """The smallest w₂/w₁ − 1 seen on each pair, the ratios of wing slopes included."""
    k = np.concatenate(
        [points(slices) for slices in (first, second) for points in (even_points, bending_points)],
        axis=1,
    )
    seen = (raw_svi(second, k).w / raw_svi(first, k).w - 1).min(axis=1)
    for side in (-1, 1):
        slopes = [p[:, 1] * (1 + side * p[:, 2]) for p in (first, second)]
        seen = np.minimum(seen, slopes[1] / slopes[0] - 1)
    return np.asarray(seen)


def lowest_g_between(first: Floats, second: Floats, steps: int = 16) -> Floats:
    """The smallest g seen between two expiries, total variance linear at constant k."""
    lowest = np.full(len(first), np.inf)
    for points in (even_points, bending_points):
        k = np.concatenate([points(first), points(second)], axis=1)
        one, two = raw_svi(first, k), raw_svi(second, k)
        for share in np.linspace(0, 1, steps + 1):
            mixed = Curves(*((1 - share) * x + share * y for x, y in zip(one, two, strict=True)))
            lowest = np.minimum(lowest, durrleman(mixed, k).min(axis=1))
    return lowest


def lowest_g_beyond(parameters: Floats, raises: Floats) -> Floats:
    """The smallest g seen on w + c for these c ≥ 0."""
    lowest = np.full(len(parameters), np.inf)
    for points in (even_points, bending_points):
        k = points(parameters)
        curves = raw_svi(parameters, k)
        for c in raises:
            lowest = np.minimum(lowest, durrleman(curves._replace(w=curves.w + c), k).min(axis=1))
    return lowest


def lowest_g_before(parameters: Floats) -> Floats:
    """The smallest g seen before the first expiry, where w falls in proportion to time."""
    lowest = np.full(len(parameters), np.inf)
    for points in (even_points, bending_points):
        k = points(parameters)
        curves = raw_svi(parameters, k)
        for share in np.geomspace(1e-6, 1, 13):
            shrunk = Curves(*(share * part for part in curves))
            lowest = np.minimum(lowest, durrleman(shrunk, k).min(axis=1))
    return lowest


class Findings(NamedTuple):
    """The smallest values seen on one surface; a negative one is an arbitrage."""

    g: float
    growth: float
    g_between: float
    g_beyond: float
    g_before: float


def look(parameters: Floats, *, steps: int = 16, coupled: bool = True) -> Findings:
    """Everything above on one surface: raw SVI slices in order of expiry, one a row.

    Expiries that are not ``coupled`` are looked at one by one.
    """
    first, second = parameters[:-1], parameters[1:]
    last = parameters[-1:]
    level = float(raw_svi(last, np.zeros((1, 1))).w[0, 0])
    lowest = float(lowest_g(parameters).min())
    if not coupled:
        return Findings(lowest, np.inf, np.inf, np.inf, np.inf)
    return Findings(
        lowest,
        float(lowest_growth(first, second).min(initial=np.inf)),
        float(lowest_g_between(first, second, steps).min(initial=np.inf)),
        float(lowest_g_beyond(last, level * np.geomspace(1e-3, 1e3, 25)).min()),
        float(lowest_g_before(parameters[:1]).min()),
    )


def glance(parameters: Floats) -> float:
    """The lowest of all at fewer points: what a look that is taken 100,000 times can afford."""
    k = np.concatenate(
        [bending_points(parameters, 161), even_points(parameters, points=81)], axis=1
    )
    k = np.broadcast_to(k.reshape(1, -1), (len(parameters), k.size))
    curves = raw_svi(parameters, k)
    seen = [durrleman(curves, k).min()]
    for share in (0.25, 0.5, 0.75):
        mixed = Curves(*((1 - share) * part[:-1] + share * part[1:] for part in curves))
        seen.append(durrleman(mixed, k[:-1]).min(initial=np.inf))
    seen.append((curves.w[1:] / curves.w[:-1] - 1).min(initial=np.inf))
    return float(min(seen))
