"""Trust is lost at once and won back in steps; what an operator sets stays until it is released."""

from dataclasses import replace
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.errors import InvalidRequest
from calib.modelrisk.breakers import (
    BreakerLevel,
    BreakerSettings,
    BreakerState,
    Evidence,
    Limits,
    Transition,
    Trigger,
    force,
    release,
    step,
)

SETTINGS = BreakerSettings(probation=3, probation_seconds=30.0)
START = np.datetime64("2026-03-02T12:00:00", "us")
MINUTE = np.timedelta64(60, "s")
GOOD = Evidence({Trigger.RESIDUALS: 0.5})
BAD = Evidence({Trigger.RESIDUALS: 8.0})  # HELD

Readings = st.dictionaries(
    st.sampled_from(list(Trigger)),
    st.one_of(st.floats(0.0, 200.0), st.just(nan), st.just(inf)),
    max_size=5,
)
Evidences = st.builds(Evidence, Readings, st.booleans())


def run(
    state: BreakerState, evidence: list[Evidence], settings: BreakerSettings = SETTINGS
) -> tuple[list[BreakerState], list[Transition]]:
    """The states and transitions of one piece of evidence a minute."""
    states: list[BreakerState] = []
    transitions: list[Transition] = []
    for minute, one in enumerate(evidence):
        state, changed = step(state, one, settings, START + minute * MINUTE)
        states.append(state)
        transitions += changed
    return states, transitions


def test_evidence_trips_at_once_and_names_its_cause() -> None:
    (state,), (change,) = run(BreakerState("BTC"), [BAD])
    assert state.level is BreakerLevel.HELD
    assert (change.before, change.after) == (BreakerLevel.NORMAL, BreakerLevel.HELD)
    assert (change.trigger, change.value, change.limit) == (Trigger.RESIDUALS, 8.0, 7.0)
    assert change.cause == "residuals is 8, at or beyond 7"


def test_each_level_is_lowered_by_a_probation_of_its_own() -> None:
    states, changes = run(BreakerState("BTC"), [BAD] + [GOOD] * 7)
    assert [s.level.name for s in states] == ["HELD"] * 3 + ["WIDENED"] * 3 + ["NORMAL"] * 2
    assert [s.probing for s in states] == [False, True, True, False, True, True, False, False]
    assert [c.cause for c in changes[1:]] == ["3 good fits in a row"] * 2


def test_a_bad_fit_begins_the_probation_anew() -> None:
    states, _ = run(BreakerState("BTC"), [BAD, GOOD, GOOD, BAD, GOOD, GOOD, GOOD])
    assert [s.level.name for s in states] == ["HELD"] * 6 + ["WIDENED"]


def test_a_reading_between_the_limits_is_neither_bad_nor_good() -> None:
    between = Evidence({Trigger.RESIDUALS: 0.9 * 7.0})
    states, _ = run(BreakerState("BTC"), [BAD] + [between] * 20)
    assert {s.level for s in states} == {BreakerLevel.HELD}
    assert states[-1].good == 0


def test_steps_without_a_fit_serve_no_probation() -> None:
    states, _ = run(BreakerState("BTC"), [BAD] + [replace(GOOD, fitted=False)] * 20)
    assert states[-1].level is BreakerLevel.HELD


def test_many_fits_within_a_moment_are_no_probation() -> None:
    state, _ = step(BreakerState("BTC"), BAD, SETTINGS, START)
    for tenth in range(100):
        state, _ = step(state, GOOD, SETTINGS, START + np.timedelta64(tenth * 100, "ms"))
    assert state.level is BreakerLevel.HELD
    state, _ = step(state, GOOD, SETTINGS, START + np.timedelta64(31, "s"))
    assert state.level is BreakerLevel.WIDENED


@given(st.lists(Evidences, max_size=25))
def test_trust_is_never_won_without_a_whole_probation(evidence: list[Evidence]) -> None:
    states, _ = run(BreakerState("BTC"), evidence)
    before = BreakerState("BTC")
    for number, state in enumerate(states):
        if state.level < before.level:
            assert state.level == before.level - 1
            assert before.good == SETTINGS.probation - 1
            served = [
                one
                for one in evidence[: number + 1]
                if one.fitted
                and all(
                    SETTINGS.limits[t].level(v, SETTINGS.release) < before.level
                    for t, v in one.readings.items()
                )
            ]
            assert len(served) >= SETTINGS.probation
        before = state


@given(st.lists(Evidences, max_size=8), Readings, Readings)
def test_more_evidence_never_means_more_trust(
    history: list[Evidence], some: dict[Trigger, float], more: dict[Trigger, float]
) -> None:
    state = ([BreakerState("BTC")] + run(BreakerState("BTC"), history)[0])[-1]
    now = START + len(history) * MINUTE
    worse = {t: np.fmax(some.get(t, nan), more.get(t, nan)) for t in some.keys() | more.keys()}
    one, _ = step(state, Evidence(some), SETTINGS, now)
    two, _ = step(state, Evidence(worse), SETTINGS, now)
    assert two.level >= one.level
    assert two.multiplier >= one.multiplier


@given(st.lists(Evidences, min_size=1, max_size=12), st.sampled_from(list(BreakerLevel)))
def test_a_forced_level_stays_until_it_is_released(
    evidence: list[Evidence], level: BreakerLevel
) -> None:
    forced, _ = force(BreakerState("BTC"), level, actor="ann", reason="desk is closed", now=START)
    states, changes = run(forced, evidence)
    free, _ = run(BreakerState("BTC"), evidence)
    assert {s.level for s in states} == {level}
    assert {(c.before, c.after) for c in changes} <= {(level, level)}
    after, (change,) = release(states[-1], actor="ann", reason="open", now=START)
    assert after.level is free[-1].level  # the evidence was weighed all along
    assert (change.actor, change.after) == ("ann", free[-1].level)


@given(st.lists(Evidences, max_size=12), st.sampled_from([None, *BreakerLevel]))
def test_whatever_the_evidence_comes_to_is_told_under_a_hold_too(
    evidence: list[Evidence], level: BreakerLevel | None
) -> None:
    state = BreakerState("BTC")
    if level is not None:
        state, _ = force(state, level, actor="ann", reason="calm down", now=START)
    for one in evidence:
        after, changes = step(state, one, SETTINGS, START)
        assert len(changes) == (after.tripped is not state.tripped)
        state = after


def test_a_hold_with_an_end_ends() -> None:
    state, _ = force(
        BreakerState("BTC"),
        BreakerLevel.HALTED,
        actor="ann",
        reason="news",
        now=START,
        until=START + 2 * MINUTE,
    )
    states, changes = run(state, [GOOD] * 4)
    assert [s.level.name for s in states] == ["HALTED"] * 2 + ["NORMAL"] * 2
    assert [c.cause for c in changes] == ["ann's hold has ended"]


def test_who_acts_gives_a_name_and_a_reason() -> None:
    with pytest.raises(InvalidRequest, match="name and a reason"):
        force(BreakerState("BTC"), BreakerLevel.HELD, actor="ann", reason=" ", now=START)
    with pytest.raises(InvalidRequest, match="is not after"):
        force(
            BreakerState("BTC"),
            BreakerLevel.HELD,
            actor="ann",
            reason="r",
            now=START,
            until=START,
        )
    with pytest.raises(InvalidRequest, match="name and a reason"):
        release(BreakerState("BTC"), actor="", reason="r", now=START)
    assert release(BreakerState("BTC"), actor="ann", reason="r", now=START)[1] == ()


def test_error_bars_grow_with_what_is_measured_within_bounds() -> None:
    def multiplier(residuals: float) -> float:
        return run(BreakerState("BTC"), [Evidence({Trigger.RESIDUALS: residuals})])[0][0].multiplier

    found = [multiplier(x) for x in (1.0, 3.0, 6.0, 12.0, 1e6)]
    assert found == pytest.approx([1.0, 1.5, 2.0, 4.0, 10.0])


def test_a_look_at_the_clock_makes_no_error_bar_smaller() -> None:
    awful = Evidence({Trigger.RESIDUALS: 1e3})
    clock = Evidence({Trigger.STALE_FEED: 0.1}, fitted=False)
    states, _ = run(BreakerState("BTC"), [awful, clock, clock, BAD, clock, GOOD, clock])
    found = [one.multiplier for one in states]
    assert found[:5] == [10.0] * 5  # a fit that is bad, if less so, has shown nothing either
    assert found[5:] == [SETTINGS.least_multiplier] * 2


@given(st.lists(Evidences, max_size=25))
def test_error_bars_shrink_with_good_fits_alone(evidence: list[Evidence]) -> None:
    before = BreakerState("BTC")
    for one, after in zip(evidence, run(before, evidence)[0], strict=True):
        if after.multiplier < before.multiplier:
            assert one.fitted
            assert before.tripped > max(
                (SETTINGS.limits[t].level(v, SETTINGS.release) for t, v in one.readings.items()),
                default=BreakerLevel.NORMAL,
            )
        before = after


@given(
    st.lists(Evidences, max_size=8),
    st.sampled_from(list(BreakerLevel)),
    st.sampled_from([SETTINGS, replace(SETTINGS, least_multiplier=2.0, greatest_multiplier=5.0)]),
)
def test_the_multiplier_is_that_of_the_level_in_force_at_once(
    evidence: list[Evidence], level: BreakerLevel, settings: BreakerSettings
) -> None:
    def right(state: BreakerState) -> bool:
        if state.level is BreakerLevel.NORMAL:
            return state.multiplier == 1.0
        return settings.least_multiplier <= state.multiplier <= settings.greatest_multiplier

    free = ([BreakerState("BTC")] + run(BreakerState("BTC"), evidence, settings)[0])[-1]
    now = START + 10 * MINUTE
    forced, _ = force(free, level, actor="ann", reason="r", now=now, settings=settings)
    assert right(forced)
    if level and free.level:
        assert forced.multiplier == free.multiplier
    after, _ = release(forced, actor="ann", reason="r", now=now, settings=settings)
    assert after == free
    ended, _ = force(
        free, level, actor="ann", reason="r", now=now, until=now + MINUTE, settings=settings
    )
    ended, _ = step(ended, replace(GOOD, fitted=False), settings, now + MINUTE)
    assert right(ended)


def test_limits_that_are_not_there_are_never_reached() -> None:
    assert Limits(widened=1.0).level(inf) is BreakerLevel.WIDENED
    assert Limits().level(inf) is BreakerLevel.NORMAL
    assert Limits(1.0, 2.0, 3.0).level(nan) is BreakerLevel.NORMAL
    assert Limits(1.0, 2.0, 3.0).level(2.5) is BreakerLevel.HELD
    assert Limits(1.0, 2.0, 3.0).level(0.9, ease=0.8) is BreakerLevel.WIDENED
