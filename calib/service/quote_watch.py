"""One open watch of quotes: what stands, what is taken, and heartbeats."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from time import monotonic
from typing import Any

import numpy as np

from calib.quotes.reasons import Reason
from calib.quotes.table import QuoteTable
from calib.service.conversion import batches_of
from calib.service.tape import Selection, TapeReader
from calib.service.watching import check_names, silence_of, write_within
from calib.surface.messages import timestamp
from calib.v1 import quote_service_pb2, quotes_pb2

_Event = quote_service_pb2.WatchQuotesResponse

_ROWS_AT_ONCE = 5_000
"""Rows that are made into messages between two looks at other work."""


def wishes_of(
    request: quote_service_pb2.WatchQuotesRequest, usual: timedelta
) -> tuple[Selection, timedelta]:
    """What is to be told, and the longest silence; raises InvalidField for what is neither."""
    wanted = Selection(
        check_names("underlyings", request.underlyings), check_names("venues", request.venues)
    )
    interval = request.heartbeat_interval if request.HasField("heartbeat_interval") else None
    return wanted, silence_of(interval, usual)


class QuoteWatch:
    """Writes to one reader, each time within a limit."""

    def __init__(
        self,
        reader: TapeReader,
        context: Any,
        *,
        epoch: str,
        write_timeout: timedelta,
        now: Callable[[], np.datetime64],
    ) -> None:
        self._reader = reader
        self._context = context
        self._epoch = epoch
        self._limit = write_timeout.total_seconds()
        self._now = now

    async def standing(self, tables: Iterable[QuoteTable]) -> None:
        """Tell of the rows that stand now, a table for each venue and underlying, and their end."""
        began, rows = timestamp(self._now()), 0
        for table in tables:
            for batch in standing_batches(table):
                rows += len(batch.strike)
                await self._write(_Event(standing=batch, epoch=self._epoch))
        end = quote_service_pb2.StandingEnd(row_count=rows, server_time=began)
        await self._write(_Event(standing_end=end, epoch=self._epoch))

    async def until_heartbeat(self, interval: timedelta) -> None:
        """What is taken for one interval, then a heartbeat: a busy market does not hide the
        clock. Raises why the tape ended."""
        due = monotonic() + interval.total_seconds()
        while (event := await self._reader.take(max(due - monotonic(), 0.0))) is not None:
            await self._write(event)
            if monotonic() >= due:
                break
        beat = quote_service_pb2.QuotesHeartbeat(server_time=timestamp(self._now()))
        await self._write(_Event(heartbeat=beat, epoch=self._epoch))

    async def _write(self, event: _Event) -> None:
        await write_within(self._context, event, self._limit)


def standing_batches(quotes: QuoteTable) -> Iterator[quotes_pb2.QuoteBatch]:
    """The rows of a book that were accepted, in batches: of each only rows with the same spot,
    because a batch has one."""
    accepted = np.isin(quotes.reason, (Reason.USABLE, Reason.NO_QUOTE))
    rows = np.flatnonzero(accepted)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = quotes.take(rows[start : start + _ROWS_AT_ONCE])
        group = np.unique(part.spot, return_inverse=True)[1]
        order = np.argsort(group, kind="stable")
        for same in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
            for batch, _ in batches_of(part.take(same)):
                yield batch
