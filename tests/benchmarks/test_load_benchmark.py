"""Watchers by the thousand: deliveries, latency and memory, beside a bare stream of gRPC.

Three processes on one machine: the server as `calib serve` runs it, all watchers in one, each with
a connection of its own, and this one, which sends ticks that each make a surface. The bare server
streams the same messages at the same rate to the same watchers, with nothing behind it.
CALIB_LOAD_SECONDS (5) is how long each row lasts, CALIB_LOAD_WATCHERS (1,10,100,1000) how many
watch, CALIB_LOAD_RATE (20) how many surfaces there are a second.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import grpc

from calib.client import Client
from calib.client.clock import utc_now
from calib.client.publisher import levels
from calib.v1 import (
    quote_service_pb2,
    quote_service_pb2_grpc,
    surface_service_pb2,
    surface_service_pb2_grpc,
)
from tests.benchmarks.load import NAMES, resident_megabytes, spot_at
from tests.service.processes import serving
from tests.service.restarts import SETTINGS
from tests.service.samples import smile_quotes

SECONDS = float(os.environ.get("CALIB_LOAD_SECONDS", "5"))
WATCHERS = [int(n) for n in os.environ.get("CALIB_LOAD_WATCHERS", "1,10,100,1000").split(",")]
RATE = float(os.environ.get("CALIB_LOAD_RATE", "20"))
DAYS = (3, 7, 14, 30, 60, 90, 180, 365)
SCRIPT = "tests.benchmarks.load"


@dataclass(frozen=True)
class Row:
    """What watchers saw of one server: deliveries and skipped surfaces a second; the delay from
    the tick; memory of the server in megabytes; processors that the watchers kept busy."""

    deliveries: float
    skipped: float
    milliseconds: list[float]
    processor: float
    megabytes: float

    @classmethod
    def of(cls, told: str, server: Process) -> Row:
        """What the watchers told, with the memory of the server."""
        return cls(**json.loads(told), megabytes=resident_megabytes(server.pid))

    def __str__(self) -> str:
        half, most, worst = self.milliseconds
        return (
            f"{self.deliveries:9,.0f}/s {self.skipped:7,.0f}/s "
            f"{half:8.1f} {most:8.1f} {worst:8.1f} ms {self.megabytes:6.0f} MB"
        )


async def test_fan_out_beside_a_bare_stream(tmp_path: Path) -> None:
    start, file = monotonic(), tmp_path / "message"
    rows, bare = {}, {}
    async with serving(tmp_path / "calib.db", **SETTINGS) as (server, client):
        message = await _warm(client)
        file.write_bytes(message)
        for count in WATCHERS:
            async with _script("watchers", client.target, count, SECONDS, start) as readers:
                assert await _line(readers) == "ready"
                ticks = asyncio.create_task(_tick(client, start))
                try:
                    rows[count] = Row.of(await _line(readers), server)
                    assert not ticks.done(), ticks.result()
                finally:
                    ticks.cancel()
    for count in WATCHERS:
        async with _script("bare", file, RATE, start, count) as server:
            address = (await _line(server)).split()[-1]
            async with _script("watchers", address, count, SECONDS, start) as readers:
                assert await _line(readers) == "ready"
                bare[count] = Row.of(await _line(readers), server)
    print(f"\n{RATE:g} surfaces a second of {len(message):,} bytes, {SECONDS:g} s a row")
    print("                    deliveries   skipped      p50      p99      max     memory")
    for count in WATCHERS:
        print(f"{count:5} watchers  calib {rows[count]}")
        ratio = rows[count].deliveries / bare[count].deliveries
        print(f"                 bare {bare[count]}   calib/bare {ratio:.2f}")
    assert all(row.deliveries > 0.0 for row in (*rows.values(), *bare.values()))


async def _warm(client: Client) -> bytes:
    """Fit every underlying once; gives a message as a watcher gets it."""
    for name in NAMES:
        await client.publish(smile_quotes(name, at=utc_now(), days=DAYS))
    async with grpc.aio.insecure_channel(client.target) as channel:
        stub = surface_service_pb2_grpc.SurfaceServiceStub(channel)
        request = surface_service_pb2.WatchSurfacesRequest(underlyings=NAMES)
        waiting, message = set(NAMES), b""
        async for response in stub.WatchSurfaces(request, timeout=300.0):
            if response.HasField("surface"):
                waiting.discard(response.surface.surface.underlying)
                message = response.SerializeToString()
            if not waiting:
                break
    return message


async def _tick(client: Client, start: float) -> None:
    """Ticks at the rate, in turn for the names, however far behind the server is."""
    async with grpc.aio.insecure_channel(client.target) as channel:
        stream = quote_service_pb2_grpc.QuoteServiceStub(channel).PublishQuotes()
        acknowledged = asyncio.create_task(_read_all(stream))
        due = monotonic()
        while not acknowledged.done():
            for name in NAMES:
                due += 1.0 / RATE
                await asyncio.sleep(max(0.0, due - monotonic()))
                spot = spot_at(monotonic(), start)
                tick = levels(name, "test", utc_now(), {}, spot)
                await stream.write(quote_service_pb2.PublishQuotesRequest(ticks=tick))
        await acknowledged


async def _read_all(stream: Any) -> None:
    async for _ in stream:
        pass


@asynccontextmanager
async def _script(*arguments: object) -> AsyncIterator[Process]:
    command = [sys.executable, "-m", SCRIPT, *map(str, arguments)]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _line(process: Process) -> str:
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 120.0 + SECONDS)
    assert line, "the process ended"
    return line.decode().strip()
