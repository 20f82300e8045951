"""Smiles of known parameters for the tests of the smile fitter, the same for every model."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from calib.conventions import Floats
from calib.fitting.least_squares import Tolerances
from calib.fitting.smile import LossName, SmileFits, fit_smiles
from calib.fitting.universe import Batch
from calib.models import essvi, svi
from calib.models.model import Model, model_named
from calib.states import ModelName

MODELS = {
    "svi": model_named("svi"),
    "essvi": model_named("essvi"),
    "sabr, beta 1": model_named("sabr"),
    "sabr, beta 0.5": model_named("sabr", beta=0.5),
}
LANES, QUOTES = 16, 64
"""One shape for nearly all tests: each one costs a compilation a model and a loss."""

TIGHT = Tolerances(cost=0.0, step=1e-10, max_steps=300)


class Smiles(NamedTuple):
    """Parameters (P, B), log-moneyness (Q, B), years (B,) and exact vols (Q, B)."""

    parameters: Floats
    k: Floats
    years: Floats
    vol: Floats


def draw(model: Model, lanes: int = LANES, seed: int = 0) -> Smiles:
    """Smiles from a week to two years, ATM vols of 15 to 90 %, quoted over ±2.5 deviations."""
    rng = np.random.default_rng(seed)
    years = np.exp(rng.uniform(np.log(0.02), np.log(2.0), lanes))
    theta = rng.uniform(0.15, 0.9, lanes) ** 2 * years
    rho = rng.uniform(-0.7, 0.4, lanes)
    psi = np.minimum(rng.uniform(0.7, 1.5, lanes) * np.sqrt(theta), 1.2)
    match model.name:
        case ModelName.ESSVI:
            parameters = np.stack([theta, rho, psi])
        case ModelName.SVI:
            chart = svi.to_chart(essvi.to_svi((theta, rho, psi)))
            unit = np.ones(lanes)
            reach = np.stack([unit, unit, 0.2 * unit, np.sqrt(theta), unit])
            parameters = svi.from_chart(chart + 0.2 * reach * rng.normal(size=chart.shape))
        case ModelName.SABR:
            nu = psi / np.sqrt(theta) / np.sqrt(years)
            beta = np.full(lanes, model.from_chart(np.zeros((3, 1)))[1, 0])
            parameters = np.stack([np.sqrt(theta / years), beta, rho, 0.7 * nu])
    k = np.linspace(-2.5, 2.5, QUOTES)[:, None] * np.sqrt(theta)
    w = model.total_variance(parameters, k, years)
    return Smiles(parameters, k, years, np.sqrt(w / years))


def batch_of(smiles: Smiles, noise: Floats | float, error: Floats | float = 0.0) -> Batch:
    """Two-sided quotes around the vols, off by ``error``."""
    spread = np.broadcast_to(noise, smiles.k.shape)
    lanes = np.arange(smiles.k.shape[1])
    return Batch(lanes, smiles.k, smiles.vol + error, spread, spread, smiles.years)


def noisy(model: Model, noise: float = 0.004, seed: int = 0) -> Batch:
    """Quotes whose errors are as large as they say."""
    smiles = draw(model, seed=seed)
    error = noise * np.random.default_rng(seed + 1).normal(size=smiles.k.shape)
    return batch_of(smiles, noise, error)


def nothing(model: Model, batch: Batch) -> Floats:
    """No warm start in any lane."""
    return np.full((model.coordinates, batch.k.shape[1]), np.nan)


def fit_cold(
    model: Model,
    batch: Batch,
    loss: LossName = LossName.SQUARE,
    tolerances: Tolerances = TIGHT,
) -> SmileFits:
    """A fit from the start that the fitter finds by itself."""
    return fit_smiles(model, loss, tolerances, batch, nothing(model, batch))


def vols(model: Model, fits: SmileFits, batch: Batch) -> Floats:
    """The fitted vols at the quotes."""
    w = model.total_variance(fits.parameters, batch.k, batch.years)
    fitted: Floats = np.sqrt(w / batch.years)
    return fitted
