"""What the live page follows a real server by, over loopback."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import grpc
import numpy as np
import pytest

from calib.client import connect
from calib.client.credentials import ChannelOpener
from calib.client.retrying import Backoff
from calib.client.servers import Servers
from calib.errors import Unavailable
from calib.modelrisk.alarms import Alarm
from calib.report.live import view
from calib.report.live.assessments import Assessed, Missed, watch_assessments
from calib.report.live.events import MOST_EVENTS, SPAN
from calib.report.live.recall import Recall
from calib.report.live.subscription import Subscription
from calib.service import model_risk_service
from calib.service.model_risk_service import ModelRiskServicer
from calib.service.server import running
from calib.service.settings import ServiceSettings
from calib.store import Entry, RecordKind, Store, open_store
from calib.store.assessments import alarm_records
from calib.store.provenance import SurfaceKey
from calib.v1 import model_risk_pb2
from calib.v1 import model_risk_service_pb2 as rpc
from tests.service.calls import Stubs
from tests.service.conftest import USUAL, serving
from tests.service.processes import eventually, free_port
from tests.service.samples import START, smile_quotes

SECOND = np.timedelta64(1_000_000, "us")


@asynccontextmanager
async def following(server: str) -> AsyncIterator[Subscription]:
    """A subscription that follows a server; its failure is that of the test."""
    subscription = Subscription(server, None, [])
    task = asyncio.create_task(subscription.follow())
    try:
        yield subscription
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@contextmanager
def closed_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Any, ...]]]:
    """A store whose records cannot be read before the end; gives what was asked, kind, underlying
    and start."""
    asked: list[tuple[Any, ...]] = []
    opened = threading.Event()
    records = Store.records

    def waiting(
        self: Store, kind: RecordKind, underlying: str, start: Any, *more: Any, **other: Any
    ) -> Any:
        asked.append((kind, underlying, start))
        opened.wait(30.0)
        return records(self, kind, underlying, start, *more, **other)

    monkeypatch.setattr(Store, "records", waiting)
    try:
        yield asked
    finally:
        opened.set()


def later(seconds: int) -> np.datetime64:
    return START + seconds * SECOND


def alarm(at: np.datetime64) -> Alarm:
    return Alarm("BTC", at, None, None, "ewma", "level", "it moved", 1.0, 0.5)


async def test_a_subscription_outlives_its_server_and_recalls_what_was_before(
    tmp_path: Path,
) -> None:
    listen = f"127.0.0.1:{free_port()}"
    settings = ServiceSettings(**(USUAL | {"listen": listen, "store": str(tmp_path / "s.db")}))
    quotes = smile_quotes("BTC")
    async with AsyncExitStack() as stack:
        async with running(settings) as server, connect(listen) as client:
            await server.warm
            await client.publish(quotes)
            await anext(client.watch(["BTC"]))
            async with grpc.aio.insecure_channel(listen) as channel:
                held = rpc.ForceBreakerRequest(
                    underlying="BTC",
                    level=model_risk_pb2.BREAKER_LEVEL_WIDENED,
                    operator="ann",
                    reason="lunch",
                )
                await Stubs(channel).risks.ForceBreaker(held)
            await client.publish(replace(quotes, quote_time=quotes.quote_time + SECOND))
            found = await stack.enter_async_context(following(listen))
            await eventually(lambda: "BTC" in found.state.updates and bool(found.state.events))
            told = found.state.events[0]
            assert (told.what, told.underlying) == ("NORMAL → WIDENED", "BTC")
            assert told.cause == "set to WIDENED by ann: lunch"
            assert found.state.risk_trouble == ""
            epoch = found.state.updates["BTC"].epoch
        await eventually(lambda: found.state.risk_trouble != "")
        async with running(settings):
            await eventually(lambda: found.state.updates["BTC"].epoch != epoch)
            await eventually(lambda: found.state.risk_trouble == "")
            (tile,) = view.tiles(found.state, monotonic())
            assert tile.state == "STALE · REPORTED"


async def test_of_many_alarms_the_newest_are_recalled(tmp_path: Path) -> None:
    address = str(tmp_path / "s.db")
    times = [later(-60 * minute) for minute in reversed(range(1_200))]  # the last is now
    with open_store(address, create=True) as store:
        written = alarm_records(map(alarm, times), None, SurfaceKey("", 0))
        store.append([Entry(records=written)])
    async with serving(store=address) as server, connect(server.address) as client:
        await client.publish(smile_quotes("BTC"))
        async with following(server.address) as found:
            await eventually(lambda: bool(found.state.events))
            at = [event.at for event in found.state.events if event.what == "ewma level"]
    assert at == times[: -MOST_EVENTS - 1 : -1]


async def test_a_slow_store_does_not_keep_the_watch_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = str(tmp_path / "s.db")
    with open_store(address, create=True) as store:
        written = alarm_records([alarm(later(-60))], None, SurfaceKey("", 0))
        store.append([Entry(records=written)])
    quotes = smile_quotes("BTC")
    async with serving(store=address) as server, connect(server.address) as client:
        await client.publish(quotes)
        async with following(server.address) as found:

            async def moves_on(seconds: int) -> None:
                now = later(seconds)
                await client.publish(replace(quotes, quote_time=np.full(len(quotes), now)))
                await eventually(
                    lambda: any(
                        one.risk.assess_time >= now for one in found.state.assessed.values()
                    )
                )

            with closed_store(monkeypatch) as asked:
                await eventually(lambda: bool(asked))
                await moves_on(10)
                await moves_on(20)
                assert found.state.events == ()
                assert view.connection(found.state, monotonic()).alive
            await eventually(lambda: bool(found.state.events))


async def test_what_was_skipped_is_missed_since_the_assessment_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    event = model_risk_service._event
    monkeypatch.setattr(model_risk_service, "_event", lambda notice, missed: event(notice, 1))
    quotes = smile_quotes("BTC")
    async with serving() as server, connect(server.address) as client:
        servers = Servers([server.address], ChannelOpener(None, ()))
        watch = watch_assessments(servers, [], Backoff(), interrupted=pytest.fail)
        times, missed = [], []
        async with asyncio.timeout(30.0):
            await client.publish(quotes)
            async for told in watch:
                if isinstance(told, Assessed):
                    times.append(told.risk.assess_time)
                if isinstance(told, Missed):
                    missed.append(told.since)
                    now = later(10 * len(missed))
                    await client.publish(replace(quotes, quote_time=np.full(len(quotes), now)))
                if len(missed) == 3:
                    break
    assert missed == [times[0] - SPAN, *times[:2]]


async def test_what_is_missed_meanwhile_is_asked_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(store=str(tmp_path / "s.db")) as server:
        recall = Recall(server.address, ChannelOpener(None, ()))
        async with aclosing(recall.events()) as events:
            first = asyncio.ensure_future(anext(events))
            with closed_store(monkeypatch) as asked:
                recall.want("BTC", later(0))
                await eventually(lambda: bool(asked))
                for seconds in (7, 5, 9):
                    recall.want("BTC", later(seconds))
            assert await first == await anext(events) == ()
    one_round = (RecordKind.ALARM, RecordKind.TRANSITION)
    starts = (later(0), later(5))
    assert asked == [(kind, "BTC", start) for start in starts for kind in one_round]


async def test_the_watch_of_model_risk_is_missed_though_surfaces_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = asyncio.Event()
    watch = ModelRiskServicer.WatchModelRisk

    async def until_broken(self: ModelRiskServicer, request: Any, context: Any) -> None:
        telling = asyncio.create_task(watch(self, request, context))
        await broken.wait()
        telling.cancel()
        await context.abort(grpc.StatusCode.UNAVAILABLE, "out of order")

    monkeypatch.setattr(ModelRiskServicer, "WatchModelRisk", until_broken)
    quotes = smile_quotes("BTC")
    async with serving() as server, connect(server.address) as client:
        await client.publish(quotes)
        async with following(server.address) as found:
            await eventually(lambda: found.state.underlyings == ("BTC",))
            await eventually(lambda: view.connection(found.state, monotonic()).alive)
            broken.set()
            await eventually(lambda: found.state.risk_trouble != "")
            heard_at = found.state.risk_heard_at
            await client.publish(replace(quotes, quote_time=quotes.quote_time + SECOND))
            await eventually(lambda: found.state.updates["BTC"].quote_time == later(1))
            said = view.connection(found.state, heard_at + 4.0)
            assert (said.word, said.alive) == ("SILENT", False)
            assert said.text.endswith(
                "has said nothing of model risk for 4.0 s (UNAVAILABLE: out of order)"
            )


async def test_a_store_that_fails_is_told_until_it_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(self: Store, entries: Sequence[Entry]) -> None:
        raise Unavailable("the disk is full")

    async with (
        serving(store=str(tmp_path / "s.db")) as server,
        connect(server.address) as client,
        following(server.address) as found,
    ):
        with monkeypatch.context() as patched:
            patched.setattr(Store, "append", refusing)
            await client.publish(smile_quotes("BTC"))
            await eventually(lambda: "the disk is full" in found.state.store_trouble)
            assert "the disk is full" in view.connection(found.state, monotonic()).store
        await eventually(lambda: found.state.store_trouble == "")
