"""Random SABR slices, pairs and surfaces with quoted ranges: ordinary, wide, crossing."""

from __future__ import annotations

import numpy as np

from calib.arbitrage.sabr_slices import SabrSlices
from tests.arbitrage.sabr_dense import Smiles


def as_slices(smiles: Smiles) -> SabrSlices:
    return SabrSlices.of(np.array(smiles[:4]), *smiles[4:])


def ordinary(rng: np.random.Generator, number: int, widest: float = 6.0) -> Smiles:
    """Slices of all shapes on ranges of one to `widest` standard deviations on either side.

    The wider, the more of them have arbitrage.
    """
    years = np.exp(rng.uniform(np.log(0.003), np.log(3.0), number))
    alpha = np.exp(rng.uniform(np.log(0.08), np.log(1.2), number))
    deviation = alpha * np.sqrt(years)
    return Smiles(
        alpha,
        np.where(rng.random(number) < 0.5, 1.0, rng.uniform(0, 1, number)),
        rng.uniform(-0.97, 0.97, number),
        np.exp(rng.uniform(np.log(0.1), np.log(1.6), number)) / np.sqrt(np.maximum(years, 0.02)),
        years,
        -rng.uniform(0.3, widest, number) * deviation,
        rng.uniform(0.3, widest, number) * deviation,
    )


def successors(rng: np.random.Generator, smiles: Smiles) -> Smiles:
    """For each slice a later one like it, on another range: some of them cross."""
    number = smiles.alpha.size
    return Smiles(
        smiles.alpha * np.exp(rng.normal(0, 0.1, number)),
        smiles.beta,
        np.clip(smiles.rho + rng.normal(0, 0.1, number), -0.98, 0.98),
        smiles.nu * np.exp(rng.normal(-0.2, 0.2, number)),
        smiles.years * np.exp(rng.uniform(0.02, 1.2, number)),
        smiles.k_min * np.exp(rng.normal(0.2, 0.3, number)),
        smiles.k_max * np.exp(rng.normal(0.2, 0.3, number)),
    )


def surface(rng: np.random.Generator, expiries: int) -> Smiles:
    """A surface as markets have them, mostly free of arbitrage: ranges widen as expiries go by."""
    years = 0.004 + np.cumsum(rng.uniform(0.3, 1, expiries) * np.geomspace(0.006, 0.5, expiries))
    alpha = 0.5 * np.exp(0.2 * rng.normal() + 0.02 * rng.normal(size=expiries))
    rho = np.clip(-0.4 * rng.random() + 0.05 * rng.normal(size=expiries), -0.9, 0.9)
    nu = 0.9 * np.exp(0.2 * rng.normal()) * np.maximum(years, 0.02) ** -0.35
    deviation = alpha * np.sqrt(years)
    return Smiles(
        alpha,
        np.full(expiries, rng.choice([1.0, 0.7])),
        rho,
        nu,
        years,
        -deviation * rng.uniform(2, 5, expiries),
        deviation * rng.uniform(2, 4, expiries),
    )


def joined(surfaces: list[Smiles]) -> Smiles:
    return Smiles(*(np.concatenate(x) for x in zip(*surfaces, strict=True)))
