"""The server: its parts put together, started, and ended without losing anything."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from time import monotonic

import grpc
import numpy as np
import structlog
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from calib.conventions import utc_now
from calib.errors import CalibError, Unavailable
from calib.service.board import Board
from calib.service.calibration_service import CalibrationServicer
from calib.service.comparisons import Comparisons
from calib.service.compilation import use_cache
from calib.service.desk import Desk
from calib.service.engine import Engine
from calib.service.fit_thread import Fitter, FitThread, fit_batch
from calib.service.hub import Hub, new_epoch
from calib.service.listener import Listener
from calib.service.logs import configure_logs
from calib.service.meters import Meters
from calib.service.model_risk_service import ModelRiskServicer
from calib.service.protection.callers import Callers
from calib.service.protection.exposure import warn_if_open
from calib.service.protection.gate import Gate
from calib.service.protection.tls import server_credentials
from calib.service.protection.tokens import Tokens
from calib.service.publication import Publication
from calib.service.quote_service import QuoteServicer
from calib.service.readiness import Readiness
from calib.service.restoring import Trail, read_trail
from calib.service.service_manager import announced
from calib.service.service_names import (
    CALIBRATION,
    HEALTH,
    MODEL_RISK,
    QUOTES,
    REFLECTION,
    SURFACES,
)
from calib.service.settings import ServiceSettings
from calib.service.store_watch import StoreWatch
from calib.service.surface_service import SurfaceServicer
from calib.service.tape import Tape
from calib.service.warm_up import preparations, wanted_shapes
from calib.store import Entry, Retention, Store, StoreWriter, open_store
from calib.surface.surface import Surface
from calib.v1 import (
    calibration_service_pb2_grpc,
    model_risk_service_pb2_grpc,
    quote_service_pb2_grpc,
    surface_service_pb2_grpc,
)

_LOOK_SECONDS = 1.0
_SINGLE_CALLS = 1_000
"""Calls of one connection at once beside watches; more wait at the client."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Running:
    """A server that listens.

    ``address`` is HOST:PORT as others reach it, ``metrics_address`` that of the meters, None where
    they are not served; ``meters`` count what it does; ``hub`` holds what is in force; ``writer``
    writes to the store, None without one; ``warm`` ends when the server calibrates; ``failed``
    ends, with an error, if a part that it cannot do without does.
    """

    address: str
    metrics_address: str | None
    meters: Meters
    hub: Hub
    writer: StoreWriter | None
    warm: asyncio.Task[None]
    failed: asyncio.Future[None]


async def serve(
    settings: ServiceSettings, *, listening: Callable[[str], None] = lambda address: None
) -> None:
    """Run a server until SIGTERM or SIGINT; ``listening`` is told the address.

    Raises Unavailable where the address or the store cannot be used.
    """
    configure_logs(settings.log_level, settings.log_format)
    if settings.compilation_cache is not None:
        unused = use_cache(settings.compilation_cache)
        if unused:
            _log.warning("no_compilation_cache", reason=unused)
    loop = asyncio.get_running_loop()
    stop = loop.create_future()

    def end(name: str) -> None:
        _log.info("signal", name=name)
        if not stop.done():
            stop.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number.name)
    try:
        async with running(settings) as server:
            listening(server.address)
            async with announced(server.warm):
                await asyncio.wait({stop, server.failed}, return_when=asyncio.FIRST_COMPLETED)
                if server.failed.done():
                    server.failed.result()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


@asynccontextmanager
async def running(
    settings: ServiceSettings, *, fitter: Fitter = fit_batch
) -> AsyncIterator[Running]:
    """A server in this event loop, ended in order when the block ends."""
    code_version = version("calib")
    async with AsyncExitStack() as stack:
        thread = FitThread(fitter)
        stack.callback(thread.close)
        store, writer = await _open_store(settings, stack)
        keep = _keeper(writer, quotes=settings.store_quotes)
        hub = Hub(
            new_epoch(),
            valid_for=np.timedelta64(settings.quote_max_age),
            max_subscribers=settings.max_watches,
        )
        board, meters = Board(max_readers=settings.max_watches), Meters()
        publication = Publication(
            hub,
            board,
            meters,
            thread,
            keep=keep,
            monitor=settings.monitor,
            metrics_every=np.timedelta64(settings.store_metrics_every),
            stickiness=settings.level_stickiness,
            seconds=monotonic,
            code_version=code_version,
        )
        trail = Trail() if store is None else await asyncio.to_thread(read_trail, store)
        engine = Engine(settings, publication, thread, keep=keep, trail=trail, now=utc_now)
        if store is not None:
            await _restore(store, engine)
        metrics_address = None
        if settings.metrics is not None:
            metrics_address = stack.enter_context(meters.served(settings.metrics))
        desk = Desk(engine.markets, publication, thread, now=utc_now, seconds=monotonic)
        watched = None if writer is None else StoreWatch(lambda: writer.state, now=utc_now)
        readers, workers = (SURFACES, MODEL_RISK), (QUOTES, CALIBRATION)
        readiness = Readiness(readers=readers, workers=workers)
        await readiness.starting()
        gate = _gate(settings, meters)
        tape = Tape(hub.epoch, max_readers=settings.max_watches, max_rows=settings.max_waiting_rows)
        quotes = QuoteServicer(settings, engine, tape, readiness)
        calibration = CalibrationServicer(engine, readiness)
        surfaces = SurfaceServicer(settings, hub, store, readiness)
        risks = ModelRiskServicer(
            settings,
            board,
            desk,
            store,
            readiness,
            store_alarm=lambda: None if watched is None else watched.standing,
        )

        def built(listen: str) -> tuple[grpc.aio.Server, str]:
            server = _server(settings, readiness, gate)
            quote_service_pb2_grpc.add_QuoteServiceServicer_to_server(quotes, server)
            calibration_service_pb2_grpc.add_CalibrationServiceServicer_to_server(
                calibration, server
            )
            surface_service_pb2_grpc.add_SurfaceServiceServicer_to_server(surfaces, server)
            model_risk_service_pb2_grpc.add_ModelRiskServiceServicer_to_server(risks, server)
            return server, _bind(server, settings, listen)

        warn_if_open(settings)
        listener = Listener(built, settings.listen)
        stack.push_async_callback(listener.stop, None)  # for whatever ends before it serves
        address = await listener.start()
        _log.info(
            "listening",
            address=address,
            epoch=hub.epoch,
            version=code_version,
            store=None if store is None else repr(store),
            metrics=metrics_address,
            restored=len(list(hub)),
        )
        failed = asyncio.get_running_loop().create_future()
        failed.add_done_callback(lambda future: future.cancelled() or future.exception())
        known = [published.surface for published in hub]
        warm = _task(_warm(settings, known, thread, fitter, readiness), failed)
        looking = _watch_service(settings, publication, tape, watched, readiness, gate)
        work = [engine.run(), engine.watch_ages(), listener.keep(), looking]
        if settings.compare_every is not None:
            every = settings.compare_every
            comparisons = Comparisons(engine, thread, fitter, every=every, seconds=monotonic)
            work.append(comparisons.run())
        tasks = [warm, *(_task(one, failed) for one in work)]
        try:
            yield Running(address, metrics_address, meters, hub, writer, warm, failed)
        finally:
            await readiness.ending()
            grace = settings.shutdown_grace.total_seconds()
            await asyncio.gather(quotes.end(grace), listener.stop(grace))
            # What was acknowledged is fitted and stored, though nobody is left to be told of it.
            if not failed.done() and not await engine.drained(grace):
                _log.warning("not_drained", seconds=grace)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(thread.close)
            _log.info("stopped", epoch=hub.epoch)


async def _open_store(
    settings: ServiceSettings, stack: AsyncExitStack
) -> tuple[Store | None, StoreWriter | None]:
    url = settings.store
    if url is None:
        return None, None
    quotes = settings.quotes_folder if settings.store_quotes else False
    store = await asyncio.to_thread(lambda: open_store(url, create=True, quotes=quotes))
    stack.callback(store.close)
    retention = Retention(rows=settings.keep_rows, quotes=settings.keep_quotes)
    writer = StoreWriter(store, capacity_bytes=settings.store_buffer_bytes, retention=retention)
    grace = settings.shutdown_grace.total_seconds()
    stack.push_async_callback(asyncio.to_thread, writer.close, grace)
    return store, writer


def _keeper(writer: StoreWriter | None, *, quotes: bool) -> Callable[[Entry], None]:
    """What the engine hands entries to; quotes that are not stored take no room while they wait."""
    if writer is None:
        return lambda entry: None
    if quotes:
        return writer.put
    return lambda entry: writer.put(replace(entry, chain=None))


async def _watch_service(
    settings: ServiceSettings,
    publication: Publication,
    tape: Tape,
    watched: StoreWatch | None,
    readiness: Readiness,
    gate: Gate,
) -> None:
    """Look after the store, the health of surfaces, tokens and watches, until cancelled."""
    hub = publication.hub
    while True:
        gate.look()
        await readiness.quotable(
            {
                one.key.underlying: one.quotable
                for one in hub
                if one.key.model is settings.model_of(one.key.underlying)
            }
        )
        publication.meters.watched(hub.subscribers)
        publication.meters.taped(tape.readers, tape.waiting_rows)
        if watched is not None:
            publication.meters.stored(watched.state)
            for alarm in watched.look():
                publication.alarm(alarm)
        await asyncio.sleep(_LOOK_SECONDS)


async def _restore(store: Store, engine: Engine) -> None:
    for message in await asyncio.to_thread(store.latest):
        try:
            engine.restore(Surface.from_proto(message))
        except CalibError as error:  # written by another version, or damaged
            _log.warning("not_restored", underlying=message.underlying, error=str(error))


async def _warm(
    settings: ServiceSettings,
    known: list[Surface],
    thread: FitThread,
    fitter: Fitter,
    readiness: Readiness,
) -> None:
    started = monotonic()
    if settings.warm_up:
        shapes = await thread.run(partial(wanted_shapes, settings, known))
        for part in preparations(shapes, fitter):
            # One by one, so that a server that is told to end does not compile the rest first.
            await thread.run(part)
    await readiness.warm()
    _log.info("serving", seconds=round(monotonic() - started, 3))


def _gate(settings: ServiceSettings, meters: Meters) -> Gate:
    tokens = None if settings.tokens is None else Tokens(settings.tokens, settings.identities)
    return Gate(Callers(settings.identities, settings.limits, tokens), meters.rpcs)


def _server(settings: ServiceSettings, readiness: Readiness, gate: Gate) -> grpc.aio.Server:
    server = grpc.aio.server(
        interceptors=[gate],
        options=[
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.max_send_message_length", settings.max_message_bytes),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
            # What a stream has sent and nobody has read yet is bounded by this, and not by what a
            # fast link carries: so publishers feel a server that cannot keep up.
            ("grpc.http2.bdp_probe", 0),
            ("grpc.http2.lookahead_bytes", 262_144),
            # Connections that open calls, or themselves, and then say nothing.
            ("grpc.max_concurrent_streams", settings.max_watches + _SINGLE_CALLS),
            ("grpc.server_handshake_timeout_ms", 10_000),
            # Two servers on one port would share its calls between two epochs.
            ("grpc.so_reuseport", 0),
        ],
    )
    health_pb2_grpc.add_HealthServicer_to_server(readiness.health, server)
    names = (QUOTES, CALIBRATION, SURFACES, MODEL_RISK, HEALTH, REFLECTION)
    reflection.enable_server_reflection(names, server)
    return server


def _bind(server: grpc.aio.Server, settings: ServiceSettings, listen: str) -> str:
    tls = settings.tls
    host, _, _ = listen.rpartition(":")
    try:
        if tls is None:
            port = server.add_insecure_port(listen)
        else:
            port = server.add_secure_port(listen, server_credentials(tls))
    except RuntimeError:
        port = 0
    if port == 0:
        raise Unavailable(f"cannot listen on {listen}: is the port taken, or the host not ours?")
    return f"{host}:{port}"


def _task(
    work: Coroutine[object, object, None], failed: asyncio.Future[None]
) -> asyncio.Task[None]:
    """A task whose failure is that of the server."""

    def ended(task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None or failed.done():
            return
        error = task.exception()
        _log.error("part_failed", exc_info=error)
        assert error is not None
        failed.set_exception(error)

    task = asyncio.create_task(work)
    task.add_done_callback(ended)
    return task
