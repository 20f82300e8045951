"""Turns: whose message is taken next, so that no publisher keeps the others waiting."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

_LEAST_ROWS = 50
"""What a message costs at least: reading it takes about as long as taking so many rows."""
_MOST_REMEMBERED = 1_000


class Turns:
    """One message a turn of the event loop; of the publishers that wait, the one that has had the
    fewest rows comes next.

    Start-time fair queueing (Goyal, Vin and Cheng, IEEE/ACM Transactions on Networking 5, 1997):
    rows are the time of a virtual clock, each message starts where the last one of its publisher
    ended, or now if that is past, and the earliest start is served. Whoever comes newly waits for
    one message at most of each other publisher. Nobody saves up turns by being quiet.
    """

    def __init__(self) -> None:
        self._now = 0  # rows, of the message that has its turn
        self._ends: dict[str, int] = {}
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._arrivals = count()
        self._busy = False

    @property
    def waiting(self) -> int:
        """How many messages wait."""
        return len(self._waiting)

    @asynccontextmanager
    async def turn(self, publisher: str, rows: int) -> AsyncIterator[None]:
        """Wait for the turn of a message of so many rows, and have it while inside."""
        start = max(self._now, self._ends.get(publisher, 0))
        self._ends[publisher] = start + max(rows, _LEAST_ROWS)
        if self._busy:
            await self._called(start)
        self._busy = True
        self._now = start
        try:
            yield
        finally:
            # Not at once: answers, and whatever else the loop has to do, come in between.
            asyncio.get_running_loop().call_soon(self._pass_on)

    async def _called(self, start: int) -> None:
        called = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (start, next(self._arrivals), called))
        try:
            await called
        except asyncio.CancelledError:
            if called.done() and not called.cancelled():  # the turn had come, and goes on
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            _, _, called = heapq.heappop(self._waiting)
            if not called.done():
                called.set_result(None)
                return
        self._busy = False
        if len(self._ends) > _MOST_REMEMBERED:
            self._ends = {name: end for name, end in self._ends.items() if end > self._now}
