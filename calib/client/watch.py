"""A watch that lasts: it reconnects, resumes where it was, moves to the next server when one is
lost, and never goes back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from math import inf

import grpc
import numpy as np
from google.protobuf.duration_pb2 import Duration

from calib.client.contact import Contact, clock_reading
from calib.client.failures import RETRIABLE, failure, retry_seconds, was_asked_to_end
from calib.client.retrying import Backoff
from calib.client.servers import Servers
from calib.client.update import SurfaceUpdate, moved, update_of
from calib.conventions import NO_INSTANT
from calib.errors import InvalidRequest, Unavailable
from calib.states import ModelName
from calib.surface.surface import Surface
from calib.v1 import surface_pb2, surface_service_pb2, surface_service_pb2_grpc

_Key = tuple[str, int]  # underlying and model

_log = logging.getLogger(__name__)

OpenContact = Callable[[str, float], Contact]
"""Begins the contact with a server, given its address and how long it may be silent, in seconds."""


@dataclass(frozen=True)
class Wishes:
    """What to watch; empty is all. A server silent for three heartbeats, and a second at least,
    counts as lost."""

    underlyings: tuple[str, ...] = ()
    models: tuple[ModelName, ...] = ()
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

    def request(self, resume_token: str) -> surface_service_pb2.WatchSurfacesRequest:
        """The request that opens the watch, or takes it up again."""
        interval = Duration()
        interval.FromNanoseconds(round(self.heartbeat_seconds * 1e9))
        return surface_service_pb2.WatchSurfacesRequest(
            underlyings=self.underlyings,
            models=[surface_pb2.Model.ValueType(model) for model in self.models],
            resume_token=resume_token,
            heartbeat_interval=interval,
        )


class Progress:
    """How far a watch has come at one server: what it resumes from, and what it has told."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.resume_token = ""
        self._contact: Contact | None = None
        self._earlier: list[Contact] = []
        self._snapshot: list[surface_service_pb2.WatchSurfacesResponse] | None = None
        self._epoch = ""
        self._seen: dict[_Key, tuple[int, int, bytes]] = {}
        self._shapes: dict[_Key, Surface] = {}

    def at(self, server: str) -> Progress:
        """How far it has come at the server that is asked next: at another one, nowhere."""
        return self if server == self.server else Progress(server)

    def connected(self, contact: Contact) -> None:
        """Begin with what a new connection says."""
        if self._contact is not None and self._contact.silent_seconds < inf:
            self._earlier.append(self._contact)
        self._contact, self._snapshot = contact, []

    def hear(self, response: surface_service_pb2.WatchSurfacesResponse) -> list[SurfaceUpdate]:
        """What is to be handed out after this message: each change, but a snapshot as a whole, and
        of that each surface once.

        Its end tells the server's clock, without which a surface's age cannot be believed. Raises
        InvalidSurface where there is none, or a move of one that was not sent.
        """
        assert self._contact is not None
        if response.epoch != self._epoch:
            # What an earlier run sent does not live on by this one.
            self._epoch = response.epoch
            self._seen.clear()
            self._earlier.clear()
            self._shapes.clear()
        self._contact.heard(_server_time(response))
        told = [response]
        if self._snapshot is not None:
            self._snapshot.append(response)
            if not response.HasField("snapshot_end"):
                return []
            told, self._snapshot = self._snapshot, None
        found: dict[_Key, SurfaceUpdate] = {}
        for one in told:
            if one.HasField("surface"):
                surface = self._surface_of(one.surface)
                if surface is not None:
                    key = (surface.underlying, surface.model)
                    found.pop(key, None)  # in the order of the last of each
                    contact = self._contact
                    found[key] = update_of(one.surface, contact.clock, contact, surface)
        return list(found.values())

    def handed_out(self, response: surface_service_pb2.WatchSurfacesResponse) -> None:
        """Resume after this message from now on: all that it brought was taken."""
        if self._snapshot is not None:
            return
        assert self._contact is not None
        self.resume_token = response.resume_token
        for one in self._earlier:
            one.resumed_by(self._contact)
        self._earlier.clear()

    def _surface_of(self, update: surface_service_pb2.SurfaceUpdate) -> Surface | None:
        """The surface that it tells, None where that is nothing new; an older revision never is."""
        is_move = update.HasField("move")
        content = update.move if is_move else update.surface
        key = (content.underlying, content.model)
        if not is_move:
            self._shapes[key] = Surface.from_proto(update.surface)
        risk = update.risk.SerializeToString(deterministic=True)
        before = self._seen.get(key, (0, 0, b""))
        told = (content.revision, update.state, risk)
        if content.revision < before[0] or told == before:
            return None
        self._seen[key] = told
        return moved(self._shapes.get(key), update.move) if is_move else self._shapes[key]


async def watch(
    servers: Servers, wishes: Wishes, backoff: Backoff, open_contact: OpenContact
) -> AsyncIterator[SurfaceUpdate]:
    """Updates for as long as they are asked for, over any number of connections and servers.

    A connection that breaks is taken up again at the same server, once; a server that does not
    answer then, or is silent, is left for the next one in order. After all of them comes a pause.
    Raises InvalidRequest where a server refuses the request itself, Unavailable where it refuses
    the client or the client was closed.
    """
    progress = Progress(servers.current)
    pauses, misses = backoff.pauses(), 0
    quote_times: dict[tuple[str, ModelName], np.datetime64] = {}
    while True:
        server, heard, asked = progress.server, False, 0.0
        progress.connected(open_contact(server, wishes.patience_seconds))
        request = wishes.request(progress.resume_token)
        try:
            async with aclosing(_responses(servers, server, request, wishes)) as responses:
                async for response in responses:
                    heard, pauses, misses = True, backoff.pauses(), 0
                    for update in progress.hear(response):
                        key = (update.underlying, update.model)
                        before = quote_times.get(key, NO_INSTANT)
                        quote_times[key] = update.quote_time
                        yield replace(update, previous_quote_time=before)
                    # Only now: what was not handed out is asked for again.
                    progress.handed_out(response)
            lost = "the server ended the watch"
        except grpc.aio.AioRpcError as error:
            # What was let in and no longer is may have been exchanged: a new call tells.
            withdrawn = heard and error.code() is grpc.StatusCode.UNAUTHENTICATED
            if error.code() not in RETRIABLE and not withdrawn:
                raise failure(error, server) from error
            lost, asked = f"{error.code().name}: {error.details()}", retry_seconds(error)
        except TimeoutError:
            lost, heard = f"nothing heard for {wishes.patience_seconds:g} s", False
        if not heard:
            misses += 1
            progress = progress.at(servers.after(server))
        pause = 0.0
        if heard or misses % len(servers) == 0:
            pause = max(next(pauses), asked)
        _log.info(
            "watch of %s interrupted: %s; next try, at %s, in %.3f s",
            *(server, lost, progress.server, pause),
        )
        await asyncio.sleep(pause)


async def _responses(
    servers: Servers,
    server: str,
    request: surface_service_pb2.WatchSurfacesRequest,
    wishes: Wishes,
) -> AsyncGenerator[surface_service_pb2.WatchSurfacesResponse, None]:
    """What one call says, over a connection of its own; raises TimeoutError when it falls silent.

    A new connection each time: the last one may be dead without anybody having been told.
    """
    async with servers.connection(server) as channel:
        call = surface_service_pb2_grpc.SurfaceServiceStub(channel).WatchSurfaces(request)
        try:
            while True:
                async with asyncio.timeout(wishes.patience_seconds):
                    response = await call.read()
                if not isinstance(response, surface_service_pb2.WatchSurfacesResponse):
                    return  # the end of the stream; an error would have been raised
                yield response
        except asyncio.CancelledError:
            if was_asked_to_end():
                raise
            raise Unavailable("the client was closed") from None
        finally:
            call.cancel()


def _server_time(response: surface_service_pb2.WatchSurfacesResponse) -> np.datetime64 | None:
    """What the server's clock was when it sent this; None where it does not say."""
    for event in (response.heartbeat, response.snapshot_end):
        if event.HasField("server_time"):
            return clock_reading(event.server_time)
    return None
