"""What an update says of itself, at any moment, to whoever still holds it."""

from __future__ import annotations

import logging
from dataclasses import replace
from math import inf, isnan, nan

import numpy as np
import pytest

from calib.client import ExpiryRisk, ModelRisk, StaleCause, SurfaceUpdate, connect
from calib.client.contact import Contact
from calib.errors import InvalidRequest
from calib.modelrisk.breakers import BreakerLevel
from calib.states import SurfaceState
from tests.service.samples import START, surface

SECOND = np.timedelta64(1_000_000, "us")
MINUTE = 60 * SECOND


class Time:
    """A clock and a stopwatch that stand until they are moved."""

    def __init__(self) -> None:
        self.now, self.elapsed = START, 0.0

    def clock(self) -> np.datetime64:
        return self.now

    def seconds(self) -> float:
        return self.elapsed

    def passes(self, seconds: float) -> None:
        self.elapsed += seconds
        self.now = self.now + np.timedelta64(round(seconds * 1e6), "us")


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def contact(time: Time) -> Contact:
    return Contact("here:1", 3.0, 2.0, time.clock, time.seconds)


@pytest.fixture
def update(time: Time, contact: Contact) -> SurfaceUpdate:
    """Just come, and good for a minute."""
    contact.heard(START)
    return SurfaceUpdate(
        surface=surface(),
        reported_state=SurfaceState.LIVE,
        valid_until=START + MINUTE,
        risk=ModelRisk(BreakerLevel.WIDENED, START),
        contact=contact,
        clock=time.clock,
    )


def stands(update: SurfaceUpdate) -> tuple[StaleCause | None, SurfaceState, BreakerLevel]:
    return update.stale_cause, update.state, update.level


LIVE = (None, SurfaceState.LIVE, BreakerLevel.WIDENED)
SILENT = (StaleCause.SILENT, SurfaceState.STALE, BreakerLevel.HALTED)


def test_it_turns_stale_by_silence_and_revives_by_a_word(
    update: SurfaceUpdate, contact: Contact, time: Time
) -> None:
    assert stands(update) == LIVE
    time.passes(3.0)
    assert stands(update) == LIVE
    time.passes(0.001)
    assert stands(update) == SILENT
    contact.heard()
    assert stands(update) == LIVE


def test_an_expiry_is_never_trusted_more_than_its_underlying(
    update: SurfaceUpdate, time: Time
) -> None:
    week, month, quarter = (one.expiry for one in update.expiries)
    judged = (ExpiryRisk(week, BreakerLevel.NORMAL), ExpiryRisk(month, BreakerLevel.HELD))
    risk = ModelRisk(BreakerLevel.WIDENED, START, judged)
    update = replace(update, risk=risk)
    assert update.level_of(week) is BreakerLevel.WIDENED
    assert update.level_of(month) is BreakerLevel.HELD
    assert update.level_of(quarter) is BreakerLevel.HALTED  # not judged
    time.passes(3.001)
    assert update.level_of(week) is BreakerLevel.HALTED
    assert replace(update, risk=None).level_of(week) is BreakerLevel.HALTED


def test_it_turns_stale_by_quote_time_whatever_is_heard(
    update: SurfaceUpdate, contact: Contact, time: Time
) -> None:
    for _ in range(60):
        assert stands(update) == LIVE
        time.passes(1.0)
        contact.heard(time.now)
    assert stands(update) == (StaleCause.AGED, SurfaceState.STALE, BreakerLevel.WIDENED)
    assert update.age_seconds == 60.0


@pytest.mark.parametrize("seconds", [2.001, -2.001])
def test_it_turns_stale_where_clocks_disagree_until_they_agree(
    update: SurfaceUpdate, contact: Contact, seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    told = START - np.timedelta64(round(seconds * 1e6), "us")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            contact.heard(told)
    assert contact.clock_lead_seconds == pytest.approx(seconds)
    assert stands(update) == (StaleCause.CLOCK, SurfaceState.STALE, BreakerLevel.WIDENED)
    assert [record.getMessage() for record in caplog.records] == [
        f"clock of here:1 differs by {seconds:.3f} s from ours, or its messages are late"
    ]
    contact.heard(START - 2 * SECOND)
    assert stands(update) == LIVE


def test_what_the_server_says_comes_first(update: SurfaceUpdate, time: Time) -> None:
    stale = replace(update, reported_state=SurfaceState.STALE)
    time.passes(100.0)
    assert stands(stale) == (StaleCause.REPORTED, SurfaceState.STALE, BreakerLevel.HALTED)


def test_without_a_limit_or_a_judgement_it_says_so(update: SurfaceUpdate, time: Time) -> None:
    bare = SurfaceUpdate(surface(), SurfaceState.LIVE, clock=time.clock)
    time.passes(1e6)
    assert stands(bare) == (None, SurfaceState.LIVE, BreakerLevel.HALTED)
    assert bare.server == ""
    assert update.server == "here:1"


def test_a_contact_that_never_was_is_silent(contact: Contact) -> None:
    assert contact.is_silent
    assert contact.silent_seconds == inf
    assert isnan(contact.clock_lead_seconds)
    assert not contact.clocks_disagree


@pytest.mark.parametrize("bound", [0.0, -1.0, nan])
def test_a_clock_bound_that_is_none_is_refused(bound: float) -> None:
    with pytest.raises(InvalidRequest, match=f"clock_bound_seconds must be positive, not {bound}"):
        connect("here:1", clock_bound_seconds=bound)


def test_gaps_are_counted_by_quote_time(update: SurfaceUpdate) -> None:
    assert isnan(update.gap_seconds)
    assert replace(update, previous_quote_time=START - MINUTE).gap_seconds == 60.0
    assert replace(update, previous_quote_time=START + SECOND).gap_seconds == -1.0


def test_what_is_asked_of_the_surface_may_be_asked_of_the_update(update: SurfaceUpdate) -> None:
    asked = update.surface
    expiry, strike = asked.expiries[1].expiry, np.array([60_000.0, 90_000.0])
    for name in ("implied_vol", "vol_error", "is_extrapolated"):
        given, own = getattr(update, name)(strike, expiry), getattr(asked, name)(strike, expiry)
        np.testing.assert_array_equal(given, own)
    assert update.total_variance(0.1, 0.1) == asked.total_variance(0.1, 0.1)
    assert update.forward(expiry) == asked.forward(expiry)
    assert update.discount_factor(expiry) == asked.discount_factor(expiry)
    for name in ("model", "calendar", "certificate", "expiries", "quote_time", "underlying"):
        assert getattr(update, name) == getattr(asked, name)
