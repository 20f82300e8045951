"""Listening on, whatever arrives at the port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import grpc
import structlog

from calib.errors import Unavailable

_LOOK_SECONDS = 0.1
_TRIES = 50

_log = structlog.get_logger(__name__)


class Listener:
    """Keeps a gRPC server on one address.

    gRPC takes the calls of all services in a loop of its own, which no handler can guard, and a
    call whose path is not UTF-8 ends that loop (grpcio 1.85). A new server, which ``build`` makes
    for an address, then takes its place. Calls that are open stay with the old one, which is kept:
    to take it down with calls on their way to it is not safe. Under many calls at once gRPC may
    still end the process, which is why a server is to be run by something that starts it again.
    """

    def __init__(self, build: Callable[[str], tuple[grpc.aio.Server, str]], listen: str) -> None:
        self._build = build
        self._listen = listen
        self._server: grpc.aio.Server | None = None
        self._failed: list[grpc.aio.Server] = []
        self._stopping = False

    async def start(self) -> str:
        """Listen; gives the address. Raises Unavailable where it cannot be listened on."""
        self._server, self._listen = self._build(self._listen)
        await self._server.start()
        return self._listen

    async def keep(self) -> None:
        """Put a new server in the place of one that has failed, until cancelled."""
        assert self._server is not None, "keep comes after start"
        while not self._stopping:
            try:
                running = await self._server.wait_for_termination(_LOOK_SECONDS)
            except Exception as error:  # noqa: BLE001 - whatever a call has brought about in gRPC
                _log.error("listener_failed", error=repr(error))
                running = False
            if not (running or self._stopping):
                self._failed.append(self._server)
                await self._start_again()

    async def _start_again(self) -> None:
        """Listen anew; the old server may take a moment to let go of the address."""
        for _ in range(_TRIES):
            with suppress(Unavailable):
                await self.start()
                return
            await asyncio.sleep(_LOOK_SECONDS)
        await self.start()

    async def stop(self, grace: float | None) -> None:
        """Take no more calls, and end those that are open within ``grace`` seconds."""
        self._stopping = True
        if self._server is not None:
            await self._server.stop(grace)
