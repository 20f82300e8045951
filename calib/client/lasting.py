"""Calls that last: a watch that breaks is opened again, at the same server or the next."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, cast

import grpc
from google.protobuf.duration_pb2 import Duration

from calib.client.failures import RETRIABLE, failure, retry_seconds, was_asked_to_end
from calib.client.retrying import Backoff
from calib.client.servers import Servers
from calib.errors import InvalidRequest, Unavailable

_Response = TypeVar("_Response")

_log = logging.getLogger(__name__)

Call: TypeAlias = "grpc.aio.UnaryStreamCall[Any, _Response]"


@dataclass(frozen=True, kw_only=True)
class Heartbeats:
    """How often a server is to say that it lives. One that is silent for three of these, and a
    second at least, counts as lost."""

    heartbeat_seconds: float = 5.0

    def __post_init__(self) -> None:
        if not 0.1 <= self.heartbeat_seconds <= 60.0:
            raise InvalidRequest(
                f"heartbeat_seconds must be between 0.1 and 60, not {self.heartbeat_seconds!r}"
            )

    @property
    def patience_seconds(self) -> float:
        """How long a server may be silent."""
        return max(3.0 * self.heartbeat_seconds, 1.0)

    @property
    def interval(self) -> Duration:
        """As a request says it."""
        interval = Duration()
        interval.FromNanoseconds(round(self.heartbeat_seconds * 1e9))
        return interval


async def lasting(
    servers: Servers,
    patience_seconds: float,
    backoff: Backoff,
    open_call: Callable[[str, grpc.aio.Channel], Call[_Response]],
    *,
    settled: Callable[[_Response], bool] = lambda response: True,
    interrupted: Callable[[str], None] = lambda reason: None,
) -> AsyncGenerator[_Response, None]:
    """What calls say, one after the other, for as long as they are asked for.

    ``open_call`` begins one at a server, over a connection of its own. One that breaks is opened
    again at the same server, once; a server that does not answer then, or is silent, is left for
    the next one in order. After all of them comes a pause, and so it does before one that spoke is
    asked again; pauses grow until a response says that a call has ``settled``. ``interrupted`` is
    told why one broke. Raises InvalidRequest where a server refuses the request itself, Unavailable
    where it refuses the client or the client was closed.
    """
    server = servers.current
    pauses, misses = backoff.pauses(), 0
    while True:
        heard, asked = False, 0.0
        try:
            async with aclosing(
                _responses(servers, server, patience_seconds, open_call)
            ) as responses:
                async for response in responses:
                    heard, misses = True, 0
                    if settled(response):
                        pauses = backoff.pauses()
                    yield response
            lost = "the server ended the watch"
        except grpc.aio.AioRpcError as error:
            # What was let in and no longer is may have been exchanged: a new call tells.
            withdrawn = heard and error.code() is grpc.StatusCode.UNAUTHENTICATED
            if error.code() not in RETRIABLE and not withdrawn:
                raise failure(error, server) from error
            lost, asked = f"{error.code().name}: {error.details()}", retry_seconds(error)
        except TimeoutError:
            lost, heard = f"nothing heard for {patience_seconds:g} s", False
        interrupted(lost)
        left = server
        if not heard:
            misses += 1
            server = servers.after(server)
        pause = 0.0
        if heard or misses % len(servers) == 0:
            pause = max(next(pauses), asked)
        _log.info(
            "watch of %s interrupted: %s; next try, at %s, in %.3f s", left, lost, server, pause
        )
        await asyncio.sleep(pause)


async def _responses(
    servers: Servers,
    server: str,
    patience_seconds: float,
    open_call: Callable[[str, grpc.aio.Channel], Call[_Response]],
) -> AsyncGenerator[_Response, None]:
    """What one call says, over a connection of its own; raises TimeoutError when it falls silent.

    A new connection each time: the last one may be dead without anybody having been told.
    """
    async with servers.connection(server) as channel:
        call = open_call(server, channel)
        try:
            while True:
                async with asyncio.timeout(patience_seconds):
                    response = await call.read()
                if response is grpc.aio.EOF:
                    return  # the end of the stream; an error would have been raised
                yield cast(_Response, response)
        except asyncio.CancelledError:
            if was_asked_to_end():
                raise
            raise Unavailable("the client was closed") from None
        finally:
            call.cancel()
