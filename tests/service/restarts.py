"""A server that is killed again and again under load, and what its watchers see of that."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

import grpc

from calib.client import Client, connect
from calib.client.update import moved
from calib.conventions import utc_now
from calib.errors import Unavailable
from calib.store import Entry, open_store
from calib.surface.surface import Surface
from calib.v1 import surface_pb2, surface_service_pb2, surface_service_pb2_grpc
from tests.service.conftest import QUIET
from tests.service.processes import eventually, free_port, serving
from tests.service.samples import at_time, smile_quotes, surface
from tests.service.wire import told_of

NAMES = ("BTC", "ETH")
PATIENCE = 60.0
PROMPT = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
]
SETTINGS = {
    "MODEL_RISK": json.dumps(QUIET),
    "QUOTE_MAX_AGE": "1h",
    "STORE_QUOTES": "false",
    "LOG_LEVEL": "warning",
}

Revision = tuple[str, int]


@dataclass
class Ledger:
    """All that any watcher was told, and what of it must not have been."""

    contents: dict[tuple[str, int, str, int], bytes] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    told: int = 0

    def enter(self, who: str, last: Revision | None, message: surface_pb2.Surface) -> Revision:
        """Take a surface down; ``last`` is what this watcher saw before of its kind."""
        self.told += 1
        now = (message.epoch, message.revision)
        if last is not None and now < last:
            self.wrong.append(f"{who}: {message.underlying} went back from {last} to {now}")
        key = (message.underlying, message.model, *now)
        digest = blake2b(message.SerializeToString(deterministic=True)).digest()
        if self.contents.setdefault(key, digest) != digest:
            self.wrong.append(f"{who}: {key} has two contents")
        return now


class Watcher:
    """Somebody who watches through everything, and remembers the last of each surface."""

    def __init__(self, name: str, target: str, ledger: Ledger) -> None:
        self.name = name
        self.target = target
        self.last: dict[str, Revision] = {}
        self._ledger = ledger

    async def watch(self) -> None:
        """Watch until cancelled."""
        raise NotImplementedError

    def _heard(self, message: surface_pb2.Surface) -> None:
        name = message.underlying
        self.last[name] = self._ledger.enter(self.name, self.last.get(name), message)

    def _wrong(self, what: str) -> None:
        self._ledger.wrong.append(f"{self.name}: {what}")


class WireWatcher(Watcher):
    """Reads the protocol itself: whatever the server sends counts, and it resumes by token.

    A whole surface that is older than what was told before is sent for one reason only: the next
    event of its underlying is a move of it.
    """

    def __init__(self, name: str, target: str, ledger: Ledger) -> None:
        super().__init__(name, target, ledger)
        self._shapes: dict[str, Surface] = {}
        self._owed: set[str] = set()

    def _told(self, response: surface_service_pb2.WatchSurfacesResponse) -> None:
        update, name = response.surface, told_of(response).underlying
        if update.HasField("move"):
            shape = self._shapes.get(name)
            if shape is None or shape.epoch != response.epoch:
                self._wrong(f"{name} was moved, and was not sent")
                return
            self._owed.discard(name)
            self._heard(moved(shape, update.move).to_proto())
            return
        if name in self._owed:
            self._wrong(f"{name} went back to a surface that was not moved then")
        self._shapes[name] = Surface.from_proto(update.surface)
        last = self.last.get(name)
        if last is not None and last[0] == response.epoch and update.surface.revision < last[1]:
            self._owed.add(name)
        else:
            self._heard(update.surface)

    async def watch(self) -> None:
        token = ""
        async with grpc.aio.insecure_channel(self.target, options=PROMPT) as channel:
            stub = surface_service_pb2_grpc.SurfaceServiceStub(channel)
            while True:
                request = surface_service_pb2.WatchSurfacesRequest(resume_token=token)
                with suppress(grpc.aio.AioRpcError):
                    async for response in stub.WatchSurfaces(request, wait_for_ready=True):
                        if response.HasField("surface"):
                            self._told(response)
                        token = response.resume_token
                await asyncio.sleep(0.02)


class ClientWatcher(Watcher):
    """Goes by what the client library hands out."""

    async def watch(self) -> None:
        async with connect(self.target) as client:
            async for update in client.watch():
                self._heard(update.surface.to_proto())


@dataclass
class Report:
    """What came of a number of kills; ``acknowledged`` rows of quotes. ``current_seconds``: from
    SERVING until all watchers had what the server had in force, a restart each, by their kind."""

    kills: int = 0
    told: int = 0
    wrong: Sequence[str] = ()
    surfaces: int = 0
    acknowledged: int = 0
    current_seconds: dict[str, list[float]] = field(default_factory=dict)

    def __str__(self) -> str:
        waits = (
            f"{kind} median {1e3 * median(seconds):.0f} ms, worst {1e3 * max(seconds):.0f} ms"
            for kind, seconds in self.current_seconds.items()
        )
        return (
            f"{self.kills} kills, {self.acknowledged} rows acknowledged, {self.surfaces} surfaces "
            f"told {self.told} times; current after SERVING: {', '.join(waits)}"
        )


async def killed_under_load(
    folder: Path, *, kills: int, watchers: int, seed: int, fits_every: int, **settings: str
) -> Report:
    """Kill a server ``kills`` times while quotes and ticks come in and watchers watch.

    Every ``fits_every``-th run lasts until it has fitted and published anew; the others end at a
    random moment, before or after that.
    """
    draw, ledger, report = random.Random(seed), Ledger(), Report()
    store, target = folder / "calib.db", f"127.0.0.1:{free_port()}"
    _begin(store)
    kinds = (WireWatcher, ClientWatcher)
    all_watchers = [kinds[i % 2](f"watcher {i}", target, ledger) for i in range(watchers)]
    async with _tasks([one.watch() for one in all_watchers]):
        for number in range(kills):
            async with serving(store, listen=target, **SETTINGS | settings) as (process, client):
                began, wanted = monotonic(), await _in_force(client)
                for kind in kinds:
                    await _current(wanted, [one for one in all_watchers if type(one) is kind])
                    waits = report.current_seconds.setdefault(kind.__name__, [])
                    waits.append(monotonic() - began)
                async with _tasks([_publish(client, draw, report)]):
                    if number % fits_every == 0:
                        await _fitted(client, all_watchers[0])
                    await asyncio.sleep(draw.uniform(0.0, 1.0))
                    process.kill()
                    await process.wait()
        async with serving(store, listen=target, **SETTINGS | settings) as (_, client):
            await _current(await _in_force(client), all_watchers)
    report.kills, report.told, report.wrong = kills, ledger.told, ledger.wrong
    report.surfaces = len(ledger.contents)
    return report


def _begin(store: Path) -> None:
    """A store with something to serve from the first start on."""
    with open_store(str(store), create=True, quotes=False) as opened:
        surfaces = (surface(name, epoch="0", revision=i) for i, name in enumerate(NAMES, 1))
        opened.append([Entry(surface=one.to_proto()) for one in surfaces])


@asynccontextmanager
async def _tasks(work: Sequence[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run coroutines beside the block; one that fails fails the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in work]
        yield
        for task in tasks:
            task.cancel()


async def _publish(client: Client, draw: random.Random, report: Report) -> None:
    """Chains and ticks as fast as they are taken, until cancelled."""
    opening = utc_now()
    while True:
        for name in NAMES:
            with suppress(Unavailable):
                quotes = smile_quotes(name, at=opening, vol=draw.uniform(0.595, 0.605))
                quotes = at_time(quotes, utc_now())
                report.acknowledged += (await client.publish(quotes)).accepted
                for _ in range(10):
                    await client.publish_levels(
                        name, venue="test", quote_time=utc_now(), spot=draw.uniform(7e4, 7.1e4)
                    )
        await asyncio.sleep(0.02)


async def _in_force(client: Client) -> dict[str, Revision]:
    found = {}
    async with grpc.aio.insecure_channel(client.target) as channel:
        stub = surface_service_pb2_grpc.SurfaceServiceStub(channel)
        for name in NAMES:
            request = surface_service_pb2.GetSurfaceRequest(underlying=name)
            surface = (await stub.GetSurface(request, timeout=PATIENCE)).update.surface
            found[name] = (surface.epoch, surface.revision)
    return found


async def _current(wanted: dict[str, Revision], watchers: Sequence[Watcher]) -> None:
    """Wait until every watcher has these surfaces, or what came after them."""

    def current() -> bool:
        return all(
            one.last.get(name, ("", 0)) >= revision
            for one in watchers
            for name, revision in wanted.items()
        )

    await eventually(current)


async def _fitted(client: Client, watcher: Watcher) -> None:
    """Wait until a watcher has seen a fit of every underlying by this run of the server."""
    restored = await _in_force(client)
    await eventually(lambda: all(watcher.last[name] > restored[name] for name in NAMES))
