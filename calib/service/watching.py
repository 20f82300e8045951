"""What the watches of all services share: how long silence may last, and writes with a limit."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import structlog

from calib.service.refusals import Interrupted, InvalidField

MOST_NAMES = 10_000
"""Underlyings, or venues, that a watch may name, as the protocol states."""
_HEARTBEATS = (0.1, 60.0)

_log = structlog.get_logger(__name__)


def check_underlyings(named: Any) -> frozenset[str]:
    """The underlyings of a watch; raises InvalidField where they are too many or one is empty."""
    return check_names("underlyings", named)


def check_names(field: str, named: Any) -> frozenset[str]:
    """The names that a watch lists in a field; raises InvalidField where they are too many or one
    is empty."""
    if len(named) > MOST_NAMES:
        raise InvalidField(field, f"{len(named)} are more than {MOST_NAMES}")
    if "" in named:
        raise InvalidField(field, "one of them is empty")
    return frozenset(named)


def silence_of(request: Any, usual: timedelta) -> timedelta:
    """The longest silence of the watch that a request asks for; raises InvalidField where it is not
    positive."""
    if not request.HasField("heartbeat_interval"):
        return usual
    interval = request.heartbeat_interval
    seconds = interval.seconds + interval.nanos * 1e-9
    if seconds <= 0.0:
        raise InvalidField("heartbeat_interval", f"{seconds:g} s is not positive")
    return timedelta(seconds=min(max(seconds, _HEARTBEATS[0]), _HEARTBEATS[1]))


async def write_within(context: Any, response: Any, limit_seconds: float) -> None:
    """Write to a watcher; one that takes nothing for so long is dropped, and may watch again."""
    try:
        async with asyncio.timeout(limit_seconds):
            await context.write(response)
    except TimeoutError:
        _log.warning("watcher_dropped", peer=context.peer(), seconds=limit_seconds)
        raise Interrupted(
            "SLOW_CONSUMER",
            f"nothing was taken for {limit_seconds:g} s; watch again, and read faster",
        ) from None
