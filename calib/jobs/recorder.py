"""Quotes into partitioned Parquet, in the form of a quote table: underlying=BTC/day=2026-03-01/."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self
from urllib.parse import quote as quoted

import numpy as np

from calib.quotes.table import QuoteTable, joined
from calib.store.chain_columns import instants_to_arrow, texts_to_arrow
from calib.store.durable import write_durably

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_A_FILE = 100_000
_NUMBERS = ("strike", "bid", "ask", "bid_size", "ask_size", "forward", "spot")


class Recorder:
    """Writes what it is given under ``folder``; use it in a ``with``, or `flush` it.

    A file is whole or not there, and never changes. Rows that name no underlying or no quote time
    have no place and are left out. Each holds one underlying and UTC day of what
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
        days = table.quote_time.astype("datetime64[D]")
        for name in table.underlyings:
            own = table.underlying.equal(name)
            for day in np.unique(days[own & ~np.isnat(days)]):
                place = self.folder / f"underlying={quoted(name, safe='')}" / f"day={day}"
                self._write(place, table.take(own & (days == day)))
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


def _columns(quotes: QuoteTable) -> pa.Table:
    import pyarrow as pa

    texts = {
        "venue": quotes.venue,
        "right": quotes.right_text,
        "unit": quotes.unit_text,
        "exercise": quotes.exercise_text,
    }
    columns: dict[str, Any] = {
        name: instants_to_arrow(getattr(quotes, name)) for name in ("quote_time", "expiry")
    }
    columns |= {name: texts_to_arrow(labels) for name, labels in texts.items()}
    # What is absent is null, as in any quote table.
    columns |= {name: pa.array(getattr(quotes, name), from_pandas=True) for name in _NUMBERS}
    return pa.table(columns)
