"""Surfaces whose time runs by a clock of weekends and events: what is interpolated, and refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import inf, nan, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.conventions import Floats, Instants, years_between
from calib.errors import InvalidSurface
from calib.market.closures import Event, WeeklyClosure
from calib.market.variance_clock import VarianceClock, VarianceKnot
from calib.surface.surface import Surface
from tests.surface.markets import clocked, make_slice, make_surface, three_expiries

MONDAY = np.datetime64("2026-03-09T08:00", "us")
DAY = np.timedelta64(1, "D")
HOUR = np.timedelta64(1, "h")
VOL = 0.5
K = np.linspace(-1.5, 1.5, 7)

WEEKENDS = VarianceClock.weekends(0.4)
RELEASE = VarianceClock(
    weekly=(WeeklyClosure("Friday 21:00", "Sunday 22:00", 0.3),),
    events=(Event(np.datetime64("2026-03-18T18:00"), 0.8),),
)


def priced_by(clock: VarianceClock, days: Sequence[float]) -> Surface:
    """Options that expire so many days after a Monday, worth w(k) = VOL²·τ·(1 + k²) about."""
    expiry = MONDAY + (np.array(days) * 86_400e6).astype("timedelta64[us]")
    times = clock.times(MONDAY, expiry)
    slices = []
    for instant, tau in zip(expiry, times.variance_time.tolist(), strict=True):
        w = VOL * VOL * tau
        hours = float((instant - MONDAY) / HOUR)
        one = make_slice(hours, (0.4 * w, 0.6 * w, 0.0, 0.0, 1.0), variance_time=tau)
        slices.append(replace(one, expiry=instant, years=float(years_between(MONDAY, instant))))
    return make_surface(*slices, quote_time=MONDAY, variance_clock=times.knots)


def tau_of(clock: VarianceClock, instants: Instants) -> Floats:
    return clock.times(MONDAY, instants).variance_time


@pytest.mark.parametrize("clock", [WEEKENDS, RELEASE])
@pytest.mark.parametrize("days", [(2, 21), (4, 7, 21), (5.5, 9.5, 9.75)])
def test_a_market_that_moves_by_the_clock_is_read_off_a_few_expiries(
    clock: VarianceClock, days: Sequence[float]
) -> None:
    """w = VOL²τ between the expiries, before the first and, at the money, beyond the last."""
    surface = priced_by(clock, days)
    instants = MONDAY + np.arange(1, 24 * 40) * HOUR
    w = VOL * VOL * tau_of(clock, instants)
    # 40 days are beyond the horizon of the surface with the nearest expiries: it ends later.
    np.testing.assert_allclose(surface.total_variance(0.0, instants), w, rtol=1e-12)
    vol = np.sqrt(w / years_between(MONDAY, instants))
    np.testing.assert_allclose(surface.implied_vol(100.0, instants), vol, rtol=1e-12)
    within = instants <= surface.expiries[-1].expiry
    smile = 0.4 + 0.6 * np.sqrt(K * K + 1.0)
    np.testing.assert_allclose(
        surface.total_variance(K[:, None], instants[within]), smile[:, None] * w[within], rtol=1e-12
    )


def test_forward_variance_between_expiries_is_even_in_variance_time() -> None:
    """… for expiries that are priced by no clock at all, too."""
    expiry = MONDAY + np.array([4, 7, 60]) * DAY
    times = RELEASE.times(MONDAY, expiry)
    slices = [
        replace(one, expiry=at, years=float(years_between(MONDAY, at)), variance_time=float(tau))
        for one, at, tau in zip(three_expiries().expiries, expiry, times.variance_time, strict=True)
    ]
    surface = make_surface(*slices, quote_time=MONDAY, variance_clock=times.knots)
    for one, other in pairwise(surface.expiries):
        instants = one.expiry + np.linspace(0.0, 1.0, 33) * (other.expiry - one.expiry)
        tau = tau_of(RELEASE, instants)
        w = surface.total_variance(K[:, None], instants)
        ends = surface.total_variance(K, other.years) - surface.total_variance(K, one.years)
        speed = ends / (other.variance_time - one.variance_time)
        np.testing.assert_allclose(np.diff(w, axis=1), speed[:, None] * np.diff(tau), rtol=1e-9)


def test_from_friday_to_monday_the_weekend_has_its_weight() -> None:
    """Between a Friday's and a Monday's expiry a night of the weekend has 0.4 of another's."""
    surface = priced_by(WEEKENDS, (4, 7, 11))
    friday = MONDAY + 4 * DAY + 16 * HOUR  # 24:00
    w = [surface.total_variance(0.0, friday + hours * HOUR) for hours in (-8, 0, 8, 24, 48, 56)]
    before, first_night, saturday, sunday, after = np.diff(w) / np.array([8, 8, 16, 24, 8])
    assert first_night / before == pytest.approx(0.4, rel=1e-10)
    assert saturday == pytest.approx(first_night, rel=1e-10)
    assert sunday == pytest.approx(first_night, rel=1e-10)
    assert after == pytest.approx(before, rel=1e-10)
    # In closed form: 168 hours of which 48 count 0.4, in 139.2 hours of open time.
    assert before * 139.2 == pytest.approx(VOL * VOL * 7 / 365, rel=1e-10)


def test_one_expiry_left_out_comes_back_by_the_clock_and_not_in_plain_years() -> None:
    """Daily expiries across a weekend: the vol of Saturday's from Friday's and Monday's."""
    daily = (3, 4, 5, 6, 7, 8)
    full = priced_by(WEEKENDS, daily)
    missed = []
    for before, at, after in zip(full.expiries, full.expiries[1:], full.expiries[2:], strict=False):
        others = [day for day, one in zip(daily, full.expiries, strict=True) if one is not at]
        by_clock = priced_by(WEEKENDS, others)
        vol = VOL * sqrt(at.variance_time / at.years)
        assert by_clock.implied_vol(100.0, at.expiry) == pytest.approx(vol, rel=1e-12)
        plain = replace(by_clock, variance_clock=())  # the expiries' own times and no more
        found = plain.implied_vol(100.0, at.expiry)
        halfway = 0.5 * (before.variance_time + after.variance_time)
        assert found == pytest.approx(VOL * sqrt(halfway / at.years), rel=1e-12)
        missed.append(abs(found - vol))
    assert max(missed) > 0.01  # a point of vol


@given(clocked(), st.floats(0.0, 1.0), st.floats(-2.0, 2.0))
def test_every_time_lies_between_its_neighbours(surface: Surface, share: float, k: float) -> None:
    """λ in [0, 1] on the way from an expiry to the next, one for all strikes, never falling: what
    the proofs about interpolation need of a clock."""
    ends = [0.0, *(one.years for one in surface.expiries)]
    for t, later in pairwise(ends):
        times = np.sort([t, t + share * (later - t), t + 0.5 * (1 + share) * (later - t), later])
        w = surface.total_variance(k, times)
        low, high = min(w[0], w[-1]), max(w[0], w[-1])
        assert (w >= low - 1e-12 * abs(high)).all()
        assert (w <= high + 1e-12 * abs(high)).all()
        way = (w - w[0]) * (1.0 if w[-1] >= w[0] else -1.0)
        assert (np.diff(way) >= -1e-12 * abs(high)).all()
        at_the_money = surface.total_variance(0.0, times)
        ways = (at_the_money - at_the_money[0]) * (w[-1] - w[0])
        expected = (w - w[0]) * (at_the_money[-1] - at_the_money[0])
        scale = high * float(np.max(at_the_money))
        np.testing.assert_allclose(ways, expected, rtol=1e-9, atol=1e-13 * scale)


@given(clocked(), st.floats(0.0, 3.0), st.floats(-2.0, 2.0))
def test_it_is_the_line_through_expiries_and_knots(
    surface: Surface, stretch: float, k: float
) -> None:
    """The rule once more, in numpy: its points in order, slope 1 beyond them."""
    expiries = surface.expiries
    points = {(0.0, 0.0), *surface.variance_clock}
    points |= {(one.years, one.variance_time) for one in expiries}
    years, taus = np.array(sorted(points)).T

    def tau(t: float) -> float:
        return float(np.interp(t, years, taus)) + max(0.0, t - float(years[-1]))

    last = expiries[-1]
    t = stretch * last.years
    found = surface.total_variance(k, t)
    if t > last.years:
        grown = (tau(t) / last.variance_time - 1.0) * surface.total_variance(0.0, last.years)
        expected = surface.total_variance(k, last.years) + grown
    else:
        knots = [0.0, *(one.variance_time for one in expiries)]
        w = [0.0, *(surface.total_variance(k, one.years) for one in expiries)]
        expected = float(np.interp(tau(t), knots, w))
    scale = max(abs(surface.total_variance(k, one.years)) for one in expiries)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9 * scale)


@given(clocked(), st.lists(st.floats(0.0, 8.0), min_size=1))
def test_arrays_give_what_numbers_give(surface: Surface, times: list[float]) -> None:
    strikes = np.full(len(times), 97.0)
    for method in (surface.implied_vol, surface.vol_error, surface.is_extrapolated):
        together = method(strikes, np.array(times))
        alone = [method(97.0, t) for t in times]
        np.testing.assert_allclose(together, alone, rtol=1e-13, atol=1e-16)


@given(clocked(), st.floats(0.0, 8.0))
def test_forwards_and_rates_know_no_clock(surface: Surface, t: float) -> None:
    plain = replace(surface, variance_clock=())
    np.testing.assert_equal(surface.forward(t), plain.forward(t))
    np.testing.assert_equal(surface.discount_factor(t), plain.discount_factor(t))


@given(clocked(), st.floats(0.0, 8.0))
def test_knots_on_the_plain_lines_change_nothing(surface: Surface, t: float) -> None:
    plain = replace(surface, variance_clock=())
    years = [0.0, *(one.years for one in surface.expiries)]
    middles = [0.5 * (one + other) for one, other in pairwise(years)]
    taus = np.interp(middles, years, [0.0, *(e.variance_time for e in surface.expiries)])
    knots = tuple(map(VarianceKnot, middles, taus.tolist()))
    told = replace(surface, variance_clock=knots)
    for k in (-1.0, 0.0, 0.3):
        expected = plain.total_variance(k, t)
        assert told.total_variance(k, t) == pytest.approx(expected, rel=1e-9, abs=1e-14)


@pytest.mark.parametrize(
    ("knots", "said"),
    [
        ([(0.0, 0.0)], r"variance_clock is .*years=0.0.* must be at positive and finite years"),
        ([(inf, 1.0)], "must be at positive and finite years"),
        ([(0.01, nan)], "must be at a finite variance time"),
        ([(0.01, -0.1)], "must be at a finite variance time"),
        ([(0.3, 0.3), (0.2, 0.3)], r"must ascend in years; .*years=0.2.* follows .*years=0.3"),
        ([(0.3, 0.3), (0.3, 0.3)], "must ascend in years"),
        ([(0.3, 0.3), (0.4, 0.2)], r"must not fall.*0\.3 at 0\.3 years .*0\.2 at 0\.4"),
        ([(0.01, 0.02)], r"must not fall.*a knot of variance_clock.*expiry 2026-03-13T08:00:00"),
        ([(0.5, 0.01)], r"expiry 2026-04-05T08:00:00.*0\.01 at 0\.5 \(a knot of variance_clock\)"),
        ([(1.0, 1.0000001)], "one at one time"),
    ],
)
def test_a_clock_that_contradicts_itself_is_refused(
    knots: list[tuple[float, float]], said: str
) -> None:
    given: Any = knots
    with pytest.raises(InvalidSurface, match=said):
        three_expiries(variance_clock=given)


def test_a_knot_may_fall_on_an_expiry_and_time_may_stand_still() -> None:
    last = three_expiries().expiries[-1]
    knots: Any = [np.array([0.4, 0.6]), (0.5, 0.6), (last.years, last.variance_time)]
    surface = three_expiries(variance_clock=knots)
    assert surface.variance_clock == ((0.4, 0.6), (0.5, 0.6), (1.0, 1.0))
    assert all(isinstance(knot, VarianceKnot) for knot in surface.variance_clock)
    assert surface.total_variance(0.1, 0.4) == surface.total_variance(0.1, 0.45)
    assert surface.total_variance(0.1, 0.45) == surface.total_variance(0.1, 0.5)
    assert Surface.from_json(surface.to_json()) == surface
