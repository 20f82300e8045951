"""Ten minutes of a live feed with faults into a server: nothing missed, and how long it takes."""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import suppress
from math import isnan, nan
from time import monotonic

import numpy as np
import pytest

import calib
from calib.client import Client
from calib.feeds.deribit import DeribitFeed, DeribitSettings
from calib.feeds.deribit.pump import pump
from calib.service.server import running
from calib.service.settings import ServiceSettings
from tests.feeds.exchange import Exchange, exchange, listed
from tests.feeds.test_deribit import faults, heard, until
from tests.service.conftest import QUIET

SECONDS = float(os.environ.get("CALIB_FEED_SOAK_SECONDS", "600"))
PATIENCE = 30.0


@pytest.mark.drill
@pytest.mark.timeout(1_200)
async def test_ten_minutes_of_a_faulty_feed() -> None:
    draw = random.Random(12)
    server_settings = ServiceSettings(
        listen="127.0.0.1:0", store=None, warm_up=False, model_risk=QUIET
    )
    waits: list[float] = []
    async with (
        exchange(listed(1, 6, 15)) as one,
        running(server_settings) as server,
        calib.connect(server.address) as client,
    ):
        settings = DeribitSettings(("BTC",), websocket=one.url, rest=one.rest, refresh_seconds=20.0)
        feed, twin = DeribitFeed(settings), DeribitFeed(settings)
        around = {name: option.ask for name, option in one.options.items()}
        seen = Seen()
        working = [asyncio.create_task(pump(feed, client)), asyncio.create_task(seen.keep(client))]
        await until(lambda: seen.updates > 0, 60.0)
        async with heard(twin) as found:
            end = monotonic() + SECONDS
            while monotonic() < end:
                await faults(one, draw, 50, around)
                waits.append(await latency(one, seen, draw))
            await until(lambda: found.agrees(one.options), 60.0)
        for task in working:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    told = [wait for wait in waits if not isnan(wait)]
    p50, p99 = 1e3 * np.quantile(told, [0.5, 0.99])
    print(
        f"{feed.counts}\n{len(told)} of {len(waits)} moves of the market made a surface within "
        f"{PATIENCE:.0f} s: exchange to surface {p50:.0f} ms (p50), {p99:.0f} ms (p99), of which "
        f"the feed collects for up to {1e3 * settings.collect_seconds:.0f}; {seen.updates} updates"
    )
    assert feed.counts.reconnects > 0
    assert len(told) > 0.9 * len(waits)


class Seen:
    """The quote time of the newest surface that a watch gave, and how many it gave."""

    def __init__(self) -> None:
        self.quote_time: np.datetime64 = np.datetime64(0, "us")
        self.updates = 0
        self.news = asyncio.Event()

    async def keep(self, client: Client) -> None:
        async for update in client.watch(["BTC"]):
            self.quote_time, self.updates = update.quote_time, self.updates + 1
            self.news.set()


async def latency(one: Exchange, seen: Seen, draw: random.Random) -> float:
    """Seconds from a move of the market to a surface of that time; nan where none came."""
    name = draw.choice(list(one.options))
    last = one.options[name]
    started = monotonic()
    moved = await one.move(name, bid=0.5 * last.ask, ask=last.ask)
    stamp = np.datetime64(moved.timestamp, "ms")
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while seen.quote_time < stamp:
                seen.news.clear()
                await seen.news.wait()
            return monotonic() - started
    return nan
