"""Reading quote tables: one table whatever its form, and one clear message for what is none."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from calib.errors import InvalidQuoteTable
from calib.quotes.labels import Labels
from calib.quotes.reading import quotes_from_frame, read_quotes
from calib.quotes.reasons import Reason
from calib.quotes.table import QuoteTable, validated
from tests.quotes.tables import EXPIRY, TIME, assert_same, frame

NAN = float("nan")
NONE: Any = None
TIMES = ("quote_time", "expiry")
TEXTS = ("venue", "underlying", "right", "unit", "exercise")


def motley() -> pd.DataFrame:
    """Good and bad rows, with something missing in every column that may miss something."""
    return frame(
        6,
        quote_time=[TIME, TIME, TIME + pd.Timedelta("1us"), pd.NaT, TIME, TIME],
        venue=["deribit", "NA", None, "deribit", "deribit", "deribit"],
        underlying=["BTC", "None", "nan", "BTC", None, "BTC"],
        expiry=[EXPIRY, EXPIRY, pd.NaT, EXPIRY, EXPIRY, TIME],
        strike=[90_000.0, 1e-17, 0.1 + 0.2, NAN, np.inf, -1.0],
        right=["C", "p", "Put", "X", None, "CALL"],
        unit=["inverse", "LINEAR", "vol", None, "yen", "inverse"],
        bid=[0.01, 0.0, NAN, -1.0, 5e-324, 0.3],
        ask=[0.0125, 7.1, 0.45, NAN, 1.7976931348623157e308, 0.2],
        bid_size=[1.0, NAN, 2.5, NAN, 0.0, 1.0],
        forward=[91_234.5, NAN, NAN, 91_234.5, 0.0, 91_234.5],
        spot=[91_000.1, 91_000.1, NAN, NAN, 91_000.1, 91_000.1],
        exercise=["european", None, "AMERICAN", "bermudan", None, "European"],
    )


def as_values(data: pd.DataFrame) -> QuoteTable:
    """The table without any reading: columns straight into the validation."""

    def instants(name: str) -> Any:
        return data[name].dt.tz_convert(None).to_numpy("datetime64[us]")

    def floats(name: str) -> Any:
        return data[name].to_numpy(float)

    def labels(name: str) -> Labels:
        return Labels.of([text if isinstance(text, str) else None for text in data[name]])

    return validated(
        quote_time=instants("quote_time"),
        venue=labels("venue"),
        underlying=labels("underlying"),
        expiry=instants("expiry"),
        strike=floats("strike"),
        right=labels("right"),
        unit=labels("unit"),
        bid=floats("bid"),
        ask=floats("ask"),
        bid_size=floats("bid_size"),
        forward=floats("forward"),
        spot=floats("spot"),
        exercise=labels("exercise"),
    )


def text_times(data: pd.DataFrame, form: Callable[[pd.Timestamp], str]) -> pd.DataFrame:
    def written(moment: Any) -> str | None:
        return None if pd.isna(moment) else form(moment)

    return data.assign(**{name: data[name].map(written).astype(object) for name in TIMES})


FRAMES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "as it is": lambda data: data,
    "another index": lambda data: data.set_index(pd.Index([7] * len(data))),
    "further columns": lambda data: data.assign(note="x", volume=range(len(data))),
    "columns in another order": lambda data: data[sorted(data.columns)],
    "categories": lambda data: data.assign(
        **{name: data[name].astype("category") for name in (*TEXTS, *TIMES, "strike")}
    ),
    "Arrow types": lambda data: data.convert_dtypes(dtype_backend="pyarrow"),
    "nullable types": lambda data: data.convert_dtypes(dtype_backend="numpy_nullable"),
    "objects": lambda data: data.astype(object),
    "objects, None for what is missing": lambda data: data.astype(object).where(data.notna(), NONE),
    "nanoseconds": lambda data: data.assign(
        **{name: data[name].astype("datetime64[ns, UTC]") for name in TIMES}
    ),
    "naive times": lambda data: data.assign(
        **{name: data[name].dt.tz_convert(None) for name in TIMES}
    ),
    "New York times": lambda data: data.assign(
        **{name: data[name].dt.tz_convert("America/New_York") for name in TIMES}
    ),
    "ISO text": lambda data: text_times(data, lambda moment: moment.isoformat()),
    "text without an offset": lambda data: text_times(
        data, lambda moment: moment.tz_convert(None).isoformat(" ")
    ),
    "text with a Z": lambda data: text_times(
        data, lambda moment: f"{moment.tz_convert(None).isoformat()}Z"
    ),
    "text with another offset": lambda data: text_times(
        data, lambda moment: moment.tz_convert("Asia/Kolkata").isoformat()
    ),
    "text with nanoseconds": lambda data: text_times(
        data,
        lambda moment: f"{moment.tz_convert(None).isoformat()}Z".replace(".123456", ".123456789"),
    ),
    "datetimes": lambda data: data.assign(
        **{name: pd.Series(list(data[name].dt.to_pydatetime()), dtype=object) for name in TIMES}
    ),
    "numbers as text": lambda data: data.assign(
        **{name: data[name].map(repr).astype(object) for name in ("strike", "bid", "ask", "spot")}
    ),
}


@pytest.mark.parametrize("form", FRAMES)
def test_a_frame_is_the_same_table_in_every_form(form: str) -> None:
    data = motley()
    assert_same(quotes_from_frame(FRAMES[form](data)), as_values(data))


@pytest.mark.parametrize(
    "name", ["quotes.csv", "quotes.CSV", "quotes.csv.gz", "a.b.parquet", "quotes.pq"]
)
def test_a_file_is_the_same_table_in_every_form(tmp_path: Path, name: str) -> None:
    data = motley()
    path = tmp_path / name
    if "csv" in name.lower():
        # pandas would write the text None as an empty field; the text NA stays as it is.
        data.to_csv(path, index=False, compression="gzip" if name.endswith("gz") else None)
    else:
        data.to_parquet(path)
    assert_same(read_quotes(path), as_values(data))
    assert_same(read_quotes(str(path)), as_values(data))


def test_a_parquet_file_may_hold_dictionaries_of_text(tmp_path: Path) -> None:
    data = motley()
    table = pa.Table.from_pandas(data, preserve_index=False)
    for name in TEXTS:
        index = table.column_names.index(name)
        table = table.set_column(index, name, table[name].dictionary_encode())
    pq.write_table(table, tmp_path / "quotes.parquet")
    assert_same(read_quotes(tmp_path / "quotes.parquet"), as_values(data))


def test_a_csv_file_may_begin_with_a_byte_order_mark_and_end_lines_like_windows(
    tmp_path: Path,
) -> None:
    data = frame()
    text = data.to_csv(index=False, lineterminator="\r\n")
    (tmp_path / "quotes.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert_same(read_quotes(tmp_path / "quotes.csv"), quotes_from_frame(data))


def test_offsets_on_some_rows_only_are_read_row_by_row() -> None:
    moments = ["2026-03-02T08:00:00Z", "2026-03-02 08:00:00", "2026-03-02T13:30:00+05:30"]
    table = quotes_from_frame(frame(quote_time=moments))
    assert table.quote_time.tolist() == [datetime(2026, 3, 2, 8)] * 3


def test_dates_stand_for_their_midnight_beside_datetimes() -> None:
    """A column that begins with a date must not cut the time off what follows."""
    moments = [
        date(2026, 3, 27),
        datetime(2026, 3, 27, 8),
        datetime(2026, 3, 27, 8, tzinfo=timezone(timedelta(hours=-4))),
    ]
    table = quotes_from_frame(frame(expiry=pd.Series(moments, dtype=object)))
    expected = [datetime(2026, 3, 27), datetime(2026, 3, 27, 8), datetime(2026, 3, 27, 12)]
    assert table.expiry.tolist() == expected


def test_numbers_may_be_integers_decimals_or_single_precision() -> None:
    data = frame(
        strike=pd.array([90_000, 91_000, None], "Int64"),
        bid=[Decimal("0.01"), Decimal("0.02"), None],
        ask=np.array([0.5, 0.25, 0.125], np.float32),
        spot=pd.Series([1, Decimal("2.5"), 3.25], dtype=object),
    )
    table = quotes_from_frame(data)
    assert np.array_equal(table.strike, [90_000.0, 91_000.0, NAN], equal_nan=True)
    assert np.array_equal(table.bid, [0.01, 0.02, NAN], equal_nan=True)
    assert table.ask.tolist() == [0.5, 0.25, 0.125]
    assert table.spot.tolist() == [1.0, 2.5, 3.25]


def test_text_says_in_many_ways_that_there_is_no_number() -> None:
    absent = ["", " ", "nan", "NaN", "NA", "n/a", "null", "None", "<NA>", "NaT"]
    data = frame(len(absent), bid=absent, forward=absent, bid_size=[None] * len(absent))
    table = quotes_from_frame(data)
    assert np.isnan(table.bid).all()
    assert np.isnan(table.forward).all()
    assert np.isnan(table.bid_size).all()


def test_a_column_without_any_value_may_be_of_any_type() -> None:
    nothing = np.full(3, NAN)
    table = quotes_from_frame(
        frame(exercise=nothing, venue=nothing, expiry=nothing, bid=[None] * 3)
    )
    assert table.exercise_text.texts() == table.venue.texts() == ["", "", ""]
    assert np.isnat(table.expiry).all()
    assert np.isnan(table.bid).all()


def test_blank_text_is_absent() -> None:
    table = quotes_from_frame(frame(venue=["", " \t", None]))
    assert table.venue.texts() == ["", "", ""]
    assert set(table.reason) == {Reason.BAD_VENUE}


def test_instants_that_no_calendar_has_are_absent() -> None:
    far = pd.Series([np.datetime64("12000-01-01", "s"), np.datetime64("2026-03-27", "s")] * 2)
    table = quotes_from_frame(frame(4, expiry=far))
    assert np.isnat(table.expiry).tolist() == [True, False] * 2
    assert set(table.reason) == {Reason.BAD_EXPIRY, Reason.USABLE}


@pytest.mark.parametrize("rows", [0, 1])
def test_tables_of_no_and_of_one_row(tmp_path: Path, rows: int) -> None:
    data = frame(rows)
    table = quotes_from_frame(data)
    assert len(table) == rows
    assert table.underlyings == ("BTC",) * rows
    data.to_csv(tmp_path / "quotes.csv", index=False)
    data.to_parquet(tmp_path / "quotes.parquet")
    assert_same(read_quotes(tmp_path / "quotes.csv"), table)
    assert_same(read_quotes(tmp_path / "quotes.parquet"), table)


def test_the_table_does_not_follow_its_frame() -> None:
    data = frame()
    table = quotes_from_frame(data)
    data.loc[:, "bid"] = 99.0
    assert table.bid.tolist() == [0.01] * 3


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a word among numbers": (
        {"strike": [90_000.0, "dear", 92_000.0]},
        "column 'strike', row 1: 'dear' is not a number",
    ),
    "a word among numbers in text": (
        {"bid": ["0.01", "0.02", "O.03"]},
        "column 'bid', row 2: 'O.03' is not a number",
    ),
    "digits in groups": (
        {"strike": ["90000", "91_000", "92000"]},
        "column 'strike', row 1: '91_000' is not a number",
    ),
    "a truth value among numbers": (
        {"ask": [0.0125, True, 0.02]},
        "column 'ask', row 1: True is not a number",
    ),
    "truth values": ({"ask": [True, False, True]}, "column 'ask' must hold numbers, not bool"),
    "a list": ({"ask": [[1.0], [2.0], [3.0]]}, r"column 'ask', row 0: \[1.0\] is not a number"),
    "times among numbers": ({"bid": [TIME] * 3}, "column 'bid' must hold numbers, not timestamp"),
    "numbers for text": ({"venue": [1, 2, 3]}, "column 'venue' must hold text, not int64"),
    "a number among text": (
        {"right": ["C", "P", 1]},
        "column 'right', row 2: 1 is not text",
    ),
    "numbers for times": (
        {"expiry": [1_767_225_600] * 3},
        "column 'expiry' must hold UTC timestamps, not int64",
    ),
    "epochs as text": (
        {"expiry": ["2026-03-27", "1767225600000", "2026-03-27"]},
        "column 'expiry', row 1: '1767225600000' is not an ISO 8601 timestamp",
    ),
    "a word among times": (
        {"quote_time": [TIME, "noon", TIME]},
        "column 'quote_time', row 1: 'noon' is not an ISO 8601 timestamp",
    ),
    "a date that is none": (
        {"quote_time": ["2026-02-28", "2026-02-29", None]},
        "column 'quote_time', row 1: '2026-02-29' is not an ISO 8601 timestamp",
    ),
    "a number among times": (
        {"expiry": [datetime(2026, 3, 27, tzinfo=UTC), 3, None]},
        "column 'expiry', row 1: 3 is not an ISO 8601 timestamp",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_value_of_another_type_is_refused_by_column_and_row(what: str) -> None:
    columns, message = REFUSED[what]
    data = frame().astype(object).assign(**columns)
    with pytest.raises(InvalidQuoteTable, match=message):
        quotes_from_frame(data)


@pytest.mark.parametrize("what", ["a word among numbers in text", "epochs as text"])
def test_files_are_refused_with_their_name(tmp_path: Path, what: str) -> None:
    columns, message = REFUSED[what]
    frame(**columns).to_csv(tmp_path / "quotes.csv", index=False)
    with pytest.raises(InvalidQuoteTable, match=f"quotes.csv: {message}"):
        read_quotes(tmp_path / "quotes.csv")


def test_missing_columns_are_named_beside_those_that_are_there() -> None:
    with pytest.raises(InvalidQuoteTable, match=r"column 'bid' is missing; it has .*'ask'"):
        quotes_from_frame(frame().drop(columns="bid"))
    with pytest.raises(InvalidQuoteTable, match="columns 'bid', 'ask' are missing"):
        quotes_from_frame(frame().drop(columns=["ask", "bid"]))
    with pytest.raises(InvalidQuoteTable, match="it has no columns"):
        quotes_from_frame(pd.DataFrame())


def test_a_column_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    data = frame()
    doubled = pd.concat([data, data[["bid"]]], axis=1)
    with pytest.raises(InvalidQuoteTable, match="column 'bid' occurs more than once"):
        quotes_from_frame(doubled)
    doubled.to_csv(tmp_path / "quotes.csv", index=False)
    with pytest.raises(InvalidQuoteTable, match=r"quotes.csv: column 'bid' occurs more than once"):
        read_quotes(tmp_path / "quotes.csv")


def test_what_is_no_frame_is_refused() -> None:
    nothing: Any = "quotes.csv"
    with pytest.raises(InvalidQuoteTable, match="a pandas DataFrame is needed, not str"):
        quotes_from_frame(nothing)


TEXT = frame().to_csv(index=False)
FILES: dict[str, tuple[bytes, str]] = {
    "empty.csv": (b"", "has no columns"),
    "semicolons.csv": (TEXT.replace(",", ";").encode(), "columns 'quote_time', 'venue'"),
    "ragged.csv": (TEXT.encode() + b"1,2\n", "cannot be read: .*[Ee]xpected 9 columns, got 2"),
    "latin.csv": (TEXT.replace("deribit", "Börse").encode("latin-1"), "cannot be read"),
    "binary.csv": (bytes(range(256)), "cannot be read"),
    "cut.csv.gz": (gzip.compress(TEXT.encode())[:60], "cannot be read"),
    "plain.csv.gz": (TEXT.encode(), "cannot be read: .*gzip"),
    "text.parquet": (TEXT.encode(), "cannot be read"),
    "empty.parquet": (b"", "cannot be read"),
    "quotes.xlsx": (b"", "the suffix must be .parquet, .pq, .csv or .csv.gz"),
    "quotes": (b"", "the suffix must be"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_quote_table_is_refused_with_one_message(
    tmp_path: Path, name: str
) -> None:
    content, message = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidQuoteTable, match=f"{name}: .*{message}"):
        read_quotes(tmp_path / name)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidQuoteTable, match=r"absent.csv: no such file"):
        read_quotes(tmp_path / "absent.csv")
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(InvalidQuoteTable, match=r"folder.parquet: no Parquet file is in"):
        read_quotes(tmp_path / "folder.parquet")
