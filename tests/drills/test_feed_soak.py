"""Ten minutes of a live feed with faults into a server: nothing missed, and how long it takes."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from math import isnan

import numpy as np
import pytest

import calib
from calib.feeds.deribit import DeribitFeed, DeribitSettings
from calib.feeds.deribit.pump import pump
from calib.service.server import running
from calib.service.settings import ServiceSettings
from tests.feeds.exchange import exchange, listed
from tests.feeds.test_deribit import faults, heard, until

SECONDS = 600.0


@pytest.mark.drill
@pytest.mark.timeout(1_200)
async def test_ten_minutes_of_a_faulty_feed() -> None:
    draw, clock = random.Random(12), asyncio.get_running_loop().time
    server_settings = ServiceSettings(listen="127.0.0.1:0", store=None, warm_up=False)
    waits: list[float] = []
    async with (
        exchange(listed(1, 6, 15)) as one,
        running(server_settings) as server,
        calib.connect(server.address) as client,
    ):
        settings = DeribitSettings(("BTC",), websocket=one.url, rest=one.rest, refresh_seconds=20.0)
        feed, twin = DeribitFeed(settings), DeribitFeed(settings)
        pumping = asyncio.create_task(pump(feed, client))
        updates = client.watch(["BTC"])
        surface = (await anext(updates)).surface
        async with heard(twin) as found:
            end = clock() + SECONDS
            while clock() < end:
                await faults(one, draw, 50)
                waits += [await latency(one, updates, draw, clock)]
            await until(lambda: found.agrees(one.options), 60.0)
        pumping.cancel()
        with suppress(asyncio.CancelledError):
            await pumping
    told = [wait for wait in waits if not isnan(wait)]
    p50, p99 = 1e3 * np.quantile(told, [0.5, 0.99])
    print(
        f"{feed.counts}\n{len(told)} moves of the market: exchange to surface {p50:.0f} ms (p50), "
        f"{p99:.0f} ms (p99), of which the feed collects for up to "
        f"{1e3 * settings.collect_seconds:.0f}; first surface {surface}"
    )
    assert feed.counts.reconnects > 0
    assert len(told) > 0.9 * len(waits)


async def latency(one, updates, draw, clock) -> float:  # type: ignore[no-untyped-def]
    """Seconds from a move of the market to a surface of that time."""
    name = draw.choice(list(one.options))
    last = one.options[name]
    started = clock()
    moved = await one.move(name, bid=0.5 * last.ask, ask=last.ask)
    stamp = np.datetime64(moved.timestamp, "ms")
    try:
        async with asyncio.timeout(30.0):
            async for update in updates:
                if update.quote_time >= stamp:
                    return float(clock() - started)
    except TimeoutError:
        pass
    return float("nan")
