"""Venues held against each other: who is believed, who is suspected, and the way back."""

from __future__ import annotations

from dataclasses import replace
from math import isnan, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.modelrisk.venues import (
    VenueFault,
    VenueReading,
    VenueSettings,
    VenueState,
    interrupted,
    resumed,
    step,
    timed,
)
from calib.quotes.agreement import agreeing, mean_of
from calib.quotes.levels import Levels, VenueLevels
from calib.quotes.reasons import Reason

START = np.datetime64("2026-03-02T08:00:00", "us")
FAULT = VenueFault(Reason.VENUE_APART, 9.0, 5.0)
GOOD = VenueReading(age_seconds=0.0, still_seconds=0.0, basis=0.0, gap=0.0, gap_half_spreads=0.1)


def at(count: float) -> np.datetime64:
    return START + np.timedelta64(round(count * 1e6), "us")


def reading(alive: float, moved: float | None = None) -> VenueReading:
    changed = alive if moved is None else moved
    return VenueReading(latest=at(alive), alive=at(alive), moved=at(changed))


@pytest.mark.parametrize(
    ("values", "voters", "expected"),
    [
        ({"a": 0.0, "b": 10.0}, None, ("a",)),  # one word against another: nearer to 0
        ({"a": -8.0, "b": 6.0}, None, ("b",)),
        ({"a": 0.0, "b": 10.0, "c": 10.5}, None, ("b", "c")),  # the most, however far they moved
        ({"a": 10.0, "b": 10.0}, None, ("a", "b")),
        ({"a": 0.0, "b": 10.0}, ("b",), ("b",)),
        ({"a": nan, "b": 10.0}, ("a",), ("b",)),  # a voter that says nothing
        ({"a": nan}, None, ()),
        ({}, None, ()),
    ],
)
def test_who_agrees(
    values: dict[str, float], voters: tuple[str, ...] | None, expected: tuple[str, ...]
) -> None:
    assert agreeing(values, 1.0, voters) == expected


VALUES = st.dictionaries(st.sampled_from("abcdef"), st.floats(-50.0, 50.0), min_size=1)


@given(VALUES, st.floats(0.1, 20.0))
def test_those_who_agree_are_as_many_as_any_and_lie_together(
    values: dict[str, float], limit: float
) -> None:
    names = agreeing(values, limit)
    assert len(names) == max(
        sum(abs(one - other) <= limit for other in values.values()) for one in values.values()
    )
    told = [values[name] for name in names]
    assert max(told) - min(told) <= 2.0 * limit * (1.0 + 1e-12)
    assert min(told) <= mean_of(values, names) <= max(told) or len(told) > 1


def test_a_wild_forward_moves_no_level() -> None:
    def levels(*forwards: float) -> Levels:
        return Levels({str(i): VenueLevels({1: value}) for i, value in enumerate(forwards)})

    before = levels(100.0, 100.1, 100.2)
    assert levels(101.0, 150.0, 101.2).moved_since(before, 1, 0.005) == pytest.approx(
        1.01, rel=1e-4
    )
    both = levels(100.0, 100.1)
    assert levels(110.0, 100.2).moved_since(both, 1, 0.005) == pytest.approx(1.001, rel=1e-4)
    assert levels(110.0, 110.1).moved_since(both, 1, 0.005) == pytest.approx(1.1, rel=1e-4)
    assert levels(110.0, 100.1).moved_since(both, 1) == pytest.approx(1.1**0.5, rel=1e-12)


def test_a_wild_spot_moves_no_spot() -> None:
    def spots(**named: float) -> Levels:
        return Levels({name: VenueLevels({}, value) for name, value in named.items()})

    before = spots(a=100.0, b=100.2, c=nan)
    assert spots(a=101.0, b=101.2, c=7.0).spot_since(before, 0.005) == pytest.approx(101.1)
    assert spots(a=10.0, b=100.3, c=7.0).spot_since(before, 0.005) == 100.3
    assert spots(d=50.0, e=60.0).spot_since(before, 0.005) == 55.0
    assert isnan(spots(a=nan).spot_since(before, 0.005))


def test_a_venue_behind_the_newest_is_told_from_one_whose_clock_is_ahead() -> None:
    settings = VenueSettings(behind_seconds=60.0)
    readings = {"a": reading(100.0), "b": reading(0.0)}
    after, faults = timed(readings, at(101.0), settings)
    assert {name: one.reason for name, one in faults.items()} == {"b": Reason.VENUE_BEHIND}
    assert (after["a"].age_seconds, after["b"].age_seconds) == (0.0, 100.0)
    after, faults = timed(readings, at(1.0), settings)
    assert {name: one.reason for name, one in faults.items()} == {"a": Reason.VENUE_AHEAD}
    assert after["b"].age_seconds == 0.0
    # A recorded market, all of which is old: whoever is newest is right.
    _, faults = timed(readings, at(1e7), settings)
    assert {name: one.reason for name, one in faults.items()} == {"b": Reason.VENUE_BEHIND}
    assert timed({"a": reading(0.0)}, at(1e7), settings)[1] == {}
    assert timed({"a": VenueReading()}, at(0.0), settings)[1] == {}


def test_prices_stand_still_by_those_that_move() -> None:
    settings = VenueSettings(stuck_seconds=300.0)
    quiet = {"a": reading(400.0, 0.0), "b": reading(400.0, 10.0)}
    assert timed(quiet, at(400.0), settings)[1] == {}
    after, faults = timed(
        {"a": reading(400.0, 0.0), "b": reading(400.0, 390.0)}, at(400.0), settings
    )
    assert faults["a"].reason is Reason.VENUE_STUCK
    assert (after["a"].still_seconds, after["b"].still_seconds) == (390.0, 0.0)
    assert isnan(timed({"a": reading(400.0, 0.0)}, at(400.0), settings)[0]["a"].still_seconds)


def looked(
    state: VenueState, fault: VenueFault | None, now: float, witnessed: float, latest: float
) -> VenueState:
    return step(
        state,
        replace(GOOD, latest=at(latest)),
        fault,
        VenueSettings(probation=3, probation_seconds=10.0),
        now=at(now),
        witnessed=at(witnessed),
    )


def test_a_suspicion_is_borne_out_by_newer_quotes_of_others_or_forgotten() -> None:
    suspect = looked(VenueState("a"), FAULT, 0.0, 0.0, 0.0)
    assert suspect.left_out is Reason.VENUE_APART
    assert not suspect.confirmed
    again = looked(suspect, FAULT, 0.0, 0.0, 0.0)  # nobody else has said anything since
    assert not again.confirmed
    assert looked(again, None, 1.0, 1.0, 0.0).left_out is None
    confirmed = looked(again, FAULT, 1.0, 1.0, 0.0)
    assert confirmed.confirmed
    assert confirmed.since == at(0.0)
    assert "a: the venue's vols" in confirmed.cause


def test_the_way_back_takes_good_looks_with_news_and_time() -> None:
    state = looked(looked(VenueState("a"), FAULT, 0.0, 0.0, 0.0), FAULT, 1.0, 1.0, 1.0)
    for now in (2.0, 3.0, 4.0):
        state = looked(state, None, now, now, now)
        assert state.left_out is not None  # enough looks, too little time
    state = looked(state, None, 20.0, 20.0, 4.0)
    assert state.left_out is not None  # time, and nothing new of the venue
    relapsed = looked(state, FAULT, 21.0, 21.0, 21.0)
    assert (relapsed.good, relapsed.confirmed) == (0, True)
    assert looked(state, None, 21.0, 21.0, 21.0).left_out is None


def test_a_reading_between_release_and_limit_serves_no_probation() -> None:
    settings = VenueSettings()
    state = replace(VenueState("a"), fault=FAULT, since=at(0.0), confirmed=True, good=2)
    near = replace(
        GOOD, gap_half_spreads=0.9 * settings.apart, gap=settings.apart_vol, latest=at(1.0)
    )
    after = step(state, near, None, settings, now=at(100.0), witnessed=at(100.0))
    assert (after.confirmed, after.good) == (True, 0)
    unknown = replace(GOOD, gap_half_spreads=nan, latest=at(1.0))
    after = step(state, unknown, None, settings, now=at(100.0), witnessed=at(100.0))
    assert (after.confirmed, after.good) == (True, 0)


@pytest.mark.parametrize(
    ("reason", "unknown", "back"),
    [
        (Reason.VENUE_BEHIND, {"gap_half_spreads": nan, "gap": nan}, True),
        (Reason.VENUE_STUCK, {"gap_half_spreads": nan, "gap": nan, "basis": nan}, True),
        (Reason.VENUE_AHEAD, {"gap_half_spreads": nan, "gap": nan, "basis": nan}, True),
        (Reason.VENUE_FORWARD, {"gap_half_spreads": nan, "gap": nan}, True),
        (Reason.VENUE_FORWARD, {"basis": nan}, False),
        (Reason.VENUE_APART, {"gap_half_spreads": nan, "gap": nan}, False),
    ],
)
def test_a_thin_venue_comes_back_once_what_it_was_left_out_for_is_known_to_be_good(
    reason: Reason, unknown: dict[str, float], back: bool
) -> None:
    out = VenueState("a", fault=VenueFault(reason, 9.0, 5.0), since=at(0.0), confirmed=True)
    for witnessed, expected in ((True, back), (False, True)):  # a venue alone is believed
        state = out
        for now in (100.0, 110.0, 140.0):
            state = step(
                state,
                replace(GOOD, latest=at(now), **unknown),  # type: ignore[arg-type]
                None,
                VenueSettings(),
                now=at(now),
                witnessed=at(now) if witnessed else np.datetime64("NaT", "us"),
            )
        assert (state.left_out is None) is expected


INTERRUPTIONS = (
    VenueFault(Reason.VENUE_SILENT, 130.0, 120.0),
    VenueFault(Reason.VENUE_INCOMPLETE, 2.0, 0.0),
)


@pytest.mark.parametrize("interruption", INTERRUPTIONS)
def test_an_interruption_is_ended_by_no_look(interruption: VenueFault) -> None:
    out = interrupted(VenueState("a"), interruption, at(0.0))
    assert out.confirmed
    for fault in (None, FAULT):
        after = looked(out, fault, 100.0, 100.0, 100.0)
        assert after.left_out is interruption.reason
    back = resumed(out)
    assert (back.left_out, back.confirmed) == (None, False)


@pytest.mark.parametrize("interruption", INTERRUPTIONS)
def test_an_interruption_makes_up_for_no_fault(interruption: VenueFault) -> None:
    suspect = looked(VenueState("a"), FAULT, 0.0, 0.0, 0.0)
    assert resumed(interrupted(suspect, interruption, at(1.0))).left_out is None
    state = looked(looked(suspect, FAULT, 1.0, 1.0, 1.0), None, 2.0, 2.0, 2.0)
    assert (state.confirmed, state.good) == (True, 1)
    out = looked(interrupted(state, interruption, at(3.0)), None, 4.0, 4.0, 4.0)
    assert (out.fault, out.since) == (interruption, at(3.0))
    back = resumed(out)
    assert (back.fault, back.since, back.confirmed) == (FAULT, at(0.0), True)
    for now in (100.0, 101.0, 120.0):
        assert back.left_out is Reason.VENUE_APART
        back = looked(back, None, now, now, now)
    assert back.left_out is None


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 3)), max_size=40))
def test_whatever_comes_a_venue_is_out_while_it_looks_wrong_and_comes_back(
    looks: list[tuple[bool, int, int]],
) -> None:
    state, now, latest = VenueState("a"), 0.0, 0.0
    for wrong, passed, news in looks:
        now, latest = now + passed, latest + news
        before = state
        state = looked(state, FAULT if wrong else None, now, now, latest)
        assert (state.left_out is not None) >= wrong
        if before.confirmed and state.left_out is None:
            assert before.good + 1 >= 3
            assert at(now) - before.probing_since >= np.timedelta64(10, "s")
        if state.left_out is None:
            assert not state.confirmed
            assert np.isnat(state.since)
    for _ in range(20):
        now, latest = now + 4.0, latest + 1.0
        state = looked(state, None, now, now, latest)
    assert state == VenueState("a", state.reading, looked_at=state.looked_at)
