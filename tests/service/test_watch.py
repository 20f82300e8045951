"""The subscription protocol as a reader on the wire sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import numpy as np
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration

from calib.service.hub import Hub
from calib.service.server import Running
from calib.states import SurfaceState
from calib.v1 import surface_service_pb2
from tests.service.calls import Stubs, ending, refused
from tests.service.conftest import Start
from tests.service.samples import START, surface

Watch = surface_service_pb2.WatchSurfacesRequest
Event = surface_service_pb2.WatchSurfacesResponse
Call = grpc.aio.UnaryStreamCall[Watch, Event]

# What keeps this side from reading ahead, as calib's own client sets it.
NARROW = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536)]


@pytest_asyncio.fixture
async def served(start: Start) -> AsyncIterator[tuple[Running, Stubs]]:
    server, _ = await start(write_timeout=0.5)
    async with grpc.aio.insecure_channel(server.address, options=NARROW) as channel:
        yield server, Stubs(channel)


async def event(call: Call) -> Event:
    response = await asyncio.wait_for(call.read(), 10.0)
    assert isinstance(response, Event)
    return response


async def opened(stubs: Stubs, **wishes: object) -> tuple[Call, list[Event]]:
    """A watch whose snapshot has been read, and that snapshot with its end."""
    call = stubs.surfaces.WatchSurfaces(Watch(**wishes))  # type: ignore[arg-type]
    events = [await event(call)]
    while not events[-1].HasField("snapshot_end"):
        events.append(await event(call))
    return call, events


def names(events: list[Event]) -> list[tuple[str, int]]:
    surfaces = [one.surface.surface for one in events if one.HasField("surface")]
    return [(one.underlying, one.revision) for one in surfaces]


def publish(hub: Hub, *underlyings: str) -> None:
    for underlying in underlyings:
        hub.publish(surface(underlying))


async def test_an_empty_snapshot_ends_too(served: tuple[Running, Stubs]) -> None:
    server, stubs = served
    _, events = await opened(stubs)
    assert len(events) == 1
    assert events[0].snapshot_end.surface_count == 0
    assert events[0].epoch == server.hub.epoch
    assert events[0].resume_token


async def test_snapshot_then_changes(served: tuple[Running, Stubs]) -> None:
    server, stubs = served
    publish(server.hub, "BTC", "ETH", "BTC")
    call, events = await opened(stubs)
    assert names(events) == [("ETH", 2), ("BTC", 3)]
    assert events[-1].snapshot_end.surface_count == 2
    publish(server.hub, "SPX")
    change = await event(call)
    assert names([change]) == [("SPX", 4)]
    assert change.surface.state == surface_service_pb2.SURFACE_STATE_LIVE
    assert change.surface.surface.epoch == change.epoch == server.hub.epoch


async def test_only_what_is_asked_for(served: tuple[Running, Stubs]) -> None:
    server, stubs = served
    publish(server.hub, "BTC", "ETH")
    call, events = await opened(stubs, underlyings=["ETH", "UNKNOWN"])
    assert names(events) == [("ETH", 2)]
    publish(server.hub, "BTC", "UNKNOWN")
    assert names([await event(call)]) == [("UNKNOWN", 4)]


async def test_heartbeats_while_nothing_changes(served: tuple[Running, Stubs]) -> None:
    server, stubs = served
    call, _ = await opened(stubs, heartbeat_interval=Duration(nanos=1))  # read as 0.1 s
    beats = [await event(call) for _ in range(3)]
    assert all(beat.HasField("heartbeat") for beat in beats)
    times = [beat.heartbeat.server_time.ToDatetime() for beat in beats]
    assert times == sorted(times)
    gap = (times[2] - times[1]).total_seconds()
    assert 0.05 < gap < 5.0
    publish(server.hub, "BTC")
    change = await event(call)
    while change.HasField("heartbeat"):
        change = await event(call)
    assert names([change]) == [("BTC", 1)]


async def test_heartbeats_while_everything_changes(served: tuple[Running, Stubs]) -> None:
    """A busy market does not hide the server's clock; and what a heartbeat's token leaves out was
    sent before it."""
    server, stubs = served

    async def trade() -> None:
        while True:
            publish(server.hub, "BTC", "ETH")
            await asyncio.sleep(0.002)

    call, _ = await opened(stubs, heartbeat_interval=Duration(nanos=100_000_000))
    for _ in range(3):
        trading = asyncio.create_task(trade())
        told: list[Event] = []
        while not (told and told[-1].HasField("heartbeat")):
            told.append(await event(call))
        trading.cancel()
        assert told[-1].heartbeat.HasField("server_time")
        revisions = [revision for _, revision in names(told)]
        assert revisions
        _, rest = await opened(stubs, resume_token=told[-1].resume_token)
        in_force = sorted((one.key.underlying, one.revision) for one in server.hub)
        assert sorted(names(rest)) == [one for one in in_force if one[1] > max(revisions)]


async def test_a_watch_resumes_from_any_of_its_tokens(served: tuple[Running, Stubs]) -> None:
    server, stubs = served
    publish(server.hub, "BTC", "ETH", "SPX")
    _, events = await opened(stubs)
    for seen, one in enumerate(events[:-1], start=1):
        _, rest = await opened(stubs, resume_token=one.resume_token)
        assert names(events[:seen]) + names(rest) == [("BTC", 1), ("ETH", 2), ("SPX", 3)]
    publish(server.hub, "ETH")
    _, rest = await opened(stubs, resume_token=events[-1].resume_token)
    assert names(rest) == [("ETH", 4)]
    assert rest[-1].snapshot_end.surface_count == 1
    _, rest = await opened(stubs, resume_token=rest[-1].resume_token)
    assert names(rest) == []


async def test_an_unknown_token_means_a_full_snapshot(served: tuple[Running, Stubs]) -> None:
    server, stubs = served
    publish(server.hub, "BTC")
    for token in ("nonsense", "\N{SNOWMAN}/3/x", f"{server.hub.epoch}/1/other"):
        _, events = await opened(stubs, resume_token=token)
        assert names(events) == [("BTC", 1)]


async def test_a_change_of_state_sends_the_same_surface_again(
    served: tuple[Running, Stubs],
) -> None:
    server, stubs = served
    publish(server.hub, "BTC")
    call, events = await opened(stubs)
    (published,) = list(server.hub)
    server.hub.restate(published.key, SurfaceState.STALE)
    again = await event(call)
    assert again.surface.state == surface_service_pb2.SURFACE_STATE_STALE
    assert again.surface.surface == events[0].surface.surface


async def test_a_reader_that_falls_behind_gets_the_latest_and_the_count(
    served: tuple[Running, Stubs],
) -> None:
    server, stubs = served
    call, _ = await opened(stubs)
    rounds = 600
    for _ in range(rounds):
        publish(server.hub, "BTC", "ETH")
        await asyncio.sleep(0)
    received: list[Event] = []
    while not received or received[-1].surface.surface.revision < 2 * rounds:
        received.append(await event(call))
    revisions = [one.surface.surface.revision for one in received]
    assert revisions == sorted(set(revisions))
    assert len(received) < rounds  # it really was skipped, not queued
    for name in ("BTC", "ETH"):
        mine = [one for one in received if one.surface.surface.underlying == name]
        assert sum(one.surface.conflated_count for one in mine) + len(mine) == rounds
    contents = {
        one.surface.surface.revision: one.surface.surface.SerializeToString() for one in received
    }
    assert len(contents) == len(received)


async def test_a_stalled_reader_is_dropped_and_may_resume_while_others_go_on(
    served: tuple[Running, Stubs],
) -> None:
    server, stubs = served
    stalled, events = await opened(stubs)
    token = events[-1].resume_token
    async with grpc.aio.insecure_channel(server.address, options=NARROW) as channel:
        lively, _ = await opened(Stubs(channel))
        assert server.hub.subscribers == 2
        last = 0
        deadline = asyncio.get_running_loop().time() + 20.0
        while server.hub.subscribers == 2:
            publish(server.hub, "BTC")
            last = (await event(lively)).surface.surface.revision
            assert asyncio.get_running_loop().time() < deadline
        assert server.hub.subscribers == 1
        publish(server.hub, "BTC")
        assert (await event(lively)).surface.surface.revision == last + 1
    tokens = [token]
    refusal = await ending(stalled, lambda one: tokens.append(one.resume_token))
    token = tokens[-1]
    assert refusal.code is grpc.StatusCode.UNAVAILABLE
    assert refusal.reason == "SLOW_CONSUMER"
    assert refusal.retry_seconds is not None
    _, rest = await opened(stubs, resume_token=token)
    assert names(rest) == [("BTC", last + 1)]


async def test_a_reader_that_leaves_is_forgotten(served: tuple[Running, Stubs]) -> None:
    server, stubs = served
    idle, _ = await opened(stubs)
    busy, _ = await opened(stubs)
    assert server.hub.subscribers == 2
    idle.cancel()
    busy.cancel()
    for _ in range(500):
        publish(server.hub, "BTC")
        await asyncio.sleep(0.01)
        if server.hub.subscribers == 0:
            break
    assert server.hub.subscribers == 0


async def test_watches_are_bounded_and_starve_no_other_call(start: Start) -> None:
    server, client = await start(max_watches=3)
    async with grpc.aio.insecure_channel(server.address) as channel:
        stubs = Stubs(channel)
        open_calls = [await opened(stubs) for _ in range(3)]
        with refused() as refusal:
            await opened(stubs)
        assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refusal.reason == "OVERLOADED"
        publish(server.hub, "BTC")
        assert (await client.get("BTC")).revision == 1
        open_calls[0][0].cancel()
        for _ in range(500):
            await asyncio.sleep(0.01)
            if server.hub.subscribers < 3:
                break
        await opened(stubs)


async def test_readers_share_what_is_sent(served: tuple[Running, Stubs]) -> None:
    server, stubs = served
    calls = [(await opened(stubs, underlyings=["BTC"]))[0] for _ in range(5)]
    server.hub.publish(surface("BTC", at=START + np.timedelta64(1, "s")))
    received = [await event(call) for call in calls]
    assert all(one == received[0] for one in received)
