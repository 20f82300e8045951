"""Runs watchers against a server, and sends it ticks that each make a surface."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

import grpc

from calib.client import Client
from calib.client.publisher import levels
from calib.conventions import utc_now
from calib.v1 import (
    quote_service_pb2,
    quote_service_pb2_grpc,
    surface_service_pb2,
    surface_service_pb2_grpc,
)
from tests.benchmarks.load import BASE, NAMES, spot_at
from tests.service.processes import Footprint
from tests.service.samples import smile_quotes
from tests.service.wire import told_of

DAYS = (3, 7, 14, 30, 60, 90, 180, 365)
PATIENCE = 300.0


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
        return cls(**json.loads(told), megabytes=Footprint.of(server.pid).megabytes)

    def __str__(self) -> str:
        half, most, worst = self.milliseconds
        return (
            f"{self.deliveries:9,.0f}/s {self.skipped:7,.0f}/s "
            f"{half:8.1f} {most:8.1f} {worst:8.1f} ms {self.megabytes:6.0f} MB"
        )


async def warmed(client: Client) -> bytes:
    """Fit every underlying once, and move it once; gives the move as a watcher gets it."""
    for name in NAMES:
        await client.publish(smile_quotes(name, at=utc_now(), days=DAYS))
    async with grpc.aio.insecure_channel(client.target) as channel:
        stub = surface_service_pb2_grpc.SurfaceServiceStub(channel)
        request = surface_service_pb2.WatchSurfacesRequest(underlyings=NAMES)
        fitted, moved, message = set[str](), set[str](), b""
        async for response in stub.WatchSurfaces(request, timeout=PATIENCE):
            if not response.HasField("surface"):
                continue
            name = told_of(response).underlying
            if response.surface.HasField("move"):
                moved.add(name)
                message = response.SerializeToString()
            elif name not in fitted:
                fitted.add(name)
                await client.publish_levels(
                    name, venue="test", quote_time=utc_now(), spot=BASE + 1e-6
                )
            if len(moved) == len(NAMES):
                break
    return message


async def tick(client: Client, rate: float, start: float) -> None:
    """Ticks at the rate, in turn for the names, however far behind the server is."""
    async with grpc.aio.insecure_channel(client.target) as channel:
        stream = quote_service_pb2_grpc.QuoteServiceStub(channel).PublishQuotes()
        acknowledged = asyncio.create_task(_read_all(stream))
        due = monotonic()
        while not acknowledged.done():
            for name in NAMES:
                due += 1.0 / rate
                await asyncio.sleep(max(0.0, due - monotonic()))
                spot = spot_at(monotonic(), start)
                message = levels(name, "test", utc_now(), {}, spot)
                await stream.write(quote_service_pb2.PublishQuotesRequest(ticks=message))
        await acknowledged


async def _read_all(stream: Any) -> None:
    async for _ in stream:
        pass


@asynccontextmanager
async def script(*arguments: object) -> AsyncIterator[Process]:
    """`tests.benchmarks.load` as a process."""
    command = [sys.executable, "-m", "tests.benchmarks.load", *map(str, arguments)]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def line(process: Process) -> str:
    """The next line that a process prints."""
    assert process.stdout is not None
    said = await asyncio.wait_for(process.stdout.readline(), PATIENCE)
    assert said, "the process ended"
    return said.decode().strip()
