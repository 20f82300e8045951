"""Quotes into partitioned Parquet, in the form of a quote table: underlying=BTC/day=2026-03-01/."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock
from types import TracebackType
from typing import Self
from urllib.parse import quote as quoted

import numpy as np
import structlog

from calib.conventions import Bools, Ints
from calib.errors import Unavailable
from calib.jobs.day_folder import TEXTS, DayFolder
from calib.quotes.labels import Labels
from calib.quotes.reading import read_quotes
from calib.quotes.table import QuoteTable, joined
from calib.store.chain_columns import FLOATS, INSTANTS
from calib.store.durable import remove_abandoned

_ROWS_A_FILE = 100_000
_DAY = np.timedelta64(1, "D")
_LOCK = "recorder.lock"
_OPTION = ("venue", "expiry", "strike", "right")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, order=True)
class Partition:
    """What shares a folder: quotes of one underlying and UTC day."""

    underlying: str
    day: np.datetime64

    def __str__(self) -> str:
        return f"underlying={quoted(self.underlying, safe='')}/day={self.day}"


class Recorder:
    """Writes what it is given under ``folder``, which is made; use it in a ``with``, or `close` it.
    Raises OSError where nothing can be written there, Unavailable where another one does.

    A file is whole or not there, and never changes; those of a day are merged when a later one has
    begun. Rows that name no underlying or no quote time have no place and are left out, and so is a
    row that says, to the last bit, what the last one of its option and day said, be it of an
    earlier run: what is told again is not written again.
    ``rows`` counts what this one has put on disk, ``repeats`` what it left out as told again. May
    be used by several threads.
    """

    def __init__(self, folder: Path, *, rows_a_file: int = _ROWS_A_FILE) -> None:
        self.folder = folder
        self.rows = 0
        self.repeats = 0
        self._most = rows_a_file
        self._last: dict[Partition, _LastRows] = {}
        self._waiting: dict[Partition, list[QuoteTable]] = {}
        self._waiting_rows = 0
        self._today: np.datetime64 | None = None  # the latest day that rows are of
        self._merged: np.datetime64 | None = None  # the day before which all is merged
        self._lock, self._merging = Lock(), Lock()
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):  # now rather than when there is something to lose
            pass
        remove_abandoned(folder)
        self._alone: int | None = _held(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write what waits, and let others write to the folder. Raises OSError."""
        try:
            with self._lock:
                self._flush()
        finally:
            if self._alone is not None:
                os.close(self._alone)
                self._alone = None

    def take(self, quotes: QuoteTable) -> None:
        """Keep rows, to be written when there are enough. Raises OSError, and InvalidQuoteTable
        where the folder holds files that are no quote tables."""
        with self._lock:
            for partition, rows in _partitions(quotes):
                self._today = (
                    partition.day if self._today is None else max(self._today, partition.day)
                )
                mine = quotes.take(rows)
                mine = mine.take(self._last_of(partition).fresh(mine))
                self.repeats += len(rows) - len(mine)
                if len(mine):
                    self._waiting.setdefault(partition, []).append(mine)
                    self._waiting_rows += len(mine)
            if self._waiting_rows >= self._most:
                self._flush()

    def read_day(
        self, underlying: str, moment: np.datetime64, hear: Callable[[QuoteTable], None]
    ) -> None:
        """Let ``hear`` have all that is written of the UTC day of that moment, file by file, in the
        order in which it came. Raises as `take` does."""
        partition = Partition(underlying, moment.astype("datetime64[D]"))
        with self._lock:
            found, known = _LastRows(), partition in self._last
            for path in self._folder(partition).files():
                quotes = read_quotes(path)
                hear(quotes)
                if not known:
                    found.learn(quotes)
            self._last.setdefault(partition, found)

    def flush(self) -> None:
        """Write what waits; it is on disk when this returns. Where the day is another one than at
        the last time, the files of those before it are merged. Raises OSError."""
        with self._lock:
            self._flush()
            today = self._today
        with self._merging:
            if today is not None and today != self._merged:
                self._merge_before(today)
                self._merged = today

    def _merge_before(self, today: np.datetime64) -> None:
        import pyarrow as pa

        for path in sorted(self.folder.glob("underlying=*/day=*")):
            if path.name >= f"day={today}":
                continue
            folder = DayFolder(path)
            try:
                # What the day before merged: who has listed those parts is done with them by now.
                with self._lock:
                    folder.remove_replaced()
                folder.merge()
            except (OSError, ValueError, pa.ArrowException) as error:
                # Nothing is lost; the next day tries again.
                _log.warning("day_not_merged", folder=str(path), error=str(error))

    def _flush(self) -> None:
        for partition in sorted(self._waiting):
            quotes = joined(self._waiting[partition])
            self._folder(partition).write(quotes)
            self.rows += len(quotes)
            self._waiting_rows -= len(quotes)
            del self._waiting[partition]
        # Of earlier days the files can tell.
        days = [one.day for one in self._last]
        for past in [one for one in self._last if one.day + _DAY < max(days)]:
            del self._last[past]

    def _last_of(self, partition: Partition) -> _LastRows:
        """The last row of each option in a partition, of which files of earlier runs may tell."""
        found = self._last.get(partition)
        if found is None:
            found = self._last[partition] = _LastRows()
            for path in self._folder(partition).files():
                found.learn(read_quotes(path))
        return found

    def _folder(self, partition: Partition) -> DayFolder:
        return DayFolder(self.folder / str(partition))


def _held(folder: Path) -> int:
    """A lock on the folder, held while it is open."""
    lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise Unavailable(
            f"{folder}: another recorder writes there; end it, or give another folder"
        ) from None
    except OSError:
        os.close(lock)
        raise
    return lock


class _LastRows:
    """The last row of each option of a partition."""

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}
        self._names: dict[str, int] = {}

    def fresh(self, quotes: QuoteTable) -> Bools:
        """Which rows say anything that the last one of their option did not; they are the last
        now."""
        fresh = np.ones(len(quotes), bool)
        for i, (option, row) in enumerate(zip(*self._said(quotes), strict=True)):
            if self._rows.get(option) == row:
                fresh[i] = False
            else:
                self._rows[option] = row
        return fresh

    def learn(self, quotes: QuoteTable) -> None:
        """Know these rows as the last ones."""
        options, rows = self._said(quotes)
        self._rows.update(zip(options, rows, strict=True))

    def _said(self, quotes: QuoteTable) -> tuple[list[bytes], list[bytes]]:
        """Options, and what the rows say of them."""
        columns = self._columns(quotes)
        return (
            _packed([columns[name] for name in _OPTION]),
            _packed([one for name, one in columns.items() if name not in _OPTION]),
        )

    def _columns(self, quotes: QuoteTable) -> dict[str, Ints]:
        """All that a file says of the rows, as whole numbers."""
        columns = {name: getattr(quotes, name).astype(np.int64) for name in INSTANTS}
        columns |= {name: self._codes(getattr(quotes, field)) for name, field in TEXTS.items()}
        for name in FLOATS:
            values = getattr(quotes, name)
            # There are many nans, and only one null.
            columns[name] = np.where(np.isnan(values), np.nan, values).view(np.int64)
        return columns

    def _codes(self, labels: Labels) -> Ints:
        known = [self._names.setdefault(name, len(self._names)) for name in labels.names]
        return np.array([*known, -1], np.int64)[labels.codes]


def _packed(columns: list[Ints]) -> list[bytes]:
    """The rows of these columns as bytes."""
    table = np.ascontiguousarray(np.stack(columns, axis=1))
    packed: list[bytes] = table.view(f"V{8 * len(columns)}").ravel().tolist()
    return packed


def _partitions(quotes: QuoteTable) -> Iterator[tuple[Partition, Ints]]:
    """The rows of each underlying and day, in their order."""
    days = quotes.quote_time.astype("datetime64[D]")
    for name in quotes.underlyings:
        own = quotes.underlying.equal(name) & ~np.isnat(days)
        for day in np.unique(days[own]):
            yield Partition(name, day), np.flatnonzero(own & (days == day))
