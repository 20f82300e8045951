"""A quoter as the tests want it: it keeps what it was handed, looks at it all the time, and trusts
nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import numpy as np

from calib.client import Client, StaleCause, SurfaceUpdate
from calib.conventions import utc_now
from calib.modelrisk.breakers import BreakerLevel
from calib.states import SurfaceState
from tests.client.publishing_server import MAX_AGE, UNDERLYINGS
from tests.service.samples import micros

HEARTBEAT_SECONDS = 0.1
LOOK_SECONDS = 0.005
PATIENCE_SECONDS = 60.0


@dataclass
class Quoter:
    """What a quoting engine does with a watch; every look at it is held against its own clock.

    ``max_age``: the age limit under which its server publishes.
    """

    client: Client
    max_age: np.timedelta64 = field(default_factory=lambda: micros(MAX_AGE))
    seen: list[SurfaceUpdate] = field(default_factory=list)
    book: dict[str, SurfaceUpdate] = field(default_factory=dict)
    causes: set[StaleCause | None] = field(default_factory=set)
    looks: int = 0
    reading: asyncio.Task[None] | None = None

    async def read(self) -> None:
        """Keep the latest of each underlying."""
        async for update in self.client.watch(UNDERLYINGS, heartbeat_seconds=HEARTBEAT_SECONDS):
            self.seen.append(update)
            self.book[update.underlying] = update

    def look(self) -> None:
        """Whatever is called LIVE now is no older than its limit, and may be quoted from."""
        for update in self.book.values():
            now = utc_now()
            cause, state, level = update.stale_cause, update.state, update.level
            if state is SurfaceState.LIVE:
                assert now - update.quote_time < self.max_age
            if cause is StaleCause.SILENT:
                assert level is BreakerLevel.HALTED
            self.causes.add(cause)
            self.looks += 1

    async def until(self, holds: Callable[[], bool]) -> None:
        """Look until something holds."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds():
                assert self.reading is not None
                if self.reading.done():
                    self.reading.result()
                self.look()
                await asyncio.sleep(LOOK_SECONDS)
        self.look()

    def is_live(self) -> bool:
        """Whether every underlying may be quoted."""
        return len(self.book) == len(UNDERLYINGS) and all(
            update.state is SurfaceState.LIVE and update.level is BreakerLevel.NORMAL
            for update in self.book.values()
        )

    def is_stale(self) -> bool:
        """Whether none may."""
        return bool(self.book) and all(
            update.state is SurfaceState.STALE for update in self.book.values()
        )

    def is_current(self, since: np.datetime64) -> bool:
        """Whether every underlying may be quoted, from quotes of after this instant."""
        return self.is_live() and all(
            bool(update.quote_time > since) for update in self.book.values()
        )

    def epochs(self) -> list[str]:
        """The runs of servers that it was handed surfaces of, as they followed each other."""
        return list(_changes(update.epoch for update in self.seen))

    def check(self) -> None:
        """No revision of a run was handed out twice, or after a later one, and each update knows
        what came before it."""
        for epoch in set(self.epochs()):
            for underlying in UNDERLYINGS:
                revisions = [
                    update.revision
                    for update in self.seen
                    if (update.epoch, update.underlying) == (epoch, underlying)
                ]
                assert revisions == sorted(set(revisions))
        for underlying in UNDERLYINGS:
            times = [one.quote_time for one in self.seen if one.underlying == underlying]
            before = [one.previous_quote_time for one in self.seen if one.underlying == underlying]
            assert before[1:] == times[:-1]
            assert all(np.isnat(first) for first in before[:1])
        assert self.looks > 0


def _changes(values: Iterable[str]) -> Iterable[str]:
    last = None
    for value in values:
        if value != last:
            yield value
        last = value


@asynccontextmanager
async def quoting(client: Client, **changes: object) -> AsyncIterator[Quoter]:
    """A quoter who reads while inside, and is checked at the end."""
    quoter = Quoter(client, **changes)  # type: ignore[arg-type]
    quoter.reading = reading = asyncio.create_task(quoter.read())
    try:
        yield quoter
    finally:
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
    quoter.check()
