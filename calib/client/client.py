"""A connection to a server, and everything that can be asked of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from calib.client.calibration import Calibration, calibration_of, calibration_request
from calib.client.credentials import Credentials, open_channel
from calib.client.failures import calling
from calib.client.publisher import Acknowledgement, Publisher, acknowledgement, levels
from calib.client.update import Clock, SurfaceUpdate, update_of, utc_now
from calib.client.watch import Backoff, Wishes, watch
from calib.conventions import ExpiryCalendar, to_instant
from calib.errors import InvalidRequest, Unavailable
from calib.quotes.table import QuoteTable
from calib.service.conversion import batches_of
from calib.states import ModelName
from calib.surface.messages import timestamp
from calib.surface.surface import Surface
from calib.v1 import (
    calibration_service_pb2_grpc,
    quote_service_pb2,
    quote_service_pb2_grpc,
    surface_pb2,
    surface_service_pb2,
    surface_service_pb2_grpc,
)

_OPTIONS = [
    # A small window, so that what this side has not read waits in the server's mailbox, where a
    # newer surface replaces it, and not in a buffer on the way.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 65_536),
    ("grpc.max_receive_message_length", 64 * 2**20),
    ("grpc.max_send_message_length", 64 * 2**20),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
]


def connect(
    target: str,
    credentials: Credentials | None = None,
    *,
    timeout_seconds: float = 10.0,
    backoff: Backoff | None = None,
    clock: Clock = utc_now,
) -> Client:
    """A client of the server at ``target`` (HOST:PORT), to be used in ``async with``.

    Nothing is sent before the first call. ``credentials`` make it a TLS connection and say who
    calls; without, it is in the clear. ``timeout_seconds`` is the deadline of single calls,
    ``backoff`` the pauses between attempts to take up a watch, ``clock`` what ages are counted by.
    """
    return Client(target, timeout_seconds, backoff or Backoff(), clock, credentials)


class Client:
    """What a quoting engine, or a feed, says to a server.

    Calls raise InvalidRequest for what the server cannot answer as asked, NotFitted where there is
    no such surface, Forbidden where the server does not let this caller, and Unavailable where it
    cannot be reached or used now.
    """

    def __init__(
        self,
        target: str,
        timeout_seconds: float,
        backoff: Backoff,
        clock: Clock,
        credentials: Credentials | None = None,
    ) -> None:
        self.target = target
        self._credentials = credentials
        self._timeout = timeout_seconds
        self._backoff = backoff
        self._clock = clock
        self._open: grpc.aio.Channel | None = None

    async def __aenter__(self) -> Self:
        if self._open is not None:
            raise InvalidRequest("this client is open already")
        self._open = open_channel(self.target, self._credentials, _OPTIONS)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._open is not None:
            channel, self._open = self._open, None
            await channel.close()

    async def wait_until_serving(self, timeout_seconds: float = 60.0) -> None:
        """Wait until the server is there and warm; raises Unavailable when that takes too long."""
        stub = health_pb2_grpc.HealthStub(self._channel)
        reason = "no answer"
        try:
            async with asyncio.timeout(timeout_seconds):
                while True:
                    try:
                        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=1.0)
                    except grpc.aio.AioRpcError as error:
                        reason = f"{error.code().name}: {error.details()}"
                    else:
                        if answer.status == health_pb2.HealthCheckResponse.SERVING:
                            return
                        reason = "it is starting up"
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise Unavailable(
                f"{self.target} was not ready within {timeout_seconds:g} s: {reason}"
            ) from None

    async def get(self, underlying: str, model: str | None = None) -> Surface:
        """The surface in force; `get_update` also says how far it may be relied on."""
        return (await self.get_update(underlying, model)).surface

    async def get_update(self, underlying: str, model: str | None = None) -> SurfaceUpdate:
        """The surface in force and how it stands; ``model`` None is the server's choice."""
        request = surface_service_pb2.GetSurfaceRequest(underlying=underlying, model=_model(model))
        with calling(self.target):
            response = await self._surfaces.GetSurface(request, timeout=self._timeout)
        return update_of(response.update, self._clock)

    def watch(
        self,
        underlyings: Iterable[str] = (),
        *,
        models: Iterable[str] = (),
        heartbeat_seconds: float = 5.0,
    ) -> AsyncIterator[SurfaceUpdate]:
        """Every surface in force, then every change; of no underlyings, all of them.

        Goes on over interruptions, pausing between attempts, and takes up where it was. Within an
        epoch revisions of a surface never go back. A reader slower than the market gets the latest
        and the number skipped.
        """
        if isinstance(underlyings, str):
            raise InvalidRequest(f"watch takes a list of underlyings: [{underlyings!r}]")
        named = tuple(model for model in (_named(model) for model in models) if model)
        wishes = Wishes(tuple(underlyings), named, heartbeat_seconds)
        return watch(self._surfaces, self.target, wishes, self._backoff, self._clock)

    async def history(
        self, underlying: str = "", start: Any = None, end: Any = None, *, model: str | None = None
    ) -> AsyncIterator[Surface]:
        """Published surfaces in order of quote time, from ``start`` up to before ``end``."""
        request = surface_service_pb2.ListSurfacesRequest(
            underlying=underlying,
            model=_model(model),
            start_time=None if start is None else timestamp(to_instant(start)),
            end_time=None if end is None else timestamp(to_instant(end)),
        )
        while True:
            with calling(self.target):
                page = await self._surfaces.ListSurfaces(request, timeout=self._timeout)
            for message in page.surfaces:
                yield Surface.from_proto(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def publish(
        self, quotes: QuoteTable, *, snapshot_complete: bool = True
    ) -> Acknowledgement:
        """Send the rows of a table; `publisher` is for sending more than once.

        ``snapshot_complete``: they are the full chains of all venues and underlyings in the table.
        """
        stub = quote_service_pb2_grpc.QuoteServiceStub(self._channel)
        acknowledged = Acknowledgement(reasons={})
        for batch, rows in batches_of(quotes, snapshot_complete=snapshot_complete):
            request = quote_service_pb2.PublishQuoteBatchRequest(quotes=batch)
            with calling(self.target):
                response = await stub.PublishQuoteBatch(request, timeout=self._timeout)
            acknowledged += acknowledgement(response.ack, quotes.row[rows])
        return acknowledged

    async def publish_levels(
        self,
        underlying: str,
        *,
        venue: str,
        quote_time: Any,
        forwards: Mapping[Any, float] | None = None,
        spot: float | None = None,
    ) -> Acknowledgement:
        """Send forwards (by expiry, datetime-like) and spot between option quotes."""
        stub = quote_service_pb2_grpc.QuoteServiceStub(self._channel)
        message = levels(underlying, venue, quote_time, forwards or {}, spot)
        request = quote_service_pb2.PublishQuoteBatchRequest(ticks=message)
        with calling(self.target):
            response = await stub.PublishQuoteBatch(request, timeout=self._timeout)
        return acknowledgement(response.ack, range(len(message.forward) + 1))

    @asynccontextmanager
    async def publisher(self) -> AsyncIterator[Publisher]:
        """One stream for many batches, open while inside."""
        stub = quote_service_pb2_grpc.QuoteServiceStub(self._channel)
        call = stub.PublishQuotes()
        try:
            yield Publisher(call, self.target)
            with calling(self.target), suppress(asyncio.InvalidStateError):
                await call.done_writing()
        finally:
            call.cancel()

    async def calibrate(
        self,
        quotes: QuoteTable,
        model: str = "svi",
        *,
        calendar: ExpiryCalendar = ExpiryCalendar.SAME_ASSET,
        timeout_seconds: float = 120.0,
    ) -> Calibration:
        """Have one chain fitted; nothing is published."""
        stub = calibration_service_pb2_grpc.CalibrationServiceStub(self._channel)
        request, position = calibration_request(quotes, _model(model), calendar)
        with calling(self.target):
            response = await stub.Calibrate(request, timeout=timeout_seconds)
        return calibration_of(response, position)

    @property
    def _channel(self) -> grpc.aio.Channel:
        if self._open is None:
            raise InvalidRequest("the client is not open: use `async with calib.connect(...)`")
        return self._open

    @property
    def _surfaces(self) -> surface_service_pb2_grpc.SurfaceServiceAsyncStub:
        return surface_service_pb2_grpc.SurfaceServiceStub(self._channel)


def _named(model: str | None) -> ModelName | None:
    if model is None:
        return None
    name = model.strip().upper()
    if name not in ModelName.__members__:
        known = ", ".join(member.name.lower() for member in ModelName)
        raise InvalidRequest(f"there is no model {model!r}; choose {known}")
    return ModelName[name]


def _model(model: str | None) -> surface_pb2.Model.ValueType:
    return surface_pb2.Model.ValueType(_named(model) or 0)
