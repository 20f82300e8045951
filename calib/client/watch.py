"""A watch that lasts: it reconnects, resumes where it was, and never goes back."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

import grpc
from google.protobuf.duration_pb2 import Duration

from calib.client.failures import RETRIABLE, failure
from calib.client.update import Clock, SurfaceUpdate, moved, update_of
from calib.errors import InvalidRequest
from calib.states import ModelName
from calib.surface.surface import Surface
from calib.v1 import surface_pb2, surface_service_pb2, surface_service_pb2_grpc

_Key = tuple[str, int]  # underlying and model

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Backoff:
    """Pauses before new attempts: random up to a bound that doubles, so that clients spread."""

    first_seconds: float = 0.05
    longest_seconds: float = 5.0
    random: Callable[[], float] = field(default=random.random, repr=False)

    def pauses(self) -> Iterator[float]:
        """The pauses of one outage."""
        bound = self.first_seconds
        while True:
            yield bound * (0.5 + 0.5 * self.random())
            bound = min(2.0 * bound, self.longest_seconds)


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
        whole = int(self.heartbeat_seconds)
        return surface_service_pb2.WatchSurfacesRequest(
            underlyings=self.underlyings,
            models=[surface_pb2.Model.ValueType(model) for model in self.models],
            resume_token=resume_token,
            heartbeat_interval=Duration(
                seconds=whole, nanos=round((self.heartbeat_seconds - whole) * 1e9)
            ),
        )


class Progress:
    """How far a watch has come: what it resumes from, and what it must not hand out again."""

    def __init__(self) -> None:
        self.resume_token = ""
        self._epoch = ""
        self._seen: dict[_Key, tuple[int, int, bytes]] = {}
        self._shapes: dict[_Key, Surface] = {}

    def surface_of(self, response: surface_service_pb2.WatchSurfacesResponse) -> Surface | None:
        """The surface of an event, None where it tells nothing new: an older revision of an epoch
        never does.

        Raises InvalidSurface where there is none, or a move of one that was not sent.
        """
        if response.epoch != self._epoch:
            self._epoch = response.epoch
            self._seen.clear()
            self._shapes.clear()
        update = response.surface
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
    stub: surface_service_pb2_grpc.SurfaceServiceAsyncStub,
    target: str,
    wishes: Wishes,
    backoff: Backoff,
    clock: Clock,
) -> AsyncIterator[SurfaceUpdate]:
    """Updates for as long as they are asked for, over any number of connections.

    Raises InvalidRequest where the server refuses the request itself.
    """
    progress = Progress()
    pauses = backoff.pauses()
    while True:
        call = stub.WatchSurfaces(wishes.request(progress.resume_token))
        try:
            async for response in _responses(call, wishes.patience_seconds):
                pauses = backoff.pauses()
                if response.HasField("surface"):
                    surface = progress.surface_of(response)
                    if surface is not None:
                        yield update_of(response.surface, clock, surface)
                # Only now: what was not handed out is asked for again.
                progress.resume_token = response.resume_token
            lost = "the server ended the watch"
        except grpc.aio.AioRpcError as error:
            if error.code() not in RETRIABLE:
                raise failure(error, target) from error
            lost = f"{error.code().name}: {error.details()}"
        except TimeoutError:
            lost = f"nothing heard for {wishes.patience_seconds:g} s"
        finally:
            call.cancel()
        pause = next(pauses)
        _log.info("watch of %s interrupted: %s; next try in %.3f s", target, lost, pause)
        await asyncio.sleep(pause)


async def _responses(
    call: grpc.aio.UnaryStreamCall[
        surface_service_pb2.WatchSurfacesRequest, surface_service_pb2.WatchSurfacesResponse
    ],
    patience_seconds: float,
) -> AsyncIterator[surface_service_pb2.WatchSurfacesResponse]:
    while True:
        async with asyncio.timeout(patience_seconds):
            response = await call.read()
        if not isinstance(response, surface_service_pb2.WatchSurfacesResponse):
            return  # the end of the stream; an error would have been raised
        yield response
