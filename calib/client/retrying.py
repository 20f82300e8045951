"""Trying again: pauses that scatter, and reads that go on until their deadline."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import TypeVar

import grpc

from calib.client.failures import PASSING, calling, retry_seconds
from calib.client.servers import Servers
from calib.errors import Unavailable

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Backoff:
    """Pauses before new attempts: random up to a bound that doubles, so that clients spread; the
    longest is short enough that a server which is back is found within a second."""

    first_seconds: float = 0.05
    longest_seconds: float = 0.5
    random: Callable[[], float] = field(default=random.random, repr=False)

    def pauses(self) -> Iterator[float]:
        """The pauses of one outage."""
        bound = self.first_seconds
        while True:
            yield bound * (0.5 + 0.5 * self.random())
            bound = min(2.0 * bound, self.longest_seconds)


async def read(
    servers: Servers,
    timeout_seconds: float,
    backoff: Backoff,
    call: Callable[[grpc.aio.Channel, float], Awaitable[_Answer]],
) -> tuple[_Answer, str]:
    """What ``call`` reads over a channel within so many seconds, and the server that gave it.

    Only for calls that may be made twice. Every server that is not tried yet has an equal share of
    the time that is left; after all of them comes a pause. Raises the last failure when no try is
    left before the deadline, and at once what no other try can mend.
    """
    end = monotonic() + timeout_seconds
    pauses = backoff.pauses()
    target, tries = servers.current, 0
    while True:
        untried = len(servers) - tries % len(servers)
        channel = servers.channel(target)
        try:
            with calling(target):
                return await call(channel, max(end - monotonic(), 0.0) / untried), target
        except Unavailable as error:
            cause = error.__cause__
            code = cause.code() if isinstance(cause, grpc.aio.AioRpcError) else None
            if code is not None and code not in PASSING:
                raise
            if code is grpc.StatusCode.DEADLINE_EXCEEDED:
                await servers.give_up(target, channel)
            asked = retry_seconds(cause)
            last = error
        tries += 1
        target = servers.after(target)
        pause = 0.0 if tries % len(servers) else max(next(pauses), asked)
        if monotonic() + pause >= end:
            raise last
        await asyncio.sleep(pause)
