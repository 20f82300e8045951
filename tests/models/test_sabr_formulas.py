"""SABR: Hagan et al. (2002), with reference values of others."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import QuantLib as ql
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf

from calib.models import sabr
from tests.conformance import reference

K = np.concatenate([np.linspace(-1.2, 1.2, 49), [1e-12, -1e-9, 3e-7, -2e-5, 4e-4, -1e-3, 1e-2]])
SLICES = (
    (0.6, 1.0, -0.3, 1.2),
    (0.3, 0.6, 0.01, 0.02),
    (0.4, 0.5, 0.95, 3.0),
    (0.4, 0.5, -0.95, 3.0),
    (0.2, 0.0, 0.4, 0.5),
    (0.2, 0.3, -0.4, 0.0),
)

slices = st.tuples(
    st.floats(0.05, 1.5), st.floats(0.0, 1.0), st.floats(-0.95, 0.95), st.floats(0.01, 3.0)
)


def vol(parameters: tuple[float, ...], forward: float, strike: float, years: float) -> Any:
    """The vol at a strike, of the paper's parameters at this forward."""
    alpha, beta, rho, nu = parameters
    unit = (sabr.alpha_from_forward(alpha, beta, forward), beta, rho, nu)
    return np.sqrt(sabr.total_variance(unit, np.log(strike / forward), years) / years)


@pytest.mark.parametrize(
    ("strike", "expected"), [(0.03, 1.16725837321531), (0.09, 0.930289384251337)]
)
def test_known_values_at_a_small_forward(strike: float, expected: float) -> None:
    found = vol((0.3, 0.6, 0.01, 0.02), 0.039, strike, 1.0)
    assert found == pytest.approx(expected, abs=2e-14)


@pytest.mark.parametrize(
    ("strike", "expected"), [(1.2034, 0.1949), (1.3620, 0.1825), (1.5449, 0.1893)]
)
def test_currency_smile_of_clark(strike: float, expected: float) -> None:
    """Clark, Foreign Exchange Option Pricing (2011), table 3.7, in percent to two digits."""
    found = vol((0.17431060, 1.0, -0.11268306, 0.81694072), 1.3395, strike, 1.0)
    assert found == pytest.approx(expected, abs=0.00006)


@given(
    parameters=slices,
    forward=st.floats(0.01, 5000.0),
    k=st.floats(-1.0, 1.0),
    years=st.floats(0.01, 1.0),
)
def test_agrees_with_quantlib(
    parameters: tuple[float, ...], forward: float, k: float, years: float
) -> None:
    alpha, beta, rho, nu = parameters
    paper = (sabr.alpha_at_forward(alpha, beta, forward), beta, rho, nu)
    strike = forward * float(np.exp(k))
    theirs = ql.sabrVolatility(strike, forward, years, paper[0], beta, nu, rho)
    # QuantLib switches to a short series near z = 0, good to about 1e-8 there.
    assert vol(paper, forward, strike, years) == pytest.approx(abs(theirs), rel=2e-7)


@pytest.mark.parametrize("parameters", SLICES)
def test_value_and_derivatives_at_50_digits(parameters: tuple[float, ...]) -> None:
    """Across the seam between the series and the closed form, and through the money."""
    years = 0.7
    gradient = np.stack(np.broadcast_arrays(*sabr.parameter_gradient(parameters, K, years)))
    slope, w = sabr.slope(parameters, K, years), sabr.total_variance(parameters, K, years)
    curvature = sabr.curvature(parameters, K, years)
    with mp.workdps(50):
        exact = [mpf(p) for p in parameters]
        for i, k in enumerate(map(mpf, K)):

            def at(k: Any, p: list[Any] = exact) -> Any:
                return reference.total_variance("sabr", p, k, years)

            assert abs(w[i] - at(k)) < 2e-15 * (1 + w[i])
            assert abs(slope[i] - mp.diff(at, k)) < 3e-12
            bend = mp.diff(at, k, 2)
            assert abs(curvature[i] - bend) < 3e-13 * (1 + abs(bend))
            for j in range(4):

                def along(x: Any, j: int = j, k: Any = k) -> Any:
                    return at(k, [*exact[:j], x, *exact[j + 1 :]])

                # Vol of vol 0 is an end of the domain, but no end of the formula.
                assert abs(gradient[j, i] - mp.diff(along, exact[j])) < 3e-12


@pytest.mark.parametrize("rho", [-0.999999, -0.99, 0.99, 0.999999])
def test_jet_keeps_its_digits_where_correlation_is_almost_full(rho: float) -> None:
    """Near ρ = ±1 the smile has almost a kink at z = ρ, on one side of the money."""
    parameters, years = (0.4, 0.7, rho, 2.5), 0.3
    kink = -rho * 0.4 / 2.5
    k = np.concatenate([kink + np.array([-1e-2, -1e-4, 0.0, 1e-5, 1e-3]), [-2.0, -1e-7, 0.6]])
    found = sabr.jet(parameters, k, years)
    np.testing.assert_array_equal(found[0], sabr.total_variance(parameters, k, years))
    with mp.workdps(60):
        exact = [mpf(p) for p in parameters]
        for i, x in enumerate(map(mpf, k)):
            expected = mp.taylor(
                lambda x: reference.total_variance("sabr", exact, x, mpf(years)), x, 2
            )
            for order in range(3):
                derivative = expected[order] * (1, 1, 2)[order]
                # A unit in the last place of k, and of z beside ρ, is seen by the kink.
                error = 3e-15 * (1 + abs(derivative)) / (1 - abs(rho)) ** (order / 2)
                assert abs(found[order][i] - derivative) < error


@given(parameters=slices, k=st.floats(-1.5, 1.5), years=st.floats(0.01, 1.0))
def test_curvature_is_the_difference_of_slopes(
    parameters: tuple[float, ...], k: float, years: float
) -> None:
    w, slope, curvature = sabr.jet(parameters, np.float64(k), years)
    assert slope == pytest.approx(sabr.slope(parameters, k, years), rel=1e-11, abs=1e-12)
    h = 1e-5
    up, down = (sabr.slope(parameters, np.float64(k + x), years) for x in (h, -h))
    assert curvature == pytest.approx((up - down) / (2 * h), rel=3e-5, abs=3e-6 * (1 + w))


@jax.jit
def _automatic(p: jax.Array, k: jax.Array) -> tuple[jax.Array, ...]:
    """Value, derivatives by k and parameter gradient by jax; compiled once for all slices."""
    values = sabr.total_variance(p, k, 0.7)
    slopes = jax.vmap(jax.grad(lambda x: sabr.total_variance(p, x, 0.7)))(k)
    bends = jax.vmap(jax.grad(lambda x: sabr.slope(p, x, 0.7)))(k)
    return values, slopes, bends, jax.jacfwd(lambda p: sabr.total_variance(p, k, 0.7))(p).T


@jax.jit
def _curvature(p: jax.Array, k: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Curvature and its gradient by the parameters, as a fit under conditions on it needs them."""
    return sabr.curvature(p, k, 0.7), jax.jacfwd(lambda p: sabr.curvature(p, k, 0.7))(p).T


@pytest.mark.parametrize("parameters", SLICES)
def test_curvature_is_differentiable_at_the_money(parameters: tuple[float, ...]) -> None:
    k = np.append(K, 0.0)
    with jax.enable_x64(True):
        value, gradient = map(np.asarray, _curvature(jnp.array(parameters), jnp.asarray(k)))
    np.testing.assert_allclose(value, sabr.curvature(parameters, k, 0.7), rtol=1e-12, atol=1e-12)
    h = 1e-6
    for j in range(4):
        ahead, back = (
            sabr.curvature([p + x * (i == j) for i, p in enumerate(parameters)], k, 0.7)
            for x in (h, -h)
        )
        difference = (ahead - back) / (2 * h)
        size = 1 + np.abs(difference).max()
        np.testing.assert_allclose(gradient[j], difference, rtol=1e-6, atol=1e-6 * size)


@pytest.mark.parametrize("parameters", SLICES)
def test_automatic_derivatives_are_finite_and_right_at_the_money(
    parameters: tuple[float, ...],
) -> None:
    k = np.append(K, 0.0)
    with jax.enable_x64(True):
        found = [np.asarray(x) for x in _automatic(jnp.array(parameters), jnp.asarray(k))]
    expected = (
        sabr.total_variance(parameters, k, 0.7),
        sabr.slope(parameters, k, 0.7),
        sabr.curvature(parameters, k, 0.7),
        sabr.parameter_gradient(parameters, k, 0.7),
    )
    # Slopes are differentiated across the seam of their series: 1e-12/|z| is lost there.
    tolerances = (1e-15, 1e-11, 3e-8, 1e-11)
    for mine, automatic, tolerance in zip(expected, found, tolerances, strict=True):
        np.testing.assert_allclose(automatic, mine, rtol=tolerance, atol=tolerance)


@given(parameters=slices, years=st.floats(0.01, 1.0))
def test_at_the_money_it_is_the_textbook_formula(
    parameters: tuple[float, ...], years: float
) -> None:
    """Hagan et al. (2002), equation 2.18."""
    alpha, beta, rho, nu = parameters
    expected = alpha * (
        1
        + years
        * (
            (1 - beta) ** 2 * alpha**2 / 24
            + rho * beta * nu * alpha / 4
            + (2 - 3 * rho**2) * nu**2 / 24
        )
    )
    found = np.sqrt(sabr.total_variance(parameters, np.float64(0.0), years) / years)
    assert found == pytest.approx(abs(expected), rel=1e-13)


@given(parameters=slices, k=st.floats(-1.0, 1.0), forward=st.floats(0.01, 100.0))
def test_a_smile_does_not_depend_on_the_unit_of_price(
    parameters: tuple[float, ...], k: float, forward: float
) -> None:
    """Prices in cents: α scales as F^(1−β), and the vol stays."""
    alpha, beta, rho, nu = parameters
    at = sabr.alpha_at_forward(alpha, beta, forward)
    assert sabr.alpha_from_forward(at, beta, forward) == pytest.approx(alpha, rel=1e-13)
    cents = sabr.alpha_at_forward(alpha, beta, 100 * forward)
    one = vol((at, beta, rho, nu), forward, forward * np.exp(k), 0.5)
    other = vol((cents, beta, rho, nu), 100 * forward, 100 * forward * np.exp(k), 0.5)
    assert one == pytest.approx(other, rel=1e-11)


def test_a_wing_far_in_the_negative_argument_keeps_its_digits() -> None:
    """√(1−2ρz+z²) + z − ρ cancels for z → −∞; there x(z) must not."""
    parameters = (0.05, 1.0, 0.9, 5.0)
    for k in (0.5, 2.0, 20.0, 1000.0):  # z = −100k
        with mp.workdps(50):
            exact = reference.total_variance(
                "sabr",
                [mpf(p) for p in parameters],
                mpf(k),
                mpf(0.01),
            )
        found = sabr.total_variance(parameters, np.float64(k), 0.01)
        assert found == pytest.approx(float(exact), rel=1e-13)
