"""Quotes on their way to a server, over one stream, each batch acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from calib.client.failures import calling
from calib.conventions import to_instant
from calib.errors import Unavailable
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
    many only the first), by their position in the table that was read.
    """

    accepted: int = 0
    rejected: int = 0
    reasons: Mapping[Reason, int] | None = None
    problems: tuple[Problem, ...] = ()

    def __add__(self, other: Acknowledgement) -> Acknowledgement:
        reasons = dict(self.reasons or {})
        for reason, count in (other.reasons or {}).items():
            reasons[reason] = reasons.get(reason, 0) + count
        return Acknowledgement(
            self.accepted + other.accepted,
            self.rejected + other.rejected,
            reasons,
            self.problems + other.problems,
        )


class Publisher:
    """An open stream of quotes; made by :meth:`calib.client.Client.publisher`."""

    def __init__(
        self,
        call: grpc.aio.StreamStreamCall[
            quote_service_pb2.PublishQuotesRequest, quote_service_pb2.PublishQuotesResponse
        ],
        target: str,
        timeout_seconds: float,
    ) -> None:
        self._call = call
        self._target = target
        self._timeout = timeout_seconds

    async def send(self, quotes: QuoteTable, *, snapshot_complete: bool = True) -> Acknowledgement:
        """Send the rows of a table and wait until they are acknowledged.

        ``snapshot_complete``: they are the full chains of all venues and underlyings in the table.
        Raises InvalidRequest or Unavailable as the server answers, and Unavailable when it takes or
        acknowledges nothing for the client's timeout: the stream has ended then, and whether the
        last batch was taken is not known.
        """
        sent: list[Ints] = []
        for batch, rows in batches_of(quotes, snapshot_complete=snapshot_complete):
            await self._write(quote_service_pb2.PublishQuotesRequest(quotes=batch))
            sent.append(quotes.row[rows])
        acknowledged = Acknowledgement(reasons={})
        for rows in sent:
            acknowledged += acknowledgement(await self._read(), rows)
        return acknowledged

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
        await self._write(quote_service_pb2.PublishQuotesRequest(ticks=message))
        return acknowledgement(await self._read(), range(len(message.forward) + 1))

    async def _write(self, request: quote_service_pb2.PublishQuotesRequest) -> None:
        try:
            with self._in_time():
                async with asyncio.timeout(self._timeout):
                    await self._call.write(request)
        except asyncio.InvalidStateError:  # the stream has ended, and says why when it is read
            await self._read()

    async def _read(self) -> quote_service_pb2.QuoteAck:
        with self._in_time():
            async with asyncio.timeout(self._timeout):
                response = await self._call.read()
        if not isinstance(response, quote_service_pb2.PublishQuotesResponse):
            raise Unavailable(f"{self._target} has ended the stream")
        return response.ack

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        """Raise calib's exceptions; what was not answered in time cannot be told from what is not
        answered yet, so that the stream ends."""
        try:
            with calling(self._target):
                yield
        except TimeoutError:
            self._call.cancel()
            raise Unavailable(
                f"{self._target} took or acknowledged nothing for {self._timeout:g} s"
            ) from None


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
    )


def _reason(number: int) -> Reason:
    """The reason; one that only a later version knows reads as an unusable quote."""
    try:
        return Reason(number)
    except ValueError:
        return Reason.NO_QUOTE
