"""Whether the server takes work: no quotes before it is warm, nothing new while it goes down."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from grpc_health.v1 import health, health_pb2

from calib.service.refusals import Interrupted
from calib.service.service_names import SURFACES

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def health_name(underlying: str) -> str:
    """The name that the health of an underlying has in the standard health service."""
    return f"{SURFACES}/{underlying}"


def going_down() -> Interrupted:
    """What a call ends with when the server does. A new one for each: whoever raises one leaves its
    frames in it, and what was asked with them."""
    return Interrupted("SHUTTING_DOWN", "the server is going down; try again shortly")


class Readiness:
    """One truth for health checks and for calls.

    ``readers`` are the services that only hand out what there is; they serve from the start. The
    ``workers`` need the fit thread and serve when it is warm, and so does the server as a whole.
    An underlying, by its `health_name`, serves while its surface may be quoted from.
    """

    def __init__(self, *, readers: tuple[str, ...], workers: tuple[str, ...]) -> None:
        self.health: Any = health.aio.HealthServicer()
        self._readers = readers
        self._workers = ("", *workers)
        self._quotable: dict[str, bool] = {}
        self._warm = False
        self._ending = False
        self._long_calls: set[asyncio.Task[Any]] = set()

    def require_open(self) -> None:
        """Raise Interrupted when the server goes down."""
        if self._ending:
            raise going_down()

    def require_warm(self) -> None:
        """Raise Interrupted unless the server calibrates."""
        self.require_open()
        if not self._warm:
            raise Interrupted("STARTING", "the server is starting up; try again shortly")

    @contextmanager
    def long_call(self) -> Iterator[None]:
        """A call without an end; Interrupted is raised in it when the server goes down."""
        task = asyncio.current_task()
        assert task is not None
        self._long_calls.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if task in self._long_calls:
                raise
            task.uncancel()
            raise going_down() from None
        finally:
            self._long_calls.discard(task)

    async def starting(self) -> None:
        """Hand out what there is. (A health servicer says SERVING from its construction.)"""
        await self._say(self._workers, _NOT_SERVING)
        await self._say(self._readers, _SERVING)

    async def warm(self) -> None:
        """Take work from now on."""
        self._warm = True
        await self._say(self._workers, _SERVING)

    async def quotable(self, surfaces: Mapping[str, bool]) -> None:
        """Say of each underlying whether its surface may be quoted from."""
        for underlying, can in surfaces.items():
            if not self._ending and self._quotable.get(underlying) is not can:
                self._quotable[underlying] = can
                await self._say((health_name(underlying),), _SERVING if can else _NOT_SERVING)

    async def ending(self) -> None:
        """Take nothing new, and interrupt the long calls."""
        self._ending = True
        surfaces = map(health_name, self._quotable)
        await self._say((*self._workers, *self._readers, *surfaces), _NOT_SERVING)
        interrupted, self._long_calls = self._long_calls, set()
        for task in interrupted:
            task.cancel()

    async def _say(self, services: tuple[str, ...], status: int) -> None:
        for service in services:
            await self.health.set(service, status)
