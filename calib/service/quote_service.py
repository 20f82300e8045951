"""QuoteService: quotes, ticks and heartbeats in, acknowledgements out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from time import monotonic
from typing import Any

import numpy as np
import structlog

from calib.conventions import utc_now
from calib.quotes.book import Taken, parts_joined, repeat_of
from calib.quotes.reasons import Reason
from calib.service.conversion import (
    batches_of,
    heartbeat_ack,
    heartbeat_of,
    quote_ack,
    quotes_of,
    tick_ack,
    ticks_of,
    with_rows,
)
from calib.service.engine import Engine
from calib.service.quote_watch import QuoteWatch, wishes_of
from calib.service.readiness import Readiness, going_down
from calib.service.refusals import InvalidField
from calib.service.settings import ServiceSettings
from calib.service.tape import Tape
from calib.service.turns import Turns
from calib.service.watching import Writing
from calib.v1 import quote_service_pb2, quote_service_pb2_grpc, quotes_pb2

_log = structlog.get_logger(__name__)

_ROWS_A_TURN = 5_000
"""Rows that are taken at once; five thousand new options keep the event loop for some
milliseconds."""

_Request = quote_service_pb2.PublishQuotesRequest | quote_service_pb2.PublishQuoteBatchRequest


class QuoteServicer(quote_service_pb2_grpc.QuoteServiceServicer):
    """Hands what it receives to the engine, which only marks what has to be fitted.

    A stream is read on when its last message was taken, and messages are taken in ``turns``: so
    much as cannot be taken yet stays with the publisher. What was taken goes onto the tape.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        engine: Engine,
        tape: Tape,
        readiness: Readiness,
        turns: Turns | None = None,
        *,
        now: Callable[[], np.datetime64] = utc_now,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._tape = tape
        self._readiness = readiness
        self._turns = turns or Turns()
        self._now = now
        self._takes: set[asyncio.Task[quote_service_pb2.QuoteAck]] = set()

    async def end(self, patience_seconds: float) -> None:
        """End the watches of quotes when what is being taken was taken and told, and after so long
        at the latest. What comes later is refused: the server goes down."""
        if self._takes:
            await asyncio.wait(self._takes, timeout=patience_seconds)
        self._tape.close(going_down)

    async def PublishQuotes(
        self, request_iterator: Any, context: Any
    ) -> AsyncIterator[quote_service_pb2.PublishQuotesResponse]:
        """Take batch after batch, each acknowledged before the next is read."""
        self._readiness.require_warm()
        with self._readiness.long_call():
            async for request in request_iterator:
                ack = await self._taken(request, context)
                yield quote_service_pb2.PublishQuotesResponse(ack=ack)

    async def PublishQuoteBatch(
        self, request: quote_service_pb2.PublishQuoteBatchRequest, context: Any
    ) -> quote_service_pb2.PublishQuoteBatchResponse:
        """Take one batch."""
        self._readiness.require_warm()
        ack = await self._taken(request, context)
        return quote_service_pb2.PublishQuoteBatchResponse(ack=ack)

    # A coroutine instead of a generator, so that each write can have a time limit.
    async def WatchQuotes(  # type: ignore[override]
        self, request: quote_service_pb2.WatchQuotesRequest, context: Any
    ) -> None:
        """What stands, then what is taken, and heartbeats, until the call ends."""
        self._readiness.require_open()
        wanted, heartbeat = wishes_of(request, self._settings.heartbeat)
        amid = self._engine.quoting(wanted.accepts)
        limit = self._settings.write_timeout.total_seconds()
        with self._tape.reading(wanted, amid) as reader, Writing(context, limit) as writing:
            watch = QuoteWatch(reader, writing, epoch=self._tape.epoch, now=self._now)
            # Nothing was taken in between: all rows stand, or wait for the reader.
            await watch.standing(self._engine.standing(wanted.accepts))
            while True:
                await watch.until_heartbeat(heartbeat)

    async def _taken(self, request: _Request, context: Any) -> quote_service_pb2.QuoteAck:
        """Take a message; all calls of one connection share one publisher's turns."""
        publisher: str = context.peer()
        match request.WhichOneof("payload"):
            case "quotes":
                # A message that was begun is taken whole: its number counts for all of it.
                take = asyncio.create_task(self._take_quotes(request.quotes, publisher))
                self._takes.add(take)
                take.add_done_callback(self._takes.discard)
                ack = await asyncio.shield(take)
                place = request.quotes.venue, request.quotes.underlying
            case "ticks":
                async with self._turns.turn(publisher, len(request.ticks.forward)):
                    ticks, number = ticks_of(request.ticks), _sequence(request.ticks, "ticks")
                    taken = self._engine.take_ticks(ticks, number)
                    self._tell_withdrawn(taken)
                    ack = tick_ack(ticks, taken, number)
                place = ticks.venue, ticks.underlying
            case "heartbeat":
                message = request.heartbeat
                async with self._turns.turn(publisher, 0):
                    beat, number = heartbeat_of(message), _sequence(message, "heartbeat")
                    taken = self._engine.take_heartbeat(beat, number)
                    self._tell_withdrawn(taken)
                    ack = heartbeat_ack(beat, taken, number)
                place = beat.venue, beat.underlying
            case _:
                raise InvalidField("payload", "neither quotes, ticks nor a heartbeat is set")
        left_out = self._engine.left_out(*place)
        if left_out is not None:
            ack.left_out = quotes_pb2.RejectReason.ValueType(left_out)
        return ack

    async def _take_quotes(
        self, batch: quotes_pb2.QuoteBatch, publisher: str
    ) -> quote_service_pb2.QuoteAck:
        """Take a batch, a large one in parts; nothing is fitted for it before its last part."""
        received, number = monotonic(), _sequence(batch, "quotes")
        size = len(batch.strike)
        parts: list[Taken] = []
        for start in range(0, max(size, 1), _ROWS_A_TURN):
            stop = min(start + _ROWS_A_TURN, size)
            async with self._turns.turn(publisher, stop - start):
                if not parts:
                    quotes = quotes_of(batch)
                    read = monotonic()
                    self._engine.check_room(quotes, venue=batch.venue, underlying=batch.underlying)
                whole = stop - start == size
                parts.append(
                    self._engine.take_quotes(
                        quotes if whole else quotes.take(np.arange(start, stop)),
                        venue=batch.venue,
                        underlying=batch.underlying,
                        sequence=0 if start else number,
                        snapshot_begin=batch.snapshot_begin and not start,
                        snapshot_complete=batch.snapshot_complete and stop == size,
                        more=stop < size,
                    )
                )
                if self._tape.readers:
                    self._tell(batch, parts[-1], start)
            if parts[-1].repeated and stop < size:
                parts.append(repeat_of(parts[-1], quotes.take(np.arange(stop, size))))
                break
        ack = quote_ack(quotes, parts_joined(parts), number)
        _log.debug(
            "quotes_taken",
            venue=batch.venue,
            underlying=batch.underlying,
            accepted=ack.accepted_rows,
            rejected=ack.rejected_rows,
            received=received,
            read=read,
            taken=monotonic(),
        )
        return ack

    def _tell(self, batch: quotes_pb2.QuoteBatch, taken: Taken, start: int) -> None:
        """Put what became of a part of a batch, from row ``start`` on, onto the tape: the rows that
        were accepted, then what it withdrew. A chain begins with the first message, and ends with
        the last."""
        size, stop = len(batch.strike), start + len(taken.reason)
        if taken.repeated or not (batch.venue.strip() and batch.underlying.strip()):
            return
        rows = (start + np.flatnonzero(taken.reason == Reason.USABLE)).tolist()
        begins = batch.snapshot_begin and not start
        ends = batch.snapshot_complete and stop == size
        late = bool((taken.reason == Reason.OUT_OF_ORDER).any())
        told = _withdrawals(taken)
        if rows or ((begins or ends) and not told):
            told = [batch if len(rows) == size else with_rows(batch, rows), *told]
        for place, part in enumerate(told, 1):
            self._tape.put(
                part,
                self._now(),
                begins=begins and place == 1,
                ends=ends and place == len(told),
                whole=not (taken.incomplete or late),
            )
        if late and not ends:
            self._tape.interrupt(batch.venue, batch.underlying)

    def _tell_withdrawn(self, taken: Taken) -> None:
        """Put what a message without quotes withdrew, by its number, onto the tape."""
        if self._tape.readers:
            for batch in _withdrawals(taken):
                self._tape.put(batch, self._now())


def _withdrawals(taken: Taken) -> list[quotes_pb2.QuoteBatch]:
    return [] if taken.withdrawn is None else [one for one, _ in batches_of(taken.withdrawn)]


def _sequence(
    message: quotes_pb2.QuoteBatch | quotes_pb2.TickBatch | quotes_pb2.VenueHeartbeat, field: str
) -> int:
    if message.sequence < 0:
        raise InvalidField(
            f"{field}.sequence", f"{message.sequence} is negative; count from 1, or give 0"
        )
    return message.sequence
