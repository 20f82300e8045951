"""SABR over all expiries: certified within the quotes, and a dense look agrees."""

from __future__ import annotations

import numpy as np
import pytest

from calib.arbitrage.certificate import CertificateScope
from calib.fitting.certified import CertifiedFit
from calib.fitting.sabr_surface import fit_sabr_surfaces
from calib.market.slices import Slices
from calib.market.slicing import slices_of
from calib.models import essvi
from tests.arbitrage.sabr_dense import Smiles, look
from tests.fitting.random_markets import SANE, random_chains
from tests.fitting.surface_samples import Smile, chain_of, hostile_smiles


def assert_free(slices: Slices, fit: CertifiedFit) -> None:
    assert fit.certificate.arbitrage_free, fit.certificate
    assert fit.certificate.scope == CertificateScope.QUOTED_RANGE
    assert min(look(fitted_smiles(slices, fit))) > 0.0


def fitted_smiles(slices: Slices, fit: CertifiedFit) -> Smiles:
    """Fitted slices with the ranges of their used quotes."""
    quoted = [slices.log_moneyness[(slices.slice_index == i) & slices.used] for i in fit.expiries]
    ends = np.array([(k.min(), k.max()) for k in quoted])
    alpha, beta, rho, nu = fit.parameters
    low, high = ends.T
    return Smiles(alpha, beta, rho, nu, slices.years[fit.expiries], low, high)


def far_and_near(far: float, near: float, rho: float) -> list[Smile]:
    """Morning and evening expiries of two days as an index has them, quoted down to −far and −near
    by turns: to a hundred ATM standard deviations and more."""
    smiles = []
    for days, reach in zip((24.0, 24.27, 28.0, 28.27), (far, near, far, near), strict=True):
        theta = 0.12**2 * days / 365.0
        k = np.concatenate([np.linspace(-reach, -0.12, 12), np.linspace(-0.1, 0.06, 12)])
        k = np.append(k, 0.14 * reach)
        vol = np.sqrt(essvi.total_variance((theta, rho, 0.1 * np.sqrt(days / 28.0)), k))
        vol /= np.sqrt(days / 365.0)
        smiles.append(Smile(days, k, 0.98 * vol, 1.02 * vol))
    return smiles


@pytest.mark.parametrize("rho", [-0.3, -0.7])
@pytest.mark.parametrize(("far", "near"), [(3.6, 0.9), (3.6, 0.5), (1.2, 0.3)])
def test_quotes_that_reach_unequally_far_are_fitted_without_a_blend(
    far: float, near: float, rho: float
) -> None:
    slices = chain_of(far_and_near(far, near, rho))
    (fit,) = fit_sabr_surfaces([slices], 1.0)
    assert_free(slices, fit)
    assert fit.blend == 0.0


def test_sane_quotes_are_certified_without_a_blend() -> None:
    sane = [c for c in random_chains(31, 24) if c.underlying.startswith(SANE)]
    chains = [slices_of(chain) for chain in sane]
    for slices, fit in zip(chains, fit_sabr_surfaces(chains, 1.0), strict=True):
        assert_free(slices, fit)
        assert fit.blend == 0.0


def test_quotes_that_agree_with_nothing_are_certified_all_the_same() -> None:
    rng = np.random.default_rng(3)
    chains = [chain_of(hostile_smiles(rng)) for _ in range(24)]
    fits = fit_sabr_surfaces(chains, 1.0)
    for slices, fit in zip(chains, fits, strict=True):
        if len(fit.expiries):
            assert_free(slices, fit)
    assert any(fit.blend > 0.0 for fit in fits)
