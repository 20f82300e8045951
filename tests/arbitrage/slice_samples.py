"""Random slices and pairs for the certificates: ordinary, near the edge of arbitrage, and known."""

from __future__ import annotations

import numpy as np

from calib.arbitrage.slices import Floats, SviSlices

# (a, b, ρ, m, σ) and the smallest g, with the k where it lies.
VOGT = (-0.041, 0.1331, 0.306, 0.3586, 0.4153)
WITH_ARBITRAGE = {
    "vogt": (VOGT, -0.0328636, 0.87926),
    "steep left wing": ((0.0163, 0.3455, -0.8988, 0.0373, 0.1164), -0.02004, -0.2743),
    "sharp vertex": ((0.04, 0.5, 0.0, 0.0, 0.02), -0.06412, 0.125),
    "deep vertex": ((-0.0666, 0.229, 0.439, 0.193, 0.337), -0.1027, 0.562),
}


def rows(slices: SviSlices) -> Floats:
    """Slices as rows (a, b, ρ, m, σ)."""
    return np.stack(slices, axis=1)


def from_rows(parameters: Floats) -> SviSlices:
    """The inverse of `rows`."""
    return SviSlices.of(*parameters.T)


def ordinary(rng: np.random.Generator, number: int) -> SviSlices:
    """Positive slices of all shapes, about half of them free of butterfly arbitrage."""
    b = np.exp(rng.uniform(np.log(0.01), np.log(1.2), number))
    rho = rng.uniform(-0.99, 0.99, number)
    sigma = np.exp(rng.uniform(np.log(0.003), 0.0, number))
    lowest = np.exp(rng.uniform(np.log(3e-4), np.log(0.3), number))
    a = lowest - b * sigma * np.sqrt(1 - rho**2)
    return SviSlices.of(a, b, rho, sigma * rng.normal(0, 1, number), sigma)


def steepened(slices: SviSlices, factor: Floats) -> SviSlices:
    """The slices with their angle b multiplied, minimum variance and all else kept."""
    a, b, rho, m, sigma = slices
    return SviSlices(a - (factor - 1) * b * sigma * np.sqrt(1 - rho**2), b * factor, rho, m, sigma)


def successors(rng: np.random.Generator, slices: SviSlices) -> SviSlices:
    """For each slice another one like it, a little higher in the mean: about half cross."""
    a, b, rho, m, sigma = slices
    number = slices.number
    wider = sigma * np.exp(rng.normal(0.1, 0.3, number))
    steeper = b * np.exp(rng.normal(0.1, 0.2, number))
    tilted = np.clip(rho + rng.normal(0, 0.05, number), -0.995, 0.995)
    lowest = (a + b * sigma * np.sqrt(1 - rho**2)) * np.exp(rng.normal(0.3, 0.4, number))
    return SviSlices(
        lowest - steeper * wider * np.sqrt(1 - tilted**2),
        steeper,
        tilted,
        m + sigma * rng.normal(0, 0.3, number),
        wider,
    )
