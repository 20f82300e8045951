"""Quotes by the million: rows a second to the dirty mark, and until their surfaces are there.

One publisher streams whole chains of several underlyings as fast as they are acknowledged, a few
messages ahead; an acknowledged row stands in its chain, and its underlying is marked to be fitted.
CALIB_INGEST_ROWS (100000) is how many rows are sent.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic

import grpc
import numpy as np

from calib.client import Client
from calib.conventions import utc_now
from calib.quotes.table import QuoteTable
from calib.service.conversion import batches_of
from calib.surface.messages import instant
from calib.v1 import quote_service_pb2, quote_service_pb2_grpc
from tests.service.processes import Footprint, serving
from tests.service.restarts import SETTINGS
from tests.service.samples import at_time, smile_quotes

ROWS = int(os.environ.get("CALIB_INGEST_ROWS", "100000"))
NAMES = ("BTC", "ETH", "SPX", "NDX")
DAYS = (3, 7, 14, 30, 60, 90, 180, 365)
STRIKES = 31
MILLISECOND = np.timedelta64(1_000, "us")

Request = quote_service_pb2.PublishQuotesRequest


async def test_rows_to_the_dirty_mark_and_to_surfaces(tmp_path: Path) -> None:
    async with serving(tmp_path / "calib.db", **SETTINGS) as (server, client):
        opening = utc_now()
        chains = [smile_quotes(n, at=opening, days=DAYS, strikes=STRIKES) for n in NAMES]
        for quotes in chains:  # compiled and warm from here on
            await client.publish(quotes)
        for name in NAMES:
            await anext(client.watch([name]))
        requests = list(_requests(chains))
        memory, began = Footprint.of(server.pid).megabytes, monotonic()
        watched = asyncio.create_task(_all_seen(client, instant_of(requests[-1])))
        accepted = [ack async for ack in _acknowledged(client, requests)]
        marked = monotonic() - began
        surfaces = await asyncio.wait_for(watched, 120.0)
        fitted = monotonic() - began
        memory = Footprint.of(server.pid).megabytes - memory
    rows = sum(len(request.quotes.strike) for request in requests)
    print(
        f"\n{rows:,} rows in {len(requests):,} messages: {rows / marked:,.0f} rows/s to the dirty "
        f"mark, {rows / fitted:,.0f} rows/s until the last surface; {surfaces} surfaces on the way;"
        f" memory {memory:+.0f} MB"
    )
    assert sum(accepted) == rows >= ROWS


async def test_rows_beside_readers_of_quotes() -> None:
    """Nothing is fitted, so that what readers cost is all that differs."""
    rates: dict[int, float] = {}
    settings = SETTINGS | {"MAX_WAITING_ROWS": str(10 * ROWS)}
    for readers in (0, 1, 4):
        async with serving(None, **settings) as (_, client), asyncio.TaskGroup() as group:
            chains = [smile_quotes(n, at=utc_now(), days=DAYS, strikes=STRIKES) for n in NAMES]
            for quotes in chains:
                await client.publish(quotes, snapshot_complete=False)
            requests = list(_requests(chains, snapshot_complete=False))
            rows = sum(len(request.quotes.strike) for request in requests)
            begun = [asyncio.Event() for _ in range(readers)]
            reading = [group.create_task(_read(client.target, rows, one)) for one in begun]
            for one in begun:
                await one.wait()
            began = monotonic()
            accepted = [ack async for ack in _acknowledged(client, requests)]
            rates[readers] = rows / (monotonic() - began)
            assert sum(accepted) == rows
            assert [await one for one in reading] == [rows] * readers
    told = ", ".join(
        f"{rate:,.0f} rows/s beside {readers} (x{rate / rates[0]:.2f})"
        for readers, rate in rates.items()
    )
    print(f"\nreaders of quotes, which have all rows: {told}")


async def _read(target: str, rows: int, begun: asyncio.Event) -> int:
    """Watch quotes until so many rows were told; gives how many."""
    found = 0
    async with grpc.aio.insecure_channel(target) as channel:
        stub = quote_service_pb2_grpc.QuoteServiceStub(channel)
        async for response in stub.WatchQuotes(quote_service_pb2.WatchQuotesRequest()):
            if response.HasField("standing_end"):
                begun.set()
            found += len(response.taken.batch.strike)
            if found >= rows:
                break
    return found


def _requests(chains: list[QuoteTable], *, snapshot_complete: bool = True) -> list[Request]:
    """Chains a millisecond apart, encoded ahead: the sender shall not be what is measured."""
    rounds = -(-ROWS // sum(map(len, chains)))
    return [
        Request(quotes=batch)
        for step in range(1, rounds + 1)
        for quotes in chains
        for batch, _ in batches_of(
            at_time(quotes, quotes.quote_time[0] + step * MILLISECOND),
            snapshot_complete=snapshot_complete,
        )
    ]


async def _acknowledged(client: Client, requests: list[Request]) -> AsyncIterator[int]:
    """Rows accepted of each message, a few of them on the way at any time."""
    async with grpc.aio.insecure_channel(client.target) as channel:
        stream = quote_service_pb2_grpc.QuoteServiceStub(channel).PublishQuotes()

        async def write() -> None:
            for request in requests:
                await stream.write(request)
            await stream.done_writing()

        writing = asyncio.create_task(write())
        async for response in stream:
            yield response.ack.accepted_rows
        await writing


def instant_of(request: Request) -> np.datetime64:
    return instant(request.quotes.quote_time, "quote_time")


async def _all_seen(client: Client, last: np.datetime64) -> int:
    """Watch until every underlying has its last chain's surface; gives how many were published."""
    waiting, revisions = set(NAMES), set()
    async for update in client.watch(NAMES):
        revisions.add(update.revision)
        if update.quote_time >= last:
            waiting.discard(update.underlying)
        if not waiting:
            break
    return len(revisions)
