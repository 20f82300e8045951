"""SVI over all expiries: certified, close to the quotes, and honest about what it does not know."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import islice
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calib.arbitrage.certificate import CertificateScope
from calib.arbitrage.essvi import EssviSlices, as_svi
from calib.conventions import ExpiryCalendar, Floats
from calib.fitting.blend import blend, certify_all
from calib.fitting.certified import CertifiedFit, JointSettings, fit_svi_surfaces
from calib.fitting.fit import fit_chains
from calib.fitting.joint import JOINT_SVI, Penalty, _JointProblem
from calib.fitting.smile import LossName
from calib.fitting.surface_batches import chosen_expiries, surface_batches
from calib.fitting.surface_prior import anchor_of
from calib.market.slicing import slices_of
from calib.models import essvi, svi
from calib.quotes.chain import chains
from calib.quotes.reading import read_quotes
from calib.states import FitState
from tests.arbitrage.dense import look, lowest_g
from tests.fitting.surface_samples import Smile, chain_of, hostile_smiles, true_smiles, true_svi

TABLES = os.environ.get("CALIB_QUOTES_DIR", "")


def vols(parameters: Floats, k: Floats, days: float) -> Floats:
    return np.asarray(np.sqrt(svi.total_variance(parameters, k) / (days / 365.0)))


def assert_free(fit: CertifiedFit) -> None:
    assert fit.certificate.arbitrage_free, fit.certificate
    assert fit.certificate.scope == CertificateScope.WHOLE_LINE
    assert min(look(fit.parameters.T)) >= 0.0


def test_recovers_a_clean_surface() -> None:
    smiles = true_smiles(half_spread=5e-4)
    (fit,) = fit_svi_surfaces([chain_of(smiles)])
    assert_free(fit)
    assert fit.blend == 0.0
    assert set(fit.states) == {FitState.CONVERGED}
    for place, smile in enumerate(smiles):
        fitted = vols(fit.parameters[:, place], smile.k, smile.days)
        assert ((fitted > smile.bid) & (fitted < smile.ask)).all()


def test_crossing_expiries_are_fitted_between_their_quotes() -> None:
    k = np.linspace(-0.2, 0.2, 11)
    smile = 0.3 + 0.4 * k * k
    near, far = smile + 0.02, smile * np.sqrt(30 / 37) - 0.01
    smiles = [Smile(30.0, k, near - 0.01, near + 0.01), Smile(37.0, k, far - 0.01, far + 0.01)]
    (fit,) = fit_svi_surfaces([chain_of(smiles)])
    assert_free(fit)
    assert fit.blend == 0.0
    first, second = (svi.total_variance(fit.parameters[:, i], k) for i in range(2))
    assert (first < near**2 * 30 / 365).all()
    assert (second > far**2 * 37 / 365).all()
    assert (second / first - 1.0 < 0.02).all()


def test_quotes_with_butterfly_arbitrage_give_a_certified_slice() -> None:
    # Vogt's smile, whose density is negative on [0.64, 1.26].
    k = np.linspace(-1.2, 1.3, 24)
    w = svi.total_variance((-0.041, 0.1331, 0.306, 0.3586, 0.4153), k)
    assert lowest_g(np.array([[-0.041, 0.1331, 0.306, 0.3586, 0.4153]]))[0] < 0.0
    mid = np.sqrt(w)
    (fit,) = fit_svi_surfaces([chain_of([Smile(365.0, k, mid - 0.002, mid + 0.002)])])
    assert_free(fit)
    assert fit.blend == 0.0
    assert np.abs(vols(fit.parameters[:, 0], k, 365.0) - mid).max() < 0.02


@pytest.mark.drill
@pytest.mark.parametrize("seed", range(8))
def test_hostile_quotes_are_certified_or_refused_by_name(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    for fit in fit_svi_surfaces([chain_of(hostile_smiles(rng)) for _ in range(8)]):
        if not len(fit.expiries):
            assert fit.certificate.scope == CertificateScope.NOT_CHECKED
        elif fit.certificate.arbitrage_free:
            assert min(look(fit.parameters.T)) >= 0.0
            assert 0.0 <= fit.blend <= 1.0
        else:
            assert fit.certificate.scope == CertificateScope.FAILED
            assert fit.certificate.detail


def test_independent_expiries_are_not_tied_to_one_another() -> None:
    k = np.linspace(-0.3, 0.6, 10)
    high, low = 1.2 + 0.3 * k, 0.6 + 0.2 * k
    smiles = [Smile(9.0, k, high - 0.01, high + 0.01), Smile(16.0, k, low - 0.01, low + 0.01)]
    (fit,) = fit_svi_surfaces([chain_of(smiles, ExpiryCalendar.INDEPENDENT)])
    assert fit.certificate.scope == CertificateScope.SLICES
    assert lowest_g(fit.parameters.T).min() >= 0.0
    for place, smile in enumerate(smiles):
        fitted = vols(fit.parameters[:, place], k, smile.days)
        assert ((fitted > smile.bid) & (fitted < smile.ask)).all()


def test_a_thin_slice_takes_its_shape_from_its_neighbours_and_says_so() -> None:
    smiles = true_smiles(quotes=16)
    full = smiles[2]
    one = slice(8, 9)
    smiles[2] = Smile(full.days, full.k[one], full.bid[one], full.ask[one])
    (fit,) = fit_svi_surfaces([chain_of(smiles)])
    assert_free(fit)
    assert fit.quote_share[2] < 0.4
    assert (np.delete(fit.quote_share, 2) > 0.6).all()
    error = vols(fit.parameters[:, 2], full.k, full.days) - 0.5 * (full.bid + full.ask)
    near = np.abs(full.k) < 1.2 * np.sqrt(true_variance(2))
    # A twentieth of the vol, from one quote a tenth of that wide.
    assert np.abs(error[near]).max() < 0.025


def true_variance(place: int) -> float:
    return float(svi.total_variance(true_svi()[:, place], 0.0))


def test_neither_padding_nor_company_changes_a_fit() -> None:
    alone, other = chain_of(true_smiles(noise=1e-3)), chain_of(true_smiles(noise=1e-3, seed=5))
    (single,) = fit_svi_surfaces([alone])
    together = fit_svi_surfaces([other, alone])[1]
    np.testing.assert_allclose(together.parameters, single.parameters, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(together.covariance, single.covariance, rtol=1e-5, atol=1e-12)


def test_errors_scale_with_the_spread() -> None:
    narrow, wide = fit_svi_surfaces([chain_of(true_smiles(half_spread=h)) for h in (0.001, 0.004)])
    ratio = np.sqrt(np.einsum("iin->in", wide.covariance) / np.einsum("iin->in", narrow.covariance))
    assert (np.linalg.eigvalsh(np.moveaxis(narrow.covariance, -1, 0)) > 0.0).all()
    assert (ratio > 1.5).all()
    assert (ratio < 4.5).all()


def test_nothing_to_fit_is_said_expiry_by_expiry() -> None:
    nan = np.array([np.nan])
    smiles = [Smile(7.0, np.array([0.1]), nan, np.array([0.4]))]
    (fit,) = fit_svi_surfaces([chain_of(smiles)])
    assert fit.states == (FitState.TOO_FEW_QUOTES,)
    assert fit.parameters.shape == (5, 0)
    assert fit.certificate.scope == CertificateScope.NOT_CHECKED


def test_gradient_is_that_of_the_cost() -> None:
    chain = chain_of(true_smiles(noise=3e-3))
    (batch,) = surface_batches([chain], chosen_expiries([chain], 1))
    with jax.enable_x64(True):
        anchor = anchor_of(LossName.DEAD_ZONE, 4.0, batch.quotes)
        anchor = anchor._replace(
            memory=0.3 * jnp.broadcast_to(jnp.eye(5)[:, :, None, None], anchor.memory.shape),
            last=0.1 * jnp.ones_like(anchor.last),
        )
        quotes = jax.tree.map(jnp.asarray, batch.quotes)
        problem = _JointProblem(
            JOINT_SVI, LossName.DEAD_ZONE, Penalty((1.0, 1.0)), quotes, anchor, jnp.ones(1)
        )
        at = 0.02 * jnp.asarray(np.random.default_rng(2).normal(size=anchor.spread.shape))
        level = jnp.ones(1, jnp.int32)
        expected = jax.jit(jax.grad(lambda z: problem.point(z, level).cost[0]))(at)
        found = jax.jit(lambda z: problem.point(z, level).gradient)(at)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)


def test_blend_takes_no_more_than_it_needs() -> None:
    bad = np.array([[-0.041], [0.1331], [0.306], [0.3586], [0.4153]])
    anchor = np.array([[0.01], [0.08], [0.2], [0.1], [0.4]])
    (refused,) = certify_all([bad], [True])
    assert not refused.arbitrage_free
    blended = blend(
        bad, anchor, lambda one: certify_all([one], [True])[0], svi.to_chart, svi.from_chart
    )
    assert blended.certificate.arbitrage_free
    assert 0.0 < blended.amount < 1.0
    less = blended.amount - 1.0 / 64
    start, end = svi.to_chart(bad), svi.to_chart(anchor)
    (certificate,) = certify_all(
        [np.asarray(svi.from_chart((1 - less) * start + less * end))], [True]
    )
    assert not certificate.arbitrage_free


def test_an_anchor_steeper_than_the_chart_reaches_is_taken_whole() -> None:
    bad = np.array([[-0.041], [0.1331], [0.306], [0.3586], [0.4153]])
    steep = np.stack(as_svi(EssviSlices(*np.array([[8.0], [-0.9], [2.08]]))))
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(svi.to_chart(steep)).all()
    blended = blend(
        bad, steep, lambda one: certify_all([one], [True])[0], svi.to_chart, svi.from_chart
    )
    assert blended.certificate.arbitrage_free
    assert blended.amount == 1.0


def test_settings_can_ask_for_more_quotes() -> None:
    smiles = true_smiles()
    smiles[1] = Smile(smiles[1].days, *(column[:2] for column in smiles[1][1:]))
    settings = replace(JointSettings(), min_quotes=3)
    (fit,) = fit_svi_surfaces([chain_of(smiles)], (), settings)
    assert fit.states[1] == FitState.TOO_FEW_QUOTES
    assert fit.expiries.tolist() == [0, 2, 3, 4]


@pytest.mark.drill  # a minute and more, nearly all of it compilation
@pytest.mark.real_data
@pytest.mark.skipif(not TABLES, reason="CALIB_QUOTES_DIR is not set")
@pytest.mark.parametrize(
    ("name", "every"), [("deribit_2026-03.parquet", 80), ("spx_close_2026-07.parquet", 1)]
)
def test_real_chains_are_certified_without_a_blend(name: str, every: int) -> None:
    table = read_quotes(Path(TABLES) / name)
    sliced = [slices_of(chain) for chain in islice(chains(table), 0, None, every)]
    for fit in fit_svi_surfaces(sliced):
        assert_free(fit)
        assert fit.blend == 0.0


@pytest.mark.parametrize("rho", [-0.3, 0.0, 0.6])
@pytest.mark.parametrize("share", [0.5, 0.95])
def test_high_vols_far_out_are_fitted_though_their_anchor_is_steeper_than_svi(
    rho: float, share: float
) -> None:
    """Vols of 150 % at two years: the expiries that a batch is padded with grow steeper still."""
    theta = np.array([1.25, 4.4])
    psi = share * 4.0 / (1.0 + abs(rho)) * (theta / theta[-1]) ** 0.7
    smiles = []
    for days, level, steep in zip((200.0, 700.0), theta, psi, strict=True):
        k = np.linspace(-2.0, 1.8, 16) * np.sqrt(level)
        vol = np.sqrt(essvi.total_variance((level, rho, steep), k) / (days / 365.0))
        smiles.append(Smile(days, k, 0.99 * vol, 1.01 * vol))
    (fit,) = fit_chains([chain_of(smiles).chain])
    assert [state.usable for state in fit.states] == [True, True]
    assert fit.surface.certificate.arbitrage_free
    assert min(one.in_spread_share for one in fit.slice_diagnostics) > 0.9
