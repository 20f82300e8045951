"""Quotes as a server takes them: what stands, then batch after batch, for as long as is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace

import grpc
import numpy as np

from calib.client.contact import clock_reading
from calib.client.lasting import Call, Heartbeats, lasting
from calib.client.retrying import Backoff
from calib.client.servers import Servers
from calib.conventions import NO_INSTANT
from calib.quotes.table import QuoteTable, joined
from calib.service.conversion import quotes_of
from calib.v1 import quote_service_pb2, quote_service_pb2_grpc, quotes_pb2


@dataclass(frozen=True)
class QuoteWishes(Heartbeats):
    """Whose quotes to watch; empty is all."""

    underlyings: tuple[str, ...] = ()
    venues: tuple[str, ...] = ()

    def request(self) -> quote_service_pb2.WatchQuotesRequest:
        """The request that opens the watch."""
        return quote_service_pb2.WatchQuotesRequest(
            underlyings=self.underlyings, venues=self.venues, heartbeat_interval=self.interval
        )


@dataclass(frozen=True)
class QuoteUpdate:
    """Rows of one venue and underlying that a server has accepted; a row without prices withdraws
    its option.

    Who puts each row in the place of the last one of its option, in the order of the updates, holds
    what the server does, but for options that have expired: what a full chain, a count that begins
    again, or a row that was refused has ended comes as rows without prices too.
    ``standing``: the last row of each option, when the watch began; ``receive_time``, the server's
    clock when it took the rows, is NaT then. ``standing_end``: all that stands has been told, and
    what was held before and is not among it is over; where nothing stands this update has neither
    venue, underlying nor rows. ``snapshot_begin`` and ``snapshot_complete``: the rows begin, or
    end, a full chain, of which the watch has told all rows. ``interruptions`` of the watch until
    then: where their number rises, all is told anew that stands, and rows that were taken and
    replaced meanwhile are missing. ``epoch`` names the run of the server.
    """

    venue: str
    underlying: str
    quotes: QuoteTable
    receive_time: np.datetime64 = NO_INSTANT
    standing: bool = False
    standing_end: bool = False
    snapshot_begin: bool = False
    snapshot_complete: bool = False
    interruptions: int = 0
    epoch: str = ""


async def watch_quotes(
    servers: Servers, wishes: QuoteWishes, backoff: Backoff
) -> AsyncIterator[QuoteUpdate]:
    """Updates for as long as they are asked for, over any number of connections and servers; see
    `calib.client.lasting`. What stands is told as a whole, or not at all."""
    standing: list[quote_service_pb2.StandingQuotes] = []
    interruptions = -1

    def opened(
        server: str, channel: grpc.aio.Channel
    ) -> Call[quote_service_pb2.WatchQuotesResponse]:
        standing.clear()
        return quote_service_pb2_grpc.QuoteServiceStub(channel).WatchQuotes(wishes.request())

    def settled(response: quote_service_pb2.WatchQuotesResponse) -> bool:
        # A reader that is too slow for what stands must not ask for it ever faster.
        return response.HasField("standing_end")

    calls = lasting(servers, wishes.patience_seconds, backoff, opened, settled=settled)
    async with aclosing(calls) as responses:
        async for response in responses:
            told: Iterable[QuoteUpdate] = ()
            match response.WhichOneof("event"):
                case "standing":
                    standing.append(response.standing)
                case "standing_end":
                    interruptions += 1
                    told = _standing(standing)
                    standing.clear()
                case "taken":
                    told = (_taken(response.taken),)
            for one in told:
                yield replace(one, interruptions=interruptions, epoch=response.epoch)


def _standing(told: Iterable[quote_service_pb2.StandingQuotes]) -> Iterable[QuoteUpdate]:
    """An update for each venue and underlying, or one that says that nothing stands."""
    parts: dict[tuple[str, str], list[QuoteTable]] = {}
    for one in told:
        rows = replace(quotes_of(one.batch), spot=np.array(one.spot, np.float64))
        parts.setdefault((one.batch.venue, one.batch.underlying), []).append(rows)
    if not parts:
        parts["", ""] = [quotes_of(quotes_pb2.QuoteBatch())]
    last = len(parts)
    return [
        QuoteUpdate(*place, _numbered(joined(tables)), standing=True, standing_end=number == last)
        for number, (place, tables) in enumerate(parts.items(), 1)
    ]


def _taken(taken: quote_service_pb2.TakenQuotes) -> QuoteUpdate:
    batch = taken.batch
    return QuoteUpdate(
        batch.venue,
        batch.underlying,
        quotes_of(batch),
        receive_time=clock_reading(taken.receive_time),
        snapshot_begin=batch.snapshot_begin,
        snapshot_complete=batch.snapshot_complete,
    )


def _numbered(quotes: QuoteTable) -> QuoteTable:
    return replace(quotes, row=np.arange(len(quotes), dtype=np.int64))
