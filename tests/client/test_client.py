"""The client: light to import, patient with servers, never back in time, honest about age."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
import pytest

import calib
from calib.client import Acknowledgement, Client, StaleCause, SurfaceUpdate, connect
from calib.client.contact import Contact
from calib.client.retrying import Backoff
from calib.client.update import update_of
from calib.client.watch import Progress, Wishes
from calib.errors import InvalidRequest, NotFitted, Unavailable
from calib.quotes.reasons import Reason
from calib.quotes.table import Problem
from calib.service.server import Running, running
from calib.service.settings import ServiceSettings
from calib.states import SurfaceState
from calib.v1 import surface_service_pb2
from tests.service.conftest import QUIET
from tests.service.samples import START, smile_quotes, surface

SECOND = np.timedelta64(1_000_000, "us")
EAGER = Backoff(first_seconds=0.01, longest_seconds=0.05)


def settings(**changes: object) -> ServiceSettings:
    chosen = {
        "listen": "127.0.0.1:0",
        "store": None,
        "warm_up": False,
        "model_risk": QUIET,
    } | changes
    return ServiceSettings(**chosen)  # type: ignore[arg-type]


@asynccontextmanager
async def served(**changes: object) -> AsyncIterator[tuple[Running, Client]]:
    async with (
        running(settings(**changes)) as server,
        connect(server.address, backoff=EAGER) as client,
    ):
        await client.wait_until_serving()
        yield server, client


def test_the_quoters_side_imports_neither_jax_nor_pandas() -> None:
    script = """
import asyncio, sys
import calib
from calib.service.hub import Hub
from tests.service.samples import surface

async def main():
    client = calib.connect("127.0.0.1:1")
    async with client:
        pass

asyncio.run(main())
hub = Hub("e")
hub.publish(surface())
(published,) = hub
from calib.conventions import utc_now
from calib.client.update import update_of
update = update_of(published.update, utc_now)
strike = update.surface.expiries[0].forward
assert update.surface.implied_vol(strike, update.surface.expiries[0].expiry) > 0.0
heavy = {"jax", "jaxlib", "pandas", "sqlalchemy", "pydantic", "scipy", "pyarrow", "matplotlib"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_connect_is_public() -> None:
    assert calib.connect is connect


async def test_a_client_that_is_not_open_says_how_to_open_it() -> None:
    client = connect("127.0.0.1:1")
    with pytest.raises(InvalidRequest, match="async with"):
        await client.get("BTC")
    async with client:
        with pytest.raises(InvalidRequest, match="open already"):
            await client.__aenter__()


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    async with connect("127.0.0.1:1", timeout_seconds=0.5) as client:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
            await client.get("BTC")
        with pytest.raises(Unavailable, match="not ready within"):
            await client.wait_until_serving(0.2)
        async with client.publisher() as publisher:
            with pytest.raises(Unavailable):
                await publisher.send(smile_quotes())


async def test_a_watch_waits_for_a_server_and_outlives_it() -> None:
    async with running(settings()) as server:
        address = server.address  # free again when this server has ended
    async with connect(address, backoff=EAGER) as client:
        updates = client.watch(["BTC"], heartbeat_seconds=0.2)
        waiting = asyncio.ensure_future(anext(updates))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        async with running(settings(listen=address)) as first:
            first.hub.publish(surface(level=0.04))
            one = await asyncio.wait_for(waiting, 20.0)
            assert (one.epoch, one.revision) == (first.hub.epoch, 1)
        waiting = asyncio.ensure_future(anext(updates))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        async with running(settings(listen=address)) as second:
            second.hub.publish(surface(level=0.09))
            two = await asyncio.wait_for(waiting, 20.0)
            assert two.epoch == second.hub.epoch
            assert two.epoch > one.epoch
            assert two.surface.expiries != one.surface.expiries


async def test_an_interrupted_watch_misses_nothing_and_repeats_nothing() -> None:
    """The connection goes through a relay that is cut again and again."""
    async with served() as (server, _), relay(server.address) as (address, cut):
        async with connect(address, backoff=EAGER) as client:
            seen: list[SurfaceUpdate] = []

            async def read() -> None:
                updates = client.watch(["BTC", "ETH"], heartbeat_seconds=0.2)
                while True:
                    seen.append(await anext(updates))

            reading = asyncio.create_task(read())
            for i in range(60):
                server.hub.publish(surface("BTC" if i % 3 else "ETH"))
                await asyncio.sleep(0.02)
                if i % 20 == 10:
                    cut()
            for _ in range(500):
                if seen and seen[-1].revision == 60:
                    break
                await asyncio.sleep(0.02)
            reading.cancel()
        revisions = [update.revision for update in seen]
        assert revisions == sorted(set(revisions))
        assert revisions[-1] == 60
        assert {update.epoch for update in seen} == {server.hub.epoch}


@asynccontextmanager
async def relay(target: str) -> AsyncIterator[tuple[str, Callable[[], None]]]:
    """A TCP relay to ``target``; the second value cuts all its connections."""
    host, port = target.rsplit(":", 1)
    writers: set[asyncio.StreamWriter] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, int(port))
        both = {writer, back}
        writers.update(both)
        await asyncio.gather(pump(reader, back), pump(there, writer))
        writers.difference_update(both)

    def cut() -> None:
        for writer in list(writers):
            writer.transport.abort()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", cut
    finally:
        cut()
        server.close()


async def test_a_silent_connection_is_given_up() -> None:
    """A server that hangs without closing is noticed by its missing heartbeats."""

    async def hang(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        tries.append(request)
        await asyncio.sleep(60.0)

    tries: list[bytes] = []
    handler: Any = grpc.unary_stream_rpc_method_handler(hang)
    mute = grpc.aio.server()
    mute.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "calib.v1.SurfaceService", {"WatchSurfaces": handler}
            ),
        )
    )
    port = mute.add_insecure_port("127.0.0.1:0")
    await mute.start()
    async with connect(f"127.0.0.1:{port}", backoff=EAGER) as client:
        waiting = asyncio.ensure_future(anext(client.watch(heartbeat_seconds=0.1)))
        for _ in range(500):
            await asyncio.sleep(0.02)
            if len(tries) >= 3:
                break
        waiting.cancel()
    await mute.stop(0.0)
    assert len(tries) >= 3


async def test_closing_a_client_ends_its_watches_and_reads_with_a_reason() -> None:
    async with served() as (server, _), connect(server.address, timeout_seconds=1e6) as client:
        updates = client.watch(["BTC"])
        waiting = asyncio.ensure_future(anext(updates))
        async with asyncio.timeout(20.0):
            while not server.hub.subscribers:  # noqa: ASYNC110 - the hub tells nobody
                await asyncio.sleep(0.01)
        await client.__aexit__(None, None, None)
        with pytest.raises(Unavailable, match="the client was closed"):
            await asyncio.wait_for(waiting, 20.0)
        with pytest.raises(InvalidRequest, match="not open"):
            await client.get("BTC")
        with pytest.raises(InvalidRequest, match="connect anew"):
            await client.__aenter__()


async def test_a_watch_that_is_cancelled_ends_as_any_task_does() -> None:
    async with served() as (server, client):
        waiting = asyncio.ensure_future(anext(client.watch(["BTC"])))
        async with asyncio.timeout(20.0):
            while not server.hub.subscribers:  # noqa: ASYNC110 - the hub tells nobody
                await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await anext(client.watch(["BTC"]))


async def test_a_request_that_the_server_refuses_is_not_repeated() -> None:
    async with served() as (_, client):
        with pytest.raises(InvalidRequest, match="underlyings: one of them is empty"):
            await asyncio.wait_for(anext(client.watch([""])), 10.0)
        with pytest.raises(InvalidRequest, match=r"between 0\.1 and 60, not 0\.0"):
            client.watch(heartbeat_seconds=0.0)


async def test_a_watch_that_is_left_ends_at_the_server() -> None:
    async with served() as (server, client):
        server.hub.publish(surface())
        updates = client.watch()
        await anext(updates)
        assert server.hub.subscribers == 1
        await updates.aclose()  # type: ignore[attr-defined]
        for _ in range(500):
            if server.hub.subscribers == 0:
                break
            await asyncio.sleep(0.01)
        assert server.hub.subscribers == 0


async def test_a_stream_of_batches_is_acknowledged_batch_by_batch() -> None:
    async with served() as (_, client), client.publisher() as publisher:
        assert (await publisher.send(smile_quotes())).accepted == 45
        quotes = smile_quotes(at=START + SECOND)
        strike = quotes.strike.copy()
        strike[4] = -1.0
        picked = replace(quotes, strike=strike).take(np.arange(3, 10))
        spoiled = await publisher.send(picked, snapshot_complete=False)
        assert (spoiled.accepted, spoiled.rejected) == (6, 1)
        assert spoiled.problems == (Problem(4, "strike", "-1", Reason.BAD_STRIKE),)
        levels = await publisher.send_levels(
            "BTC", venue="test", quote_time="2026-03-02T08:00:05Z", spot=70_000.0
        )
        assert (levels.accepted, levels.rejected) == (1, 0)


async def test_a_stream_to_a_server_that_goes_down_is_unavailable() -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running(settings()))
        async with connect(server.address) as client:
            await client.wait_until_serving()
            async with client.publisher() as publisher:
                await publisher.send(smile_quotes())
                await stack.aclose()
                for _ in range(2):  # the second time the stream is known to have ended
                    with pytest.raises(Unavailable, match="going down"):
                        await publisher.send(smile_quotes())


def test_acknowledgements_add_up() -> None:
    one = Acknowledgement(3, 1, {Reason.CROSSED: 1}, (Problem(2, "bid", "9", Reason.CROSSED),))
    two = Acknowledgement(1, 3, {Reason.CROSSED: 1, Reason.EXPIRED: 2})
    both = one + two
    assert (both.accepted, both.rejected) == (4, 4)
    assert both.reasons == {Reason.CROSSED: 2, Reason.EXPIRED: 2}
    assert both.problems == one.problems


def response(
    revision: int, *, state: int = 1, epoch: str = "a", underlying: str = "BTC"
) -> surface_service_pb2.WatchSurfacesResponse:
    update = surface_service_pb2.SurfaceUpdate(
        surface=surface(underlying, epoch=epoch, revision=revision).to_proto(),
        state=surface_service_pb2.SurfaceState.ValueType(state),
    )
    return surface_service_pb2.WatchSurfacesResponse(surface=update, epoch=epoch, resume_token="t")


def snapshot_end(epoch: str = "a") -> surface_service_pb2.WatchSurfacesResponse:
    end = surface_service_pb2.SnapshotEnd(surface_count=0)
    return surface_service_pb2.WatchSurfacesResponse(
        snapshot_end=end, epoch=epoch, resume_token="end"
    )


class Stopwatch:
    seconds = 0.0

    def contact(self) -> Contact:
        return Contact("here:1", 1.0, 1.0, lambda: START, lambda: self.seconds)


def test_a_revision_never_goes_back_within_an_epoch() -> None:
    progress = Progress("here:1")
    progress.connected(Stopwatch().contact())
    progress.hear(snapshot_end())
    news = [
        len(progress.hear(one))
        for one in (
            response(5),
            response(5),  # sent again after a reconnect
            response(4),  # older
            response(5, state=2),  # the same surface, now stale
            response(1, underlying="ETH"),
            response(6),
            response(1, epoch="b"),  # another run of the server
            response(1, epoch="b"),
        )
    ]
    assert news == [1, 0, 0, 1, 1, 1, 1, 0]


def test_a_snapshot_is_handed_out_as_a_whole_and_resumed_from_when_it_was() -> None:
    progress = Progress("here:1")
    for _ in range(2):  # the first connection breaks before the snapshot is complete
        progress.connected(Stopwatch().contact())
        for part in (response(5), response(6, underlying="ETH")):
            assert progress.hear(part) == []
            progress.handed_out(part)
        assert progress.resume_token == ""
    both = progress.hear(snapshot_end())
    assert [update.underlying for update in both] == ["BTC", "ETH"]
    assert progress.resume_token == ""
    progress.handed_out(snapshot_end())
    assert progress.resume_token == "end"


def test_what_a_broken_connection_brought_lives_on_when_the_next_has_caught_up() -> None:
    """A surface that is not sent again has not changed, but that is known at the end only."""
    time, progress = Stopwatch(), Progress("here:1")
    progress.connected(time.contact())
    for part in (response(5), response(6, underlying="ETH")):
        progress.hear(part)
    btc, eth = progress.hear(snapshot_end())
    progress.handed_out(snapshot_end())
    for _ in range(3):
        assert (btc.state, eth.state) == (SurfaceState.LIVE, SurfaceState.LIVE)
        time.seconds += 2.0
        for _ in range(2):  # the first try comes to nothing
            progress.connected(time.contact())
            progress.hear(response(7))
            assert (btc.stale_cause, eth.stale_cause) == (StaleCause.SILENT, StaleCause.SILENT)
        progress.hear(snapshot_end())
        assert eth.stale_cause is StaleCause.SILENT
        progress.handed_out(snapshot_end())
    time.seconds += 2.0
    progress.connected(time.contact())
    (other,) = progress.hear(response(1, epoch="b")) or progress.hear(snapshot_end("b"))
    progress.handed_out(snapshot_end("b"))
    assert other.state is SurfaceState.LIVE
    assert (btc.stale_cause, eth.stale_cause) == (StaleCause.SILENT, StaleCause.SILENT)


def test_state_follows_the_clock_of_whoever_asks() -> None:
    now = [START]
    message = response(3).surface
    message.valid_until.FromDatetime((START + 60 * SECOND).astype(object))
    update = update_of(message, lambda: now[0])
    assert (update.state, update.age_seconds) == (SurfaceState.LIVE, 0.0)
    now[0] = START + 59 * SECOND
    assert (update.state, update.age_seconds) == (SurfaceState.LIVE, 59.0)
    now[0] = START + 60 * SECOND
    assert update.state is SurfaceState.STALE
    assert update.reported_state is SurfaceState.LIVE
    stale = update_of(response(3, state=2).surface, lambda: START)
    assert stale.state is SurfaceState.STALE


def test_a_state_that_is_not_known_is_stale() -> None:
    for state in (0, 9):
        assert update_of(response(3, state=state).surface, lambda: START).state.name == "STALE"


def test_pauses_grow_to_their_bound_and_scatter() -> None:
    low = Backoff(0.1, 1.0, random=lambda: 0.0).pauses()
    high = Backoff(0.1, 1.0, random=lambda: 1.0).pauses()
    lows, highs = ([next(pauses) for _ in range(6)] for pauses in (low, high))
    assert highs == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    assert lows == pytest.approx([0.5 * pause for pause in highs])


def test_wishes_become_a_request() -> None:
    request = Wishes(("BTC",), (calib.ModelName.SABR,), heartbeat_seconds=2.25).request("token")
    assert list(request.underlyings) == ["BTC"]
    assert list(request.models) == [3]
    assert request.resume_token == "token"
    assert (request.heartbeat_interval.seconds, request.heartbeat_interval.nanos) == (
        2,
        250_000_000,
    )


async def test_not_found_is_not_fitted() -> None:
    async with served() as (_, client):
        with pytest.raises(NotFitted, match="'BTC'"):
            await client.get("BTC")
