"""Quotes as a server takes them, through the client: whole, in order, and over interruptions."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import Any

import grpc
import numpy as np
import pytest

import calib
from calib.client import QuoteUpdate, connect, connect_blocking
from calib.client.retrying import Backoff
from calib.errors import Forbidden, InvalidRequest
from calib.quotes.table import joined
from calib.service.service_names import QUOTES
from calib.v1 import quote_service_pb2
from tests.jobs.recorded import said
from tests.service.conftest import serving
from tests.service.processes import free_port
from tests.service.samples import START, at_time, smile_quotes

SECOND = np.timedelta64(1_000_000, "us")
EAGER = Backoff(first_seconds=0.01, longest_seconds=0.05)


def later(seconds: int, **more: Any) -> calib.QuoteTable:
    return at_time(smile_quotes(**more), START + seconds * SECOND)


async def test_what_stands_comes_as_tables_and_then_batch_after_batch() -> None:
    async with serving() as server, connect(server.address) as client:
        chains = [later(0, venue=venue, underlying=name) for venue in "ab" for name in "xy"]
        await client.publish(joined(chains), snapshot_complete=False)
        async with aclosing(client.watch_quotes(["x"], venues=["a", "b"])) as updates:  # type: ignore[type-var]
            standing = [await anext(updates) for _ in range(2)]
            assert all(one.standing and np.isnat(one.receive_time) for one in standing)
            told = {(one.venue, one.underlying): said(one.quotes) for one in standing}
            assert told == {("a", "x"): said(chains[0]), ("b", "x"): said(chains[2])}
            assert [one.standing_end for one in standing] == [False, True]
            ack = await client.publish(later(1, venue="a", underlying="x"))
            taken: QuoteUpdate = await anext(updates)
            assert ack.accepted == len(taken.quotes)
            assert said(taken.quotes) == said(later(1, venue="a", underlying="x"))
            assert taken.snapshot_begin
            assert taken.snapshot_complete
            assert not taken.standing
            assert abs(calib.conventions.utc_now() - taken.receive_time) < 60 * SECOND
            assert (taken.interruptions, taken.epoch) == (0, server.hub.epoch)


async def test_it_goes_on_with_another_run_of_the_server_and_says_so() -> None:
    listen = f"127.0.0.1:{free_port()}"
    async with connect(listen, backoff=EAGER) as client:
        updates = client.watch_quotes()
        async with serving(listen=listen) as server:
            await client.publish(later(0), snapshot_complete=False)
            before = await anext(updates)
            second = asyncio.ensure_future(anext(updates))
            await asyncio.sleep(0.2)
            assert not second.done()
        async with serving(listen=listen) as again:
            nothing = await second
            await client.publish(later(1), snapshot_complete=False)
            after = await anext(updates)
        # What was held of the first run is over, although the second has nothing in its place.
        assert (nothing.standing, nothing.standing_end) == (True, True)
        assert (nothing.interruptions, len(nothing.quotes), nothing.venue) == (1, 0, "")
        assert (before.standing, before.standing_end) == (True, True)
        assert (after.standing, after.standing_end) == (False, False)
        assert (before.epoch, after.epoch) == (server.hub.epoch, again.hub.epoch)
        assert (before.interruptions, after.interruptions) == (0, 1)
        assert said(after.quotes) == said(later(1))


async def test_a_reader_that_falls_behind_is_interrupted_and_told_what_stands() -> None:
    async with (
        serving(max_waiting_rows=100, write_timeout=30.0) as server,
        connect(server.address, backoff=EAGER) as client,
    ):
        updates = client.watch_quotes()
        await client.publish(later(0), snapshot_complete=False)
        update = await anext(updates)
        last = 300
        for second in range(1, last + 1):  # and nothing is read
            await client.publish(later(second), snapshot_complete=False)
        seen = 1
        while not update.interruptions:
            update = await asyncio.wait_for(anext(updates), 20.0)
            seen += 1
        assert update.standing
        assert said(update.quotes) == said(later(last))
        assert seen < last


async def test_what_never_comes_to_the_end_of_what_stands_is_asked_for_ever_more_rarely(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watches = 0

    async def watch(request: Any, context: Any) -> None:
        nonlocal watches
        watches += 1
        event = quote_service_pb2.WatchQuotesResponse
        await context.write(event(standing=quote_service_pb2.StandingQuotes(), epoch="e"))
        if watches >= 5:
            await context.write(event(standing_end=quote_service_pb2.StandingEnd(), epoch="e"))
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too slow")

    handler = grpc.unary_stream_rpc_method_handler(
        watch,
        request_deserializer=quote_service_pb2.WatchQuotesRequest.FromString,
        response_serializer=quote_service_pb2.WatchQuotesResponse.SerializeToString,
    )
    server = grpc.aio.server()
    calls = grpc.method_handlers_generic_handler(QUOTES, {"WatchQuotes": handler})
    server.add_generic_rpc_handlers((calls,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    backoff = Backoff(first_seconds=0.01, longest_seconds=0.04, random=lambda: 1.0)
    with caplog.at_level(logging.INFO, "calib.client.lasting"):
        async with connect(f"127.0.0.1:{port}", backoff=backoff) as client:
            updates = client.watch_quotes()
            assert (await anext(updates)).standing_end
            assert (await anext(updates)).interruptions == 1
    await server.stop(0.0)
    pauses = [one.getMessage().rsplit(" ", 2)[1] for one in caplog.records]
    assert pauses == ["0.010", "0.020", "0.040", "0.040", "0.010"]


async def test_a_caller_is_told_of_what_it_may_read() -> None:
    rights = {"anonymous": {"read": ["BTC"], "publish": ["*"]}}
    async with serving(identities=rights) as server, connect(server.address) as client:
        tables = [later(0, underlying="ETH"), later(0)]
        await client.publish(joined(tables), snapshot_complete=False)
        with pytest.raises(Forbidden, match="'anonymous' may not read 'ETH'"):
            await anext(client.watch_quotes(["ETH"]))
        updates = client.watch_quotes()
        assert (await anext(updates)).underlying == "BTC"
        tables = [later(1, underlying="ETH"), later(1)]
        await client.publish(joined(tables), snapshot_complete=False)
        assert said((await anext(updates)).quotes) == said(later(1))


async def test_without_an_event_loop_it_is_an_iterator() -> None:
    def read(address: str) -> list[QuoteUpdate]:
        with connect_blocking(address) as client:
            client.publish(later(0), snapshot_complete=False)
            updates = client.watch_quotes(["BTC"])
            found = [next(updates)]
            client.publish(later(1), snapshot_complete=False)
            return [*found, next(updates)]

    async with serving() as server:
        standing, taken = await asyncio.to_thread(read, server.address)
    assert (standing.standing, taken.standing) == (True, False)
    assert said(taken.quotes) == said(later(1))


async def test_bad_usage_is_named() -> None:
    async with connect("127.0.0.1:1") as client:
        with pytest.raises(InvalidRequest, match=r"list of underlyings: \['BTC'\]"):
            client.watch_quotes("BTC")
        with pytest.raises(InvalidRequest, match="list of venues"):
            client.watch_quotes(venues="deribit")
        with pytest.raises(InvalidRequest, match=r"between 0\.1 and 60"):
            client.watch_quotes(heartbeat_seconds=0.0)
