"""The log contract by three ways that share no code, and CBOE's sum, which has to come to it."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from math import inf, isnan, nan, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from mpmath import mp, mpf

from calib.conventions import ExpiryCalendar, Floats
from calib.errors import InvalidRequest, NotFitted
from calib.feeds.simulated.bates import Bates, expected_variance
from calib.feeds.simulated.contour import time_value
from calib.models import svi
from calib.states import ModelName
from calib.surface.replication import central, interpolated, strip_variance
from calib.surface.surface import ExpirySlice, Surface
from tests.conformance import reference
from tests.surface import vix_white_paper as paper
from tests.surface.laws import cases, one_sabr, out_of_the_money, over_strikes, two_essvi
from tests.surface.markets import QUOTE_TIME, curves, make_slice, make_surface, three_expiries


def _one(parameters: tuple[float, ...], hours: float = 8760, **fields: Any) -> Surface:
    return make_surface(make_slice(hours, parameters, **fields))


@pytest.mark.parametrize("vol", [0.001, 0.05, 0.2, 1.0, 4.0])
@pytest.mark.parametrize("hours", [1, 720, 87600])
def test_of_a_flat_smile_it_is_the_vol(vol: float, hours: float) -> None:
    t = hours / 8760
    surface = _one((vol * vol * t, 0.0, 0.0, 0.0, 0.1), hours)
    assert surface.variance_swap(surface.expiries[0].expiry) == pytest.approx(vol, rel=1e-12)


@pytest.mark.parametrize(("surface", "t"), cases())
def test_it_is_the_strip_of_all_options_and_the_mean_of_the_log(surface: Surface, t: float) -> None:
    found = surface.variance_swap(t) ** 2 * t
    forward = surface.forward(t)
    strip = over_strikes(surface, t, lambda K: 2.0 * out_of_the_money(surface, K, t) / (K * K))
    assert found == pytest.approx(strip, rel=1e-10)
    log = over_strikes(surface, t, lambda K: -2.0 * np.log(K / forward) * surface.density(K, t))
    assert found == pytest.approx(log, rel=1e-10)


@pytest.mark.parametrize(
    ("parameters", "digits"),
    [
        ((0.01, 0.12, -0.6, 0.05, 0.1), 1e-12),
        ((0.02, 0.5, -0.9, -0.02, 0.02), 1e-12),  # a sharp bend
        ((0.05, 1.0, -0.9, 0.0, 0.5), 1e-12),  # a left wing of slope 1.9
        ((0.05, 1.0, 0.9, 0.0, 0.5), 1e-12),  # a right wing of slope 1.9
        ((0.05, 1.0, -0.99, 0.0, 0.5), 1e-11),  # 1.99: the integrand falls like e^{−|k|/400,000}
    ],
)
def test_of_svi_to_all_digits(parameters: tuple[float, ...], digits: float) -> None:
    """∫ 2·O(K)/K² dK of Black's out-of-the-money options at 25 digits, panels doubling outward."""
    exact = list(map(mpf, parameters))

    def integrand(k: Any) -> Any:
        root = mp.sqrt(reference.total_variance("svi", exact, k, mpf(1)))
        minus_d1, minus_d2 = k / root - root / 2, k / root + root / 2
        if k < 0:
            return 2 * (mp.ncdf(minus_d2) - mp.exp(-k) * mp.ncdf(minus_d1))
        return 2 * (mp.exp(-k) * mp.ncdf(-minus_d1) - mp.ncdf(-minus_d2))

    with mp.workdps(25):
        out = [mpf(2) ** j / 50 for j in range(32)]
        left = [-k for k in reversed(out)] + [mpf(0)]
        right = [mpf(0)] + [k for k in out if k < 1e4]
        total = mp.quad(integrand, left, maxdegree=5) + mp.quad(integrand, right, maxdegree=5)
    assert _one(parameters).variance_swap(1.0) ** 2 == pytest.approx(float(total), rel=digits)


def test_wings_of_slope_two_have_no_fair_strike() -> None:
    left, right = (0.05, 1.2, -0.8, 0.0, 0.5), (0.05, 1.2, 0.8, 0.0, 0.5)
    assert _one(left).variance_swap(1.0) == inf
    assert isnan(_one(right).variance_swap(1.0))
    for steep in (left, right):
        known = _one(steep, covariance=tuple((1e-6 * np.eye(5)).ravel().tolist()))
        assert isnan(known.variance_swap_error(1.0))
    # The strike grows without bound on the way there.
    near = [_one((0.05, 1.0, d - 1.0, 0.0, 0.5)).variance_swap(1.0) for d in (1e-1, 1e-2, 1e-3)]
    assert near[0] < near[1] < near[2] < inf


@given(curves())
def test_every_surface_has_an_answer_and_more_variance_than_at_the_lowest_vol(
    surface: Surface,
) -> None:
    times = [0.5 * surface.expiries[0].years, *(e.years for e in surface.expiries)]
    for t, vol in zip(times, surface.variance_swap(np.array(times)), strict=True):
        slopes = np.abs(surface.total_variance([-1e9, 1e9], t)) / 1e9
        if (slopes >= 2.0 - 1e-6).any():
            continue
        w = surface.total_variance(np.linspace(-30, 30, 4001), t)
        root = np.sqrt(w)
        z = np.linspace(-30, 30, 4001) / root + 0.5 * root
        if (np.diff(z) > 0.0).all():  # as it is without arbitrage
            assert vol >= sqrt(float(w.min()) / t) * (1 - 1e-9)
        assert vol > 0.0


def test_one_expiry_or_many_and_what_has_none() -> None:
    surface = three_expiries()
    times = [[0.01, 30 / 365], [1.0, 0.0]]
    found = surface.variance_swap(times)
    assert found.shape == (2, 2)
    assert found[1, 0] == surface.variance_swap("2027-03-06T08:00:00.000123") > 0.0
    assert isnan(found[1, 1])
    assert isnan(surface.variance_swap(-1.0))
    assert isnan(surface.variance_swap_error(0.0))
    assert type(surface.variance_swap(0.2)) is type(surface.variance_swap_error(0.2)) is float
    independent = two_essvi(calendar=ExpiryCalendar.INDEPENDENT)
    one = independent.expiries[1].expiry
    assert independent.variance_swap(one) == two_essvi().variance_swap(one)
    for ask in (independent.variance_swap, independent.variance_swap_error):
        with pytest.raises(NotFitted, match="different assets"):
            ask(0.2)
    with pytest.raises(NotFitted, match="no fitted expiry"):
        make_surface().variance_swap(0.1)


# Error bars ------------------------------------------------------------------------------------


def _moved(one: ExpirySlice, step: Floats) -> Surface:
    return make_surface(replace(one, parameters=tuple(np.add(one.parameters, step).tolist())))


def test_its_error_is_the_delta_method_on_the_strike_itself() -> None:
    one = replace(three_expiries().expiries[2], forward_error=0.0, log_moneyness_min=-9.0)
    one = replace(one, log_moneyness_max=9.0)
    errors = np.sqrt(np.diag(np.array(one.covariance).reshape(5, 5)))
    gradient = []
    for step in 1e-4 * np.diag(errors):
        up, down = (_moved(one, side * step).variance_swap(1.0) for side in (1, -1))
        gradient.append((up - down) / 2e-4)
    expected = sqrt(sum(g * g for g in gradient))
    assert make_surface(one).variance_swap_error(1.0) == pytest.approx(expected, rel=1e-6)


def test_its_error_is_the_spread_over_draws_of_parameters_and_forward() -> None:
    """600 draws, each an expiry of its own a microsecond later."""
    one = replace(three_expiries().expiries[2], log_moneyness_min=-9.0, log_moneyness_max=9.0)
    covariance = 1e-2 * np.array(one.covariance).reshape(5, 5)
    one = replace(one, covariance=tuple(covariance.ravel().tolist()), forward_error=0.2)
    random = np.random.default_rng(3)
    drawn = random.multivariate_normal(one.parameters, covariance, size=600, method="cholesky")
    drawn[:, 3] -= 0.2 / one.forward * random.normal(size=600)  # the smile sideways
    slices = [make_slice(8760 + i / 3.6e9, row) for i, row in enumerate(drawn.tolist())]
    surface = make_surface(*slices, calendar=ExpiryCalendar.INDEPENDENT)
    spread = np.std(surface.variance_swap([e.years for e in surface.expiries]))
    assert make_surface(one).variance_swap_error(1.0) == pytest.approx(spread, rel=0.08)


def test_its_error_lies_between_those_of_the_expiries_and_is_unknown_where_one_is() -> None:
    surface = three_expiries()
    years = [e.years for e in surface.expiries]
    errors = surface.variance_swap_error(years)
    between = surface.variance_swap_error(years[1] + 1e-9)
    assert between == pytest.approx(errors[1], rel=1e-6)
    assert min(errors[1:]) < surface.variance_swap_error(0.4) < max(errors[1:])
    first, middle, last = surface.expiries
    partly = make_surface(first, replace(middle, covariance=()), last, spot=100.0)
    assert partly.variance_swap_error(last.expiry) == errors[2]
    assert isnan(partly.variance_swap_error(middle.expiry))
    assert isnan(partly.variance_swap_error(0.5))


def test_a_flat_error_of_the_vol_is_the_error_of_the_strike() -> None:
    """Only the level is uncertain: of a flat smile the strike moves with it one to one."""
    covariance = np.zeros((5, 5))
    covariance[0, 0] = 0.004**2
    surface = _one(
        (0.04, 0.0, 0.0, 0.0, 0.1), covariance=tuple(covariance.ravel().tolist()), forward_error=1.0
    )
    assert surface.vol_error(100.0, 1.0) == pytest.approx(0.01, rel=1e-12)
    assert surface.variance_swap_error(1.0) == pytest.approx(0.01, rel=1e-10)


def test_beyond_the_quotes_it_is_no_surer_than_the_error_of_the_vol() -> None:
    """Two parameters whose errors cancel at one strike of the wing; see test_wings."""
    parameters = (0.02, 0.1, 0.0, 0.0, 0.2)
    _, by_b, *_ = svi.parameter_gradient(parameters, np.float64(0.4))
    direction = np.array([-by_b, 1.0, 0.0, 0.0, 0.0]) * 0.01
    covariance = tuple(np.outer(direction, direction).ravel().tolist())
    narrow, wide = (
        _one(parameters, covariance=covariance, log_moneyness_min=-k, log_moneyness_max=k)
        for k in (0.1, 5.0)
    )
    assert narrow.variance_swap_error(1.0) > 1.02 * wide.variance_swap_error(1.0)


# The strip of finitely many options -------------------------------------------------------------


def test_the_worked_example_of_the_white_paper() -> None:
    years, next_years = (
        minutes / paper.MINUTES_A_YEAR for minutes in (paper.MINUTES, paper.NEXT_MINUTES)
    )
    strikes, prices = paper.strip()
    assert strikes[central(strikes, paper.FORWARD)] == 1960.0
    assert (paper.FORWARD / 1960.0 - 1.0) ** 2 / years == pytest.approx(
        paper.FORWARD_TERM, abs=5e-9
    )
    variance = strip_variance(strikes, prices, paper.FORWARD) / years
    assert variance == pytest.approx(paper.VARIANCE, abs=5e-9)
    total = interpolated(
        years, variance * years, next_years, paper.NEXT_VARIANCE * next_years, 30 / 365
    )
    assert 100.0 * sqrt(total * 365 / 30) == pytest.approx(paper.INDEX, abs=5e-3)


def test_the_sum_on_hestons_prices_comes_to_hestons_variance() -> None:
    """E∫v dt = θT + (v₀ − θ)(1 − e^{−κT})/κ, for no path of the price jumps."""
    model = Bates(kappa=2.0, theta=0.05, sigma=0.5, rho=-0.7)
    expected = float(expected_variance(model, np.array(0.25), 0.03))
    relaxed = (1 - math.exp(-0.5)) / 2.0
    assert expected == pytest.approx(0.05 * (0.25 - relaxed) + 0.03 * relaxed, rel=1e-12)
    misses = []
    for count in (401, 801):
        strikes = 100.0 * np.exp(np.linspace(-3.0, 2.0, count))
        values = 100.0 * time_value(model, np.log(strikes / 100.0), 0.25, 0.03)
        misses.append(strip_variance(strikes, values, 100.0) / expected - 1.0)
    assert abs(misses[1]) < 1e-3
    assert misses[0] / misses[1] == pytest.approx(4.0, rel=0.05)


@pytest.mark.parametrize(("surface", "t"), cases())
def test_the_sum_comes_to_the_strike_as_the_grid_widens_and_refines(
    surface: Surface, t: float
) -> None:
    expected = surface.variance_swap(t)
    forward, deviation = surface.forward(t), sqrt(surface.total_variance(0.0, t))

    def miss(reach: float, count: int) -> float:
        # A strike at the forward, so that all of the grid's error is that of the trapezoidal rule.
        strikes = forward * np.exp(deviation * np.linspace(-reach, reach, 2 * count + 1))
        found: float = surface.variance_swap(t, strikes=strikes)
        return found / float(expected) - 1.0

    narrow = [miss(reach, 2000) for reach in (1.0, 2.0, 4.0, 8.0)]
    assert all(one < other < 1e-5 for one, other in pairwise(narrow))
    coarse, fine, finest = (miss(100.0, count) for count in (2_000, 4_000, 40_000))
    assert coarse / fine == pytest.approx(4.0, rel=0.1)
    assert abs(finest) < 1e-5


def test_strikes_off_the_forward_are_put_right_by_the_forward_term() -> None:
    surface = three_expiries()
    exact = surface.variance_swap(1.0)
    for offset in (0.0, 0.3, 0.7, 0.999):
        strikes = surface.forward(1.0) + 0.5 * (np.arange(-208, 1500) + offset)
        assert surface.variance_swap(1.0, strikes=strikes) == pytest.approx(exact, rel=2e-4)


@pytest.mark.parametrize(
    "strikes", [[100.0], [], [90.0, 90.0], [110.0, 90.0], [-1.0, 90.0], [90.0, nan], [[90.0, 91.0]]]
)
def test_strikes_that_make_no_strip_are_refused(strikes: list[Any]) -> None:
    with pytest.raises(InvalidRequest, match="two or more positive numbers in ascending order"):
        three_expiries().variance_swap(1.0, strikes=strikes)


def test_a_strip_needs_a_strike_at_or_below_the_forward() -> None:
    with pytest.raises(InvalidRequest, match=r"forward 106\.0; the lowest is 106\.5"):
        three_expiries().variance_swap(1.0, strikes=[106.5, 107.0])


# The index --------------------------------------------------------------------------------------


def test_of_flat_smiles_the_index_is_the_surfaces_own_strike() -> None:
    """Total variances are linear in time on both sides."""
    surface = make_surface(
        *(
            make_slice(24 * d, (v * v * d / 365, 0.0, 0.0, 0.0, 0.1))
            for d, v in ((20, 0.3), (41, 0.2))
        )
    )
    expected = sqrt((0.09 * 20 * 11 + 0.04 * 41 * 10) / 21 / 30)
    assert surface.vix() == pytest.approx(expected, rel=1e-12)
    assert surface.variance_swap(30 / 365) == pytest.approx(expected, rel=1e-12)


def test_at_an_expiry_the_index_is_its_strike() -> None:
    surface = three_expiries()
    assert surface.vix(30) == surface.variance_swap(30 / 365)
    grid = np.linspace(60.0, 160.0, 101)
    assert surface.vix(30, strikes=grid) == surface.variance_swap(30 / 365, strikes=grid)


def test_index_and_strike_meet_as_the_expiries_close_in() -> None:
    """The strike is not linear in the smile: halving the gap must quarter the difference."""

    def difference(gap: float) -> float:
        def parameters(days: float) -> tuple[float, ...]:
            t = days / 365
            return (0.02 * t, 0.11 * sqrt(t), -0.4, 0.01, 0.4 * sqrt(t))

        sides = (30 - gap, 30 + gap)
        surface = make_surface(*(make_slice(24 * days, parameters(days)) for days in sides))
        return float(surface.vix(30) - surface.variance_swap(30 / 365))

    wide, half, quarter, narrow = map(difference, (8.0, 4.0, 2.0, 0.25))
    assert wide / half == pytest.approx(4.0, rel=0.1)
    assert half / quarter == pytest.approx(4.0, rel=0.03)
    assert abs(narrow) < 1e-6


def test_on_strikes_the_index_comes_to_the_index() -> None:
    surface = three_expiries()
    wide = np.exp(np.linspace(np.log(0.1), np.log(1e5), 40_001))
    assert surface.vix(90, strikes=wide) == pytest.approx(surface.vix(90), rel=1e-5)


def test_an_index_needs_an_expiry_on_either_side() -> None:
    surface = three_expiries()
    for days in (3, 366):
        with pytest.raises(NotFitted, match=rf"{days} days lie outside .* of 7 to 365 days"):
            surface.vix(days)
    for wrong in (0.0, -1.0, nan, inf):
        with pytest.raises(InvalidRequest, match="days must be positive"):
            surface.vix(wrong)
    with pytest.raises(NotFitted, match="different assets"):
        two_essvi(calendar=ExpiryCalendar.INDEPENDENT).vix(60)
    assert surface.quote_time == QUOTE_TIME


def test_sabr_answers_like_the_others() -> None:
    surface = one_sabr()
    assert surface.model is ModelName.SABR
    assert surface.variance_swap(1.0) > surface.implied_vol(100.0, 1.0)
