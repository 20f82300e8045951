"""A call on its way through the gate: its messages are let through one by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from calib.errors import Forbidden, InvalidRequest
from calib.service.protection.allowances import Allowance
from calib.service.protection.audit import Audit
from calib.service.protection.identity import Identity, Right
from calib.service.protection.rules import Rule
from calib.service.refusals import Overloaded


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

    def admit(self, request: Any) -> None:
        """Let the one message of a call through.

        Raises Forbidden without the right to it, Overloaded beyond the client's limits, and
        InvalidRequest where it is no message.
        """
        _check_read(request)
        self.rule.check(self.caller, request)
        if self.allowance is not None:
            wait = self.allowance.wait_seconds()
            if wait > 0.0:
                raise Overloaded(f"{self.client!r} asks for more than its limits allow", wait)
            self.allowance.take(request.ByteSize(), self.rule.rows(request))
        if self.rule.right is Right.OPERATE:
            self.audit.operates(self.method, self.client, self.peer, request)

    async def messages(self, given: AsyncIterable[Any]) -> AsyncIterator[Any]:
        """The messages of a stream; one beyond the client's limits waits, and those behind it."""
        async for message in given:
            _check_read(message)
            try:
                self.rule.check(self.caller, message)
            except Forbidden as error:
                self.audit.refused(self.method, self.client, self.peer, error)
                raise
            if self.allowance is not None:
                wait = self.allowance.wait_seconds()
                if wait > 0.0:
                    self.audit.meters.held_back(self.method, wait)
                    await asyncio.sleep(wait)
                self.allowance.take(message.ByteSize(), self.rule.rows(message))
            yield message


class _Unreadable:
    """What stands for bytes that are no message of the kind that a method takes."""


def reading(deserializer: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """A deserializer that does not fail: gRPC would tell the caller what Python says of it."""

    def read(sent: bytes) -> Any:
        try:
            return deserializer(sent)
        except DecodeError:
            return _Unreadable()

    return read


def _check_read(message: Any) -> None:
    if isinstance(message, _Unreadable):
        raise InvalidRequest("these bytes are no message of the kind that this method takes")
