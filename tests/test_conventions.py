"""Units, instants and spans."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import pytest

from calib.conventions import (
    NO_INSTANT,
    iso,
    log_moneyness,
    span_of,
    to_datetime,
    to_instant,
    years_between,
)
from calib.errors import InvalidRequest

MOMENT = np.datetime64("2026-03-27T08:00:00.123456", "us")


@pytest.mark.parametrize(
    "value",
    [
        datetime(2026, 3, 27, 8, 0, 0, 123456),
        datetime(2026, 3, 27, 8, 0, 0, 123456, tzinfo=UTC),
        datetime(2026, 3, 27, 13, 30, 0, 123456, tzinfo=timezone(timedelta(hours=5.5))),
        "2026-03-27T08:00:00.123456Z",
        "2026-03-27 08:00:00.123456",
        "2026-03-27T04:00:00.123456-04:00",
        pd.Timestamp("2026-03-27T08:00:00.123456789"),
        pd.Timestamp("2026-03-27T04:00:00.123456", tz="America/New_York"),
        np.datetime64("2026-03-27T08:00:00.123456789", "ns"),
        MOMENT,
    ],
)
def test_an_instant_in_every_form(value: object) -> None:
    instant = to_instant(value)
    assert instant == MOMENT
    assert instant.dtype == "datetime64[us]"


def test_a_date_is_its_midnight_in_utc() -> None:
    midnight = np.datetime64("2026-03-27T00:00:00", "us")
    for value in (date(2026, 3, 27), "2026-03-27", np.datetime64("2026-03-27")):
        assert to_instant(value) == midnight


@pytest.mark.parametrize(
    "value",
    ["noon", "", "2026-02-29", 1_767_225_600, None, 2026.0, pd.NaT, "9999-12-31T23:00-05:00"],
)
def test_what_is_no_instant_is_refused_by_value(value: Any) -> None:
    with pytest.raises(InvalidRequest, match="is not an instant"):
        to_instant(value)


def test_instants_are_written_to_the_microsecond_or_the_second() -> None:
    assert iso(MOMENT) == "2026-03-27T08:00:00.123456Z"
    assert iso(np.datetime64("2026-03-27T08:00", "m")) == "2026-03-27T08:00:00Z"
    assert iso(NO_INSTANT) == "NaT"
    assert to_instant(iso(MOMENT)) == MOMENT
    assert to_datetime(MOMENT) == datetime(2026, 3, 27, 8, 0, 0, 123456, tzinfo=UTC)


def test_years_count_days_of_365() -> None:
    """Through a leap year too, and to the microsecond."""
    start = np.datetime64("2027-03-01", "us")
    ends = start + np.array([0, 365, 366, 730], "timedelta64[D]")
    assert years_between(start, ends).tolist() == [0.0, 1.0, 366 / 365, 2.0]
    second = years_between(start, start + np.timedelta64(1, "s"))
    assert float(second) == pytest.approx(1.0 / (365 * 86_400), rel=1e-15)
    assert np.isnan(years_between(start, NO_INSTANT))
    assert years_between(ends[:, None], ends).shape == (4, 4)


def test_log_moneyness_is_that_of_strike_over_forward() -> None:
    assert log_moneyness([100.0, 110.0], 100.0).tolist() == [0.0, np.log(1.1)]


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("500ms", timedelta(milliseconds=500)),
        ("30s", timedelta(seconds=30)),
        (" 1.5 min ", timedelta(seconds=90)),
        ("1h", timedelta(hours=1)),
        ("2d", timedelta(days=2)),
    ],
)
def test_spans_are_read_from_text(text: str, span: timedelta) -> None:
    assert span_of("every", text) == span


@pytest.mark.parametrize("text", ["", "soon", "0s", "-1h", "1", "1 week", "1e3s", "0.0001ms"])
def test_what_is_no_positive_span_is_refused_by_name_and_value(text: str) -> None:
    with pytest.raises(InvalidRequest, match=f"every must be a positive span .* not '{text}'"):
        span_of("every", text)


def test_a_span_without_end_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="max_age='99999999999d' is longer than any table"):
        span_of("max_age", "99999999999d")
