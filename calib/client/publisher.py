"""Quotes on their way to a server, over one stream, each batch acknowledged."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc

from calib.client.failures import calling, was_asked_to_end
from calib.conventions import to_instant
from calib.errors import CalibError, InvalidRequest, Unavailable
from calib.quotes.reasons import Reason
from calib.quotes.table import Problem, QuoteTable
from calib.service.conversion import batches_of
from calib.surface.messages import timestamp
from calib.v1 import quote_service_pb2, quotes_pb2

if TYPE_CHECKING:
    import numpy as np

    from calib.conventions import Ints


@dataclass(frozen=True)
class Acknowledgement:
    """What became of rows that were sent.

    ``reasons`` counts the rejected rows by reason; ``problems`` names them one by one (of very
    many only the first), by their position in the table that was read. ``missed`` messages never
    came, ``repeated`` ones were not taken again. ``snapshot_needed``: nothing of some venue is used
    until it has sent a full chain. ``left_out``: why some venue has no part in fits, although its
    quotes are taken.
    """

    accepted: int = 0
    rejected: int = 0
    reasons: Mapping[Reason, int] | None = None
    problems: tuple[Problem, ...] = ()
    missed: int = 0
    repeated: int = 0
    snapshot_needed: bool = False
    left_out: Reason | None = None

    def __add__(self, other: Acknowledgement) -> Acknowledgement:
        reasons = dict(self.reasons or {})
        for reason, count in (other.reasons or {}).items():
            reasons[reason] = reasons.get(reason, 0) + count
        return Acknowledgement(
            self.accepted + other.accepted,
            self.rejected + other.rejected,
            reasons,
            self.problems + other.problems,
            self.missed + other.missed,
            self.repeated + other.repeated,
            self.snapshot_needed or other.snapshot_needed,
            other.left_out or self.left_out,
        )


@dataclass(frozen=True)
class Lag:
    """How far a server is behind a publisher: ``messages`` and ``rows`` that were sent and are not
    acknowledged, the oldest of them for so many ``seconds``."""

    messages: int = 0
    rows: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class _Sent:
    """One message on its way: its rows' positions in their table, when it was sent, its answer."""

    rows: Sequence[int] | Ints
    at: float
    answer: asyncio.Future[Acknowledgement]


class Posted:
    """Rows that were sent, whose acknowledgements are still to come."""

    def __init__(self, answers: Sequence[asyncio.Future[Acknowledgement]]) -> None:
        self._answers = answers

    @property
    def done(self) -> bool:
        """Whether all of it is acknowledged, or the stream has ended."""
        return all(answer.done() for answer in self._answers)

    async def acknowledged(self) -> Acknowledgement:
        """Wait until all of it is; raises InvalidRequest or Unavailable as the server answers."""
        total = Acknowledgement(reasons={})
        for answer in self._answers:
            total += await asyncio.shield(answer)
        return total


Counts: TypeAlias = "dict[tuple[str, str], int]"
"""The last number that was given, by venue and underlying."""


class Publisher:
    """An open stream of quotes; made by :meth:`calib.client.Client.publisher`.

    At most ``most_unacknowledged`` messages are on their way at once: whoever sends more waits,
    which is how a server that cannot keep up is felt, and :attr:`lag` says how far it is behind.
    ``counts``: what messages are numbered by; None: they are not.
    """

    def __init__(
        self,
        call: grpc.aio.StreamStreamCall[
            quote_service_pb2.PublishQuotesRequest, quote_service_pb2.PublishQuotesResponse
        ],
        target: str,
        *,
        timeout_seconds: float,
        most_unacknowledged: int,
        counts: Counts | None,
    ) -> None:
        if most_unacknowledged < 1:
            raise InvalidRequest(f"most_unacknowledged={most_unacknowledged} must be at least 1")
        self._call = call
        self._target = target
        self._timeout = timeout_seconds
        self._heard = monotonic()
        self._counts = counts
        self._room = asyncio.Semaphore(most_unacknowledged)
        self._order = asyncio.Lock()  # numbers, writes and answers come in one order
        self._sent: deque[_Sent] = deque()
        self._reading: asyncio.Task[None] | None = None
        self._failure: CalibError | None = None

    @property
    def lag(self) -> Lag:
        """How far the server is behind."""
        if not self._sent:
            return Lag()
        rows = sum(len(one.rows) for one in self._sent)
        return Lag(len(self._sent), rows, monotonic() - self._sent[0].at)

    async def send(self, quotes: QuoteTable, *, snapshot_complete: bool = True) -> Acknowledgement:
        """Send the rows of a table and wait until they are acknowledged.

        ``snapshot_complete``: they are the full chains of all venues and underlyings in the table.
        Raises InvalidRequest or Unavailable as the server answers, and Unavailable when it takes or
        acknowledges nothing for the client's timeout: the stream has ended then, and whether the
        last batch was taken is not known.
        """
        return await (await self.post(quotes, snapshot_complete=snapshot_complete)).acknowledged()

    async def post(self, quotes: QuoteTable, *, snapshot_complete: bool = True) -> Posted:
        """Send the rows of a table, and wait only where too much is on its way already.

        Raises what an earlier message of the stream was refused with.
        """
        answers = []
        for batch, rows in batches_of(quotes, snapshot_complete=snapshot_complete):
            request = quote_service_pb2.PublishQuotesRequest(quotes=batch)
            answers.append(await self._write(request, request.quotes, quotes.row[rows]))
        return Posted(answers)

    async def send_levels(
        self,
        underlying: str,
        *,
        venue: str,
        quote_time: Any,
        forwards: Mapping[Any, float] | None = None,
        spot: float | None = None,
    ) -> Acknowledgement:
        """Send forwards (by expiry, datetime-like) and spot between option quotes."""
        message = levels(underlying, venue, quote_time, forwards or {}, spot)
        request = quote_service_pb2.PublishQuotesRequest(ticks=message)
        rows = range(len(message.forward) + 1)
        return await Posted([await self._write(request, request.ticks, rows)]).acknowledged()

    async def send_heartbeat(
        self, venue: str, *, time: Any, underlying: str = ""
    ) -> Acknowledgement:
        """Say that a venue lives, and that what stands is still quoted.

        For one underlying, or (empty) for all of its; ``time``: its clock, datetime-like. Counts as
        one row.
        """
        beat = quotes_pb2.VenueHeartbeat(
            venue=venue, underlying=underlying, heartbeat_time=timestamp(to_instant(time))
        )
        request = quote_service_pb2.PublishQuotesRequest(heartbeat=beat)
        return await Posted(
            [await self._write(request, request.heartbeat, range(1))]
        ).acknowledged()

    async def drain(self) -> None:
        """Wait until everything that was sent is acknowledged, or the stream has ended."""
        while self._sent:
            await asyncio.wait([self._sent[-1].answer])

    async def close(self) -> None:
        """Stop listening for answers; what is not acknowledged fails."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        self._fail(Unavailable(f"the stream to {self._target} was closed"))

    async def _write(
        self,
        request: quote_service_pb2.PublishQuotesRequest,
        message: quotes_pb2.QuoteBatch | quotes_pb2.TickBatch | quotes_pb2.VenueHeartbeat,
        rows: Sequence[int] | Ints,
    ) -> asyncio.Future[Acknowledgement]:
        async with self._order:
            await self._room.acquire()
            if self._failure is not None:
                self._room.release()
                raise self._failure
            if self._counts is not None and message.underlying:
                place = message.venue, message.underlying
                message.sequence = self._counts[place] = self._counts.get(place, 0) + 1
            answer: asyncio.Future[Acknowledgement] = asyncio.get_running_loop().create_future()
            # Whoever does not ask for the answer is told of a failure by what it sends next.
            answer.add_done_callback(lambda one: one.cancelled() or one.exception())
            self._sent.append(_Sent(rows, monotonic(), answer))
            if self._reading is None:
                self._reading = asyncio.create_task(self._read())
            # A stream that has ended says why when it is read.
            with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
                await self._put(request)
        return answer

    async def _put(self, request: quote_service_pb2.PublishQuotesRequest) -> None:
        try:
            await self._call.write(request)
        except asyncio.CancelledError:
            if was_asked_to_end():  # the caller was cancelled, and not the stream
                raise

    async def _read(self) -> None:
        """Hand out answers in the order of what they answer, until the stream ends."""
        try:
            while True:
                with calling(self._target):
                    response = await self._answer()
                self._heard = monotonic()
                if not isinstance(response, quote_service_pb2.PublishQuotesResponse):
                    raise Unavailable(f"{self._target} has ended the stream")
                one = self._sent.popleft()
                self._room.release()
                if not one.answer.done():
                    one.answer.set_result(acknowledgement(response.ack, one.rows))
        except CalibError as error:
            self._fail(error)
            self._call.cancel()

    async def _answer(self) -> object:
        """The next answer; raises Unavailable where what was sent has none for too long."""
        reading = asyncio.ensure_future(self._call.read())
        try:
            while not (await asyncio.wait({reading}, timeout=0.25 * self._timeout))[0]:
                if not self._sent:
                    continue
                if monotonic() - max(self._heard, self._sent[0].at) >= self._timeout:
                    raise Unavailable(
                        f"{self._target} took or acknowledged nothing for {self._timeout:g} s"
                    )
            return reading.result()
        finally:
            reading.cancel()

    def _fail(self, error: CalibError) -> None:
        self._failure = self._failure or error
        while self._sent:
            one = self._sent.popleft()
            self._room.release()
            if not one.answer.done():
                one.answer.set_exception(self._failure)


def levels(
    underlying: str, venue: str, quote_time: Any, forwards: Mapping[Any, float], spot: float | None
) -> quotes_pb2.TickBatch:
    """The message of a forward and spot tick."""
    return quotes_pb2.TickBatch(
        venue=venue,
        underlying=underlying,
        quote_time=timestamp(to_instant(quote_time)),
        expiries=[timestamp(to_instant(expiry)) for expiry in forwards],
        forward=list(forwards.values()),
        spot=spot,
    )


def acknowledgement(
    ack: quote_service_pb2.QuoteAck, rows: Iterable[int] | np.ndarray[Any, Any]
) -> Acknowledgement:
    """The acknowledgement in a message, its rows translated by ``rows``."""
    position = list(rows)
    return Acknowledgement(
        accepted=ack.accepted_rows,
        rejected=ack.rejected_rows,
        reasons={_reason(count.reason): count.rows for count in ack.reject_counts},
        problems=tuple(
            Problem(int(position[one.row]), one.column, one.value, _reason(one.reason))
            for one in ack.rejected
            if one.row < len(position)
        ),
        missed=ack.missed_count,
        repeated=int(ack.repeated),
        snapshot_needed=ack.snapshot_needed,
        left_out=_reason(ack.left_out) if ack.left_out else None,
    )


def _reason(number: int) -> Reason:
    """The reason; one that only a later version knows reads as an unusable quote."""
    try:
        return Reason(number)
    except ValueError:
        return Reason.NO_QUOTE
