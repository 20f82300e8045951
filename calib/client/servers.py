"""The servers that a client may ask, in order of preference, and the connections to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import grpc

from calib.errors import InvalidRequest, Unavailable

OpenChannel = Callable[[str], grpc.aio.Channel]
"""Gives a new channel to an address; nothing is sent yet."""


class Servers:
    """Addresses (HOST:PORT) in order of preference, and which of them is in use.

    Whoever finds the one in use lost moves all on to the next, round and round; nobody goes back
    to an earlier one while a later one answers.
    """

    def __init__(self, targets: Sequence[str], open_channel: OpenChannel) -> None:
        if not targets or not all(targets):
            raise InvalidRequest(f"servers are named HOST:PORT, not {list(targets)!r}")
        if len(set(targets)) < len(targets):
            raise InvalidRequest(f"a server is named twice in {list(targets)!r}")
        self.targets = tuple(targets)
        self.current = self.targets[0]
        self.closed = False
        self._open_channel = open_channel
        self._shared: dict[str, grpc.aio.Channel] = {}
        self._feeding: dict[str, grpc.aio.Channel] = {}
        self._own: set[grpc.aio.Channel] = set()

    def __len__(self) -> int:
        return len(self.targets)

    def __str__(self) -> str:
        return ", ".join(self.targets)

    def after(self, lost: str) -> str:
        """The server to try when this one is lost; from now on it is the one in use."""
        if self.current == lost:
            self.current = self.targets[(self.targets.index(lost) + 1) % len(self.targets)]
        return self.current

    def channel(self, target: str) -> grpc.aio.Channel:
        """The channel that short calls to a server share."""
        if target not in self._shared:
            self._shared[target] = self._opened(target)
        return self._shared[target]

    async def give_up(self, target: str, channel: grpc.aio.Channel) -> None:
        """Share this channel no longer: a connection that answers nothing may be dead for good,
        and only a new one can tell."""
        if self._shared.get(target) is channel:
            del self._shared[target]
            await channel.close()

    @asynccontextmanager
    async def connection(self, target: str) -> AsyncIterator[grpc.aio.Channel]:
        """A channel of one's own, for a stream: no other call's trouble is its trouble."""
        channel = self._opened(target)
        self._own.add(channel)
        try:
            yield channel
        finally:
            self._own.discard(channel)
            await channel.close()

    def feeding(self, target: str) -> grpc.aio.Channel:
        """The channel that all streams of quotes to a server share: by its connection a server
        knows a publisher, and gives it its turn."""
        if target not in self._feeding:
            self._feeding[target] = self._opened(target)
        return self._feeding[target]

    async def close(self) -> None:
        """Close every channel; what runs over them ends with Unavailable."""
        self.closed = True
        for channel in (*self._shared.values(), *self._feeding.values(), *self._own):
            await channel.close()
        self._shared.clear()
        self._feeding.clear()

    def _opened(self, target: str) -> grpc.aio.Channel:
        if self.closed:
            raise Unavailable("the client was closed")
        return self._open_channel(target)
