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


class Writing:
    """Writes to one watcher; one that takes nothing for so long is dropped, and may watch again.

    One timer for all writes while inside, instead of one for each: there are thousands a second,
    and nearly all of them end at once. Only the task that entered may write.
    """

    def __init__(self, context: Any, limit_seconds: float) -> None:
        self._context = context
        self._limit = limit_seconds
        self._began: float | None = None
        self._dropped = False

    def __enter__(self) -> Writing:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._timer = self._loop.call_later(self._limit, self._look)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    async def write(self, response: Any) -> None:
        """Write a message; raises Interrupted where the watcher is dropped."""
        self._began = self._loop.time()
        try:
            await self._context.write(response)
        except asyncio.CancelledError:
            if not self._dropped or self._task is None or self._task.uncancel() > 0:
                raise  # the call has ended, by whatever means
            _log.warning("watcher_dropped", peer=self._context.peer(), seconds=self._limit)
            raise Interrupted(
                "SLOW_CONSUMER",
                f"nothing was taken for {self._limit:g} s; watch again, and read faster",
            ) from None
        finally:
            self._began = None

    def _look(self) -> None:
        now = self._loop.time()
        due = (now if self._began is None else self._began) + self._limit
        if due > now:
            self._timer = self._loop.call_at(due, self._look)
        elif self._task is not None:
            self._dropped = True
            self._task.cancel()
