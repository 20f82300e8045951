"""QuoteService: quotes and ticks in, acknowledgements out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from time import monotonic
from typing import Any

import structlog

from calib.service.conversion import quote_ack, quotes_of, tick_ack, ticks_of
from calib.service.engine import Engine
from calib.service.readiness import Readiness
from calib.service.refusals import InvalidField, answering
from calib.v1 import quote_service_pb2, quote_service_pb2_grpc

_log = structlog.get_logger(__name__)

_Request = quote_service_pb2.PublishQuotesRequest | quote_service_pb2.PublishQuoteBatchRequest


class QuoteServicer(quote_service_pb2_grpc.QuoteServiceServicer):
    """Hands what it receives to the engine, which only marks what has to be fitted."""

    def __init__(self, engine: Engine, readiness: Readiness) -> None:
        self._engine = engine
        self._readiness = readiness

    async def PublishQuotes(
        self, request_iterator: Any, context: Any
    ) -> AsyncIterator[quote_service_pb2.PublishQuotesResponse]:
        """Take batch after batch, each acknowledged before the next is read."""
        async with answering(context, "PublishQuotes"):
            self._readiness.require_warm()
            with self._readiness.long_call():
                async for request in request_iterator:
                    yield quote_service_pb2.PublishQuotesResponse(ack=self._take(request))

    async def PublishQuoteBatch(
        self, request: quote_service_pb2.PublishQuoteBatchRequest, context: Any
    ) -> quote_service_pb2.PublishQuoteBatchResponse:
        """Take one batch."""
        async with answering(context, "PublishQuoteBatch"):
            self._readiness.require_warm()
            return quote_service_pb2.PublishQuoteBatchResponse(ack=self._take(request))
        raise AssertionError("answering either lets a handler return or ends the call")

    def _take(self, request: _Request) -> quote_service_pb2.QuoteAck:
        received = monotonic()
        match request.WhichOneof("payload"):
            case "quotes":
                batch = request.quotes
                quotes = quotes_of(batch)
                read = monotonic()
                reason = self._engine.take_quotes(
                    quotes,
                    venue=batch.venue,
                    underlying=batch.underlying,
                    snapshot_complete=batch.snapshot_complete,
                )
                ack = quote_ack(quotes, reason, batch.sequence)
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
            case "ticks":
                ticks = ticks_of(request.ticks)
                return tick_ack(ticks, self._engine.take_ticks(ticks), request.ticks.sequence)
            case _:
                raise InvalidField("payload", "neither quotes nor ticks are set")
