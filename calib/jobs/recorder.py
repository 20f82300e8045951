"""Quotes into partitioned Parquet, in the form of a quote table: underlying=BTC/day=2026-03-01/."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self
from urllib.parse import quote as quoted

import numpy as np

from calib.conventions import Bools, Ints
from calib.quotes.labels import Labels
from calib.quotes.reading import read_quotes
from calib.quotes.table import QuoteTable, joined
from calib.store.chain_columns import instants_to_arrow, texts_to_arrow
from calib.store.durable import remove_abandoned, write_durably

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_A_FILE = 100_000
_DAY = np.timedelta64(1, "D")
_NUMBERS = ("strike", "bid", "ask", "bid_size", "ask_size", "forward", "spot")
_TEXTS = {
    "venue": "venue",
    "right": "right_text",
    "unit": "unit_text",
    "exercise": "exercise_text",
}
"""Columns of text by their names in a file, and in a `QuoteTable`."""
_OPTION = ("venue", "expiry", "strike", "right")


@dataclass(frozen=True, order=True)
class Partition:
    """What shares a folder: quotes of one underlying and UTC day."""

    underlying: str
    day: np.datetime64

    def __str__(self) -> str:
        return f"underlying={quoted(self.underlying, safe='')}/day={self.day}"


class Recorder:
    """Writes what it is given under ``folder``, which is made; use it in a ``with``, or `flush` it.
    Raises OSError where nothing can be written there.

    A file is whole or not there, and never changes. Rows that name no underlying or no quote time
    have no place and are left out, and so is a row that says, to the last bit, what the last one
    of its option and day said, be it of an earlier run: what is told again is not written again.
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
        self._lock = Lock()
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):  # now rather than when there is something to lose
            pass
        remove_abandoned(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.flush()

    def take(self, quotes: QuoteTable) -> None:
        """Keep rows, to be written when there are enough. Raises OSError, and InvalidQuoteTable
        where the folder holds files that are no quote tables."""
        with self._lock:
            for partition, rows in _partitions(quotes):
                mine = quotes.take(rows)
                mine = mine.take(self._last_of(partition).fresh(mine))
                self.repeats += len(rows) - len(mine)
                if len(mine):
                    self._waiting.setdefault(partition, []).append(mine)
                    self._waiting_rows += len(mine)
            if self._waiting_rows >= self._most:
                self._flush()

    def flush(self) -> None:
        """Write what waits; it is on disk when this returns. Raises OSError."""
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        for partition in sorted(self._waiting):
            self._write(self.folder / str(partition), joined(self._waiting[partition]))
            self._waiting_rows -= sum(map(len, self._waiting.pop(partition)))
        # Of earlier days the files can tell.
        days = [one.day for one in self._last]
        for past in [one for one in self._last if one.day + _DAY < max(days)]:
            del self._last[past]

    def _last_of(self, partition: Partition) -> _LastRows:
        """The last row of each option in a partition, of which files of earlier runs may tell."""
        found = self._last.get(partition)
        if found is None:
            found = self._last[partition] = _LastRows()
            files = (self.folder / str(partition)).glob("*.parquet")
            for path in sorted(files, key=lambda one: (one.stat().st_mtime_ns, one.name)):
                found.fresh(read_quotes(path))
        return found

    def _write(self, place: Path, quotes: QuoteTable) -> None:
        import pyarrow.parquet as pq

        times = quotes.quote_time
        ends = times.min(), times.max()
        first, last = (str(one).replace(":", "").replace("-", "") for one in ends)
        path = place / f"{first}_{last}_{len(quotes)}.parquet"
        number = 1
        while path.exists():
            number += 1
            path = place / f"{first}_{last}_{len(quotes)}_{number}.parquet"

        def fill(file: BinaryIO) -> None:
            pq.write_table(_columns(quotes), file, compression="zstd")

        write_durably(path, fill)
        self.rows += len(quotes)


class _LastRows:
    """The last row of each option of a partition."""

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}
        self._names: dict[str, int] = {}

    def fresh(self, quotes: QuoteTable) -> Bools:
        """Which rows say anything that the last one of their option did not; they are the last
        now."""
        columns = self._columns(quotes)
        options = _packed([columns[name] for name in _OPTION])
        rows = _packed([one for name, one in columns.items() if name not in _OPTION])
        fresh = np.ones(len(quotes), bool)
        for i, (option, row) in enumerate(zip(options, rows, strict=True)):
            if self._rows.get(option) == row:
                fresh[i] = False
            else:
                self._rows[option] = row
        return fresh

    def _columns(self, quotes: QuoteTable) -> dict[str, Ints]:
        """All that a file says of the rows, as whole numbers."""
        columns = {
            name: getattr(quotes, name).astype(np.int64) for name in ("quote_time", "expiry")
        }
        columns |= {name: self._codes(getattr(quotes, field)) for name, field in _TEXTS.items()}
        for name in _NUMBERS:
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


def _columns(quotes: QuoteTable) -> pa.Table:
    import pyarrow as pa

    columns: dict[str, Any] = {
        name: instants_to_arrow(getattr(quotes, name)) for name in ("quote_time", "expiry")
    }
    columns |= {name: texts_to_arrow(getattr(quotes, field)) for name, field in _TEXTS.items()}
    # What is absent is null, as in any quote table.
    columns |= {name: pa.array(getattr(quotes, name), from_pandas=True) for name in _NUMBERS}
    return pa.table(columns)
