"""Watchers by the thousand: deliveries, latency and memory, beside a bare stream of gRPC.

Three processes on one machine: the server as `calib serve` runs it, all watchers in one, each with
a connection of its own, and this one, which sends ticks that each make a surface. The bare server
streams the same messages at the same rate to the same watchers, with nothing behind it.
CALIB_LOAD_SECONDS (5) is how long each row lasts, CALIB_LOAD_WATCHERS (1,10,100,1000) how many
watch, CALIB_LOAD_RATE (20) how many surfaces there are a second.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from time import monotonic

from tests.benchmarks.load_run import Row, line, script, tick, warmed
from tests.service.processes import serving
from tests.service.restarts import SETTINGS

SECONDS = float(os.environ.get("CALIB_LOAD_SECONDS", "5"))
WATCHERS = [int(n) for n in os.environ.get("CALIB_LOAD_WATCHERS", "1,10,100,1000").split(",")]
RATE = float(os.environ.get("CALIB_LOAD_RATE", "20"))


async def test_fan_out_beside_a_bare_stream(tmp_path: Path) -> None:
    start, file = monotonic(), tmp_path / "message"
    rows, bare = {}, {}
    async with serving(tmp_path / "calib.db", **SETTINGS) as (server, client):
        message = await warmed(client)
        file.write_bytes(message)
        for count in WATCHERS:
            async with script("watchers", client.target, count, SECONDS, start) as readers:
                assert await line(readers) == "ready"
                ticks = asyncio.create_task(tick(client, RATE, start))
                try:
                    rows[count] = Row.of(await line(readers), server)
                    assert not ticks.done(), ticks.result()
                finally:
                    ticks.cancel()
    for count in WATCHERS:
        async with script("bare", file, RATE, start, count) as server:
            address = (await line(server)).split()[-1]
            async with script("watchers", address, count, SECONDS, start) as readers:
                assert await line(readers) == "ready"
                bare[count] = Row.of(await line(readers), server)
    print(f"\n{RATE:g} surfaces a second of {len(message):,} bytes, {SECONDS:g} s a row")
    print("                    deliveries   skipped      p50      p99      max     memory")
    for count in WATCHERS:
        print(f"{count:5} watchers  calib {rows[count]}")
        ratio = rows[count].deliveries / bare[count].deliveries
        print(f"                 bare {bare[count]}   calib/bare {ratio:.2f}")
    assert all(row.deliveries > 0.0 for row in (*rows.values(), *bare.values()))
