"""Properties of the evaluation rule; its values are held to 50 digits in tests/conformance."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise
from math import exp, inf, isnan, log, nan
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from calib.conventions import ExpiryCalendar
from calib.errors import InvalidRequest, NotFitted
from calib.models import svi
from calib.states import ModelName
from calib.surface.surface import Surface
from tests.surface.markets import QUOTE_TIME, curves, make_slice, make_surface, three_expiries

STRIKES = np.array([55.0, 90.0, 100.0, 104.0, 160.0])
K = np.linspace(-2.0, 2.0, 33)

fractions = st.floats(0.0, 1.0)
log_strikes = st.floats(-3.0, 3.0)


@given(curves())
def test_at_a_fitted_expiry_nothing_is_interpolated(surface: Surface) -> None:
    for one in surface.expiries:
        for expiry in (one.expiry, one.years):
            assert surface.forward(expiry) == one.forward
            assert surface.discount_factor(expiry) == one.discount_factor
        if surface.model is ModelName.SVI:
            w = svi.total_variance(one.parameters, K)
            assert (surface.total_variance(K, one.expiry) == w).all()
            strike = np.float64(1.07) * one.forward
            w = svi.total_variance(one.parameters, np.log(strike / one.forward))
            assert surface.implied_vol(strike, one.years) == pytest.approx(
                np.sqrt(w / one.years), rel=1e-14
            )


@given(curves(least=2), fractions, log_strikes)
def test_between_expiries_total_variance_is_on_the_chord(
    surface: Surface, share: float, k: float
) -> None:
    for one, other in pairwise(surface.expiries):
        t = one.years + share * (other.years - one.years)
        start, end = (surface.total_variance(k, at.years) for at in (one, other))
        found = surface.total_variance(k, t)
        assert found == pytest.approx(start + share * (end - start), rel=1e-9, abs=1e-14)
        assert min(start, end) * (1 - 1e-12) <= found <= max(start, end) * (1 + 1e-12)


@given(curves(), fractions, log_strikes)
def test_before_the_first_expiry_vol_at_a_moneyness_is_constant(
    surface: Surface, share: float, k: float
) -> None:
    assume(share > 1e-6)
    first = surface.expiries[0]
    t = share * first.years
    vols = [np.sqrt(surface.total_variance(k, at) / at) for at in (t, first.years)]
    assert vols[0] == pytest.approx(vols[1], rel=1e-12)
    assert surface.total_variance(k, 0.0) == 0.0


@given(curves(), st.floats(1.0, 20.0), log_strikes)
def test_beyond_the_last_expiry_total_variance_grows_as_at_the_money(
    surface: Surface, stretch: float, k: float
) -> None:
    last = surface.expiries[-1]
    t = stretch * last.years
    grown = surface.total_variance(k, t) - surface.total_variance(k, last.years)
    at_the_money = surface.total_variance(0.0, last.years)
    scale = abs(surface.total_variance(k, t))
    expected = (t - last.years) / last.variance_time * at_the_money
    assert grown == pytest.approx(expected, rel=1e-9, abs=1e-13 * scale)


def test_where_the_expiries_rise_every_time_in_between_and_beyond_does() -> None:
    surface = three_expiries()
    times = np.linspace(0.0, 3.0, 2_001)
    w = surface.total_variance(K[:, None], times)
    assert (np.diff(w, axis=1) > 0).all()


@pytest.mark.parametrize("spot", [100.0, None])
def test_everything_is_continuous_in_time(spot: float | None) -> None:
    surface = three_expiries(spot=spot)
    tiny = 1e-9
    for one in surface.expiries:
        functions: tuple[Callable[[float], Any], ...] = (
            lambda t: surface.implied_vol(STRIKES, t),
            lambda t: surface.vol_error(STRIKES, t),
            lambda t: surface.total_variance(K, t),
            surface.forward,
            surface.discount_factor,
        )
        for values in functions:
            here = np.asarray(values(one.years))
            for t in (one.years - tiny, one.years + tiny):
                np.testing.assert_allclose(values(t), here, rtol=1e-6)


def test_forward_and_discount_factor_follow_their_logarithms() -> None:
    surface = three_expiries()
    one, other = surface.expiries[1:]
    middle = 0.5 * (one.years + other.years)
    assert surface.forward(middle) == pytest.approx((one.forward * other.forward) ** 0.5)
    factor = (one.discount_factor * other.discount_factor) ** 0.5
    assert surface.discount_factor(middle) == pytest.approx(factor)
    assert surface.forward(0.0) == 100.0
    assert surface.discount_factor(0.0) == 1.0
    first, last = surface.expiries[0], surface.expiries[-1]
    assert surface.forward(first.years / 2) == pytest.approx((100.0 * first.forward) ** 0.5)
    assert surface.forward(2 * last.years) == pytest.approx(last.forward**2 / 100.0)
    assert surface.discount_factor(2 * last.years) == pytest.approx(last.discount_factor**2)


def test_without_spot_the_forward_is_flat_outside_the_expiries() -> None:
    surface = three_expiries(spot=None)
    first, last = surface.expiries[0], surface.expiries[-1]
    for t in (0.0, first.years / 3):
        assert surface.forward(t) == first.forward
    assert surface.forward(7.0) == last.forward


def test_every_form_of_an_expiry_means_the_same() -> None:
    surface = three_expiries()
    moment = datetime(2026, 4, 1, 12, 30, tzinfo=UTC)
    years = (moment - datetime(2026, 3, 6, 8, 0, 0, 123, tzinfo=UTC)) / timedelta(days=365)
    expected = surface.implied_vol(95.0, years)
    tokyo = moment.astimezone(timezone(timedelta(hours=9)))
    forms: list[Any] = [
        moment,
        moment.replace(tzinfo=None),
        tokyo,
        pd.Timestamp(moment),
        pd.Timestamp(tokyo),
        np.datetime64("2026-04-01T12:30"),
        np.datetime64("2026-04-01T12:30:00.000000000", "ns"),
        "2026-04-01T12:30",
        "2026-04-01T12:30:00Z",
        "2026-04-01T21:30:00+09:00",
        np.float64(years),
        np.array(years),
    ]
    for form in forms:
        found = surface.implied_vol(95.0, form)
        assert type(found) is float
        assert found == pytest.approx(expected, rel=1e-13), form
        assert surface.implied_vol(95.0, [form, form]) == pytest.approx([expected] * 2), form
    series = pd.Series([moment, moment])
    for many in (series, series.dt.tz_localize(None), pd.DatetimeIndex([moment] * 2), [moment] * 2):
        assert surface.implied_vol(95.0, many) == pytest.approx([expected] * 2)
    midnight = surface.implied_vol(95.0, "2026-04-01")
    assert surface.implied_vol(95.0, date(2026, 4, 1)) == midnight
    assert surface.implied_vol(95, 1) == surface.implied_vol(95.0, 1.0)


@pytest.mark.parametrize("wrong", [None, True, [True], "soon", object(), ["2026-04-01", 0.3], 1j])
def test_what_is_no_expiry_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidRequest):
        three_expiries().forward(wrong)


@given(curves(), st.lists(st.tuples(log_strikes, st.floats(-0.1, 8.0)), min_size=1))
def test_arrays_give_what_numbers_give(surface: Surface, points: list[tuple[float, float]]) -> None:
    ks, times = (np.array(column) for column in zip(*points, strict=True))
    strikes = surface.expiries[0].forward * np.exp(ks)
    for method, first in (
        (surface.implied_vol, strikes),
        (surface.total_variance, ks),
        (surface.vol_error, strikes),
        (surface.is_extrapolated, strikes),
    ):
        together = method(first, times)
        alone = [method(float(x), float(t)) for x, t in zip(first, times, strict=True)]
        assert together.shape == times.shape
        np.testing.assert_allclose(together, alone, rtol=1e-13, atol=1e-16)
    for along in (surface.forward, surface.discount_factor):
        np.testing.assert_allclose(along(times), [along(float(t)) for t in times], rtol=1e-15)


def test_shapes_broadcast_and_scalars_stay_scalars() -> None:
    surface = three_expiries()
    expiries = [one.expiry for one in surface.expiries]
    grid = surface.implied_vol(STRIKES, np.array(expiries)[:, None])
    assert grid.shape == (3, 5)
    for i, expiry in enumerate(expiries):
        assert (grid[i] == surface.implied_vol(STRIKES, expiry)).all()
    assert surface.implied_vol(100.0, expiries).shape == (3,)
    assert surface.vol_error(STRIKES[:, None], np.array(expiries)).shape == (5, 3)
    assert surface.is_extrapolated(STRIKES, np.array(expiries)[:, None]).shape == (3, 5)
    assert surface.implied_vol(np.array([]), 0.5).shape == (0,)
    assert surface.implied_vol(100.0, np.array([])).shape == (0,)
    assert surface.implied_vol(pd.Series(STRIKES), 0.5).shape == (5,)
    assert type(surface.total_variance(0.0, 0.5)) is float
    assert type(surface.implied_vol(100, expiries[0])) is float
    assert type(surface.vol_error(100.0, 0.5)) is float
    assert type(surface.forward("2026-05-05")) is float
    assert type(surface.is_extrapolated(100.0, 0.5)) is bool


def test_nothing_has_a_value_where_there_is_none() -> None:
    """No warnings either: they are errors in these tests."""
    surface = three_expiries()
    expiry = surface.expiries[1].expiry
    strikes = np.array([0.0, -5.0, nan, inf, -inf])
    for method in (surface.implied_vol, surface.vol_error):
        assert np.isnan(method(strikes, expiry)).all()
        assert all(isnan(method(float(strike), expiry)) for strike in strikes)
        for t in (0.0, -0.1, nan, "2026-03-01", np.datetime64("NaT")):
            assert isnan(method(100.0, t))
            assert np.isnan(method(STRIKES, t)).all()
    for t in (-0.1, nan, inf):
        assert isnan(surface.total_variance(0.0, t))
        assert isnan(surface.forward(t))
        assert isnan(surface.discount_factor(t))
        assert surface.is_extrapolated(100.0, t)
    assert surface.is_extrapolated(strikes, expiry).all()
    assert np.isnan(surface.total_variance(np.array([nan, inf, -inf]), expiry)).all()


@pytest.mark.parametrize("model", ModelName)
def test_absurd_strikes_and_times_are_answered_quietly(model: ModelName) -> None:
    parameters = {
        ModelName.SVI: (0.01, 0.1, -0.3, 0.0, 0.2),
        ModelName.ESSVI: (0.04, -0.3, 0.2),
        ModelName.SABR: (0.3, 0.5, -0.3, 0.5),
    }[model]
    covariance = tuple(np.eye(len(parameters)).ravel() * 1e-6)
    surface = make_surface(
        make_slice(24, parameters, covariance=covariance), model=model, spot=99.0
    )
    extreme = np.array([5e-324, 1e-300, 1e-9, 1e9, 1e300, 1.7e308])
    for t in (1e-300, 1 / 365, 1e6, 1e300):
        surface.implied_vol(extreme, t)
        surface.vol_error(extreme, t)
        for strike in extreme:
            surface.implied_vol(float(strike), t)
            surface.vol_error(float(strike), t)
    assert (surface.implied_vol(extreme, 1 / 365)[1:-1] > 0).all()
    assert np.isfinite(surface.vol_error(extreme, 1 / 365)[1:-1]).all()


def test_a_surface_without_expiries_says_so() -> None:
    surface = make_surface(spot=100.0)
    ways: tuple[Callable[[], Any], ...] = (
        lambda: surface.implied_vol(100.0, 0.5),
        lambda: surface.total_variance(K, [0.1, 0.2]),
        lambda: surface.vol_error(100.0, "2026-05-01"),
        lambda: surface.forward(0.5),
        lambda: surface.discount_factor(np.array([])),
        lambda: surface.is_extrapolated(100.0, 0.5),
    )
    for ask in ways:
        with pytest.raises(NotFitted, match="no fitted expiry"):
            ask()


def test_independent_expiries_have_nothing_between_them() -> None:
    surface = three_expiries(calendar=ExpiryCalendar.INDEPENDENT)
    expiries = np.array([one.expiry for one in surface.expiries])
    same = three_expiries()
    assert (surface.implied_vol(100.0, expiries) == same.implied_vol(100.0, expiries)).all()
    near = r"nearest: 2026-03-13T08:00:00.000123Z .* and 2026-04-05T08:00:00.000123Z"
    ways: tuple[Callable[[Any], Any], ...] = (
        surface.forward,
        surface.discount_factor,
        lambda t: surface.vol_error(100.0, t),
    )
    for ask in ways:
        with pytest.raises(NotFitted, match=near):
            ask("2026-03-20")
        with pytest.raises(NotFitted, match=near):
            ask(np.append(expiries, np.datetime64("2026-03-20")))
    with pytest.raises(NotFitted, match=r"nearest: 2027-03-06T08:00:00\.000123Z \(1.0 years\)$"):
        surface.implied_vol(100.0, 2.0)
    with pytest.raises(NotFitted, match=r"nearest: 2026-03-13T08:00:00\.000123Z \(0.019"):
        surface.implied_vol(100.0, 0.001)
    assert isnan(surface.implied_vol(100.0, -0.1))


def test_extrapolation_is_marked_in_time_and_in_strike() -> None:
    surface = three_expiries()
    one, other = surface.expiries[1:]
    for expiry in (one, other):
        for k, outside in ((-0.01, False), (0.0, False), (0.01, True), (-0.5, False)):
            edge = expiry.log_moneyness_max
            strike = expiry.forward * exp(edge + k * abs(edge))
            assert surface.is_extrapolated(strike, expiry.expiry) is outside
            strike = expiry.forward * exp(expiry.log_moneyness_min + k)
            assert surface.is_extrapolated(strike, expiry.expiry) is (k < 0)
    middle = 0.5 * (one.years + other.years)
    edge = 0.5 * (one.log_moneyness_max + other.log_moneyness_max)
    forward = surface.forward(middle)
    assert not surface.is_extrapolated(forward * exp(edge - 1e-6), middle)
    assert surface.is_extrapolated(forward * exp(edge + 1e-6), middle)
    assert surface.is_extrapolated(100.0, surface.expiries[0].years * 0.999)
    assert surface.is_extrapolated(100.0, other.years * 1.001)


@given(st.floats(1e-4, 1e5), st.floats(-2.0, 2.0), st.floats(-2.0, 2.0))
def test_the_quoted_strikes_themselves_are_inside(forward: float, low: float, high: float) -> None:
    strikes = np.sort(forward * np.exp([low, high]))
    edges = np.log(strikes / forward)
    one = make_slice(
        24,
        (0.01, 0.1, -0.3, 0.0, 0.2),
        forward=forward,
        log_moneyness_min=edges[0],
        log_moneyness_max=edges[1],
    )
    surface = make_surface(one)
    assert not surface.is_extrapolated(strikes, one.expiry).any()
    assert not any(surface.is_extrapolated(float(strike), one.expiry) for strike in strikes)


def test_vol_is_held_while_the_clock_moves_on() -> None:
    """Nothing in an answer depends on when it is asked for."""
    surface = three_expiries()
    answers = {surface.implied_vol(97.0, "2026-06-01") for _ in range(3)}
    assert len(answers) == 1
    t = (datetime(2026, 6, 1) - QUOTE_TIME.astype(datetime)) / timedelta(days=365)
    k = log(97.0 / surface.forward("2026-06-01"))
    (answer,) = answers
    assert answer == pytest.approx(np.sqrt(surface.total_variance(k, t) / t), rel=1e-14)
