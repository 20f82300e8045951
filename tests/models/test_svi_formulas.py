"""Raw SVI: Gatheral & Jacquier (2014), and the chart that the fitter works in."""

from __future__ import annotations

from math import inf
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf

from calib.conventions import Floats
from calib.models import svi

VOGT = (-0.041, 0.1331, 0.306, 0.3586, 0.4153)
SLICES = (VOGT, (0.02, 0.4, -0.6, 0.05, 0.2), (0.04, 0.5, 0.0, 0.0, 0.02), (1e-4, 0.01, 0.9, 0, 1))
K = np.linspace(-1.5, 1.5, 61)

coordinate = st.floats(-12.0, 12.0)
charts = st.tuples(coordinate, coordinate, coordinate, st.floats(-2.0, 2.0), coordinate)


def durrleman(parameters: Any, k: Any) -> Any:
    """g(k) of Gatheral & Jacquier (2014), equation 2.1."""
    w, slope = svi.total_variance(parameters, k), svi.slope(parameters, k)
    curvature = svi.curvature(parameters, k)
    return (1 - k * slope / (2 * w)) ** 2 - slope**2 / 4 * (1 / w + 0.25) + curvature / 2


@jax.jit
def _automatic_gradient(p: jax.Array, k: jax.Array) -> jax.Array:
    """Compiled once for all slices."""
    jacobian: jax.Array = jax.jacfwd(lambda p: svi.total_variance(p, k))(p)
    return jacobian


def _random_charts(count: int) -> Floats:
    """Coordinates of slices as markets have them, and well beyond."""
    scale = np.array([2.0, 2.0, 3.0, 0.5, 2.0])
    return np.random.default_rng(0).normal(scale=scale[:, None], size=(5, count))


def test_vogt_slice_has_the_published_jump_wings() -> None:
    """Gatheral & Jacquier (2014), section 5.1, with more digits."""
    wings = svi.to_jump_wings(VOGT, 1.0)
    expected = (0.01742625, -0.1752111, 0.6997381, 1.316798, 0.0116249)
    assert wings == pytest.approx(expected, rel=5e-7)
    assert svi.from_jump_wings(wings, 1.0) == pytest.approx(VOGT, rel=1e-12)


def test_vogt_slice_has_its_known_arbitrage() -> None:
    assert durrleman(VOGT, np.float64(0.87926)) == pytest.approx(-0.0328636, abs=1e-7)
    inside, outside = np.linspace(0.6425, 1.2568, 50), np.array([-2.0, 0.0, 0.6423, 1.2570, 3.0])
    assert (durrleman(VOGT, inside) < 0).all()
    assert (durrleman(VOGT, outside) > 0).all()


def test_repaired_vogt_slice_is_clean() -> None:
    """The same v, ψ and p with the call wing and the minimum of section 5.1's repair."""
    wings = svi.to_jump_wings(VOGT, 1.0)
    repaired = svi.from_jump_wings(wings._replace(c=0.3493158, v_min=0.01548182), 1.0)
    assert (durrleman(repaired, np.linspace(-5, 5, 4001)) > 0).all()


@pytest.mark.parametrize(
    ("parameters", "k", "g"),
    [
        ((0.0163, 0.3455, -0.8988, 0.0373, 0.1164), -0.2743, -0.02004),
        ((0.04, 0.5, 0.0, 0.0, 0.02), 0.125, -0.06412),
        ((0.04, 0.5, 0.0, 0.0, 0.02), -0.125, -0.06412),
        ((-0.0666, 0.229, 0.439, 0.193, 0.337), 0.562, -0.1027),
    ],
)
def test_derivatives_show_the_arbitrage_of_known_slices(
    parameters: tuple[float, ...], k: float, g: float
) -> None:
    assert durrleman(parameters, np.float64(k)) == pytest.approx(
        g, abs=5.1 * 10 ** -(5 if g > -0.1 else 4)
    )


@pytest.mark.parametrize("parameters", SLICES)
def test_derivatives_in_k_are_those_of_the_formula(parameters: tuple[float, ...]) -> None:
    a, b, rho, m, sigma = map(mpf, parameters)

    def w(k: Any) -> Any:
        return a + b * (rho * (k - m) + mp.sqrt((k - m) ** 2 + sigma**2))

    for k in K[::6]:
        scale = parameters[1]
        assert abs(svi.total_variance(parameters, k) - w(mpf(k))) < 1e-15
        assert abs(svi.slope(parameters, k) - mp.diff(w, mpf(k))) < 1e-14 * scale
        assert abs(svi.curvature(parameters, k) - mp.diff(w, mpf(k), 2)) < 1e-12 * scale


@pytest.mark.parametrize("parameters", SLICES)
def test_parameter_gradient_is_that_of_automatic_differentiation(
    parameters: tuple[float, ...],
) -> None:
    with jax.enable_x64(True):
        jacobian = jax.jacfwd(lambda p: svi.total_variance(p, jnp.asarray(K)))(
            jnp.array(parameters)
        )
        expected = np.asarray(jacobian).T
    np.testing.assert_allclose(svi.parameter_gradient(parameters, K), expected, atol=1e-14)


@pytest.mark.parametrize("parameters", SLICES)
def test_jax_and_numpy_give_the_same(parameters: tuple[float, ...]) -> None:
    with jax.enable_x64(True):
        k = jnp.asarray(K)
        for formula in (svi.total_variance, svi.slope, svi.curvature):
            given_jax = formula(parameters, k)
            assert isinstance(given_jax, jax.Array)
            np.testing.assert_allclose(given_jax, formula(parameters, K), rtol=0, atol=1e-15)


def test_wings_are_as_steep_as_the_parameters_say() -> None:
    for parameters in SLICES:
        _, b, rho, _, _ = parameters
        assert svi.slope(parameters, np.float64(-1e8)) == pytest.approx(-b * (1 - rho), rel=1e-9)
        assert svi.slope(parameters, np.float64(1e8)) == pytest.approx(b * (1 + rho), rel=1e-9)


def test_chart_and_parameters_are_exact_inverses() -> None:
    q = _random_charts(20_000)
    parameters = svi.from_chart(q)
    back = svi.to_chart(parameters)
    # A minimum of 1e-5 beside an angle of 1 is known to 1e-16 only, which its logarithm shows.
    _, b, _, _, sigma = parameters
    minimum = np.logaddexp(q[2], 0.0)
    assert (abs(back[2] - q[2]) <= 4e-15 * (1.0 + b * sigma / minimum)).all()
    np.testing.assert_allclose(np.delete(back, 2, 0), np.delete(q, 2, 0), rtol=1e-12, atol=1e-12)
    again = svi.from_chart(back)
    np.testing.assert_allclose(again, parameters, rtol=1e-11, atol=1e-13)


@given(charts)
def test_every_point_of_the_chart_is_a_positive_convex_slice_within_lees_bound(
    chart: tuple[float, ...],
) -> None:
    parameters = svi.from_chart(np.array(chart))
    a, b, rho, m, sigma = parameters
    assert sigma > 0
    assert b >= 0
    assert b * (1 + abs(rho)) <= svi.WING_CAP * (1 + 1e-15)
    s = np.sqrt((1 - rho) * (1 + rho))
    vertex = m - sigma * rho / s
    minimum = np.logaddexp(chart[2], 0.0)
    # What rounding of ρ, of a and of σρ/√(1−ρ²) can do where one wing is all but flat.
    slack = 1e-15 * (abs(a) + b * (abs(vertex - m) + sigma)) / s**2
    assert abs(a + b * sigma * s - minimum) <= slack
    k = vertex + sigma * np.linspace(-20, 20, 81)
    assert (svi.total_variance(parameters, k) >= minimum - slack).all()
    assert (svi.curvature(parameters, k) > 0).all()


def test_chart_reads_as_wings_minimum_vertex_and_curvature() -> None:
    parameters = (0.02, 0.4, -0.6, 0.05, 0.2)
    left, right, minimum, vertex, curvature = svi.to_chart(parameters)
    assert svi.WING_CAP / (1 + np.exp(-left)) == pytest.approx(0.64, rel=1e-14)
    assert svi.WING_CAP / (1 + np.exp(-right)) == pytest.approx(0.16, rel=1e-14)
    assert svi.slope(parameters, vertex) == pytest.approx(0.0, abs=1e-16)
    assert svi.total_variance(parameters, vertex) == pytest.approx(np.log1p(np.exp(minimum)))
    assert svi.curvature(parameters, vertex) == pytest.approx(np.exp(curvature), rel=1e-13)


def test_chart_is_smooth_where_its_pieces_could_have_a_kink() -> None:
    """All coordinates 0 is where |q| and max(q, 0) would show in a derivative."""
    step = 1e-6
    with jax.enable_x64(True):
        jacobian = np.asarray(jax.jacfwd(svi.from_chart)(jnp.zeros(5)))
    for i in range(5):
        up = svi.from_chart(step * np.eye(5)[i])
        down = svi.from_chart(-step * np.eye(5)[i])
        np.testing.assert_allclose(jacobian[:, i], (up - down) / (2 * step), atol=1e-9)


def test_chart_gradients_are_finite_far_out() -> None:
    q = np.array([[-300.0, 300.0, -300.0, 0.0, 30.0], [300.0, 300.0, 300.0, 5.0, -30.0]]).T
    with jax.enable_x64(True):
        jacobian = jax.vmap(jax.jacfwd(svi.from_chart), in_axes=-1)(jnp.asarray(q))
        assert bool(jnp.isfinite(jacobian[1]).all())
    assert np.isfinite(svi.from_chart(q[:, 1])).all()


def test_a_slice_outside_the_chart_has_no_finite_coordinates() -> None:
    with np.errstate(divide="ignore", invalid="ignore"):
        assert not np.isfinite(svi.to_chart((0.04, 2.0, 0.5, 0.0, 0.1))).all()  # steeper than Lee
        assert not np.isfinite(svi.to_chart((-0.5, 0.2, 0.0, 0.0, 0.1))).all()  # negative minimum
        assert not np.isfinite(svi.to_chart((0.04, 0.0, 0.0, 0.0, 0.1))).all()  # flat


def test_stacks_of_slices_go_through_at_once() -> None:
    q = _random_charts(12).reshape(5, 3, 4)
    parameters = svi.from_chart(q)
    assert parameters.shape == (5, 3, 4)
    w = svi.total_variance(parameters[..., None], K)
    assert w.shape == (3, 4, K.size)
    assert (w[1, 2] == svi.total_variance(parameters[:, 1, 2], K)).all()


@given(
    v=st.floats(1e-3, 2.0),
    share=st.floats(0.05, 0.95),
    p=st.floats(0.05, 3.0),
    c=st.floats(0.05, 3.0),
    place=st.floats(-0.95, 0.95),
    years=st.floats(1 / 365, 5.0),
)
def test_jump_wings_round_trip(
    v: float, share: float, p: float, c: float, place: float, years: float
) -> None:
    """Any ATM and minimal variance, wings, and an ATM skew between those of the wings."""
    flat = c - p
    psi = 0.25 * (flat - place * (c + p))
    if abs(psi) < 0.02 * (c + p):
        return  # the vertex is all but at the money, see the next test
    wings = svi.JumpWings(v, psi, p, c, v * share)
    back = svi.to_jump_wings(svi.from_jump_wings(wings, years), years)
    assert back == pytest.approx(wings, rel=1e-9)


def test_jump_wings_without_skew_do_not_say_how_curved_the_smile_is() -> None:
    wings = svi.to_jump_wings((0.02, 0.2, 0.0, 0.0, 0.1), 0.5)
    assert wings.psi == 0.0
    assert wings.v == wings.v_min
    with np.errstate(invalid="ignore", divide="ignore"):
        assert np.isnan(svi.from_jump_wings(wings, 0.5).sigma)


def test_jump_wings_are_the_vols_a_trader_reads() -> None:
    parameters, years = (0.004, 0.08, -0.4, 0.02, 0.1), 0.25
    wings = svi.to_jump_wings(parameters, years)

    def vol(k: Any) -> Any:
        return np.sqrt(svi.total_variance(parameters, np.asarray(k)) / years)

    assert wings.v == pytest.approx(vol(0.0) ** 2)
    step = 1e-5
    skew = (vol(step) - vol(-step)) / (2 * step)
    assert wings.psi == pytest.approx(skew * np.sqrt(years), rel=1e-8)
    k = np.linspace(-3, 3, 60_001)
    assert wings.v_min == pytest.approx((vol(k) ** 2).min(), rel=1e-6)
    w0 = wings.v * years
    assert wings.p == pytest.approx(-svi.slope(parameters, np.float64(-1e9)) / np.sqrt(w0))
    assert wings.c == pytest.approx(svi.slope(parameters, np.float64(1e9)) / np.sqrt(w0))


def test_numbers_arrays_and_infinite_strikes() -> None:
    assert svi.total_variance(VOGT, 0.1) == svi.total_variance(VOGT, np.array([0.1]))[0]
    assert svi.total_variance(VOGT, inf) == inf
