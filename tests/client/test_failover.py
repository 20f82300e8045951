"""Several servers: a watch moves on when one is lost, stays where it is, and mixes nothing up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest

from calib.client import Client, connect
from calib.client.retrying import Backoff
from calib.conventions import utc_now
from calib.errors import InvalidRequest, Unavailable
from tests.client.fault_proxy import FaultProxy, fault_proxy
from tests.client.publishing_server import Publishing, publishing
from tests.client.quoter import Quoter, quoting
from tests.service.samples import smile_quotes

EAGER = Backoff(first_seconds=0.01, longest_seconds=0.05)


@dataclass
class Pair:
    """Two servers behind a proxy each, and a quoter who knows both."""

    servers: tuple[Publishing, Publishing]
    first: FaultProxy
    second: FaultProxy
    client: Client
    quoter: Quoter

    async def until_current(self) -> None:
        """Look until every underlying is live from quotes of after now."""
        now, quoter = utc_now(), self.quoter
        await quoter.until(lambda: quoter.is_current(now))

    async def until_at(self, proxy: FaultProxy) -> None:
        """The same, all of it from this server."""
        await self.quoter.until(
            lambda: {update.server for update in self.quoter.book.values()} == {proxy.address}
        )
        await self.until_current()


@asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        servers = await asyncio.gather(*(stack.enter_async_context(publishing()) for _ in range(2)))
        first, second = [
            await stack.enter_async_context(fault_proxy(server.address)) for server in servers
        ]
        client = await stack.enter_async_context(
            connect([first.address, second.address], timeout_seconds=1.0, backoff=EAGER)
        )
        quoter = await stack.enter_async_context(quoting(client))
        both = Pair((servers[0], servers[1]), first, second, client, quoter)
        await both.until_at(first)
        yield both


async def test_a_watch_moves_on_when_a_server_is_lost_and_stays_there() -> None:
    async with pair() as both:
        quoter = both.quoter
        for _ in range(3):
            both.first.cut()  # a cut connection alone is no reason to move
            await both.until_current()
        assert len(quoter.epochs()) == 1
        both.servers[0].process.kill()
        await both.until_at(both.second)
        assert len(quoter.epochs()) == 2
        # The first is back, as another run; nobody needs it.
        async with publishing() as again:
            both.first.target = again.address
            for _ in range(3):
                await both.until_current()
            assert len(quoter.epochs()) == 2
            # Until the second is lost in turn.
            both.second.refuse()
            await both.until_at(both.first)
        epochs = quoter.epochs()
        assert len(epochs) == len(set(epochs)) == 3


async def test_a_watch_moves_on_when_heartbeats_stop_and_all_is_stale_without_any() -> None:
    async with pair() as both:
        quoter = both.quoter
        both.first.hold()
        await both.until_at(both.second)
        both.first.heal()
        await both.until_current()
        both.servers[1].stop()
        await both.until_at(both.first)
        epochs = quoter.epochs()
        assert len(epochs) == 3
        assert epochs[0] == epochs[2] != epochs[1]
        both.first.refuse()
        await quoter.until(quoter.is_stale)
        with pytest.raises(Unavailable):
            await both.client.get("BTC")
        both.servers[1].go_on()
        await both.until_at(both.second)


async def test_quotes_go_to_one_server_only() -> None:
    async with connect(["127.0.0.1:1", "127.0.0.1:2"]) as client:
        with pytest.raises(InvalidRequest, match=r"quotes go to one server.*:1, 127\.0\.0\.1:2"):
            await client.publish(smile_quotes())
        with pytest.raises(InvalidRequest, match="quotes go to one server"):
            async with client.publisher():
                pass


@pytest.mark.parametrize("servers", [[], "", ["a:1", ""], ["a:1", "b:1", "a:1"]])
def test_servers_that_cannot_be_told_apart_or_named_are_refused(servers: list[str]) -> None:
    with pytest.raises(InvalidRequest, match=r"HOST:PORT|named twice"):
        connect(servers)


async def test_waiting_for_a_server_chooses_one_that_serves() -> None:
    async with publishing() as server, connect(["127.0.0.1:1", server.address]) as client:
        await client.wait_until_serving(20.0)
        assert client.target == server.address
        assert (await client.get("BTC")).server == server.address


async def test_waiting_for_servers_that_are_not_there_names_each() -> None:
    async with connect(["127.0.0.1:1", "127.0.0.1:2"]) as client:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1: .*; 127\.0\.0\.1:2: "):
            await client.wait_until_serving(0.5)
