"""Quotes into partitioned Parquet, in the form of a quote table: underlying=BTC/day=2026-03-01/."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self
from urllib.parse import quote as quoted

import numpy as np

from calib.quotes.table import QuoteTable, joined
from calib.store.durable import write_durably

_ROWS_A_FILE = 100_000


class Recorder:
    """Writes what it is given under ``folder``; use it in a ``with``, or `flush` it.

    A file is whole or not there, and never changes. Each holds one underlying and UTC day of what
    was taken since the last flush; ``rows`` counts what is on disk.
    """

    def __init__(self, folder: Path, *, rows_a_file: int = _ROWS_A_FILE) -> None:
        self.folder = folder
        self.rows = 0
        self._most = rows_a_file
        self._waiting: list[QuoteTable] = []

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
        """Keep rows, to be written when there are enough. Raises OSError."""
        self._waiting.append(quotes)
        if sum(map(len, self._waiting)) >= self._most:
            self.flush()

    def flush(self) -> None:
        """Write what waits; it is on disk when this returns. Raises OSError."""
        if not self._waiting:
            return
        table = joined(self._waiting)
        day = table.quote_time.astype("datetime64[D]")
        names = np.array(table.underlying.texts())
        for name, at in sorted({*zip(names.tolist(), day.tolist(), strict=True)}, key=str):
            if not name or at is None:
                continue  # what names no underlying or time has no place
            mine = table.take((names == name) & (day == np.datetime64(at)))
            self._write(self.folder / f"underlying={quoted(name, safe='')}" / f"day={at}", mine)
        self._waiting.clear()

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


def _columns(quotes: QuoteTable) -> object:
    import pyarrow as pa

    def texts(values: Sequence[str]) -> pa.Array:
        return pa.array([one or None for one in values], pa.string()).dictionary_encode()

    def instants(values: object) -> pa.Array:
        return pa.array(values, pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))

    def numbers(values: object) -> pa.Array:
        return pa.array(values, pa.float64(), from_pandas=True)

    return pa.table(
        {
            "quote_time": instants(quotes.quote_time),
            "venue": texts(quotes.venue.texts()),
            "expiry": instants(quotes.expiry),
            "strike": numbers(quotes.strike),
            "right": texts(quotes.right_text.texts()),
            "unit": texts(quotes.unit_text.texts()),
            "bid": numbers(quotes.bid),
            "ask": numbers(quotes.ask),
            "bid_size": numbers(quotes.bid_size),
            "ask_size": numbers(quotes.ask_size),
            "forward": numbers(quotes.forward),
            "spot": numbers(quotes.spot),
        }
    )
