"""eSSVI: an extended-SSVI slice is a raw SVI slice with three parameters."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf

from calib.models import essvi, svi
from calib.models.model import svi_near

SLICES = ((0.04, -0.6, 0.3), (0.0814489, -0.872150, 1.301675), (1e-4, 0.0, 0.02), (2.0, 0.98, 1.9))
K = np.linspace(-1.5, 1.5, 61)

slices = st.tuples(st.floats(1e-5, 4.0), st.floats(-0.99, 0.99), st.floats(1e-3, 3.0))


@given(slices)
def test_it_is_the_raw_svi_that_it_says(parameters: tuple[float, float, float]) -> None:
    raw = essvi.to_svi(tuple(map(np.float64, parameters)))
    scale = 1 + abs(parameters[2])
    for same, other in (
        (essvi.total_variance, svi.total_variance),
        (essvi.slope, svi.slope),
    ):
        np.testing.assert_allclose(same(parameters, K), other(raw, K), atol=1e-14 * scale)
    curvatures = essvi.curvature(parameters, K), svi.curvature(raw, K)
    np.testing.assert_allclose(*curvatures, rtol=1e-9)


@given(slices)
def test_at_the_money_it_is_theta_with_slope_rho_psi(
    parameters: tuple[float, float, float],
) -> None:
    theta, rho, psi = parameters
    zero = np.float64(0.0)
    assert essvi.total_variance(parameters, zero) == pytest.approx(theta, rel=1e-14)
    assert essvi.slope(parameters, zero) == pytest.approx(rho * psi, abs=1e-14 * psi)


@given(slices)
def test_no_slice_goes_below_its_minimum(parameters: tuple[float, float, float]) -> None:
    """The minimum a + bσ√(1−ρ²) of the raw form is θ(1−ρ²)."""
    theta, rho, _ = parameters
    least = theta * (1 - rho) * (1 + rho)
    assert (essvi.total_variance(parameters, K) >= least * (1 - 1e-9)).all()


@pytest.mark.parametrize("parameters", SLICES)
def test_derivatives_in_k_are_those_of_the_formula(parameters: tuple[float, ...]) -> None:
    theta, rho, psi = map(mpf, parameters)

    def w(k: Any) -> Any:
        root = mp.sqrt((psi * k + theta * rho) ** 2 + theta**2 * (1 - rho**2))
        return (theta + rho * psi * k + root) / 2

    for k in K[::6]:
        assert abs(essvi.total_variance(parameters, k) - w(mpf(k))) < 1e-15 * (1 + psi)
        assert abs(essvi.slope(parameters, k) - mp.diff(w, mpf(k))) < 1e-13 * psi
        relative = essvi.curvature(parameters, k) / mp.diff(w, mpf(k), 2)
        assert abs(relative - 1) < 1e-9


@pytest.mark.parametrize("parameters", SLICES)
def test_parameter_gradient_is_that_of_automatic_differentiation(
    parameters: tuple[float, ...],
) -> None:
    with jax.enable_x64(True):
        k, p = jnp.asarray(K), jnp.array(parameters)
        expected = np.asarray(jax.jacfwd(lambda p: essvi.total_variance(p, k))(p)).T
        values = np.asarray(essvi.total_variance(p, k))
    np.testing.assert_allclose(essvi.parameter_gradient(parameters, K), expected, atol=1e-13)
    np.testing.assert_allclose(values, essvi.total_variance(parameters, K), rtol=0, atol=1e-15)


@given(st.floats(1e-5, 50.0), st.floats(-0.99, 0.99), st.floats(0.01, 1.0))
def test_every_slice_without_arbitrage_has_coordinates_as_svi(
    theta: float, rho: float, share: float
) -> None:
    anchor = np.array([theta, rho, share * 4.0 / (1.0 + abs(rho))])  # up to Lee's bound
    at, spread = svi_near(anchor)
    assert np.isfinite(at).all()
    assert (np.asarray(spread) > 0.0).all()
    found = svi.from_chart(at)
    wings = found[1] * (1.0 + np.array([-1.0, 1.0]) * found[2])
    assert (wings < svi.WING_CAP).all()
    slopes = 0.5 * anchor[2] * (1.0 + np.array([-1.0, 1.0]) * rho)
    if max(slopes) < 0.98 * svi.WING_CAP:
        assert wings == pytest.approx(slopes, rel=1e-9)
