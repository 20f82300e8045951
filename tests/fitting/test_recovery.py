"""Known smiles come back from their own vols."""

from __future__ import annotations

import numpy as np
import pytest

from calib.conventions import Floats
from calib.fitting.least_squares import Tolerances
from calib.fitting.smile import LossName, SmileFits, fit_smiles
from calib.fitting.universe import Batch
from calib.models import svi
from calib.models.model import Model, model_named
from calib.states import FitState

EXACT = Tolerances(cost=0.0, step=1e-10, rough_cost=1e-2, max_steps=200)
LOSSES = list(LossName)


def batch_of(
    model: Model,
    parameters: Floats,
    k: Floats,
    years: Floats,
    noise: float,
    error: Floats | float = 0.0,
) -> Batch:
    """Vols of known smiles, all lanes alike in shape; ``parameters`` (P, B), ``k`` (Q, B)."""
    vol = np.sqrt(model.total_variance(parameters, k, years) / years) + error
    spread = np.full(k.shape, noise)
    return Batch(np.arange(k.shape[1]), k, vol, spread, spread, years)


def cold(batch: Batch, model: Model) -> Floats:
    return np.full((model.coordinates, batch.k.shape[1]), np.nan)


def fit(model: Model, batch: Batch, loss: LossName = LossName.SQUARE) -> SmileFits:
    return fit_smiles(model, loss, EXACT, batch, cold(batch, model))


def one_lane(parameters: tuple[float, ...]) -> Floats:
    return np.array(parameters)[:, None]


# a, b, ρ, m, σ. The first is a common smile, then slices known from the literature for the
# arbitrage in them, whose vols are as good as any other's; the second is Axel Vogt's (Gatheral &
# Jacquier 2014, section 3.1).
SLICES = {
    "common": ((0.02, 0.4, -0.6, 0.05, 0.2), 0.25, (-0.4, 0.3), 25),
    "vogt": ((-0.041, 0.1331, 0.306, 0.3586, 0.4153), 1.0, (-1.5, 1.5), 41),
    "steep": ((0.0163, 0.3455, -0.8988, 0.0373, 0.1164), 1.0, (-1.0, 0.6), 41),
    "high": ((-0.0666, 0.229, 0.439, 0.193, 0.337), 1.0, (-1.2, 1.2), 41),
}


@pytest.mark.parametrize("name", SLICES)
def test_svi_parameters_are_recovered(name: str) -> None:
    parameters, years, (low, high), quotes = SLICES[name]
    model = model_named("svi")
    k = np.linspace(low, high, quotes)[:, None]
    found = fit(model, batch_of(model, one_lane(parameters), k, np.array([years]), 1e-7))
    assert found.state[0] == FitState.CONVERGED
    assert np.max(np.abs(found.parameters[:, 0] - parameters)) <= 1e-8


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_recovers_exact_vols(loss: LossName) -> None:
    parameters, years, (low, high), quotes = SLICES["common"]
    model = model_named("svi")
    k = np.linspace(low, high, quotes)[:, None]
    found = fit(model, batch_of(model, one_lane(parameters), k, np.array([years]), 1e-6), loss)
    assert np.max(np.abs(found.parameters[:, 0] - parameters)) <= 1e-6


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("essvi", (0.09, -0.4, 0.5)), ("sabr", (0.3, 1.0, -0.3, 0.9))],
)
def test_other_models_are_recovered(name: str, parameters: tuple[float, ...]) -> None:
    model = model_named(name)
    k = np.linspace(-0.8, 0.6, 31)[:, None]
    found = fit(model, batch_of(model, one_lane(parameters), k, np.array([1.0]), 1e-6))
    assert np.max(np.abs(found.parameters[:, 0] - parameters)) <= 1e-7


def random_slices(lanes: int, seed: int) -> tuple[Floats, Floats, Floats]:
    """SVI parameters (5, B), k (41, B) over about ±2.5 ATM deviations, and years (B,)."""
    rng = np.random.default_rng(seed)
    years = rng.uniform(0.02, 1.5, lanes)
    theta = rng.uniform(0.2, 0.9, lanes) ** 2 * years
    rho = rng.uniform(-0.7, 0.3, lanes)
    psi = rng.uniform(0.7, 1.3, lanes) * np.sqrt(theta)
    flat = np.sqrt(1.0 - rho**2)
    parameters = np.stack(
        [0.5 * theta * flat**2, 0.5 * psi, rho, -theta * rho / psi, theta * flat / psi]
    )
    return parameters, np.linspace(-2.5, 2.5, 41)[:, None] * np.sqrt(theta), years


def test_errors_are_as_large_as_the_covariance_says() -> None:
    lanes, noise = 512, 0.002
    parameters, k, years = random_slices(lanes, seed=7)
    model = model_named("svi")
    error = noise * np.random.default_rng(8).normal(size=k.shape)
    parts = [slice(i, i + 128) for i in range(0, lanes, 128)]
    batches = [
        batch_of(model, parameters[:, i], k[:, i], years[i], noise, error[:, i]) for i in parts
    ]
    fits = [fit(model, batch) for batch in batches]
    found = np.concatenate([f.parameters for f in fits], axis=1)
    covariance = np.concatenate([f.covariance for f in fits], axis=2)
    gradient = np.stack(svi.parameter_gradient(parameters, 0.0 * years, years))
    gap = svi.total_variance(found, 0.0 * years) - svi.total_variance(parameters, 0.0 * years)
    stated = np.sqrt(np.einsum("pb,pqb,qb->b", gradient, covariance, gradient))
    # 512 draws know a standard deviation to about 3 %.
    assert 0.9 < np.std(gap / stated) < 1.1


def test_a_stale_outlier_hardly_moves_a_robust_fit() -> None:
    parameters, k, years = random_slices(16, seed=3)
    model = model_named("svi")
    clean = batch_of(model, parameters, k, years, 0.004)
    vol = clean.target.copy()
    vol[30] += 1.0
    spoilt = clean._replace(target=vol)
    truth = clean.target[20]

    def error_at_the_money(loss: LossName) -> float:
        found = fit(model, spoilt, loss)
        w = svi.total_variance(found.parameters, k[20], years)
        return float(np.median(np.abs(np.sqrt(w / years) - truth)))

    square = error_at_the_money(LossName.SQUARE)
    assert error_at_the_money(LossName.SOFT_L1) < 0.2 * square
    # Inside the half-spread of 0.004 this loss hardly asks for more.
    assert error_at_the_money(LossName.DEAD_ZONE) < 0.5 * square


def test_padding_and_company_change_nothing() -> None:
    parameters, k, years = random_slices(16, seed=5)
    model = model_named("svi")
    error = 0.002 * np.random.default_rng(6).normal(size=k.shape)
    batch = batch_of(model, parameters, k, years, 0.004, error)
    alone = fit(model, batch, LossName.DEAD_ZONE)

    pad = 23

    def longer(part: Floats, last: Floats) -> Floats:
        return np.concatenate([part, np.broadcast_to(last, (pad, 16))])

    free = np.full(16, np.inf)
    padded = batch._replace(
        k=longer(batch.k, batch.k[0]),
        target=longer(batch.target, batch.target[0]),
        above=longer(batch.above, free),
        below=longer(batch.below, free),
    )
    assert np.allclose(
        fit(model, padded, LossName.DEAD_ZONE).parameters, alone.parameters, rtol=1e-6, atol=1e-9
    )
    order = np.random.default_rng(9).permutation(41)
    shuffled = batch._replace(
        k=batch.k[order],
        target=batch.target[order],
        above=batch.above[order],
        below=batch.below[order],
    )
    assert np.allclose(
        fit(model, shuffled, LossName.DEAD_ZONE).parameters, alone.parameters, rtol=1e-6, atol=1e-9
    )


def test_a_warm_start_ends_where_a_cold_one_does_in_fewer_steps() -> None:
    parameters, k, years = random_slices(16, seed=11)
    model = model_named("svi")
    error = 0.002 * np.random.default_rng(12).normal(size=k.shape)
    batch = batch_of(model, parameters, k, years, 0.004, error)
    first = fit(model, batch, LossName.DEAD_ZONE)
    warm = svi.to_chart(first.parameters)
    again = fit_smiles(model, LossName.DEAD_ZONE, EXACT, batch, warm)
    assert np.allclose(again.parameters, first.parameters, rtol=1e-6, atol=1e-9)
    assert (again.steps < first.steps).all()
