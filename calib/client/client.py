"""A connection to a server, and everything that can be asked of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from grpc_health.v1 import health_pb2, health_pb2_grpc

from calib.client.calibration import Calibration, calibration_of, calibration_request
from calib.client.contact import Contact, clock_reading
from calib.client.credentials import ChannelOpener, Credentials
from calib.client.failures import calling
from calib.client.publisher import (
    Acknowledgement,
    Counts,
    Publisher,
    acknowledgement,
    levels,
)
from calib.client.quotes import QuoteUpdate, QuoteWishes, watch_quotes
from calib.client.retrying import Backoff, read
from calib.client.servers import Servers
from calib.client.update import SurfaceUpdate, update_of
from calib.client.watch import Wishes, watch
from calib.conventions import Clock, ExpiryCalendar, to_instant, utc_now
from calib.errors import CalibError, InvalidRequest, Unavailable
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

_Answer = TypeVar("_Answer")

_OPTIONS = [
    # A small window, so that what this side has not read waits in the server's mailbox, where a
    # newer surface replaces it, and not in a buffer on the way.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 65_536),
    ("grpc.max_receive_message_length", 64 * 2**20),
    ("grpc.max_send_message_length", 64 * 2**20),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A new channel is a new connection, not a share in one that may be dead.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
]


def connect(
    servers: str | Sequence[str],
    credentials: Credentials | None = None,
    *,
    timeout_seconds: float = 10.0,
    clock_bound_seconds: float = 5.0,
    backoff: Backoff | None = None,
    clock: Clock = utc_now,
) -> Client:
    """A client of the server at an address (HOST:PORT), to be used in ``async with``.

    Of several addresses the first is asked, and the next in order when one is lost; an earlier one
    is asked again only when all later ones are lost in turn. Each must be fed with the same quotes.

    Nothing is sent before the first call. ``credentials`` make the connections TLS and say who
    calls; without, they are in the clear. ``timeout_seconds`` is the deadline of single calls, with
    all their tries; ``clock_bound_seconds``: surfaces of a server whose clock is further from ours
    are stale; ``backoff`` the pauses between tries; ``clock`` what ages are counted by.
    """
    targets = [servers] if isinstance(servers, str) else list(servers)
    ring = Servers(targets, ChannelOpener(credentials, _OPTIONS))
    return Client(ring, timeout_seconds, clock_bound_seconds, backoff or Backoff(), clock)


class Client:
    """What a quoting engine, or a feed, says to a server.

    Reads are tried again until their deadline, and at the next server where there are several.
    What sends quotes is never repeated by itself, and goes to one server only. Calls raise
    InvalidRequest for what the server cannot answer as asked, NotFitted where there is no such
    surface, Forbidden where the server does not let this caller, and Unavailable where it cannot be
    reached or used now.
    """

    def __init__(
        self,
        servers: Servers,
        timeout_seconds: float,
        clock_bound_seconds: float,
        backoff: Backoff,
        clock: Clock,
    ) -> None:
        for name, given in (
            ("timeout_seconds", timeout_seconds),
            ("clock_bound_seconds", clock_bound_seconds),
        ):
            if not given > 0.0:
                raise InvalidRequest(f"{name} must be positive, not {given!r}")
        self._all = servers
        self._timeout = timeout_seconds
        self._clock_bound = clock_bound_seconds
        self._backoff = backoff
        self._clock = clock
        self._counts: Counts = {}
        self._is_open = False

    async def __aenter__(self) -> Self:
        if self._is_open:
            raise InvalidRequest("this client is open already")
        if self._all.closed:
            raise InvalidRequest("this client was closed; connect anew")
        self._is_open = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_open = False
        await self._all.close()

    @property
    def target(self) -> str:
        """The address of the server that is in use."""
        return self._all.current

    async def wait_until_serving(self, timeout_seconds: float = 60.0) -> None:
        """Wait until a server is there and warm, the first of those that are will be used; raises
        Unavailable when that takes too long."""
        reasons = dict.fromkeys(self._servers.targets, "no answer")
        try:
            async with asyncio.timeout(timeout_seconds):
                while True:
                    for target in reasons:
                        reasons[target] = await self._reason_to_wait(target)
                        if not reasons[target]:
                            self._servers.current = target
                            return
                    await asyncio.sleep(0.05)
        except TimeoutError:
            told = "; ".join(f"{target}: {reason}" for target, reason in reasons.items())
            raise Unavailable(
                f"{self._servers} was not ready within {timeout_seconds:g} s: {told}"
            ) from None

    async def _reason_to_wait(self, target: str) -> str:
        """Why a server cannot be used yet; empty where it can."""
        stub = health_pb2_grpc.HealthStub(self._servers.channel(target))
        try:
            with calling(target):
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=1.0)
        except CalibError as error:
            return str(error)
        serving = answer.status == health_pb2.HealthCheckResponse.SERVING
        return "" if serving else "it is starting up"

    async def get(self, underlying: str, model: str | None = None) -> SurfaceUpdate:
        """The surface in force and how it stands; ``model`` None is the server's choice.

        Nothing is heard after it: within 15 seconds it counts as stale, unless it is asked for
        again. To be told of changes, `watch`.
        """
        request = surface_service_pb2.GetSurfaceRequest(underlying=underlying, model=_model(model))
        response, server = await self._read(
            lambda surfaces, seconds: surfaces.GetSurface(request, timeout=seconds)
        )
        contact = self._contact(server, Wishes().patience_seconds)
        contact.heard(
            clock_reading(response.server_time) if response.HasField("server_time") else None
        )
        return update_of(response.update, self._clock, contact)

    def watch(
        self,
        underlyings: Iterable[str] = (),
        *,
        models: Iterable[str] = (),
        heartbeat_seconds: float = 5.0,
    ) -> AsyncIterator[SurfaceUpdate]:
        """Every surface in force, then every change; of no underlyings, all of them.

        Goes on over interruptions, pausing between attempts, and takes up where it was, or at the
        next server where there are several. Within an epoch revisions of a surface never go back.
        A reader slower than the market gets the latest and the number skipped. What it has not
        been asked for is not read: a watch left alone for three heartbeats counts as silent.
        """
        if isinstance(underlyings, str):
            raise InvalidRequest(f"watch takes a list of underlyings: [{underlyings!r}]")
        named = tuple(model for model in (_named(model) for model in models) if model)
        wishes = Wishes(tuple(underlyings), named, heartbeat_seconds=heartbeat_seconds)
        return watch(self._servers, wishes, self._backoff, self._contact)

    def watch_quotes(
        self,
        underlyings: Iterable[str] = (),
        *,
        venues: Iterable[str] = (),
        heartbeat_seconds: float = 5.0,
    ) -> AsyncIterator[QuoteUpdate]:
        """The quotes that stand, a table for each venue and underlying, then all that the server
        accepts, batch after batch in its order; of no underlyings or venues, all of them.

        Goes on over interruptions, pausing between attempts, or at the next server where there
        are several; each time it begins with what stands then, and `interruptions` rises. A reader
        that is too slow for the server is interrupted too: nothing is left out silently.
        """
        for name, given in (("underlyings", underlyings), ("venues", venues)):
            if isinstance(given, str):
                raise InvalidRequest(f"watch_quotes takes a list of {name}: [{given!r}]")
        wishes = QuoteWishes(tuple(underlyings), tuple(venues), heartbeat_seconds=heartbeat_seconds)
        return watch_quotes(self._servers, wishes, self._backoff)

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
            page, _ = await self._read(
                lambda surfaces, seconds: surfaces.ListSurfaces(request, timeout=seconds)
            )
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
        stub = quote_service_pb2_grpc.QuoteServiceStub(self._servers.feeding(self._feeds_to))
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
        stub = quote_service_pb2_grpc.QuoteServiceStub(self._servers.feeding(self._feeds_to))
        message = levels(underlying, venue, quote_time, forwards or {}, spot)
        request = quote_service_pb2.PublishQuoteBatchRequest(ticks=message)
        with calling(self.target):
            response = await stub.PublishQuoteBatch(request, timeout=self._timeout)
        return acknowledgement(response.ack, range(len(message.forward) + 1))

    @asynccontextmanager
    async def publisher(
        self, *, most_unacknowledged: int = 64, counted: bool = True
    ) -> AsyncIterator[Publisher]:
        """One stream for many batches, open while inside; at its end it waits for what is on its
        way, at most ``most_unacknowledged`` messages.

        ``counted``: messages carry numbers by venue and underlying, over all streams of this
        client, one after the other, so that the server sees what a broken stream has lost. Two
        processes, or two streams at once, that publish one underlying of one venue share no order:
        they must not carry numbers.
        """
        target = self._feeds_to
        channel = self._servers.feeding(target)
        call = quote_service_pb2_grpc.QuoteServiceStub(channel).PublishQuotes()
        publisher = Publisher(
            call,
            target,
            timeout_seconds=self._timeout,
            most_unacknowledged=most_unacknowledged,
            counts=self._counts if counted else None,
        )
        try:
            yield publisher
            with calling(target), suppress(asyncio.InvalidStateError):
                await call.done_writing()
            await publisher.drain()
        finally:
            call.cancel()
            await publisher.close()

    async def calibrate(
        self,
        quotes: QuoteTable,
        model: str = "svi",
        *,
        calendar: ExpiryCalendar = ExpiryCalendar.SAME_ASSET,
        timeout_seconds: float = 120.0,
    ) -> Calibration:
        """Have one chain fitted; nothing is published."""
        target = self.target
        request, position = calibration_request(quotes, _model(model), calendar)
        async with self._servers.connection(target) as channel:
            stub = calibration_service_pb2_grpc.CalibrationServiceStub(channel)
            with calling(target):
                response = await stub.Calibrate(request, timeout=timeout_seconds)
        return calibration_of(response, position)

    @property
    def _servers(self) -> Servers:
        if not self._is_open:
            raise InvalidRequest("the client is not open: use `async with calib.connect(...)`")
        return self._all

    @property
    def _feeds_to(self) -> str:
        """The server that quotes go to."""
        if len(self._servers) > 1:
            raise InvalidRequest(
                f"quotes go to one server, and this client has {self._servers}: a feed connects to "
                "each of them, because each has to have all quotes"
            )
        return self.target

    def _contact(self, server: str, patience_seconds: float) -> Contact:
        return Contact(server, patience_seconds, self._clock_bound, self._clock)

    async def _read(
        self,
        call: Callable[
            [surface_service_pb2_grpc.SurfaceServiceAsyncStub, float], Awaitable[_Answer]
        ],
    ) -> tuple[_Answer, str]:
        """What a call that may be repeated reads, and from which server."""
        return await read(
            self._servers,
            self._timeout,
            self._backoff,
            lambda channel, seconds: call(
                surface_service_pb2_grpc.SurfaceServiceStub(channel), seconds
            ),
        )


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
