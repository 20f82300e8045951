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
    its option, and stands for one that was refused too, though it replaced the last one.

    ``standing``: the last row of each option, when the watch began; ``receive_time``, the server's
    clock when it took the rows, is NaT then. ``snapshot_begin`` and ``snapshot_complete``: the rows
    begin, or end, a full chain, without which the venue quotes no other option. ``interruptions``
    of the watch until then: where their number rises, all is told anew that stands, and rows that
    were taken and replaced meanwhile are missing. ``epoch`` names the run of the server.
    """

    venue: str
    underlying: str
    quotes: QuoteTable
    receive_time: np.datetime64 = NO_INSTANT
    standing: bool = False
    snapshot_begin: bool = False
    snapshot_complete: bool = False
    interruptions: int = 0
    epoch: str = ""


async def watch_quotes(
    servers: Servers, wishes: QuoteWishes, backoff: Backoff
) -> AsyncIterator[QuoteUpdate]:
    """Updates for as long as they are asked for, over any number of connections and servers; see
    `calib.client.lasting`. What stands is told as a whole, or not at all."""
    standing: list[quotes_pb2.QuoteBatch] = []
    interruptions = -1

    def opened(
        server: str, channel: grpc.aio.Channel
    ) -> Call[quote_service_pb2.WatchQuotesResponse]:
        standing.clear()
        return quote_service_pb2_grpc.QuoteServiceStub(channel).WatchQuotes(wishes.request())

    async with aclosing(lasting(servers, wishes.patience_seconds, backoff, opened)) as responses:
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


def _standing(batches: Iterable[quotes_pb2.QuoteBatch]) -> Iterable[QuoteUpdate]:
    """An update for each venue and underlying."""
    parts: dict[tuple[str, str], list[QuoteTable]] = {}
    for batch in batches:
        parts.setdefault((batch.venue, batch.underlying), []).append(quotes_of(batch))
    return [
        QuoteUpdate(*place, _numbered(joined(tables)), standing=True)
        for place, tables in parts.items()
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
