"""A quarter of an hour under chains, ticks and watchers that come and go: memory and latency drift.

CALIB_SOAK_SECONDS (900) is how long it lasts, in sections of CALIB_SOAK_SECTION (60).
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from time import monotonic

import pytest

from calib.client import Client
from calib.conventions import utc_now
from tests.benchmarks.load import NAMES
from tests.benchmarks.load_run import DAYS, Row, line, script, tick, warmed
from tests.service.processes import Footprint, serving
from tests.service.restarts import SETTINGS
from tests.service.samples import at_time, smile_quotes

pytestmark = pytest.mark.drill
SECONDS = float(os.environ.get("CALIB_SOAK_SECONDS", "900"))
SECTION = float(os.environ.get("CALIB_SOAK_SECTION", "60"))
WATCHERS = 50
RATE = 20.0


async def test_a_soak_holds_memory_and_latency(tmp_path: Path) -> None:
    start = monotonic()
    rows: list[Row] = []
    held: list[Footprint] = []
    async with serving(tmp_path / "calib.db", **SETTINGS) as (server, client):
        await warmed(client)
        load = [
            asyncio.create_task(tick(client, RATE, start)),
            asyncio.create_task(_chains(client)),
        ]
        try:
            while len(rows) < 3 or monotonic() - start < SECONDS:
                async with script("watchers", client.target, WATCHERS, SECTION, start) as readers:
                    assert await line(readers) == "ready"
                    rows.append(Row.of(await line(readers), server))
                held.append(Footprint.of(server.pid))
                print(f"{monotonic() - start:5.0f} s {rows[-1]} {held[-1]}")
                for task in load:
                    assert not task.done(), task.result()
        finally:
            for task in load:
                task.cancel()
    # The first section is still filling what is then kept full.
    drift = rows[-1].milliseconds[0] / rows[1].milliseconds[0]
    print(
        f"memory {held[-1].megabytes - held[1].megabytes:+.1f} MB, median latency x{drift:.2f} "
        f"from the second section to the last"
    )
    assert held[-1].files <= held[1].files + 8
    assert held[-1].threads <= held[1].threads + 4
    assert held[-1].megabytes < held[1].megabytes + 64.0


async def _chains(client: Client) -> None:
    """A chain of every underlying twice a second, until cancelled."""
    opening = utc_now()
    async with client.publisher() as publisher:
        while True:
            for name in NAMES:
                quotes = smile_quotes(name, at=opening, days=DAYS)
                await publisher.send(at_time(quotes, utc_now()))
            await asyncio.sleep(0.5)
