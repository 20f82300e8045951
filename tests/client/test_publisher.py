"""Publishers: how they feel a server that cannot keep up, and what a broken stream has lost."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
import numpy as np
import pytest

from calib.client import Client, Lag, Publisher, connect
from calib.errors import InvalidRequest, Unavailable
from calib.quotes.reasons import Reason
from calib.quotes.table import QuoteTable
from calib.service.conversion import batches_of
from calib.v1 import quote_service_pb2, quote_service_pb2_grpc
from tests.cli.processes import started
from tests.service.conftest import Start, start  # noqa: F401 - a fixture
from tests.service.samples import START, smile_quotes

SECOND = np.timedelta64(1_000_000, "us")


def moment(number: int, underlying: str = "BTC", strikes: int = 15) -> QuoteTable:
    return smile_quotes(underlying, at=START + number * SECOND, strikes=strikes)


async def test_a_server_that_stands_still_holds_its_publisher_and_the_lag_says_how_far(
    tmp_path: Path,
) -> None:
    with started("serve", "--listen", "127.0.0.1:0", "--store", tmp_path / "s.db") as process:
        try:
            assert process.stdout is not None
            line = await asyncio.to_thread(process.stdout.readline)
            address = line.strip().removeprefix("listening on ")
            async with connect(address) as client:
                await client.wait_until_serving()
                async with client.publisher(most_unacknowledged=4) as publisher:
                    await publisher.send(moment(0), snapshot_complete=False)
                    assert publisher.lag == Lag()
                    await _held(process.pid, publisher)
                    assert publisher.lag == Lag()
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.communicate(timeout=60)


async def _held(server: int, publisher: Publisher) -> None:
    """Stop the server's process, send until the publisher is held, and let the server go on."""
    os.kill(server, signal.SIGSTOP)
    posted = [await publisher.post(moment(n), snapshot_complete=False) for n in range(1, 5)]
    fifth = asyncio.create_task(publisher.post(moment(5), snapshot_complete=False))
    await asyncio.wait({fifth}, timeout=0.3)
    assert not fifth.done()
    assert not any(one.done for one in posted)
    assert (publisher.lag.messages, publisher.lag.rows) == (4, 4 * 45)
    assert publisher.lag.seconds >= 0.3
    os.kill(server, signal.SIGCONT)
    acknowledged = [await one.acknowledged() for one in posted]
    assert [one.accepted for one in acknowledged] == [45] * 4
    assert (await (await fifth).acknowledged()).accepted == 45


async def test_acknowledgements_come_to_whoever_sent(start: Start) -> None:  # noqa: F811
    """Senders that share one stream each get what is theirs."""
    _, client = await start()

    async def send(name: str, count: int) -> int:
        rows = moment(1, name).take(np.arange(count))
        answer = await publisher.send(rows, snapshot_complete=False)
        return answer.accepted

    async with client.publisher(most_unacknowledged=3) as publisher:
        sent = [(f"U{i}", 5 + i) for i in range(12)]
        found = await asyncio.gather(*(send(name, count) for name, count in sent))
    assert found == [count for _, count in sent]


async def test_the_end_of_a_block_waits_for_what_is_on_its_way(start: Start) -> None:  # noqa: F811
    _, client = await start()
    async with client.publisher() as publisher:
        posted = [await publisher.post(moment(n), snapshot_complete=False) for n in range(10)]
    assert all(one.done for one in posted)
    assert [(await one.acknowledged()).accepted for one in posted] == [45] * 10


async def test_a_refusal_ends_the_stream_and_is_told_to_every_sender(start: Start) -> None:  # noqa: F811
    _, client = await start(max_underlyings=1)
    async with client.publisher() as publisher:
        await publisher.send(moment(0))
        first = await publisher.post(moment(0, "OTHER"))
        with pytest.raises(Unavailable, match="underlyings are quoted already"):
            await first.acknowledged()
        with pytest.raises(Unavailable, match="underlyings are quoted already"):
            await publisher.post(moment(1))
        assert publisher.lag == Lag()


async def test_a_bound_of_nothing_is_refused(start: Start) -> None:  # noqa: F811
    _, client = await start()
    with pytest.raises(InvalidRequest, match="most_unacknowledged=0"):
        async with client.publisher(most_unacknowledged=0):
            pass


class Wire:
    """A TCP relay that can swallow what is sent, and be cut."""

    def __init__(self) -> None:
        self.swallows = False
        self._writers: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def to(self, target: str) -> AsyncIterator[str]:
        host, port = target.rsplit(":", 1)

        async def pump(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool
        ) -> None:
            with suppress(OSError):
                while data := await reader.read(65_536):
                    if not (up and self.swallows):
                        writer.write(data)
                        await writer.drain()
            writer.close()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection(host, int(port))
            self._writers |= {writer, back}
            await asyncio.gather(pump(reader, back, up=True), pump(there, writer, up=False))

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            self.cut()
            server.close()

    def cut(self) -> None:
        """All connections of now."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers = set()


async def test_what_a_broken_stream_has_lost_is_seen_and_a_full_chain_heals_it(
    start: Start,  # noqa: F811
) -> None:
    server, direct = await start()
    wire = Wire()
    async with wire.to(server.address) as address, connect(address) as client:
        async with client.publisher() as publisher:
            assert not (await publisher.send(moment(0))).snapshot_needed
            wire.swallows = True
            lost = [await publisher.post(moment(number)) for number in (1, 2, 3)]
            wire.cut()
            for one in lost:
                with pytest.raises(Unavailable):
                    await one.acknowledged()
        wire.swallows = False
        await client.wait_until_serving()
        async with client.publisher() as publisher:
            few = moment(4).take(np.arange(5))
            answer = await publisher.send(few, snapshot_complete=False)
            assert (answer.accepted, answer.missed, answer.snapshot_needed) == (5, 3, True)
            answer = await publisher.send(moment(5))
            assert (answer.accepted, answer.missed, answer.snapshot_needed) == (45, 0, False)
    await _taken_over(direct)


async def _taken_over(client: Client) -> None:
    """Another process takes over, and its count begins again: the same, but nothing is missing."""
    async with client.publisher() as publisher:
        few = moment(6).take(np.arange(5))
        answer = await publisher.send(few, snapshot_complete=False)
        assert (answer.accepted, answer.missed, answer.snapshot_needed) == (5, 0, True)
        assert not (await publisher.send(moment(7))).snapshot_needed
        client._counts["test", "BTC"] -= 1  # as one that sends again what it was not told of
        answer = await publisher.send(moment(8))
        assert (answer.accepted, answer.repeated) == (0, 1)
        assert answer.reasons == {Reason.REPEATED: 45}
        assert not answer.snapshot_needed


async def test_who_reads_no_acknowledgements_is_not_read_either(start: Start) -> None:  # noqa: F811
    """What the server holds for one stream is bounded, and the others do not feel it."""
    server, quiet = await start()
    rows = moment(0, strikes=300)
    ((batch, _),) = batches_of(replace(rows, strike=-rows.strike))
    request = quote_service_pb2.PublishQuotesRequest(quotes=batch)
    small = [
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 65_536),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    most = 4 * 2**20 // request.ByteSize()  # what the stream of a fast link takes by default
    async with grpc.aio.insecure_channel(server.address, options=small) as channel:
        call = quote_service_pb2_grpc.QuoteServiceStub(channel).PublishQuotes()
        written = 0
        with suppress(TimeoutError):  # held
            while written < most:
                await asyncio.wait_for(call.write(request), 1.0)
                written += 1
        assert 0 < written < 0.5 * most
        assert (await quiet.publish(moment(1), snapshot_complete=False)).accepted == 45


@dataclass
class Flood:
    """Large batches without end, on many streams of one client."""

    rows: QuoteTable
    streams: int
    sent: int = 0
    over: bool = False
    publishers: list[Publisher] = field(default_factory=list)

    @property
    def acknowledged(self) -> int:
        """How many of its batches are."""
        return self.sent - sum(publisher.lag.messages for publisher in self.publishers)

    async def run(self, client: Client) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self.streams):
                group.create_task(self._stream(client))

    async def _stream(self, client: Client) -> None:
        async with client.publisher(most_unacknowledged=8, counted=False) as publisher:
            self.publishers.append(publisher)
            while not self.over:
                await publisher.post(self.rows, snapshot_complete=False)
                self.sent += 1


async def test_a_flood_of_one_publisher_leaves_another_its_acknowledgements(start: Start) -> None:  # noqa: F811
    """Counted, not timed: were streams served in turns, the quiet one would get one acknowledgement
    for each thirty of the flood."""
    server, quiet = await start()
    flood, wanted = Flood(moment(0, "FLOOD", 300), streams=30), 40
    # The flood takes another way, so that it has a connection of its own.
    async with (
        Wire().to(server.address) as address,
        connect(address) as flooder,
        quiet.publisher(most_unacknowledged=wanted) as publisher,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(flood.run(flooder))
        while flood.acknowledged < 2 * flood.streams:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.01)
        before = flood.acknowledged
        for number in range(wanted):
            await publisher.post(moment(number, "QUIET"), snapshot_complete=False)
        await publisher.drain()
        assert flood.acknowledged - before < 0.5 * flood.streams * wanted
        flood.over = True
