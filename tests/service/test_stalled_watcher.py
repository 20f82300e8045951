"""A watcher that stops reading among others: they do not notice, and it resumes to the latest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import grpc
import numpy as np

from calib.client import Client
from calib.client.publisher import levels
from calib.conventions import utc_now
from calib.v1 import (
    quote_service_pb2,
    quote_service_pb2_grpc,
    surface_service_pb2,
    surface_service_pb2_grpc,
)
from tests.service.calls import Refusal, refused
from tests.service.processes import Footprint, eventually, free_port, metric, serving
from tests.service.restarts import SETTINGS
from tests.service.samples import smile_quotes
from tests.service.test_watch import NARROW, Event, Watch
from tests.service.wire import told_of

# A tick moves a surface in few bytes, but tells of every expiry how far that may be trusted: so
# many of these are more than what is on the way to a watcher that reads nothing may be.
TICKS, DAYS = 400, tuple(range(7, 91, 7))
READERS = 4
SPOT = 70_000.0


class Reader:
    """A watcher that reads all that comes; ``delays`` from when each tick was sent, in seconds."""

    def __init__(self) -> None:
        self.revision = 0
        self.delays: list[float] = []

    async def read(self, target: str, sent: dict[float, float]) -> None:
        async with grpc.aio.insecure_channel(target, options=NARROW) as channel:
            stub = surface_service_pb2_grpc.SurfaceServiceStub(channel)
            async for response in stub.WatchSurfaces(Watch(underlyings=["BTC"])):
                if response.HasField("surface"):
                    surface = told_of(response)
                    self.revision = surface.revision
                    if surface.spot in sent:
                        self.delays.append(monotonic() - sent[surface.spot])


async def test_a_stalled_watcher_costs_the_others_nothing_and_resumes_to_the_latest() -> None:
    metrics = f"127.0.0.1:{free_port()}"
    settings = SETTINGS | {"METRICS": metrics, "WRITE_TIMEOUT": "1s"}
    async with serving(None, **settings) as (server, client):
        await client.publish(smile_quotes("BTC", at=utc_now(), days=DAYS))
        await anext(client.watch(["BTC"]))
        alone = await _readers_under_ticks(client)
        before = Footprint.of(server.pid)
        async with _stalled(client.target) as (call, seen):
            beside = await _readers_under_ticks(client)
            after = Footprint.of(server.pid)
            # What is read before the server gave up on this watcher would be a watch that goes on.
            await eventually(lambda: metric(metrics, "calib_subscribers") == 0)
            refusal = await _read_to_the_end(call, seen)
        latest = max(reader.revision for reader in beside)
        assert refusal.reason == "SLOW_CONSUMER"
        assert refusal.retry_seconds is not None
        assert len(seen) < TICKS  # what is on the way is bounded, and the rest was skipped

        resumed = await _resumed(client.target, seen[-1].resume_token)
        assert told_of(resumed).revision == latest > told_of(seen[-1]).revision
    assert all(reader.revision == latest for reader in beside)
    assert after.megabytes < before.megabytes + 32.0
    ratio = _median(beside) / _median(alone)
    print(  # noqa: T201 - figures for people
        f"median delay of {READERS} readers {1e3 * _median(alone):.2f} ms, beside a stalled one "
        f"{1e3 * _median(beside):.2f} ms (x{ratio:.2f}); the server's memory "
        f"{after.megabytes - before.megabytes:+.1f} MB over {TICKS} surfaces"
    )


async def _readers_under_ticks(client: Client) -> list[Reader]:
    """Readers that have seen all ticks, sent one by one, each when all of them had the last."""
    readers, sent = [Reader() for _ in range(READERS)], dict[float, float]()
    async with asyncio.TaskGroup() as group, grpc.aio.insecure_channel(client.target) as channel:
        tasks = [group.create_task(one.read(client.target, sent)) for one in readers]
        await eventually(lambda: all(reader.revision for reader in readers))
        stream = quote_service_pb2_grpc.QuoteServiceStub(channel).PublishQuotes()
        for step in range(TICKS):
            spot = SPOT + 1.0 + step  # each makes a surface of its own
            sent[spot] = monotonic()
            tick = levels("BTC", "test", utc_now(), {}, spot)
            await stream.write(quote_service_pb2.PublishQuotesRequest(ticks=tick))
            await stream.read()
            told = step + 1
            await eventually(lambda: all(len(one.delays) >= told for one in readers))  # noqa: B023
        for task in tasks:
            task.cancel()
    return readers


@asynccontextmanager
async def _stalled(
    target: str,
) -> AsyncIterator[tuple[grpc.aio.UnaryStreamCall[Watch, Event], list[Event]]]:
    """A watch of which nothing is read beyond the snapshot."""
    async with grpc.aio.insecure_channel(target, options=NARROW) as channel:
        stub = surface_service_pb2_grpc.SurfaceServiceStub(channel)
        call = stub.WatchSurfaces(Watch(underlyings=["BTC"]))
        seen: list[Event] = []
        while not seen or not seen[-1].HasField("snapshot_end"):
            response = await call.read()
            assert isinstance(response, Event)
            seen.append(response)
        yield call, seen


async def _read_to_the_end(
    call: grpc.aio.UnaryStreamCall[Watch, Event], seen: list[Event]
) -> Refusal:
    """What the watch ends with, once all that was on the way has been read."""
    async with asyncio.timeout(30.0):
        with refused() as refusal:
            while isinstance(response := await call.read(), Event):
                seen.append(response)
    return refusal


async def _resumed(target: str, token: str) -> Event:
    """The last surface of the snapshot of the watch that is taken up again."""
    async with grpc.aio.insecure_channel(target, options=NARROW) as channel:
        stub = surface_service_pb2_grpc.SurfaceServiceStub(channel)
        request = surface_service_pb2.WatchSurfacesRequest(underlyings=["BTC"], resume_token=token)
        last: Event | None = None
        async for response in stub.WatchSurfaces(request, timeout=30.0):
            if response.HasField("snapshot_end"):
                break
            last = response
        assert last is not None
        return last


def _median(readers: list[Reader]) -> float:
    return float(np.median([delay for reader in readers for delay in reader.delays]))
