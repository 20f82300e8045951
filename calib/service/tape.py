"""The tape: the quotes that were taken, in that order, for whoever reads along.

Unlike surfaces nothing of it is left out: each reader has a queue, and one that is too slow for
its queue is told so and ends. All on the event loop; without readers it costs nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np

from calib.errors import Unavailable
from calib.service.refusals import Overloaded
from calib.surface.messages import timestamp
from calib.v1 import quote_service_pb2, quotes_pb2

_RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class Selection:
    """Whose quotes a reader wants; an empty set is all."""

    underlyings: frozenset[str] = frozenset()
    venues: frozenset[str] = frozenset()

    def accepts(self, venue: str, underlying: str) -> bool:
        """Whether those of this venue and underlying are wanted."""
        return (not self.underlyings or underlying in self.underlyings) and (
            not self.venues or venue in self.venues
        )


class Tape:
    """Hands what is taken to readers, each with room for ``max_rows`` rows that wait."""

    def __init__(self, epoch: str, *, max_readers: int = 2_000, max_rows: int = 200_000) -> None:
        self.epoch = epoch
        self._max_readers = max_readers
        self._max_rows = max_rows
        self._readers: set[TapeReader] = set()

    @property
    def readers(self) -> int:
        """How many read along."""
        return len(self._readers)

    @property
    def waiting_rows(self) -> int:
        """Rows that wait for the slowest reader."""
        return max((reader.rows for reader in self._readers), default=0)

    def put(self, batch: quotes_pb2.QuoteBatch, receive_time: np.datetime64) -> None:
        """Tell of rows that were taken; the message is copied, and all readers share the copy."""
        wanting = [
            one for one in self._readers if one.wanted.accepts(batch.venue, batch.underlying)
        ]
        if not wanting:
            return
        taken = quote_service_pb2.TakenQuotes(batch=batch, receive_time=timestamp(receive_time))
        event = quote_service_pb2.WatchQuotesResponse(taken=taken, epoch=self.epoch)
        for reader in wanting:
            reader.offer(event, len(batch.strike))

    @contextmanager
    def reading(self, wanted: Selection) -> Iterator[TapeReader]:
        """Read along while inside; raises Overloaded when too many do already."""
        if len(self._readers) >= self._max_readers:
            raise Overloaded(f"{len(self._readers)} watches are open already", _RETRY_SECONDS)
        reader = TapeReader(wanted, self._max_rows)
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)

    def close(self, reason: Unavailable) -> None:
        """Nothing more will be told; readers end with ``reason`` when they have had the rest."""
        for reader in self._readers:
            reader.end(reason)


class TapeReader:
    """What one reader has not been told yet: at most ``most`` rows, or one message."""

    def __init__(self, wanted: Selection, most: int) -> None:
        self.wanted = wanted
        self.rows = 0
        self._most = most
        self._waiting: deque[tuple[quote_service_pb2.WatchQuotesResponse, int]] = deque()
        self._changed = asyncio.Event()
        self._ended: Unavailable | None = None

    def offer(self, event: quote_service_pb2.WatchQuotesResponse, rows: int) -> None:
        """Put an event behind those that wait; where there is no room, all that waits is dropped
        and the reader ends."""
        if self._ended is not None:
            return
        cost = max(rows, 1)
        if self._waiting and self.rows + cost > self._most:
            self._waiting.clear()
            self.rows = 0
            self.end(
                Overloaded(
                    f"more than {self._most} rows wait for this reader; watch again, and read "
                    "faster or watch less",
                    _RETRY_SECONDS,
                )
            )
            return
        self._waiting.append((event, cost))
        self.rows += cost
        self._changed.set()

    def end(self, reason: Unavailable) -> None:
        """Nothing comes any more."""
        self._ended = self._ended or reason
        self._changed.set()

    async def take(self, patience_seconds: float) -> quote_service_pb2.WatchQuotesResponse | None:
        """The next event; None when none comes for that long. Raises why it ended, after all that
        came before."""
        if not self._waiting and self._ended is None:
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(patience_seconds):
                    await self._changed.wait()
        if self._waiting:
            event, cost = self._waiting.popleft()
            self.rows -= cost
            return event
        if self._ended is not None:
            raise self._ended
        return None
