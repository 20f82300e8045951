"""A watch that lasts: it reconnects, resumes where it was, moves to the next server when one is
lost, and never goes back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from math import inf

import grpc
import numpy as np

from calib.client.contact import Contact, clock_reading
from calib.client.lasting import Call, Heartbeats, lasting
from calib.client.retrying import Backoff
from calib.client.servers import Servers
from calib.client.update import SurfaceUpdate, moved, update_of
from calib.conventions import NO_INSTANT
from calib.states import ModelName
from calib.surface.surface import Surface
from calib.v1 import surface_pb2, surface_service_pb2, surface_service_pb2_grpc

_Key = tuple[str, int]  # underlying and model

OpenContact = Callable[[str, float], Contact]
"""Begins the contact with a server, given its address and how long it may be silent, in seconds."""


@dataclass(frozen=True)
class Wishes(Heartbeats):
    """What to watch; empty is all."""

    underlyings: tuple[str, ...] = ()
    models: tuple[ModelName, ...] = ()

    def request(self, resume_token: str) -> surface_service_pb2.WatchSurfacesRequest:
        """The request that opens the watch, or takes it up again."""
        return surface_service_pb2.WatchSurfacesRequest(
            underlyings=self.underlyings,
            models=[surface_pb2.Model.ValueType(model) for model in self.models],
            resume_token=resume_token,
            heartbeat_interval=self.interval,
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
    """Updates for as long as they are asked for, over any number of connections and servers; see
    `calib.client.lasting`."""
    progress = Progress(servers.current)
    quote_times: dict[tuple[str, ModelName], np.datetime64] = {}

    def opened(
        server: str, channel: grpc.aio.Channel
    ) -> Call[surface_service_pb2.WatchSurfacesResponse]:
        nonlocal progress
        progress = progress.at(server)
        progress.connected(open_contact(server, wishes.patience_seconds))
        stub = surface_service_pb2_grpc.SurfaceServiceStub(channel)
        return stub.WatchSurfaces(wishes.request(progress.resume_token))

    async with aclosing(lasting(servers, wishes.patience_seconds, backoff, opened)) as responses:
        async for response in responses:
            for update in progress.hear(response):
                key = (update.underlying, update.model)
                before = quote_times.get(key, NO_INSTANT)
                quote_times[key] = update.quote_time
                yield replace(update, previous_quote_time=before)
            # Only now: what was not handed out is asked for again.
            progress.handed_out(response)


def _server_time(response: surface_service_pb2.WatchSurfacesResponse) -> np.datetime64 | None:
    """What the server's clock was when it sent this; None where it does not say."""
    for event in (response.heartbeat, response.snapshot_end):
        if event.HasField("server_time"):
            return clock_reading(event.server_time)
    return None
