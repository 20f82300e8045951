"""What every smile model owes the fitter, and the fitter every model."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.stats import chi2

from calib.conventions import Floats
from calib.fitting.least_squares import Tolerances
from calib.fitting.smile import LossName, fit_smiles, rough_smile
from calib.fitting.universe import Batch
from calib.models.model import Model, Start
from calib.states import FitState
from tests.fitting.smile_samples import (
    LANES,
    MODELS,
    QUOTES,
    batch_of,
    draw,
    fit_cold,
    noisy,
    vols,
)

every_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())


def start_of(model: Model, batch: Batch) -> Start:
    """Where the fitter starts, and its prior."""
    with jax.enable_x64(True):
        columns = (batch.k, batch.target, batch.above, batch.below, batch.years)
        start = model.start(rough_smile(*map(jnp.asarray, columns)))
        return Start(np.asarray(start.coordinates), np.asarray(start.spread))


def rows(model: Model, q: Floats, batch: Batch, start: Start, lane: int) -> Floats:
    """Residuals of one lane by numpy, in noise, with those of the prior below them."""
    k, years = batch.k[:, lane], batch.years[lane]
    w = model.total_variance(model.from_chart(q), k, years)
    data = (np.sqrt(np.maximum(w, 1e-12) / years) - batch.target[:, lane]) / batch.above[:, lane]
    prior = (q - start.coordinates[:, lane]) / start.spread[:, lane]
    return np.concatenate([data, prior])


def difference(model: Model, q: Floats, batch: Batch, start: Start, lane: int) -> Floats:
    """Their Jacobian by central differences, (rows, coordinates)."""
    columns = []
    for i in range(len(q)):
        step = np.zeros(len(q))
        step[i] = 1e-5 * max(1.0, abs(q[i]))
        up, down = (rows(model, q + side * step, batch, start, lane) for side in (1.0, -1.0))
        columns.append((up - down) / (2.0 * step[i]))
    return np.stack(columns, axis=1)


@every_model
@pytest.mark.parametrize("loss", [LossName.SQUARE, LossName.DEAD_ZONE])
def test_parameters_come_back_from_exact_vols(model: Model, loss: LossName) -> None:
    smiles = draw(model)
    fits = fit_cold(model, batch_of(smiles, 1e-7), loss)
    assert (fits.state == FitState.CONVERGED).all()
    np.testing.assert_allclose(fits.parameters, smiles.parameters, rtol=1e-6, atol=1e-8)


@every_model
def test_errors_are_as_large_as_the_covariance_says(model: Model) -> None:
    noise = 1e-4  # small enough for errors to be linear in it
    squares = []
    for seed in range(8):
        smiles = draw(model, seed=100 + seed)
        error = noise * np.random.default_rng(seed).normal(size=smiles.k.shape)
        fits = fit_cold(model, batch_of(smiles, noise, error))
        # SABR's β is given and has no error.
        free = np.flatnonzero(fits.covariance[:, :, 0].any(axis=0))
        assert len(free) == model.coordinates
        gap = (fits.parameters - smiles.parameters)[free].T
        covariance = np.moveaxis(fits.covariance[np.ix_(free, free)], -1, 0)
        squares.append(np.einsum("bi,bij,bj->b", gap, np.linalg.inv(covariance), gap))
    drawn = np.concatenate(squares)
    # n draws of χ² with P degrees know their mean P to about √(2P/n); no lane is a freak.
    size = model.coordinates
    assert abs(drawn.mean() - size) < 4.0 * np.sqrt(2.0 * size / len(drawn))
    assert drawn.max() < chi2.isf(1e-7, size)


@every_model
def test_derivatives_are_those_of_finite_differences(model: Model) -> None:
    """The covariance is D (JᵀJ)⁻¹ Dᵀ, so both derivatives can be read off it."""
    batch = noisy(model, seed=4)
    start = start_of(model, batch)
    fits = fit_cold(model, batch)
    at = model.to_chart(fits.parameters)
    for lane in range(LANES):
        q = at[:, lane]
        jacobian = difference(model, q, batch, start, lane)
        steps = 1e-6 * np.eye(len(q))
        chart = np.stack(
            [(model.from_chart(q + s) - model.from_chart(q - s)) / 2e-6 for s in steps], axis=1
        )
        expected = chart @ np.linalg.inv(jacobian.T @ jacobian) @ chart.T
        scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
        gap = np.abs(fits.covariance[:, :, lane] - expected)
        assert (gap <= 1e-5 * scale + 1e-18).all()
        # And the gradient vanishes where a fit ends, by any measure of it.
        assert np.abs(jacobian.T @ rows(model, q, batch, start, lane)).max() < 1e-3 * np.sqrt(
            np.abs(np.diag(jacobian.T @ jacobian)).max()
        )


@every_model
def test_residuals_are_smooth_at_the_money_and_far_away(model: Model) -> None:
    """Forward derivatives against differences where formulas have removable singularities."""
    k = np.array([-3.0, -0.5, -1e-9, 0.0, 1e-9, 1e-4, 0.5, 3.0])[:, None]
    years = np.array([0.25])
    q = model.to_chart(draw(model).parameters)[:, :1]
    with jax.enable_x64(True):
        for i in range(model.coordinates):
            push = np.zeros_like(q)
            push[i] = 1.0

            def w(q: jax.Array) -> jax.Array:
                return jnp.asarray(model.total_variance(model.from_chart(q), jnp.asarray(k), years))

            _, slope = jax.jvp(w, (jnp.asarray(q),), (jnp.asarray(push),))
            step = 1e-6 * push
            up, down = (
                model.total_variance(model.from_chart(q + side * step), k, years)
                for side in (1.0, -1.0)
            )
            difference = (up - down) / 2e-6
            np.testing.assert_allclose(slope, difference, rtol=1e-5, atol=1e-8)


@every_model
def test_no_other_solver_finds_a_better_fit(model: Model) -> None:
    batch = noisy(model, seed=6)
    start = start_of(model, batch)
    at = model.to_chart(fit_cold(model, batch, tolerances=Tolerances()).parameters)
    truth = model.to_chart(draw(model, seed=6).parameters)
    for lane in range(LANES):

        def residual(q: Floats, lane: int = lane) -> Floats:
            return rows(model, q, batch, start, lane)

        def jacobian(q: Floats, lane: int = lane) -> Floats:
            return difference(model, q, batch, start, lane)

        ours = 0.5 * np.sum(residual(at[:, lane]) ** 2)
        theirs = min(
            least_squares(residual, q, jac=jacobian, method="lm", xtol=1e-12, ftol=1e-12).cost
            for q in (truth[:, lane], start.coordinates[:, lane])
        )
        assert ours <= theirs * (1.0 + 1e-6)


def padded(batch: Batch, quotes: int, lanes: int) -> Batch:
    """The batch in a larger shape, as `calib.fitting.universe.batches` pads."""
    more = quotes - batch.k.shape[0]
    extra = lanes - batch.k.shape[1]

    def taller(part: Floats, last: Floats) -> Floats:
        return np.concatenate([part, np.broadcast_to(last, (more, part.shape[1]))])

    def wider(part: Floats) -> Floats:
        return np.concatenate([part, np.repeat(part[..., :1], extra, axis=-1)], axis=-1)

    free = np.full(batch.k.shape[1], np.inf)
    return Batch(
        batch.lanes,
        wider(taller(batch.k, batch.k[0])),
        wider(taller(batch.target, batch.target[0])),
        wider(taller(batch.above, free)),
        wider(taller(batch.below, free)),
        wider(batch.years),
    )


@every_model
def test_padding_and_company_change_nothing(model: Model) -> None:
    batch = noisy(model, seed=8)
    narrow = fit_cold(model, batch)
    wide = fit_cold(model, padded(batch, 256, 128))
    np.testing.assert_allclose(wide.parameters[:, :LANES], narrow.parameters, rtol=1e-7, atol=1e-10)
    assert np.array_equal(wide.state[:LANES], narrow.state)
    one = Batch(batch.lanes[:1], *(part[..., 3:4] for part in batch[1:]))
    alone = fit_cold(model, padded(one, QUOTES, LANES))
    np.testing.assert_allclose(
        alone.parameters[:, 0], narrow.parameters[:, 3], rtol=1e-7, atol=1e-10
    )


@every_model
def test_the_order_of_quotes_and_of_slices_changes_nothing(model: Model) -> None:
    batch = noisy(model, seed=10)
    rng = np.random.default_rng(11)
    quotes, lanes = rng.permutation(QUOTES), rng.permutation(LANES)
    k, target, above, below = (part[quotes][:, lanes] for part in batch[1:5])
    mixed = Batch(batch.lanes, k, target, above, below, batch.years[lanes])
    straight, crooked = fit_cold(model, batch), fit_cold(model, mixed)
    np.testing.assert_allclose(
        crooked.parameters, straight.parameters[:, lanes], rtol=1e-6, atol=1e-9
    )


@every_model
def test_a_warm_start_ends_where_a_cold_one_does_in_fewer_steps(model: Model) -> None:
    batch = noisy(model, seed=12)
    cold = fit_cold(model, batch, LossName.DEAD_ZONE, Tolerances())
    ticked = batch._replace(target=1.002 * batch.target)
    at = model.to_chart(cold.parameters)
    warm = fit_smiles(model, LossName.DEAD_ZONE, Tolerances(), ticked, at)
    again = fit_cold(model, ticked, LossName.DEAD_ZONE, Tolerances())
    np.testing.assert_allclose(
        vols(model, warm, ticked), vols(model, again, ticked), rtol=0, atol=2e-5
    )
    assert warm.steps.sum() < 0.7 * again.steps.sum()
