"""One open watch of quotes: what stands, what is taken, and heartbeats."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from time import monotonic

import numpy as np

from calib.quotes.reasons import Reason
from calib.quotes.table import QuoteTable
from calib.service.conversion import batches_of
from calib.service.tape import Selection, TapeReader
from calib.service.watching import Writing, check_names, silence_of
from calib.surface.messages import timestamp
from calib.v1 import quote_service_pb2

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
    return wanted, silence_of(request, usual)


class QuoteWatch:
    """Tells one reader what it asked for."""

    def __init__(
        self,
        reader: TapeReader,
        writing: Writing,
        *,
        epoch: str,
        now: Callable[[], np.datetime64],
    ) -> None:
        self._reader = reader
        self._writing = writing
        self._epoch = epoch
        self._now = now

    async def standing(self, tables: list[QuoteTable]) -> None:
        """Tell of the rows that stand now, a table for each venue and underlying, and their end.

        ``tables`` is emptied: a watch is open for days, and its book is told once. Raises why the
        tape ended, should it do so meanwhile.
        """
        began, rows = timestamp(self._now()), 0
        while tables:
            for told in standing_quotes(tables.pop()):
                rows += len(told.batch.strike)
                await self._write(_Event(standing=told, epoch=self._epoch))
                self._reader.check()
                await asyncio.sleep(0)  # a write to a quick reader waits for nothing
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
        await self._writing.write(event)


def standing_quotes(quotes: QuoteTable) -> Iterator[quote_service_pb2.StandingQuotes]:
    """The rows of a book that were accepted, each with the spot that it came with."""
    rows = np.flatnonzero(np.isin(quotes.reason, (Reason.USABLE, Reason.NO_QUOTE)))
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = quotes.take(rows[start : start + _ROWS_AT_ONCE])
        for batch, places in batches_of(part):
            batch.ClearField("spot")
            yield quote_service_pb2.StandingQuotes(batch=batch, spot=part.spot[places].tolist())
