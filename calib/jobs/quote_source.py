"""Quote tables of any number of files, read one underlying and UTC day at a time.

Paths, globs, folders of (partitioned) Parquet and URLs of object stores all mean files; what is in
memory is a day of one underlying, with what its chains reach back to, and of a CSV file all of it.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property, lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from calib.conventions import Bools, Instants, micros_of
from calib.errors import InvalidQuoteTable, InvalidRequest
from calib.quotes.chain import Chain, chains, next_multiple
from calib.quotes.labels import Labels
from calib.quotes.part import Part, replaced
from calib.quotes.reading import (
    KNOWN_COLUMNS,
    check_names,
    csv_table,
    instants_of,
    labels_of,
    quotes_from_arrow,
)
from calib.quotes.table import QuoteTable, joined

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset

_DAY = timedelta(days=1)
_MICROSECOND = timedelta(microseconds=1)
_CSV_KEPT = 2  # files in memory: a day may lie in two
_PARQUET, _CSV = (".parquet", ".pq"), (".csv", ".csv.gz")


@dataclass(frozen=True, order=True)
class Unit:
    """What is calibrated in one piece, whatever else is: the chains of an underlying on a UTC
    day."""

    underlying: str
    day: np.datetime64

    def __str__(self) -> str:
        return f"{self.underlying} {self.day}"


class QuoteSource:
    """The chains in the quote tables that ``places`` name: paths, globs, folders, URLs.

    Wanted are those of ``underlyings`` (empty: of all) on the UTC days from ``first`` up to before
    ``last``. ``every`` and ``max_age`` make them as `calib.quotes.chain.chains` does, but that
    quotes without a ``max_age`` count until the end of the day after theirs: so a chain is the same
    whichever days are wanted.
    Raises InvalidRequest where a place names no file or cannot be reached, InvalidQuoteTable where
    a file is no quote table. Files count in order of their names, rows in the order of their files.
    """

    def __init__(
        self,
        places: Sequence[str],
        *,
        underlyings: Sequence[str] = (),
        first: np.datetime64 | None = None,
        last: np.datetime64 | None = None,
        every: timedelta | None = None,
        max_age: timedelta | None = None,
    ) -> None:
        self._underlyings = frozenset(underlyings)
        self._first, self._last = first, last
        self._every, self._max_age = every, max_age
        # What came since the last chain stands in the next one, be it too old by then.
        reach = timedelta(0) if every is None else max(every, max_age or _DAY)
        self._reach = np.timedelta64(reach)
        files = [one for place in places for one in _files(place)]
        self._files = [one for one in files if one.may_hold(self._wanted)]

    def __len__(self) -> int:
        return len(self._files)

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """What there are chains of, by day and then by underlying: a run that is interrupted has
        whole days behind it. Rows that name no underlying or no quote time belong to none."""
        counted = _Rows(self._underlyings, self._first, self._last)
        found: set[tuple[np.datetime64, str]] = set()
        for file in self._files:
            file.scan(self._wanted, counted, self._every or _MICROSECOND)
            found |= file.chain_days
        return tuple(
            Unit(name, day)
            for day, name in sorted(found)
            if (self._first is None or day >= self._first)
            and (self._last is None or day < self._last)
        )

    @property
    def _wanted(self) -> _Rows:
        """All rows that chains may be made of."""
        start = None if self._first is None else self._first - self._reach
        return _Rows(self._underlyings, start, self._last)

    @property
    def nameless_rows(self) -> int:
        """How many of the rows that are wanted belong to no unit, once the units are known. Those
        without an underlying are none of any that is asked for, and those without a time of no
        day."""
        return sum(file.nameless for file in self._files)

    def of(self, unit: Unit) -> QuoteSource:
        """As much of it as the `quotes` of a unit need, to be sent to another process."""
        rows, part = self._rows(unit), copy(self)
        vars(part).pop("units", None)
        part._files = [file for file in self._files if file.holds(rows)]
        return part

    def quotes(self, unit: Unit) -> QuoteTable:
        """The rows that the chains of a unit are made of, counted from 0."""
        rows = self._rows(unit)
        tables = [file.quotes(rows) for file in self._files if file.holds(rows)]
        if not tables:
            raise InvalidRequest(f"there are no quotes of {unit}")
        quotes = joined(tables)
        return replace(quotes, row=np.arange(len(quotes), dtype=np.int64))

    def _rows(self, unit: Unit) -> _Rows:
        return _Rows(
            frozenset([unit.underlying]),
            unit.day - self._reach,
            unit.day + np.timedelta64(_DAY),
        )

    def chains(self, unit: Unit, quotes: QuoteTable) -> list[Chain]:
        """The chains of a unit in order of time, made of its `quotes`."""
        made = chains(quotes, every=self._every, max_age=self._max_age)
        return [one for one in made if one.quote_time.astype("datetime64[D]") == unit.day]


@dataclass(frozen=True)
class _Rows:
    """Rows of ``underlyings`` (empty: of all) from ``start`` up to before ``end`` (None: of any
    time, or of none)."""

    underlyings: frozenset[str]
    start: np.datetime64 | None
    end: np.datetime64 | None

    def reach(self, day: np.datetime64) -> bool:
        """Whether they may be of this UTC day."""
        begun = self.end is None or day < self.end
        return bool(begun and (self.start is None or day + np.timedelta64(_DAY) > self.start))

    def among(self, labels: Labels, instants: Instants) -> Bools:
        """Which rows with these underlyings and quote times they are."""
        mine = np.ones(len(instants), bool)
        if self.underlyings:
            codes = [i for i, name in enumerate(labels.names) if name in self.underlyings]
            mine &= np.isin(labels.codes, codes)
        if self.start is not None:
            mine &= instants >= self.start
        if self.end is not None:
            mine &= instants < self.end
        return mine

    def filter(self, schema: pa.Schema) -> Any:
        """What a Parquet reader can skip others by; times in text are looked at afterwards."""
        import pyarrow as pa
        import pyarrow.compute as pc

        chosen = pc.scalar(True)
        kind = schema.field("underlying").type
        if self.underlyings and (pa.types.is_string(kind) or pa.types.is_dictionary(kind)):
            chosen &= pc.field("underlying").isin(sorted(self.underlyings))
        kind = schema.field("quote_time").type
        if pa.types.is_timestamp(kind):
            form, time = pa.timestamp("us", kind.tz), pc.field("quote_time")
            if self.start is not None:
                chosen &= time >= pa.scalar(micros_of(self.start), form)
            if self.end is not None:
                chosen &= time < pa.scalar(micros_of(self.end), form)
        return chosen


class _File:
    """One file, of which `scan` reads two columns; then ``chain_days`` are days and underlyings of
    the first chain that each row stands in, and ``nameless`` says how many rows stand in none."""

    def __init__(self, filesystem: Any, path: str, shown: str) -> None:
        self._filesystem = filesystem
        self._path = path
        self._shown = shown
        self._held: dict[str, set[np.datetime64]] = {}
        self.chain_days: set[tuple[np.datetime64, str]] = set()
        self.nameless = 0

    def __getstate__(self) -> dict[str, Any]:
        """Without the open file: another process opens its own."""
        return {name: value for name, value in vars(self).items() if name != "_dataset"}

    def scan(self, rows: _Rows, counted: _Rows, every: timedelta) -> None:
        """Look where these rows stand, with a chain at every multiple of ``every``, and how many of
        those that are ``counted`` stand in none."""
        with _named(self._shown):
            for labels, instants in self._keys(rows):
                known = (labels.codes >= 0) & ~np.isnat(instants)
                self.nameless += int(np.sum(counted.among(labels, instants) & ~known))
                mine = known & rows.among(labels, instants)
                for code in np.unique(labels.codes[mine]):
                    own, name = instants[mine & (labels.codes == code)], labels.names[code]
                    self._held.setdefault(name, set()).update(_days(own))
                    self.chain_days |= {(day, name) for day in _days(_next(own, every))}

    def holds(self, rows: _Rows) -> bool:
        """Whether any such rows may be in it."""
        days = {day for name in rows.underlyings for day in self._held.get(name, ())}
        return any(map(rows.reach, days))

    def may_hold(self, rows: _Rows) -> bool:
        """The same by its name alone: only those of a recording tell a UTC day."""
        part = Part.at(self._path)
        return part is None or rows.reach(part.day)

    def quotes(self, rows: _Rows) -> QuoteTable:
        """These rows."""
        with _named(self._shown):
            if self._is_csv:
                found = _csv(self._filesystem, self._path)
            else:
                data = self._dataset
                names = [name for name in data.schema.names if name in KNOWN_COLUMNS]
                table = data.to_table(columns=names, filter=rows.filter(data.schema))
                found = quotes_from_arrow(table)
        return found.take(rows.among(found.underlying, found.quote_time))

    def _keys(self, rows: _Rows) -> Iterator[tuple[Labels, Instants]]:
        """Underlyings and quote times of at least these rows, a batch at a time."""
        import pyarrow as pa

        if self._is_csv:
            quotes = _csv(self._filesystem, self._path)
            yield quotes.underlying, quotes.quote_time
            return
        data = self._dataset
        columns = ["underlying", "quote_time"]
        for batch in data.to_batches(columns=columns, filter=rows.filter(data.schema)):
            table = pa.Table.from_batches([batch])
            labels = labels_of("underlying", table["underlying"])
            yield labels, instants_of("quote_time", table["quote_time"])

    @property
    def _is_csv(self) -> bool:
        return self._path.lower().endswith(_CSV)

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


@lru_cache(maxsize=_CSV_KEPT)
def _csv(filesystem: Any, path: str) -> QuoteTable:
    """A whole CSV file: days come one after the other, mostly from the file of the last one."""
    zipped = path.lower().endswith(".gz")
    return quotes_from_arrow(csv_table(lambda: filesystem.open(path, "rb"), zipped=zipped))


def _days(instants: Instants) -> list[np.datetime64]:
    return list(np.unique(instants.astype("datetime64[D]")))


def _next(instants: Instants, every: timedelta) -> Instants:
    """The first multiple of ``every`` that is not before each instant."""
    micros = instants.astype("datetime64[us]").astype(np.int64)
    return next_multiple(micros, every // _MICROSECOND).astype("datetime64[us]")


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
    merged = replaced(known)
    return [_File(filesystem, one, PurePosixPath(one).name) for one in known if one not in merged]


@contextmanager
def _named(shown: str) -> Iterator[None]:
    """Say in which file something is wrong."""
    import pyarrow as pa

    damaged = (OSError, EOFError, UnicodeError, csv.Error, zlib.error, pa.ArrowException)
    try:
        yield
    except (InvalidQuoteTable, *damaged) as error:
        raise InvalidQuoteTable(f"{shown}: {error}") from error
