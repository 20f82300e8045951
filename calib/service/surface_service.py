"""SurfaceService: surfaces out, now, as history and as they change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any

from google.protobuf.timestamp_pb2 import Timestamp

from calib.errors import InvalidSurface, NotFitted
from calib.service.evaluation import evaluated
from calib.service.hub import Delivery, Filter, Hub, Key, Published, Subscription
from calib.service.paging import Page, page_of
from calib.service.readiness import Readiness
from calib.service.refusals import InvalidField, Refused
from calib.service.settings import ServiceSettings
from calib.service.watching import Writing, check_underlyings, silence_of
from calib.states import ModelName
from calib.v1 import surface_service_pb2, surface_service_pb2_grpc

if TYPE_CHECKING:
    from calib.store.store import Store


class SurfaceServicer(surface_service_pb2_grpc.SurfaceServiceServicer):
    """Reads from the hub, and history from the store."""

    def __init__(
        self,
        settings: ServiceSettings,
        hub: Hub,
        store: Store | None,
        readiness: Readiness,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._hub = hub
        self._store = store
        self._readiness = readiness
        self._clock = clock

    async def GetSurface(
        self, request: surface_service_pb2.GetSurfaceRequest, context: Any
    ) -> surface_service_pb2.GetSurfaceResponse:
        """The surface in force."""
        self._readiness.require_open()
        published = self._in_force(request.underlying, request.model)
        return surface_service_pb2.GetSurfaceResponse(
            update=published.update, server_time=_timestamp(self._clock())
        )

    async def ListSurfaces(
        self, request: surface_service_pb2.ListSurfacesRequest, context: Any
    ) -> surface_service_pb2.ListSurfacesResponse:
        """A page of the history."""
        self._readiness.require_open()
        page = page_of(request)
        if self._store is None:
            raise Refused("this server keeps no history: it was started without a store")
        messages, token = await asyncio.to_thread(_read, self._store, page)
        return surface_service_pb2.ListSurfacesResponse(surfaces=messages, next_page_token=token)

    async def EvaluateSurface(
        self, request: surface_service_pb2.EvaluateSurfaceRequest, context: Any
    ) -> surface_service_pb2.EvaluateSurfaceResponse:
        """Values of the surface in force."""
        self._readiness.require_open()
        published = self._in_force(request.underlying, request.model)
        return await asyncio.to_thread(evaluated, published, request)

    # A coroutine instead of a generator, so that each write can have a time limit.
    async def WatchSurfaces(  # type: ignore[override]
        self, request: surface_service_pb2.WatchSurfacesRequest, context: Any
    ) -> None:
        """Snapshot, its end, then changes and heartbeats until the call ends."""
        self._readiness.require_open()
        wanted, heartbeat = self._wishes(request)
        limit = self._settings.write_timeout.total_seconds()
        with (
            self._readiness.long_call(),
            self._hub.subscribe(wanted, request.resume_token) as subscription,
            Writing(context, limit) as writing,
        ):
            watch = _Watch(self._hub, subscription, writing, self._clock)
            await watch.snapshot()
            while True:
                await watch.until_heartbeat(heartbeat)

    def _in_force(self, underlying: str, model: int) -> Published:
        if not underlying:
            raise InvalidField("underlying", "is empty")
        key = Key(underlying, _model("model", model) or self._settings.model_of(underlying))
        published = self._hub.get(key)
        if published is None:
            raise NotFitted(f"no {key.model.name} surface of {underlying!r} was calibrated")
        return published

    def _wishes(
        self, request: surface_service_pb2.WatchSurfacesRequest
    ) -> tuple[Filter, timedelta]:
        underlyings = check_underlyings(request.underlyings)
        models = [_model("models", number) for number in request.models]
        if None in models:
            raise InvalidField("models", "one of them is unspecified")
        wanted = Filter(underlyings, frozenset(model for model in models if model))
        return wanted, silence_of(request, self._settings.heartbeat)


class _Watch:
    """One open watch: what it writes, and the token that goes with each."""

    def __init__(
        self,
        hub: Hub,
        subscription: Subscription,
        writing: Writing,
        clock: Callable[[], datetime],
    ) -> None:
        self._hub = hub
        self._subscription = subscription
        self._writing = writing
        self._clock = clock

    async def snapshot(self) -> None:
        """What is in force and not covered by the reader's token, then the end of it."""
        deliveries = self._subscription.snapshot
        for delivery in deliveries:
            await self._surface(delivery)
        end = surface_service_pb2.SnapshotEnd(
            surface_count=len(deliveries), server_time=_timestamp(self._clock())
        )
        await self._write(
            surface_service_pb2.WatchSurfacesResponse(
                snapshot_end=end,
                epoch=self._hub.epoch,
                resume_token=self._token(self._subscription.snapshot_sequence),
            )
        )

    async def until_heartbeat(self, interval: timedelta) -> None:
        """Changes for one interval, then a heartbeat: a busy market does not hide the clock."""
        due = monotonic() + interval.total_seconds()
        while True:
            deliveries = await self._subscription.take(max(due - monotonic(), 0.0))
            covered = self._hub.sequence  # before anything is awaited: all that was taken, no more
            for delivery in deliveries:
                await self._surface(delivery)
            if monotonic() >= due:
                break
        await self._write(
            surface_service_pb2.WatchSurfacesResponse(
                heartbeat=surface_service_pb2.Heartbeat(server_time=_timestamp(self._clock())),
                epoch=self._hub.epoch,
                resume_token=self._token(covered),
            )
        )

    async def _surface(self, delivery: Delivery) -> None:
        published, missed, has_shape = delivery
        if published.move is not None and not has_shape:
            shape = surface_service_pb2.WatchSurfacesResponse(
                surface=published.shape_update,
                epoch=self._hub.epoch,
                resume_token=self._token(published.sequence - 1),
            )
            await self._write(shape)
        token = self._token(published.sequence)
        await self._write(published.event(self._hub.epoch, token, missed))

    async def _write(self, response: surface_service_pb2.WatchSurfacesResponse | bytes) -> None:
        await self._writing.write(response)

    def _token(self, sequence: int) -> str:
        return self._hub.token(self._subscription.wanted, sequence)


def _timestamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def _read(store: Store, page: Page) -> tuple[list[Any], str]:
    try:
        messages, cursor = store.page(
            page.underlying,
            page.start,
            page.end,
            model=page.model,
            after=page.after,
            limit=page.size,
        )
    except InvalidSurface as error:  # the store's fault, not the caller's
        raise RuntimeError(str(error)) from error
    return messages, "" if cursor is None else page.token(cursor)


def _model(field: str, number: int) -> ModelName | None:
    """The model with this number, None for unspecified."""
    if not number:
        return None
    if number not in [int(model) for model in ModelName]:
        raise InvalidField(field, f"{number} is not a model of this version")
    return ModelName(number)
