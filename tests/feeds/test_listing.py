"""What a venue lists: expiries that roll, strikes that are round and dense at the money."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.conventions import to_datetime
from calib.feeds.simulated.expiries import ExpiryRule, listed_expiries
from calib.feeds.simulated.strikes import extended_strikes, strike_grid

CRYPTO = ExpiryRule(timedelta(hours=8), timedelta(hours=8), "last_friday", weekends=True)
INDEX = ExpiryRule(
    timedelta(hours=20), timedelta(hours=13, minutes=30), "third_friday", weekends=False
)
MONDAY = np.datetime64("2026-01-05T09:30:00", "us")


def test_a_crypto_ladder_on_a_monday() -> None:
    listed = listed_expiries(CRYPTO, MONDAY, 12)
    assert [str(day) for day in listed.astype("datetime64[D]")] == [
        *("2026-01-06", "2026-01-07", "2026-01-08"),  # dailies
        *("2026-01-09", "2026-01-16", "2026-01-23", "2026-01-30"),  # Fridays
        *("2026-02-27", "2026-03-27"),  # month ends
        *("2026-06-26", "2026-09-25", "2026-12-25"),  # quarters
    ]
    assert {to_datetime(expiry).hour for expiry in listed} == {8}


def test_index_expiries_can_share_a_date() -> None:
    listed = listed_expiries(INDEX, MONDAY, 12)
    third_friday = listed[listed.astype("datetime64[D]") == np.datetime64("2026-01-16")]
    assert [str(e)[11:16] for e in third_friday] == ["13:30", "20:00"]
    assert [INDEX.is_monthly(e) for e in third_friday] == [True, False]
    assert all(to_datetime(expiry).weekday() < 5 for expiry in listed)


@pytest.mark.parametrize("rule", [CRYPTO, INDEX])
@pytest.mark.parametrize("count", [1, 2, 5, 12, 30])
def test_a_year_of_rolling_keeps_the_ladder_full_and_delists_nothing_early(
    rule: ExpiryRule, count: int
) -> None:
    now, listed = MONDAY, listed_expiries(rule, MONDAY, count)
    for _ in range(500):
        now = now + np.timedelta64(17, "h")
        after = listed_expiries(rule, now, count, listed)
        assert len(after) == count
        assert np.all(after > now)
        assert np.all(np.diff(after) > np.timedelta64(0))
        assert set(listed[listed > now]) <= set(after)
        listed = after
    assert listed[0] > MONDAY + np.timedelta64(350, "D")


def test_month_ends_are_fridays_of_every_month() -> None:
    ends = [end for end, _ in zip(CRYPTO.month_ends(MONDAY), range(24), strict=False)]
    moments = [to_datetime(end) for end in ends]
    assert {moment.weekday() for moment in moments} == {4}
    assert [moment.month for moment in moments] == [*range(1, 13), *range(1, 13)]
    assert all((moment + timedelta(days=7)).month != moment.month for moment in moments)


@given(st.floats(0.5, 1e5), st.floats(5e-4, 1.2), st.integers(1, 120))
def test_strikes_are_round_distinct_and_dense_at_the_money(
    forward: float, deviation: float, count: int
) -> None:
    strikes = strike_grid(forward, deviation, count)
    assert len(strikes) == count
    assert np.all(strikes > 0)
    gaps = np.diff(strikes)
    assert np.all(gaps > 0)
    if count >= 20:
        assert strikes[0] < forward < strikes[-1]
        above = gaps[count // 2 :]
        assert above[: len(above) // 2].mean() < above[len(above) // 2 :].mean()
        k = np.log(strikes / forward) / deviation
        assert -4.6 < k[0] < -3.4
        assert 3.4 < k[-1] < 4.6


@pytest.mark.parametrize(("forward", "deviation"), [(88_000.0, 0.03), (6_420.0, 0.02), (3.1, 0.5)])
def test_strikes_are_multiples_of_round_steps(forward: float, deviation: float) -> None:
    strikes = strike_grid(forward, deviation, 21)
    gaps = np.diff(strikes)
    steps = np.array([m * 10.0**n for n in range(-4, 5) for m in (1.0, 2.0, 2.5, 5.0)])
    for strike, gap in zip(
        strikes, np.minimum(np.r_[gaps[0], gaps], np.r_[gaps, gaps[-1]]), strict=True
    ):
        divides = np.abs(strike / steps - np.rint(strike / steps)) < 1e-9
        assert steps[divides].max() > 0.15 * gap


def test_strikes_follow_a_spot_that_runs_away_and_none_is_lost() -> None:
    start = strike_grid(100.0, 0.1, 20)
    assert extended_strikes(start, 103.0, 0.1, 20) is start
    after = extended_strikes(start, 140.0, 0.1, 20)
    assert set(start) <= set(after)
    assert np.count_nonzero(after > 140.0) >= 5
    assert np.all(np.diff(after) > 0)
