"""Rows judged one by one, and tables cut up and put together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.quotes.labels import Labels
from calib.quotes.reading import quotes_from_frame
from calib.quotes.reasons import Reason
from calib.quotes.table import joined
from tests.quotes.tables import EXPIRY, TIME, assert_same, frame

NAN = float("nan")

# For every reason that a row alone can give: what the row holds, and how it is reported.
ROWS: list[tuple[dict[str, Any], Reason, str, str]] = [
    ({"quote_time": pd.NaT}, Reason.BAD_QUOTE_TIME, "quote_time", "NaT"),
    ({"venue": None}, Reason.BAD_VENUE, "venue", "''"),
    ({"underlying": " "}, Reason.BAD_UNDERLYING, "underlying", "''"),
    ({"expiry": pd.NaT}, Reason.BAD_EXPIRY, "expiry", "NaT"),
    ({"strike": 0.0}, Reason.BAD_STRIKE, "strike", "0"),
    ({"strike": -5.0}, Reason.BAD_STRIKE, "strike", "-5"),
    ({"strike": np.inf}, Reason.BAD_STRIKE, "strike", "inf"),
    ({"strike": NAN}, Reason.BAD_STRIKE, "strike", "nan"),
    ({"right": "straddle"}, Reason.BAD_RIGHT, "right", "'straddle'"),
    ({"right": None}, Reason.BAD_RIGHT, "right", "''"),
    ({"unit": "yen"}, Reason.BAD_UNIT, "unit", "'yen'"),
    ({"exercise": "bermudan"}, Reason.BAD_EXERCISE, "exercise", "'bermudan'"),
    ({"exercise": "American"}, Reason.AMERICAN_EXERCISE, "exercise", "'American'"),
    ({"bid": -0.01}, Reason.BAD_PRICE, "bid", "-0.01"),
    ({"ask": np.inf}, Reason.BAD_PRICE, "ask", "inf"),
    ({"bid": -1.0, "ask": -1.0}, Reason.BAD_PRICE, "bid", "-1"),
    ({"bid_size": -3.0}, Reason.BAD_SIZE, "bid_size", "-3"),
    ({"ask_size": np.inf}, Reason.BAD_SIZE, "ask_size", "inf"),
    ({"forward": 0.0}, Reason.BAD_FORWARD, "forward", "0"),
    ({"spot": -1.0}, Reason.BAD_SPOT, "spot", "-1"),
    ({"bid": NAN, "ask": NAN}, Reason.NO_QUOTE, "", ""),
    ({"bid": 0.0, "ask": 0.0}, Reason.NO_QUOTE, "", ""),
    ({"bid": 0.02}, Reason.CROSSED, "bid", "0.02"),
    ({"expiry": TIME}, Reason.EXPIRED, "expiry", "2026-03-02T08:00:00.123456Z"),
]
FULL: dict[str, Any] = {
    "bid_size": 1.0,
    "ask_size": 2.0,
    "forward": 91_000.0,
    "spot": 90_500.0,
    "exercise": "european",
}


@pytest.mark.parametrize(("wrong", "reason", "column", "value"), ROWS)
def test_a_row_that_cannot_be_used_is_reported_with_row_column_value_and_reason(
    wrong: dict[str, Any], reason: Reason, column: str, value: str
) -> None:
    data = frame(3).assign(**FULL).astype(object)
    for name, content in wrong.items():
        data.at[1, name] = content
    table = quotes_from_frame(data)
    assert table.reason.tolist() == [Reason.USABLE, reason, Reason.USABLE]
    assert table.usable.tolist() == [True, False, True]
    assert table.reason_counts() == {reason: 1}
    (problem,) = table.problems()
    assert (problem.row, problem.column, problem.value, problem.reason) == (
        1,
        column,
        value,
        reason,
    )
    where = f"row 1, {column} {value}" if column else "row 1"
    assert str(problem) == f"{where}: {reason.text}"


def test_every_reason_that_a_row_alone_can_give_is_tried_above() -> None:
    tried = {reason for _, reason, _, _ in ROWS}
    of_a_row = {reason for reason in Reason if 0 < reason < Reason.DUPLICATE}
    assert tried == of_a_row | {Reason.BAD_VENUE}


def test_every_reason_says_something_of_its_own() -> None:
    assert len({reason.text for reason in Reason}) == len(Reason)


def test_american_options_are_refused_by_name() -> None:
    table = quotes_from_frame(frame(2, exercise=["american", "AMERICAN"]))
    assert ["American" in str(problem) for problem in table.problems()] == [True, True]


@pytest.mark.parametrize("text", ["european", "European", None, ""])
def test_options_are_european_unless_they_say_otherwise(text: str | None) -> None:
    assert quotes_from_frame(frame(1, exercise=[text])).usable.all()
    assert quotes_from_frame(frame(1)).usable.all()


def test_rights_and_units_are_read_in_any_case() -> None:
    table = quotes_from_frame(
        frame(6, right=["C", "c", "P", "p", "Call", "PUT"], unit=["Linear", "INVERSE", "vol"] * 2)
    )
    assert table.usable.all()
    assert table.right.tolist() == [1, 1, 2, 2, 1, 2]
    assert table.unit.tolist() == [1, 2, 3] * 2


def test_a_zero_side_is_an_absent_side() -> None:
    table = quotes_from_frame(frame(3, bid=[0.0, -0.0, 0.01], ask=[0.02, 0.02, 0.0]))
    assert np.isnan(table.bid).tolist() == [True, True, False]
    assert np.isnan(table.ask).tolist() == [False, False, True]
    assert table.usable.all()


def test_a_locked_quote_is_not_crossed() -> None:
    assert quotes_from_frame(frame(1, bid=[0.0125])).usable.all()


def test_the_first_thing_wrong_with_a_row_is_its_reason() -> None:
    data = frame(1).assign(**FULL).astype(object)
    for wrong, _, _, _ in reversed(ROWS):
        for name, content in wrong.items():
            data.at[0, name] = content
    assert quotes_from_frame(data).reason.tolist() == [Reason.BAD_QUOTE_TIME]


def test_the_most_frequent_reason_is_counted_first() -> None:
    table = quotes_from_frame(frame(4, strike=[1.0, -1.0, 0.0, 1.0], unit=["inverse"] * 3 + ["x"]))
    assert list(table.reason_counts().items()) == [(Reason.BAD_STRIKE, 2), (Reason.BAD_UNIT, 1)]


@given(st.lists(st.integers(0, 9), max_size=12))
def test_rows_taken_by_number_or_by_mask_keep_their_place_in_the_table_read(
    rows: list[int],
) -> None:
    table = quotes_from_frame(frame(10, strike=np.arange(1.0, 11.0)))
    taken = table.take(np.array(rows, np.int64))
    assert taken.row.tolist() == rows
    assert taken.strike.tolist() == [row + 1.0 for row in rows]
    mask = np.isin(np.arange(10), rows)
    assert table.take(mask).row.tolist() == sorted(set(rows))
    again = taken.take(np.arange(len(rows))[::-1])
    assert again.row.tolist() == rows[::-1]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_joined_tables_are_the_table_of_all_rows(sizes: list[int]) -> None:
    """Whatever the parts call their texts, and in whichever order."""
    texts = ["BTC", None, "ETH", "BTC", "SOL"]
    total = sum(sizes)
    data = frame(
        total,
        underlying=[texts[i % 5] for i in range(total)],
        venue=[["x", "y"][i % 3 % 2] for i in range(total)],
        bid=np.arange(total, dtype=float) / 100.0,
    )
    whole = quotes_from_frame(data)
    ends = np.cumsum(sizes)
    rows = [np.arange(end - size, end) for size, end in zip(sizes, ends, strict=True)]
    assert_same(joined([whole.take(part) for part in rows]), whole)
    read_apart = joined([quotes_from_frame(data.iloc[part]) for part in rows])
    assert read_apart.row.tolist() == [i for size in sizes for i in range(size)]
    assert read_apart.underlying.texts() == whole.underlying.texts()
    assert np.array_equal(read_apart.reason, whole.reason)


def test_columns_cannot_be_written_to() -> None:
    table = quotes_from_frame(frame())
    for one in (table, table.take(np.array([0])), joined([table, table])):
        for values in (one.bid, one.expiry, one.reason, one.venue.codes):
            with pytest.raises(ValueError, match="read-only"):
                values[0] = values[0]


def test_underlyings_are_those_that_occur() -> None:
    table = quotes_from_frame(frame(3, underlying=["ETH", None, "BTC"]))
    assert table.underlyings == ("BTC", "ETH")
    assert table.take(np.array([0, 1])).underlyings == ("ETH",)


def test_labels_without_names_are_all_absent() -> None:
    labels = Labels(np.full(2, -1, np.int32), ())
    assert labels.texts() == ["", ""]
    assert labels.lookup({"c": 1}).tolist() == [0, 0]
    assert labels[0] == ""
    assert Labels.join([labels, Labels.of(["a"])]).texts() == ["", "", "a"]


def test_an_expiry_beyond_its_quote_time_by_a_microsecond_has_time_left() -> None:
    table = quotes_from_frame(frame(1, expiry=[TIME + pd.Timedelta("1us")]))
    assert table.usable.all()
    assert EXPIRY > TIME
