"""The record of refused calls, and of what operators do: log lines, a bounded number a second."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

import structlog

from calib.errors import CalibError
from calib.service.rpc_meters import RpcMeters

MOST_LINES = 50
"""Refusals logged within a second; the others are counted, and the next line says how many."""

_MOST_CHARACTERS = 500
"""Of each field of a line: some are the caller's."""

_log = structlog.get_logger("calib.audit")


class Audit:
    """Writes down who was refused what, and why; never a token, never what was sent."""

    def __init__(self, meters: RpcMeters, *, clock: Callable[[], float] = monotonic) -> None:
        self.meters = meters
        self._clock = clock
        self._second = -1
        self._lines = 0
        self._unsaid = 0

    def refused(self, method: str, client: str, peer: str, error: CalibError) -> None:
        """Record a call that was refused."""
        kind = type(error).__name__
        self.meters.refused(method, kind)
        if not self._room():
            self._unsaid += 1
            return
        unsaid, self._unsaid = self._unsaid, 0
        _log.warning(
            "refused",
            method=method,
            client=client,
            peer=peer,
            kind=kind,
            reason=str(error)[:_MOST_CHARACTERS],
            **({"unsaid": unsaid} if unsaid else {}),
        )

    def operates(self, method: str, client: str, peer: str, request: Any) -> None:
        """Record a call that was let through and acts on the market, whatever comes of it."""
        _log.info(
            "operates",
            method=method,
            client=client,
            peer=peer,
            underlying=request.underlying[:_MOST_CHARACTERS],
            operator=request.operator[:_MOST_CHARACTERS],
        )

    def _room(self) -> bool:
        second = int(self._clock())
        if second != self._second:
            self._second, self._lines = second, 0
        self._lines += 1
        return self._lines <= MOST_LINES
