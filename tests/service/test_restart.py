"""Ending and beginning again: nothing published is lost, nothing old passes for new."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from pathlib import Path

import grpc
import numpy as np
import pandas as pd
import pytest

from calib.client import Client, connect
from calib.errors import Unavailable
from calib.service.server import running
from calib.service.settings import ServiceSettings
from calib.states import SurfaceState
from calib.store import open_store
from calib.v1 import quote_service_pb2
from tests.service.calls import Stubs, ending
from tests.service.conftest import QUIET
from tests.service.processes import serving
from tests.service.restarts import NAMES, killed_under_load
from tests.service.samples import START, at_time, smile_quotes, surface
from tests.service.test_doors import good_batch
from tests.service.test_watch import opened
from tests.store.samples import published as entries

LATER = START + np.timedelta64(1, "s")


async def published(client: Client, underlying: str, vol: float) -> tuple[str, int]:
    updates = client.watch([underlying])
    await client.publish(smile_quotes(underlying, vol=vol))
    update = await anext(updates)
    return update.epoch, update.revision


async def test_a_restart_serves_the_last_surfaces_at_once_marked_stale(tmp_path: Path) -> None:
    settings = ServiceSettings(
        listen="127.0.0.1:0", store=str(tmp_path / "calib.db"), warm_up=False, model_risk=QUIET
    )
    async with running(settings) as server, connect(server.address) as client:
        await client.wait_until_serving()
        await published(client, "BTC", 0.5)
        await published(client, "ETH", 0.8)
        before = {name: await client.get(name) for name in ("BTC", "ETH")}
    async with running(settings) as server, connect(server.address) as client:
        for name, old in before.items():
            now = await client.get(name)
            assert now.reported_state is SurfaceState.STALE
            assert now.epoch == server.hub.epoch != old.epoch
            assert now.epoch > old.epoch
            assert now.surface.expiries == old.surface.expiries
            assert now.surface.calibration_time == old.surface.calibration_time
            assert now.surface.input_hash == old.surface.input_hash
        await client.wait_until_serving()
        fresh = smile_quotes("BTC", vol=0.6, at=LATER)
        await client.publish(fresh)
        updates = client.watch(["BTC"])
        update = await anext(updates)
        while update.reported_state is SurfaceState.STALE:
            update = await anext(updates)
        assert update.quote_time == LATER
        assert (await client.get("ETH")).reported_state is SurfaceState.STALE
    with open_store(str(tmp_path / "calib.db")) as store:
        kept = [(s.underlying, s.epoch) for s in store.surfaces()]
    assert len(kept) == 3  # what a restart serves again is not a new surface
    assert len({epoch for _, epoch in kept}) == 2


async def test_what_was_published_survives_a_kill(tmp_path: Path) -> None:
    store = tmp_path / "calib.db"
    async with serving(store) as (server, client):
        epoch, revision = await published(client, "BTC", 0.5)
        last = await client.get("BTC")
        kept = 0
        for _ in range(200):  # the writer is a thread of its own
            kept = len([s async for s in client.history("BTC")])
            if kept:
                break
            await asyncio.sleep(0.02)
        assert kept == 1
        server.send_signal(signal.SIGKILL)
        await server.wait()
        with pytest.raises(Unavailable):
            await client.get("BTC")
    async with serving(store) as (_, client):
        now = await client.get("BTC")
        assert now.reported_state is SurfaceState.STALE
        assert now.surface.expiries == last.expiries
        assert (now.epoch, now.revision) != (epoch, revision)
        history = [s async for s in client.history("BTC")]
        assert [(s.epoch, s.revision) for s in history] == [(epoch, revision)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_calls_resumably_and_loses_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    store = tmp_path / "calib.db"
    async with serving(store, SHUTDOWN_GRACE="10min") as (server, client):
        await published(client, "BTC", 0.5)
        async with grpc.aio.insecure_channel(client.target) as channel:
            stubs = Stubs(channel)
            watch, _ = await opened(stubs)
            stream = stubs.quotes.PublishQuotes()
            await stream.write(quote_service_pb2.PublishQuotesRequest(quotes=good_batch("ETH")))
            await stream.read()
            server.send_signal(number)
            for call in (watch, stream):
                refusal = await ending(call)
                assert refusal.code is grpc.StatusCode.UNAVAILABLE
                assert refusal.reason == "SHUTTING_DOWN"
                assert refusal.retry_seconds is not None
        # What was acknowledged is fitted first, and compiled for where it is the first.
        assert await asyncio.wait_for(server.wait(), 60.0) == 0
    with open_store(str(store)) as kept:
        assert "BTC" in {s.underlying for s in kept.surfaces()}


async def test_a_taken_port_and_an_unusable_store_are_named(tmp_path: Path) -> None:
    settings = ServiceSettings(listen="127.0.0.1:0", store=None, warm_up=False)
    async with running(settings) as server:
        taken = ServiceSettings(listen=server.address, store=None, warm_up=False)
        with pytest.raises(Unavailable, match=server.address):
            async with running(taken):
                pass
    folder = ServiceSettings(
        listen="127.0.0.1:0", store=str(tmp_path / "no" / "calib.db"), warm_up=False
    )
    with pytest.raises(Unavailable, match=r"calib\.db"):
        async with running(folder):
            pass


async def test_a_damaged_row_of_the_store_does_not_keep_the_server_down(tmp_path: Path) -> None:
    path = tmp_path / "calib.db"
    with open_store(str(path), create=True) as store:
        store.append(
            entries(surface(n, epoch="e", revision=i) for i, n in enumerate(("A", "B"), 1))
        )
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE surfaces SET message = X'FFFF' WHERE underlying = 'A'")
    connection.close()
    settings = ServiceSettings(listen="127.0.0.1:0", store=str(path), warm_up=False)
    async with running(settings) as server, connect(server.address) as client:
        with pytest.raises(Unavailable, match="correlation"):
            await anext(client.history("A"))
        assert [p.key.underlying for p in server.hub] == ["B"]


async def test_what_was_acknowledged_before_a_sigterm_is_fitted_and_stored(tmp_path: Path) -> None:
    store = tmp_path / "calib.db"
    async with serving(store, SHUTDOWN_GRACE="1min") as (server, client):
        await published(client, "BTC", 0.6)
        for step in range(1, 21):  # faster than they are fitted
            at = START + np.timedelta64(step, "s")
            assert (await client.publish(at_time(smile_quotes("BTC", vol=0.6), at))).accepted
        server.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(server.wait(), 60.0) == 0
    with open_store(str(store)) as kept:
        *_, last = kept.surfaces("BTC")
        quotes = kept.quotes("BTC")
    assert last.quote_time == at
    assert quotes.quote_time.max() == pd.Timestamp(at, tz="UTC")


async def test_kills_under_load_show_no_watcher_anything_twice_or_older(tmp_path: Path) -> None:
    report = await killed_under_load(tmp_path, kills=5, watchers=6, seed=1, fits_every=5)
    print(report)  # noqa: T201 - figures for people
    assert report.wrong == []
    assert report.surfaces > 5 * len(NAMES)  # more than what every restart serves again
    assert report.acknowledged > 0
