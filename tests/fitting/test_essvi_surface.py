"""eSSVI over all expiries: the box holds no arbitrage, and fits inside it are certified."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calib.arbitrage.essvi import EssviSlices, as_svi, certify_essvi_calendar, is_butterfly_free
from calib.arbitrage.surfaces import certify_surfaces
from calib.conventions import Floats
from calib.fitting.certified import fit_essvi_surfaces
from calib.fitting.essvi_box import GROWTH, from_box, to_box
from calib.states import FitState
from tests.arbitrage.dense import essvi_as_raw, look
from tests.fitting.surface_samples import TRUTH, chain_of, hostile_smiles, true_smiles


def random_box(seed: int, expiries: int, lanes: int) -> Floats:
    rng = np.random.default_rng(seed)
    x = rng.normal(0.0, 2.0, (3, expiries, lanes))
    x[0] = rng.uniform(-9.0, 0.0, (expiries, lanes))
    x[1] *= 0.5
    return x


def surfaces_at(box: Floats) -> Floats:
    with jax.enable_x64(True):
        return np.asarray(jax.jit(from_box)(jnp.asarray(box)))


def test_every_point_of_the_box_is_free_of_arbitrage() -> None:
    expiries, lanes = 6, 400
    surfaces = surfaces_at(random_box(3, expiries, lanes))
    slices = EssviSlices(*surfaces.transpose(0, 2, 1).reshape(3, -1))
    assert is_butterfly_free(slices).all()
    first = EssviSlices(*surfaces[:, :-1].reshape(3, -1))
    second = EssviSlices(*surfaces[:, 1:].reshape(3, -1))
    calendar = certify_essvi_calendar(first, second)
    assert calendar.interpolable.all()
    # The bound is sought by bisection, so that it falls a little short of what the box grants.
    assert (calendar.margin >= 0.999 * GROWTH).all()


def test_points_of_the_box_hold_under_a_dense_look() -> None:
    surfaces = surfaces_at(random_box(4, 5, 25))
    for lane in range(25):
        found = look(essvi_as_raw(surfaces[:, :, lane].T))
        assert min(found) > 0.0


def test_points_of_the_box_are_certified() -> None:
    lanes = 100
    surfaces = surfaces_at(random_box(5, 5, lanes))
    slices = as_svi(EssviSlices(*surfaces.transpose(0, 2, 1).reshape(3, -1)))
    proofs = certify_surfaces(slices, [5] * lanes)
    assert all(certificate.arbitrage_free for certificate in proofs.certificates)


def test_a_surface_inside_the_box_goes_there_and_back() -> None:
    theta, rho, psi = (np.asarray(column)[:, None] for column in TRUTH)
    with jax.enable_x64(True):
        box = to_box(jnp.asarray(theta), jnp.asarray(rho), jnp.asarray(psi))
        back = np.asarray(from_box(box))
    np.testing.assert_allclose(back, np.stack([theta, rho, psi]), rtol=1e-9)


def test_recovers_a_surface_of_its_own_kind() -> None:
    (fit,) = fit_essvi_surfaces([chain_of(true_smiles())])
    assert fit.certificate.arbitrage_free
    assert fit.blend == 0.0
    np.testing.assert_allclose(fit.parameters, np.stack(TRUTH), rtol=0.02)


@pytest.mark.parametrize("seed", [1, 2, 10])
def test_no_fit_stands_still_where_neighbouring_rho_are_equal(seed: int) -> None:
    """All ρ start equal. The larger of two quotients had its kink there, and one fit of each of
    these eight never left it."""
    rng = np.random.default_rng(seed)
    for fit in fit_essvi_surfaces([chain_of(hostile_smiles(rng)) for _ in range(8)]):
        assert FitState.NO_STEP_ACCEPTED not in fit.states


@pytest.mark.drill
@pytest.mark.parametrize("seed", range(6))
def test_hostile_quotes_still_give_a_certified_surface(seed: int) -> None:
    rng = np.random.default_rng(seed)
    fits = fit_essvi_surfaces([chain_of(hostile_smiles(rng)) for _ in range(8)])
    for fit in fits:
        if not len(fit.expiries):
            continue
        assert fit.certificate.arbitrage_free, fit.certificate
        assert min(look(essvi_as_raw(fit.parameters.T))) >= 0.0
