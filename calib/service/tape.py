"""The tape: the quotes that were taken, in that order, for whoever reads along.

Unlike surfaces nothing of it is left out: each reader has a queue, and one that is too slow for
its queue is told so and ends. All on the event loop; without readers it costs nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np

from calib.errors import Unavailable
from calib.service.refusals import Overloaded
from calib.surface.messages import timestamp
from calib.v1 import quote_service_pb2, quotes_pb2

_RETRY_SECONDS = 1.0
_BYTES_A_ROW = 80
"""What a row with all columns takes, rounded up; what takes more counts as more rows."""


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

    def put(
        self,
        batch: quotes_pb2.QuoteBatch,
        receive_time: np.datetime64,
        *,
        begins: bool = False,
        ends: bool = False,
        whole: bool = True,
    ) -> None:
        """Tell of rows that were taken, and whether a full chain begins or ends with them; the
        message is copied, and all readers share the copy.

        The end of a chain that is not ``whole``, because messages of it are missing or rows of this
        one came too late, is not told, nor is it to a reader that came amid the chain: what these
        were told is not the chain.
        """
        wanting = [
            one for one in self._readers if one.wanted.accepts(batch.venue, batch.underlying)
        ]
        if not wanting:
            return
        cost = max(len(batch.strike), batch.ByteSize() // _BYTES_A_ROW, 1)
        events: dict[bool, quote_service_pb2.WatchQuotesResponse] = {}
        for reader in wanting:
            seen = reader.sees_all(batch.venue, batch.underlying, begins=begins, ends=ends)
            told = ends and whole and seen
            if not (batch.strike or begins or told):
                continue
            if told not in events:
                events[told] = self._event(batch, receive_time, begins=begins, ends=told)
            reader.offer(events[told], cost)

    def interrupt(self, venue: str, underlying: str) -> None:
        """Of the chain that has begun rows came too late to be taken: its end is not told."""
        for reader in self._readers:
            reader.interrupt(venue, underlying)

    @contextmanager
    def reading(
        self, wanted: Selection, amid: Iterable[tuple[str, str]] = ()
    ) -> Iterator[TapeReader]:
        """Read along while inside, ``amid`` chains of these venues and underlyings; raises
        Overloaded when too many do already."""
        if len(self._readers) >= self._max_readers:
            raise Overloaded(f"{len(self._readers)} watches are open already", _RETRY_SECONDS)
        reader = TapeReader(wanted, self._max_rows, amid)
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)

    def close(self, reason: Callable[[], Unavailable]) -> None:
        """Nothing more will be told; readers end, each with a ``reason`` of its own, when they have
        had the rest."""
        for reader in self._readers:
            reader.end(reason())

    def _event(
        self,
        batch: quotes_pb2.QuoteBatch,
        receive_time: np.datetime64,
        *,
        begins: bool,
        ends: bool,
    ) -> quote_service_pb2.WatchQuotesResponse:
        taken = quote_service_pb2.TakenQuotes(batch=batch, receive_time=timestamp(receive_time))
        taken.batch.snapshot_begin, taken.batch.snapshot_complete = begins, ends
        return quote_service_pb2.WatchQuotesResponse(taken=taken, epoch=self.epoch)


class TapeReader:
    """What one reader has not been told yet: at most ``most`` rows, or one message."""

    def __init__(self, wanted: Selection, most: int, amid: Iterable[tuple[str, str]] = ()) -> None:
        self.wanted = wanted
        self.rows = 0
        self._most = most
        self._waiting: deque[tuple[quote_service_pb2.WatchQuotesResponse, int]] = deque()
        self._amid = set(amid)
        self._changed = asyncio.Event()
        self._ended: Unavailable | None = None

    def interrupt(self, venue: str, underlying: str) -> None:
        """Of the chain that has begun not all is told."""
        self._amid.add((venue, underlying))

    def sees_all(self, venue: str, underlying: str, *, begins: bool, ends: bool) -> bool:
        """Whether this reader is told all of the chain that a message belongs to, as far as that
        has come; the next one begins where it ends."""
        chain = venue, underlying
        seen = begins or chain not in self._amid
        if begins or ends:
            self._amid.discard(chain)
        return seen

    def offer(self, event: quote_service_pb2.WatchQuotesResponse, cost: int) -> None:
        """Put an event, which costs as much as so many rows, behind those that wait; where there is
        no room, all that waits is dropped and the reader ends."""
        if self._ended is not None:
            return
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

    def check(self) -> None:
        """Raise why it ended, where nothing is left to be told."""
        if self._ended is not None and not self._waiting:
            raise self._ended

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
        self.check()
        return None
