"""Quote tables of any number of files, read one underlying and UTC day at a time.

Paths, globs, folders of (partitioned) Parquet and URLs of object stores all mean files; what is in
memory is one day of one underlying, and of a CSV file all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calib.conventions import Instants
from calib.errors import InvalidQuoteTable, InvalidRequest
from calib.quotes.reading import (
    KNOWN_COLUMNS,
    check_names,
    csv_table,
    instants_of,
    labels_of,
    quotes_from_arrow,
)
from calib.quotes.table import QuoteTable

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset

_DAY = np.timedelta64(1, "D")
_CSV_KEPT = 2  # files in memory: a day may lie in two
_PARQUET, _CSV = (".parquet", ".pq"), (".csv", ".csv.gz")


@dataclass(frozen=True, order=True)
class Unit:
    """What is calibrated in one piece, whatever else is: a UTC day of an underlying."""

    underlying: str
    day: np.datetime64

    def __str__(self) -> str:
        return f"{self.underlying} {self.day}"


class QuoteSource:
    """The quote tables that ``places`` name: paths, globs, folders, URLs.

    Raises InvalidRequest where a place names no file or cannot be reached, InvalidQuoteTable where
    a file is no quote table. Files count in order of their names, rows in the order of their files.
    """

    def __init__(self, places: Sequence[str]) -> None:
        self._files = [one for place in places for one in _files(place)]

    def __len__(self) -> int:
        return len(self._files)

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """What there are quotes of: by underlying, then by day. Rows that name no underlying or no
        quote time belong to none."""
        found: set[tuple[str, int]] = set()
        for file in self._files:
            found |= file.units()
        return tuple(Unit(name, np.datetime64(day, "D")) for name, day in sorted(found))

    @property
    def nameless_rows(self) -> int:
        """How many rows belong to no unit, once the units are known."""
        return sum(file.nameless for file in self._files)

    def quotes(self, unit: Unit) -> QuoteTable:
        """The rows of one unit, counted from 0."""
        import pyarrow as pa

        tables = [file.rows(unit) for file in self._files if file.holds(unit)]
        if not tables:
            raise InvalidRequest(f"there are no quotes of {unit}")
        table = pa.concat_tables(tables, promote_options="permissive")
        quotes = quotes_from_arrow(table)
        mine = quotes.underlying.equal(unit.underlying)
        return quotes.take(mine & (quotes.quote_time.astype("datetime64[D]") == unit.day))


class _File:
    """One file; which units it holds is read once, and only two of its columns for that."""

    def __init__(self, filesystem: Any, path: str, shown: str) -> None:
        self._filesystem = filesystem
        self._path = path
        self._shown = shown
        self._units: frozenset[tuple[str, int]] = frozenset()
        self.nameless = 0

    def units(self) -> frozenset[tuple[str, int]]:
        """Underlyings and days since the epoch of its rows."""
        with _named(self._shown):
            table = self._read(["underlying", "quote_time"])
            instants, labels = _keys(table)
            known = (labels != "") & ~np.isnat(instants)
            self.nameless = int((~known).sum())
            days = instants[known].astype("datetime64[D]").astype(np.int64).tolist()
            self._units = frozenset(zip(labels[known].tolist(), days, strict=True))
        return self._units

    def holds(self, unit: Unit) -> bool:
        """Whether rows of the unit are in it."""
        return (unit.underlying, int(unit.day.astype(np.int64))) in self._units

    def rows(self, unit: Unit) -> pa.Table:
        """At least the rows of the unit."""
        with _named(self._shown):
            return self._read(None, unit)

    def _read(self, columns: Sequence[str] | None, unit: Unit | None = None) -> pa.Table:
        if self._path.lower().endswith(_CSV):
            table = _csv(self._filesystem, self._path)
            return table.select(columns) if columns else table
        data = self._dataset
        names = columns or [name for name in data.schema.names if name in KNOWN_COLUMNS]
        return data.to_table(columns=list(names), filter=None if unit is None else self._only(unit))

    @cached_property
    def _dataset(self) -> pyarrow.dataset.Dataset:
        import pyarrow as pa
        import pyarrow.dataset as ds
        from pyarrow.fs import FSSpecHandler, PyFileSystem

        filesystem = PyFileSystem(FSSpecHandler(self._filesystem))
        # A folder `underlying=BTC` is a column, of text also where it names a number.
        column = pa.schema([("underlying", pa.string())])
        folders = ds.partitioning(column, flavor="hive") if "underlying=" in self._path else None
        data = ds.dataset(
            [self._path], format="parquet", filesystem=filesystem, partitioning=folders
        )
        check_names(data.schema.names)
        return data

    def _only(self, unit: Unit) -> Any:
        """What a Parquet reader can skip the rest by; times in text are looked at afterwards."""
        import pyarrow as pa
        import pyarrow.compute as pc

        chosen = pc.field("underlying") == unit.underlying
        kind = self._dataset.schema.field("quote_time").type
        if not pa.types.is_timestamp(kind):
            return chosen
        first, last = (
            pa.scalar(day.astype("datetime64[us]").item(), pa.timestamp("us", kind.tz))
            for day in (unit.day, unit.day + _DAY)
        )
        return chosen & (pc.field("quote_time") >= first) & (pc.field("quote_time") < last)


@lru_cache(maxsize=_CSV_KEPT)
def _csv(filesystem: Any, path: str) -> pa.Table:
    """A whole CSV file: days come one after the other, mostly from the file of the last one."""
    return csv_table(lambda: filesystem.open(path, "rb"), zipped=path.lower().endswith(".gz"))


def _keys(table: pa.Table) -> tuple[Instants, NDArray[np.str_]]:
    labels = labels_of("underlying", table["underlying"])
    return instants_of("quote_time", table["quote_time"]), np.array(labels.texts(), np.str_)


def _files(place: str) -> Iterable[_File]:
    from fsspec.core import url_to_fs

    try:
        filesystem, path = url_to_fs(place)
        if filesystem.isdir(path):
            paths = filesystem.find(path)
        else:
            paths = filesystem.glob(path) if any(c in path for c in "*?[") else [path]
            paths = [one for one in paths if filesystem.isfile(one)]
    except (ImportError, ValueError, OSError) as error:
        raise InvalidRequest(f"{place}: cannot be reached: {error}") from error
    known = [one for one in sorted(paths) if one.lower().endswith((*_PARQUET, *_CSV))]
    if not known:
        kinds = ", ".join((*_PARQUET, *_CSV))
        raise InvalidRequest(f"{place} names no quote table: no file that ends in {kinds} is there")
    return [_File(filesystem, one, PurePosixPath(one).name) for one in known]


@contextmanager
def _named(shown: str) -> Iterator[None]:
    """Say in which file something is wrong."""
    import pyarrow as pa

    try:
        yield
    except (InvalidQuoteTable, OSError, pa.ArrowException) as error:
        raise InvalidQuoteTable(f"{shown}: {error}") from error
