"""The clock of weekends, holidays and events, held to minutes that are counted one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.conventions import ExpiryCalendar, Floats, Instants, Ints, years_between
from calib.errors import InvalidRequest
from calib.market.closures import LEAST_WEIGHT, Closure, Event, WeeklyClosure
from calib.market.slicing import slices_of
from calib.market.variance_clock import MOST_WEEKS, VarianceClock, VarianceKnot
from tests.conformance.clock import told, turns_of
from tests.conformance.reference import micros
from tests.market.black_chains import Market
from tests.market.consistency import consistent

THURSDAY = np.datetime64("2026-03-12T14:20", "us")
DAY = np.timedelta64(1, "D")
WEEK = np.timedelta64(7, "D")
MINUTE = np.timedelta64(1, "m")
SPAN = 4 * 7 * 1_440  # minutes

EVERYTHING = VarianceClock(
    weekly=(
        WeeklyClosure("Friday 21:00", "Sunday 22:00", 0.3),
        WeeklyClosure("Sunday 20:00", "Monday 06:00", 0.5),
    ),
    closures=(Closure("2026-04-03", "2026-04-04T12:00", 0.4),),  # type: ignore[arg-type]
    events=(
        Event("2026-03-18T18:00", 0.7),  # type: ignore[arg-type]
        Event("2026-03-21T06:00", 1.5, "2026-03-22T06:00"),  # type: ignore[arg-type]
    ),
)


def at(text: str) -> np.datetime64:
    return np.datetime64(text, "us")


def variance_time(clock: VarianceClock, quote_time: np.datetime64, *instants: Any) -> Floats:
    return clock.times(quote_time, np.array(instants, "datetime64[us]")).variance_time


def minute_of_week(text: str) -> int:
    names = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
    day, time = text.split()
    return 1_440 * names.index(day) + 60 * int(time[:2]) + int(time[3:])


def counted(clock: VarianceClock, start: np.datetime64) -> Floats:
    """Variance time in years after 0, 1, 2, ... minutes, by the weight of every single minute."""
    monday = np.datetime64("2026-03-02", "us")
    minutes = start + np.arange(SPAN) * MINUTE

    def weekly(of_week: Ints) -> Floats:
        weight = np.ones(len(of_week))
        for one in clock.weekly:
            begin, end = minute_of_week(one.start), minute_of_week(one.end)
            inside = (begin <= of_week) & (of_week < end)
            if end < begin:
                inside = (of_week >= begin) | (of_week < end)
            weight[inside] = np.minimum(weight[inside], one.weight)
        return weight

    weight = weekly((minutes - monday) // MINUTE % 10_080)
    for one in clock.closures:
        inside = (minutes >= one.start) & (minutes < one.end)
        weight[inside] = np.minimum(weight[inside], one.weight)
    for event in clock.events:
        end = event.start + MINUTE if event.end is None else event.end
        inside = (minutes >= event.start) & (minutes < end)
        weight[inside] += event.extra_days * 1_440 / ((end - event.start) / MINUTE)
    mean = float(np.mean(weekly(np.arange(10_080))))
    return np.append(0.0, np.cumsum(weight)) / mean / (365 * 1_440)


days = st.sampled_from(["Monday", "Wednesday", "Friday", "Saturday", "Sunday"])
weekly_moments = st.builds("{} {:02d}:{:02d}".format, days, st.integers(0, 23), st.integers(0, 59))
weights = st.floats(LEAST_WEIGHT, 1.0)
minutes = st.integers(-2_000, SPAN)


@st.composite
def clocks(draw: st.DrawFn) -> VarianceClock:
    pairs = st.tuples(weekly_moments, weekly_moments).filter(lambda pair: pair[0] != pair[1])
    spans = st.tuples(minutes, st.integers(1, 5_000))
    moment = {
        "start": lambda span: THURSDAY + span[0] * MINUTE,
        "end": lambda span: THURSDAY + (span[0] + span[1]) * MINUTE,
    }
    weekly = draw(st.lists(st.tuples(pairs, weights), max_size=3))
    closures = draw(st.lists(st.tuples(spans, weights), max_size=3))
    events = draw(st.lists(st.tuples(spans, st.floats(0.01, 5.0), st.booleans()), max_size=3))
    return VarianceClock(
        weekly=tuple(WeeklyClosure(*pair, weight) for pair, weight in weekly),
        closures=tuple(
            Closure(moment["start"](span), moment["end"](span), weight) for span, weight in closures
        ),
        events=tuple(
            Event(moment["start"](span), extra, None if instant else moment["end"](span))
            for span, extra, instant in events
        ),
    )


@given(clocks(), st.lists(st.integers(1, SPAN), min_size=1, max_size=9))
def test_it_counts_every_minute_for_its_weight(clock: VarianceClock, after: list[int]) -> None:
    expected = counted(clock, THURSDAY)
    times = clock.times(THURSDAY, THURSDAY + np.array(after) * MINUTE)
    np.testing.assert_allclose(times.variance_time, expected[after], rtol=1e-11)
    within = [knot for knot in times.knots if knot.years <= SPAN / (365 * 1_440)]
    places = [round(knot.years * 365 * 1_440) for knot in within]
    np.testing.assert_allclose([k.variance_time for k in within], expected[places], rtol=1e-11)


@given(clocks(), st.integers(0, SPAN * 60_000_000))
def test_between_its_knots_it_is_linear(clock: VarianceClock, after: int) -> None:
    """What a reader of the knots interpolates is what the clock says."""
    instant = THURSDAY + np.timedelta64(after, "us")
    times = clock.times(THURSDAY, np.array([instant]))
    knots = [VarianceKnot(0.0, 0.0), *times.knots]
    years = float(years_between(THURSDAY, instant))
    for knot in knots:
        if knot.years == years:
            assert knot.variance_time == times.variance_time[0]
    read = np.interp(years, *np.array(knots).T) + max(0.0, years - knots[-1].years)
    assert times.variance_time[0] == pytest.approx(read, rel=1e-9, abs=1e-15)


@given(clocks())
def test_ordinary_weeks_are_weeks(clock: VarianceClock) -> None:
    """The mean speed of a week is 1, wherever it begins."""
    ordinary = VarianceClock(weekly=clock.weekly)
    for start in (THURSDAY, at("2026-03-14T03:17:05.000001")):
        weeks = np.arange(1, 60)
        tau = variance_time(ordinary, start, *(start + weeks * WEEK))
        np.testing.assert_allclose(tau, weeks * 7 / 365, rtol=1e-13)
        # … so that from the last knot on the clock is plain years.
        last = ordinary.times(start, np.array([start])).knots[-1:]
        for knot in last:
            assert knot.variance_time == pytest.approx(knot.years, rel=1e-13)


def test_a_clock_in_exact_fractions() -> None:
    quote_time = "2026-03-12T14:20:00.000457Z"
    clock = VarianceClock.from_table(
        {
            "weekly": [{"start": "sat 06:00", "end": "Sunday 18:00", "weight": 0.4}],
            "closures": [{"start": "2026-04-03", "end": "2026-04-04", "weight": 0.6}],
            "events": [{"start": "2026-03-18T18:00:00Z", "extra_days": 0.7}],
        }
    )
    turns = turns_of(quote_time)
    start = at(quote_time.removesuffix("Z"))
    expiry = np.array(["2026-03-14T08:00", "2026-03-18T18:00:30", "2026-03-12T14:20:00.000458"])
    times = clock.times(start, expiry.astype("datetime64[us]"))
    for instant, tau in zip(expiry, times.variance_time, strict=True):
        assert tau == pytest.approx(told(turns, micros(str(instant) + "Z")), rel=1e-14)
    # The knots go on for one more weekend, to four weeks after the week of the last expiry.
    assert times.knots[-1].years == 5 * 7 / 365
    for knot, (turn, _) in zip(times.knots[:-3], turns[1:-1], strict=True):
        assert knot.years == (turn - turns[0][0]) / (365 * 86_400 * 10**6)
        assert knot.variance_time == pytest.approx(told(turns, turn), rel=1e-14)


def test_without_anything_it_is_plain_years_to_the_bit() -> None:
    nothing = VarianceClock(weekly=(WeeklyClosure("Saturday 00:00", "Monday 00:00", 1.0),))
    expiry = THURSDAY + np.array([1, 77_777_777_777, 10**15]).astype("timedelta64[us]")
    for clock in (nothing, VarianceClock()):
        times = clock.times(THURSDAY, expiry)
        assert times.variance_time.tolist() == years_between(THURSDAY, expiry).tolist()
        assert times.knots == ()


@pytest.mark.parametrize("weeks", [0, 1, 52, MOST_WEEKS - 1, MOST_WEEKS, 500])
def test_a_microsecond_more_is_more_even_while_all_is_shut(weeks: int) -> None:
    clock = VarianceClock.weekends(LEAST_WEIGHT)
    start = at("2026-03-14T00:00:01")  # a Saturday
    expiry = start + weeks * WEEK + np.arange(1, 2_000).astype("timedelta64[us]")
    assert (np.diff(clock.times(start, expiry).variance_time) > 0).all()


def test_the_smallest_weight_counts_and_an_event_counts_open_days() -> None:
    weekends = VarianceClock.weekends(0.5)
    open_speed = 7 / 6
    saturday, monday = at("2026-03-14"), at("2026-03-16")

    def within(clock: VarianceClock, start: np.datetime64, end: np.datetime64) -> float:
        return 365 * float(np.diff(variance_time(clock, THURSDAY, start, end))[0])

    assert within(weekends, saturday, monday) == pytest.approx(2 * 0.5 * open_speed)
    assert within(weekends, monday, monday + DAY) == pytest.approx(open_speed)
    for weight, least in ((0.8, 0.5), (0.2, 0.2)):
        holiday = Closure(saturday, monday + DAY, weight)
        clock = VarianceClock(weekends.weekly, (holiday,))
        assert within(clock, saturday, monday) == pytest.approx(2 * least * open_speed)
        assert within(clock, monday, monday + DAY) == pytest.approx(weight * open_speed)
    release = at("2026-03-18T18:00")
    for event in (Event(release, 0.7), Event(release, 0.7, release + DAY)):
        clock = VarianceClock(weekends.weekly, (), (event,))
        whole = within(weekends, monday, monday + 4 * DAY) + 0.7 * open_speed
        assert within(clock, monday, monday + 4 * DAY) == pytest.approx(whole)
        # Who expires when it begins has nothing of it, who quotes halfway has half of it left.
        before = variance_time(clock, THURSDAY, release)
        assert before == variance_time(weekends, THURSDAY, release)
        half = release + (event.until - release) / 2
        rest = variance_time(clock, half, event.until) - variance_time(weekends, half, event.until)
        assert 365 * rest[0] == pytest.approx(0.35 * open_speed)


def test_far_out_it_runs_as_plain_years_with_no_more_knots() -> None:
    centuries = at("9999-12-31")
    times = EVERYTHING.times(THURSDAY, np.array([THURSDAY + 30 * DAY, centuries]))
    assert len(times.knots) <= 2 * len(EVERYTHING.weekly) * (MOST_WEEKS + 1) + 7
    assert times.knots[-1].years == MOST_WEEKS * 7 / 365
    elapsed = years_between(THURSDAY, centuries) - times.knots[-1].years
    assert times.variance_time[1] == pytest.approx(times.knots[-1].variance_time + elapsed)
    near = EVERYTHING.times(THURSDAY, np.array([THURSDAY + 30 * DAY]))
    assert near.variance_time[0] == times.variance_time[0]
    assert near.knots[:-1] == times.knots[: len(near.knots) - 1]


def test_before_the_quotes_there_are_plain_years() -> None:
    expiry = THURSDAY - np.array([0, 1, 1_440]) * MINUTE
    times = EVERYTHING.times(THURSDAY, expiry)
    assert times.variance_time.tolist() == years_between(THURSDAY, expiry).tolist()
    assert EVERYTHING.times(THURSDAY, expiry[:0]).variance_time.shape == (0,)


def test_a_clock_is_a_value() -> None:
    table: dict[str, Any] = {
        "weekly": [
            {"start": "fri 21:00", "end": "SUNDAY 22:00", "weight": 0.3},
            {"start": "Sunday 20:00", "end": " mon 06:00", "weight": 0.5},
        ],
        "closures": [{"start": at("2026-04-03"), "end": "2026-04-04T12:00:00Z", "weight": 0.4}],
        "events": [
            {"start": "2026-03-18T20:00:00+02:00", "extra_days": 0.7},
            {"start": at("2026-03-21T06:00"), "end": "2026-03-22T06:00", "extra_days": 1.5},
        ],
    }
    same = VarianceClock.from_table(table)
    assert same == EVERYTHING
    assert hash(same) == hash(EVERYTHING)
    assert VarianceClock.weekends(0.5) != VarianceClock.weekends(0.4)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"weekly": [{"start": "Sat 00:00", "end": "Mon 00:00", "weight": 0.0}]}, "weight is 0.0"),
        ({"weekly": [{"start": "Sat 00:00", "end": "Mon 00:00", "weight": 1.1}]}, "weight is 1.1"),
        ({"weekly": [{"start": "Sat 00:00", "end": "Mon 00:00", "weight": "x"}]}, "a number"),
        ({"weekly": [{"start": "Sat 00:00", "end": "Sat 00:00", "weight": 0.5}]}, "no length"),
        ({"weekly": [{"start": "Sat 24:00", "end": "Mon 00:00", "weight": 0.5}]}, "'Sat 24:00'"),
        ({"weekly": [{"start": "Sol 00:00", "end": "Mon 00:00", "weight": 0.5}]}, "'Sol 00:00'"),
        ({"weekly": [{"start": 6, "end": "Mon 00:00", "weight": 0.5}]}, "start .* is 6"),
        ({"weekly": [{"start": "Sat 00:00", "weight": 0.5}]}, "weekly needs 'end'"),
        ({"weekly": [{"from": "Sat 00:00"}]}, "weekly has no 'from'"),
        ({"weekly": {"start": "Sat 00:00"}}, "list of tables"),
        ({"weekends": []}, "a clock has no 'weekends'"),
        ([], "not \\[\\]"),
        ({"closures": [{"start": "soon", "end": "2026-01-02", "weight": 0.5}]}, "'soon'"),
        ({"closures": [{"start": "2026-01-02", "end": "2026-01-02", "weight": 0.5}]}, "end after"),
        ({"closures": [{"start": "2026-01-02", "end": "2026-01-03", "weight": 0.01}]}, "0.01"),
        ({"events": [{"start": "2026-01-02", "extra_days": 0.0}]}, "extra_days is 0.0"),
        ({"events": [{"start": "2026-01-02", "extra_days": float("inf")}]}, "extra_days is inf"),
        ({"events": [{"start": "2026-01-02", "extra_days": True}]}, "extra_days is True"),
        ({"events": [{"start": "2026-01-02", "extra_days": 1, "end": "2026-01-01"}]}, "end after"),
    ],
)
def test_what_is_no_clock_is_refused_by_name(table: Any, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        VarianceClock.from_table(table)


def test_parts_in_the_wrong_place_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="must be a tuple of Closure"):
        VarianceClock(closures=EVERYTHING.weekly)  # type: ignore[arg-type]


def test_slices_carry_the_times_of_their_expiries() -> None:
    chain = Market(given=True).chain()
    plain, timed = slices_of(chain), slices_of(chain, ExpiryCalendar.SAME_ASSET, EVERYTHING)
    consistent(timed)
    assert plain.variance_time.tolist() == plain.years.tolist()
    assert plain.variance_clock == ()
    expected = EVERYTHING.times(chain.quote_time, plain.expiry)
    assert timed.variance_time.tolist() == expected.variance_time.tolist()
    assert timed.variance_clock == expected.knots
    assert timed.variance_clock[-1].years > timed.years[-1]
    # Vols stay vols of the calendar.
    assert np.array_equal(timed.mid_vol, plain.mid_vol, equal_nan=True)


def test_expiries_of_a_chain_ascend_in_variance_time() -> None:
    expiries: Instants = THURSDAY + np.array([2, 3, 4, 900, 2_000]) * DAY
    tau = EVERYTHING.times(THURSDAY, expiries).variance_time
    assert (tau > 0).all()
    assert (np.diff(tau) > 0).all()
