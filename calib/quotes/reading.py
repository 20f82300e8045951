"""Quote tables from Parquet, CSV and pandas: one set of columns, one way to say what is wrong."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from io import TextIOWrapper
from numbers import Real
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias, TypeVar, cast
from urllib.parse import unquote

import numpy as np

from calib.conventions import NO_INSTANT, Floats, Instants, to_instant
from calib.errors import InvalidQuoteTable
from calib.quotes.labels import Labels
from calib.quotes.part import replaced
from calib.quotes.table import QuoteTable, validated

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_REQUIRED = (
    "quote_time",
    "venue",
    "underlying",
    "expiry",
    "strike",
    "right",
    "unit",
    "bid",
    "ask",
)
_OPTIONAL = ("bid_size", "ask_size", "forward", "spot", "exercise")
KNOWN_COLUMNS = frozenset((*_REQUIRED, *_OPTIONAL))
"""Those of a quote table; others are ignored."""

_PARQUET = (".parquet", ".pq")
_NAMING = "underlying="  # how the name of a folder begins that names one

# How a number or a time that is not there is written in text.
_ABSENT = ("", "nan", "nat", "null", "none", "na", "n/a", "<na>")

_Column: TypeAlias = "pa.ChunkedArray | list[object]"
_Value = TypeVar("_Value")


def read_quotes(path: str | Path) -> QuoteTable:
    """The quote table in a Parquet or CSV file (by its suffix: .parquet, .pq, .csv, .csv.gz), or in
    the Parquet files of a folder, in order of their names.

    A folder ``underlying=BTC`` names what the files in it do not. Rows that cannot be used are kept
    and marked; see :meth:`QuoteTable.problems`. Rows are counted from 0, in a CSV file from the
    line after the header. Timestamps without an offset are UTC. Raises InvalidQuoteTable, naming
    file, column and row, where there is no quote table: unreadable, a required column missing, or a
    value that is not of its column's type.
    """
    import pyarrow as pa

    path = Path(path)
    unreadable = (OSError, EOFError, UnicodeError, csv.Error, zlib.error, pa.ArrowException)
    try:
        return _from_columns(_read_file(path))
    except FileNotFoundError:
        raise InvalidQuoteTable(f"{path}: no such file") from None
    except InvalidQuoteTable as error:
        raise InvalidQuoteTable(f"{path}: {error}") from None
    except unreadable as error:
        raise InvalidQuoteTable(f"{path}: cannot be read: {error}") from error


def quotes_from_frame(frame: pd.DataFrame) -> QuoteTable:
    """The quote table in a pandas DataFrame; its index is ignored, rows are counted from 0.

    Raises InvalidQuoteTable, naming column and row, where the frame is not a quote table.
    """
    if not hasattr(frame, "columns"):
        raise InvalidQuoteTable(f"a pandas DataFrame is needed, not {type(frame).__name__}")
    check_names([str(name) for name in frame.columns])
    return _from_columns(
        {name: _of_series(frame[name]) for name in frame.columns if name in KNOWN_COLUMNS}
    )


def quotes_from_arrow(table: pa.Table) -> QuoteTable:
    """The quote table in an Arrow table, whose rows are counted from 0.

    Raises InvalidQuoteTable, naming column and row, where it is not a quote table.
    """
    check_names(table.column_names)
    return _from_columns(
        {name: table[name] for name in table.column_names if name in KNOWN_COLUMNS}
    )


def _of_series(series: pd.Series[Any]) -> _Column:
    import pyarrow as pa

    # Objects may be of several kinds, which Arrow would force into that of the first one.
    kind = pa.string() if series.dtype == object else None
    try:
        column = pa.array(series, kind, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError):
        values: list[object] = series.astype(object).where(series.notna(), None).tolist()
        return values
    return column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])


def _read_file(path: Path) -> Mapping[str, _Column]:
    name = path.name.lower()
    if path.is_dir():
        table = _folder_table(path)
    elif name.endswith(_PARQUET):
        table = _parquet_table(path)
    elif name.endswith((".csv", ".csv.gz")):
        table = csv_table(lambda: path.open("rb"), zipped=name.endswith(".gz"))
    else:
        raise InvalidQuoteTable("the suffix must be .parquet, .pq, .csv or .csv.gz")
    return {name: table[name] for name in table.column_names}


def _folder_table(folder: Path) -> pa.Table:
    import pyarrow as pa

    found = sorted(one for one in folder.rglob("*") if one.name.lower().endswith(_PARQUET))
    merged = replaced(str(one.absolute()) for one in found)
    paths = [one for one in found if str(one.absolute()) not in merged]
    if not paths:
        raise InvalidQuoteTable("no Parquet file is in this folder")
    tables = []
    for path in paths:
        try:
            tables.append(_parquet_table(path))
        except (InvalidQuoteTable, OSError, pa.ArrowException) as error:
            raise InvalidQuoteTable(f"{path.relative_to(folder)}: {error}") from error
    return pa.concat_tables(tables, promote_options="permissive")


def _parquet_table(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    named = [one for one in path.parts if one.startswith(_NAMING)]
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        missing = "underlying" not in names and bool(named)
        check_names([*names, "underlying"] if missing else names)
        table = file.read([name for name in names if name in KNOWN_COLUMNS])
    if missing:
        name = unquote(named[-1].removeprefix(_NAMING))
        table = table.append_column("underlying", pa.repeat(pa.scalar(name), len(table)))
    return table


def csv_table(opened: Callable[[], IO[bytes]], *, zipped: bool) -> pa.Table:
    """The columns of a CSV file, all as text, so that no guess at their type stands in the way of a
    clear message."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    def content(file: IO[bytes]) -> IO[bytes]:
        return cast(IO[bytes], gzip.GzipFile(fileobj=file)) if zipped else file

    with opened() as file, TextIOWrapper(content(file), "utf-8-sig", newline="") as text:
        header = next(csv.reader(text), [])
    check_names(header)
    options = arrow_csv.ConvertOptions(
        include_columns=[name for name in header if name in KNOWN_COLUMNS],
        column_types={name: pa.string() for name in header},
        strings_can_be_null=True,
        null_values=[""],
    )
    with opened() as file:
        return arrow_csv.read_csv(content(file), convert_options=options)


def check_names(names: Sequence[str]) -> None:
    """Raise InvalidQuoteTable unless these are the columns of a quote table."""
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        what = "column {} is" if len(missing) == 1 else "columns {} are"
        raise InvalidQuoteTable(
            f"not a quote table: {what.format(', '.join(map(repr, missing)))} missing; "
            f"it has {', '.join(map(repr, names)) or 'no columns'}"
        )
    for name in sorted(KNOWN_COLUMNS):
        if list(names).count(name) > 1:
            raise InvalidQuoteTable(f"column {name!r} occurs more than once")


def _from_columns(columns: Mapping[str, _Column]) -> QuoteTable:
    def labels(name: str) -> Labels:
        return labels_of(name, columns[name])

    def floats(name: str) -> Floats:
        return _floats(name, columns[name])

    def floats_if_given(name: str) -> Floats | None:
        return floats(name) if name in columns else None

    return validated(
        quote_time=instants_of("quote_time", columns["quote_time"]),
        venue=labels("venue"),
        underlying=labels("underlying"),
        expiry=instants_of("expiry", columns["expiry"]),
        strike=floats("strike"),
        right=labels("right"),
        unit=labels("unit"),
        bid=floats("bid"),
        ask=floats("ask"),
        bid_size=floats_if_given("bid_size"),
        ask_size=floats_if_given("ask_size"),
        forward=floats_if_given("forward"),
        spot=floats_if_given("spot"),
        exercise=labels("exercise") if "exercise" in columns else None,
    )


def _floats(name: str, column: _Column) -> Floats:
    import pyarrow as pa

    if isinstance(column, list):
        return np.array(_one_by_one(name, column, _number, "a number"), np.float64)
    column = _plain(column)
    kind = column.type
    if _is_text(kind):
        column = _without_absent(column)
    elif not (
        pa.types.is_floating(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_null(kind)
    ):
        raise InvalidQuoteTable(f"column {name!r} must hold numbers, not {kind}")
    try:
        values = column.cast(pa.float64(), safe=False)
    except pa.ArrowInvalid:
        return _floats(name, column.to_pylist())
    return np.array(values.to_numpy(), np.float64)


def labels_of(name: str, column: _Column) -> Labels:
    """A column of text; raises InvalidQuoteTable where it holds anything else."""
    import pyarrow as pa

    if isinstance(column, list):
        return Labels.of(_one_by_one(name, column, _text, "text"))
    column = _plain(column)
    kind = column.type
    if not (_is_text(kind) or pa.types.is_null(kind)):
        raise InvalidQuoteTable(f"column {name!r} must hold text, not {kind}")
    encoded = column.cast(pa.string()).combine_chunks().dictionary_encode()
    names = tuple(encoded.dictionary.to_pylist())
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    blank = [i for i, text in enumerate(names) if not text.strip()]
    return Labels(np.where(np.isin(codes, blank), np.int32(-1), codes), names)


def instants_of(name: str, column: _Column) -> Instants:
    """A column of times, NaT where one is absent; raises InvalidQuoteTable where it holds anything
    else."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(column, list):
        instants = _one_by_one(name, column, _instant, "an ISO 8601 timestamp")
        return np.array(instants, "datetime64[us]")
    column = _plain(column)
    kind = column.type
    micros = pa.timestamp("us")
    if _is_text(kind):
        column = _without_absent(column)
        # With an offset in every row, or in none; text of both kinds is read one by one.
        for form in (pa.timestamp("us", "UTC"), micros):
            try:
                return _microseconds(column.cast(form).cast(micros))
            except pa.ArrowInvalid:
                continue
        return instants_of(name, column.to_pylist())
    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_null(kind)):
        raise InvalidQuoteTable(f"column {name!r} must hold UTC timestamps, not {kind}")
    # An Arrow timestamp with a zone counts from the UTC epoch; one without is read as UTC.
    try:
        return _microseconds(
            pc.cast(column, options=pc.CastOptions(micros, allow_time_truncate=True))
        )
    except pa.ArrowInvalid as error:
        raise InvalidQuoteTable(f"column {name!r}: {error}") from None


def _microseconds(column: pa.ChunkedArray) -> Instants:
    return np.array(column.to_numpy(), "datetime64[us]")


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column without dictionary (what pandas calls a categorical).

    Where nothing is there, its type says nothing either: an empty column of pandas holds floats.
    """
    import pyarrow as pa

    if column.null_count == len(column):
        return pa.chunked_array([pa.nulls(len(column))])
    kind = column.type
    return column.cast(kind.value_type) if pa.types.is_dictionary(kind) else column


def _without_absent(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text without white space around it, null where it says that there is nothing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    absent = pc.is_in(pc.utf8_lower(text), value_set=pa.array(_ABSENT))
    return pc.if_else(absent, pa.scalar(None, pa.string()), text)


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _one_by_one(
    name: str, values: list[object], read: Callable[[object], _Value], what: str
) -> list[_Value]:
    result = []
    for row, value in enumerate(values):
        try:
            result.append(read(value))
        except (ValueError, TypeError, OverflowError):
            raise InvalidQuoteTable(
                f"column {name!r}, row {row}: {value!r} is not {what}"
            ) from None
    return result


def _number(value: object) -> float:
    if _says_nothing(value):
        return float("nan")
    if isinstance(value, bool) or not isinstance(value, (str, Real, Decimal)):
        raise TypeError
    if isinstance(value, str) and "_" in value:  # Python would read 1_000
        raise ValueError
    return float(value)


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise TypeError


def _instant(value: object) -> np.datetime64:
    return NO_INSTANT if _says_nothing(value) else to_instant(value)


def _says_nothing(value: object) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() in _ABSENT)
