"""A call on its way through the gate: its messages are let through one by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from google.protobuf.message import DecodeError

from calib.errors import Forbidden, InvalidRequest
from calib.service.protection.allowances import Allowance
from calib.service.protection.audit import Audit
from calib.service.protection.identity import Identity, Right
from calib.service.protection.rules import Rule
from calib.service.refusals import Overloaded

_Refusal = TypeVar("_Refusal", Forbidden, Overloaded)


@dataclass(frozen=True)
class Passage:
    """A call whose caller is known: its messages are let through one by one."""

    method: str
    rule: Rule
    caller: Identity
    client: str
    peer: str
    allowance: Allowance | None
    audit: Audit

    def admit(self, given: Received) -> Any:
        """The one message of a call, let through.

        Raises Forbidden without the right to it, Overloaded beyond the client's limits, and
        InvalidRequest where it is no message.
        """
        request, rows = self._entitled(given)
        if self.allowance is not None:
            wait = self.allowance.wait_seconds()
            if wait > 0.0:
                excess = f"{self.client!r} asks for more than its limits allow"
                raise self._refused(Overloaded(excess, wait))
            self.allowance.take(given.size, rows)
        if self.rule.right is Right.OPERATE:
            self.audit.operates(self.method, self.client, self.peer, request)
        return request

    async def messages(self, given: AsyncIterable[Received]) -> AsyncIterator[Any]:
        """The messages of a stream; one beyond the client's limits waits, and those behind it."""
        async for each in given:
            message, rows = self._entitled(each)
            if self.allowance is not None:
                wait = self.allowance.wait_seconds()
                if wait > 0.0:
                    self.audit.meters.held_back(self.method, wait)
                    await asyncio.sleep(wait)
                self.allowance.take(each.size, rows)
            yield message

    def _entitled(self, given: Received) -> tuple[Any, int]:
        """A message that its sender has the right to, and what it costs of the limit of rows."""
        if given.message is None:
            raise InvalidRequest("these bytes are no message of the kind that this method takes")
        try:
            self.rule.check(self.caller, given.message)
        except Forbidden as error:
            raise self._refused(error) from None
        return given.message, self.rule.rows(given.message)

    def _refused(self, error: _Refusal) -> _Refusal:
        self.audit.refused(self.method, self.client, self.peer, error)
        return error


class Received(NamedTuple):
    """A message, None where the bytes that were sent are none of its kind, and how many these
    are."""

    message: Any
    size: int


def telling(serializer: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """A serializer that lets bytes through: what goes to many is serialized once for all."""

    def tell(message: Any) -> bytes:
        return message if isinstance(message, bytes) else serializer(message)

    return tell


def reading(deserializer: Callable[[bytes], Any]) -> Callable[[bytes], Received]:
    """A deserializer that does not fail: gRPC would tell the caller what Python says of it."""

    def read(sent: bytes) -> Received:
        try:
            return Received(deserializer(sent), len(sent))
        except DecodeError:
            return Received(None, len(sent))

    return read
