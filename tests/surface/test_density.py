"""The implied law: probabilities that add up, the forward as mean, prices that it explains."""

from __future__ import annotations

from math import exp, isnan, log, nan, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf
from scipy.special import ndtr

from calib.conventions import ExpiryCalendar, Floats
from calib.errors import NotFitted
from calib.models import sabr
from calib.states import ModelName
from calib.surface.surface import Surface
from tests.conformance import reference
from tests.surface.laws import calls, cases, one_sabr, over_strikes, two_essvi
from tests.surface.markets import curves, make_slice, make_surface, three_expiries

FLAT = (0.04, 0.0, 0.0, 0.0, 0.1)
AXEL_VOGT = (-0.0410, 0.1331, 0.3060, 0.3586, 0.4153)


def test_of_a_flat_smile_it_is_the_lognormal_law() -> None:
    surface = make_surface(make_slice(8760, FLAT))
    strikes = np.array([30.0, 80.0, 100.0, 110.0, 250.0])
    z = (np.log(strikes / 100.0) + 0.02) / 0.2
    expected = np.exp(-0.5 * z * z) / (strikes * 0.2 * sqrt(2 * np.pi))
    np.testing.assert_allclose(surface.density(strikes, 1.0), expected, rtol=1e-13)
    np.testing.assert_allclose(surface.distribution(strikes, 1.0), ndtr(z), rtol=1e-13)


@pytest.mark.parametrize(("surface", "t"), cases())
def test_probabilities_add_up_to_one_and_the_mean_is_the_forward(
    surface: Surface, t: float
) -> None:
    assert over_strikes(surface, t, lambda K: surface.density(K, t)) == pytest.approx(1, abs=1e-11)
    mean = over_strikes(surface, t, lambda K: K * surface.density(K, t))
    assert mean == pytest.approx(surface.forward(t), rel=1e-11)


@pytest.mark.parametrize(("surface", "t"), cases())
def test_calls_are_what_the_law_pays(surface: Surface, t: float) -> None:
    for strike in surface.forward(t) * np.array([0.9, 1.0, 1.15]):

        def paid(x: Floats, strike: float = strike) -> Floats:
            return np.asarray(np.maximum(x - strike, 0.0) * surface.density(x, t))

        expected = calls(surface, np.array([strike]), t)[0]
        found = over_strikes(surface, t, paid, kink=strike)
        assert found == pytest.approx(expected, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize(("surface", "t"), cases())
def test_density_is_the_second_difference_of_calls(surface: Surface, t: float) -> None:
    width = 0.02 * sqrt(surface.total_variance(0.0, t)) * surface.forward(t)
    strikes = surface.forward(t) * np.exp(np.linspace(-0.2, 0.2, 9))
    price = [calls(surface, strikes + i * width, t) for i in (-2, -1, 0, 1, 2)]
    second = (-price[0] + 16 * price[1] - 30 * price[2] + 16 * price[3] - price[4]) / (
        12 * width**2
    )
    found = surface.density(strikes, t)
    np.testing.assert_allclose(found, second, rtol=1e-4, atol=1e-5 * float(found.max()))


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("svi", (0.01, 0.12, -0.6, 0.05, 0.1)),
        ("svi", AXEL_VOGT),
        ("essvi", (0.05, -0.7, 0.5)),
        ("sabr", (0.3, 0.5, -0.4, 0.7)),
    ],
)
def test_density_and_distribution_are_derivatives_of_calls_to_all_digits(
    model: str, parameters: tuple[float, ...]
) -> None:
    """Black's calls on the formulas of the papers at 40 digits, differentiated numerically."""
    names = {"svi": ModelName.SVI, "essvi": ModelName.ESSVI, "sabr": ModelName.SABR}
    one = make_slice(8760, parameters, log_moneyness_min=-2.0, log_moneyness_max=2.0)
    surface = make_surface(one, model=names[model])

    def call(strike: mpf) -> mpf:
        k = mp.log(strike / 100)
        root = mp.sqrt(reference.total_variance(model, list(map(mpf, parameters)), k, mpf(1)))
        d1 = root / 2 - k / root
        return 100 * mp.ncdf(d1) - strike * mp.ncdf(d1 - root)

    with mp.workdps(40):
        for strike in (45.0, 85.0, 100.0, 104.0, 230.0):
            density = float(mp.diff(call, mpf(strike), 2))
            distribution = float(1 + mp.diff(call, mpf(strike)))
            assert surface.density(strike, 1.0) == pytest.approx(density, rel=1e-11, abs=1e-17)
            assert surface.distribution(strike, 1.0) == pytest.approx(distribution, rel=1e-12)


def test_axel_vogts_smile_has_a_negative_density() -> None:
    """The example of Gatheral & Jacquier (2014), section 2.2 and figure 1: g < 0 near k = 0.8."""
    surface = make_surface(make_slice(8760, AXEL_VOGT))
    k = np.linspace(-1.5, 1.5, 301)
    negative = k[surface.density(100.0 * np.exp(k), 1.0) < 0.0]
    assert 0.5 < negative.min() < 0.8 < negative.max() < 1.4
    assert negative.size == round((negative[-1] - negative[0]) / 0.01) + 1
    fall = surface.distribution(100.0 * np.exp(0.9), 1.0) - surface.distribution(
        100.0 * np.exp(0.8), 1.0
    )
    assert fall < 0.0


@given(curves(), st.floats(0.1, 2.0), st.floats(-1.5, 1.5))
def test_density_is_the_derivative_of_the_distribution(
    surface: Surface, stretch: float, shift: float
) -> None:
    """Over a short interval without an end of a quoted range in it, by Gauss' rule of order 40."""
    t = stretch * surface.expiries[-1].years
    root = sqrt(surface.total_variance(0.0, t))
    start, end = shift * root, shift * root + 0.01 * min(root, 1.0)
    ends = [k for e in surface.expiries for k in (e.log_moneyness_min, e.log_moneyness_max)]
    if any(start - 1e-9 <= k <= end + 1e-9 for k in ends):
        return
    points, weights = np.polynomial.legendre.leggauss(40)
    k = start + 0.5 * (end - start) * (1 + points)
    strikes = surface.forward(t) * np.exp(k)
    mass = 0.5 * (end - start) * weights @ (strikes * surface.density(strikes, t))
    low, high = surface.distribution(surface.forward(t) * np.exp([start, end]), t)
    assert mass == pytest.approx(high - low, rel=1e-7, abs=1e-9)


def test_a_wing_of_sabr_that_turns_has_a_point_mass_there() -> None:
    """The formula falls at the right end, w goes on flat: the law jumps by φ(d₂)·Δw′/(2√w)."""
    parameters, high = (0.5, 1.0, -0.4, 1.2), -0.25
    one = make_slice(8760, parameters, log_moneyness_min=-0.6, log_moneyness_max=high)
    surface = make_surface(one, model=ModelName.SABR)
    k, w = np.float64(high), float(sabr.total_variance(parameters, np.float64(high), 1.0))
    d2 = -high / sqrt(w) - sqrt(w) / 2
    turn = -float(sabr.slope(parameters, k, 1.0))
    jump = exp(-0.5 * d2 * d2) / sqrt(2 * np.pi) * turn / (2 * sqrt(w))
    below, at = (surface.distribution(100.0 * exp(high + side), 1.0) for side in (-1e-12, 1e-12))
    assert jump > 0.1
    assert at - below == pytest.approx(jump, rel=1e-9)
    rest = over_strikes(surface, 1.0, lambda K: surface.density(K, 1.0))
    assert rest + jump == pytest.approx(1.0, abs=1e-9)


def test_scalars_arrays_and_what_has_no_law() -> None:
    surface = three_expiries()
    for method in (surface.density, surface.distribution):
        one = method(101.0, "2026-04-05")
        assert type(one) is float
        table = method(np.array([[90.0], [101.0]]), np.array([0.1, 0.5, 1.0]))
        assert table.shape == (2, 3)
        assert table[1, 2] == pytest.approx(method(101.0, 1.0), rel=1e-14)
        assert isnan(method(0.0, 1.0))
        assert isnan(method(-5.0, 1.0))
        assert isnan(method(nan, 1.0))
        assert isnan(method(100.0, 0.0))
        assert isnan(method(100.0, -0.1))
        assert np.isnan(method([100.0, nan], [-1.0, 1.0])).all()


def test_independent_expiries_have_a_law_each_and_none_between() -> None:
    surface = two_essvi(calendar=ExpiryCalendar.INDEPENDENT)
    one = surface.expiries[0]
    assert surface.density(100.0, one.expiry) == two_essvi().density(100.0, one.expiry)
    for method in (surface.density, surface.distribution):
        with pytest.raises(NotFitted, match="different assets"):
            method(100.0, 0.2)


def test_far_out_nothing_is_left() -> None:
    for surface, t in ((three_expiries(), 0.1), (one_sabr(), 1.0)):
        far = surface.forward(t) * np.exp(np.array([-200.0, 200.0]))
        np.testing.assert_allclose(surface.distribution(far, t), [0.0, 1.0], atol=1e-12)
        assert (surface.density(far, t) >= 0.0).all()
        assert log(surface.density(far, t)[1] + 1e-300) < -20.0
