"""Quote tables from Parquet, CSV and pandas: one set of columns, one way to say what is wrong."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calib.conventions import Floats, Instants
from calib.errors import InvalidQuoteTable
from calib.quotes.labels import Labels
from calib.quotes.table import QuoteTable, validated

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_TIMES = ("quote_time", "expiry")
_TEXTS = ("venue", "underlying", "right", "unit")
_NUMBERS = ("strike", "bid", "ask")
_REQUIRED = (*_TIMES, *_TEXTS, *_NUMBERS)
_OPTIONAL_NUMBERS = ("bid_size", "ask_size", "forward", "spot")
_OPTIONAL_TEXTS = ("exercise",)


def read_quotes(path: str | Path) -> QuoteTable:
    """The quote table in a Parquet or CSV file (by its suffix: .parquet, .pq, .csv, .csv.gz).

    Rows that cannot be used are kept and marked; see :meth:`QuoteTable.problems`.
    Raises InvalidQuoteTable, naming file, column and row, where the file is not a quote table:
    unreadable, a required column missing, or a value that is not of its column's type.
    """
    import pyarrow as pa

    path = Path(path)
    try:
        table = _read_file(path)
    except FileNotFoundError:
        raise InvalidQuoteTable(f"{path}: no such file") from None
    except (OSError, pa.ArrowException) as error:
        raise InvalidQuoteTable(f"{path}: cannot be read: {error}") from error
    try:
        return _from_arrow(table)
    except InvalidQuoteTable as error:
        raise InvalidQuoteTable(f"{path}: {error}") from None


def quotes_from_frame(frame: pd.DataFrame) -> QuoteTable:
    """The quote table in a pandas DataFrame; its index is ignored, rows are counted from 0.

    Raises InvalidQuoteTable, naming column and row, where the frame is not a quote table.
    """
    import pyarrow as pa

    known = [str(name) for name in frame.columns if str(name) in _KNOWN]
    columns: dict[str, Any] = {}
    for name in known:
        column = frame[name]
        if getattr(column, "ndim", 1) != 1:
            raise InvalidQuoteTable(f"column {name!r} occurs more than once")
        try:
            columns[name] = pa.array(column, from_pandas=True)
        except (pa.ArrowException, OverflowError) as error:
            raise InvalidQuoteTable(f"column {name!r}: {error}") from error
    return _from_arrow(pa.table(columns))


_KNOWN = frozenset((*_REQUIRED, *_OPTIONAL_NUMBERS, *_OPTIONAL_TEXTS))


def _read_file(path: Path) -> pa.Table:
    suffix = "".join(path.suffixes[-2:]).lower()
    if suffix.endswith((".parquet", ".pq")):
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            return file.read([n for n in file.schema_arrow.names if n in _KNOWN])
    if suffix.endswith((".csv", ".csv.gz")):
        import pyarrow as pa
        import pyarrow.csv as csv

        header = csv.open_csv(path).schema.names
        options = csv.ConvertOptions(
            column_types={name: pa.string() for name in header},
            strings_can_be_null=True,
            null_values=["", "NaN", "nan", "null", "None", "NA", "N/A"],
        )
        return csv.read_csv(path, convert_options=options)
    raise InvalidQuoteTable("the suffix must be .parquet, .pq, .csv or .csv.gz")


def _from_arrow(table: pa.Table) -> QuoteTable:
    missing = [name for name in _REQUIRED if name not in table.column_names]
    if missing:
        raise InvalidQuoteTable(
            f"not a quote table: column {', '.join(map(repr, missing))} is missing; "
            f"it has {', '.join(map(repr, table.column_names)) or 'no columns'}"
        )
    doubled = [name for name in _KNOWN if table.column_names.count(name) > 1]
    if doubled:
        raise InvalidQuoteTable(f"column {doubled[0]!r} occurs more than once")
    given = set(table.column_names)
    return validated(
        **{name: _instants(name, table[name]) for name in _TIMES},
        **{name: _labels(name, table[name]) for name in (*_TEXTS, *_OPTIONAL_TEXTS) if name in given},
        **{
            name: _floats(name, table[name])
            for name in (*_NUMBERS, *_OPTIONAL_NUMBERS)
            if name in given
        },
    )


def _floats(name: str, column: pa.ChunkedArray) -> Floats:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    number = pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)
    if not (number or _is_text(kind)):
        raise InvalidQuoteTable(f"column {name!r} must hold numbers, not {kind}")
    try:
        values = column.cast(pa.float64(), safe=False)
    except pa.ArrowInvalid:
        row, value = _first_failure(column, float)
        raise InvalidQuoteTable(f"column {name!r}, row {row}: {value!r} is not a number") from None
    array: Floats = values.to_numpy().astype(np.float64)
    return array


def _labels(name: str, column: pa.ChunkedArray) -> Labels:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (_is_text(kind) or pa.types.is_null(kind)):
        raise InvalidQuoteTable(f"column {name!r} must hold text, not {kind}")
    encoded = column.cast(pa.string()).combine_chunks().dictionary_encode()
    names = tuple(encoded.dictionary.to_pylist())
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    blank = [i for i, text in enumerate(names) if not text.strip()]
    return Labels(np.where(np.isin(codes, blank), np.int32(-1), codes), names)


def _instants(name: str, column: pa.ChunkedArray) -> Instants:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), "NaT", "datetime64[us]")
    if _is_text(kind):
        return _instants_from_text(name, column)
    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        raise InvalidQuoteTable(f"column {name!r} must hold UTC timestamps, not {kind}")
    # An Arrow timestamp with a zone counts from the UTC epoch; a naive one is read as UTC.
    counted = column.cast(pa.timestamp("us"), safe=False)
    return counted.to_numpy().astype("datetime64[us]")


def _instants_from_text(name: str, column: pa.ChunkedArray) -> Instants:
    import pyarrow as pa

    for form in (pa.timestamp("us", "UTC"), pa.timestamp("us")):
        try:
            return column.cast(form).cast(pa.timestamp("us")).to_numpy().astype("datetime64[us]")
        except pa.ArrowInvalid:
            continue  # offsets on some rows only, or none: read them one by one below
    try:
        moments = [None if text is None else _utc(text) for text in column.to_pylist()]
    except ValueError:
        row, value = _first_failure(column, _utc)
        raise InvalidQuoteTable(
            f"column {name!r}, row {row}: {value!r} is not an ISO 8601 timestamp"
        ) from None
    return np.array(moments, "datetime64[us]")


def _utc(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _first_failure(column: pa.ChunkedArray, parse: Any) -> tuple[int, str]:
    for row, value in enumerate(column.to_pylist()):
        try:
            if value is not None:
                parse(value)
        except ValueError:
            return row, value
    return -1, ""


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
