"""The thread that writes to the store, so that a slow store never stops publishing."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import structlog

from calib.errors import Unavailable
from calib.v1 import surface_pb2

_LARGEST_BATCH = 500
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
# Surfaces are sent out in the moments after they were put; the interpreter is theirs first, and
# what comes within this time is written as one transaction.
_LINGER_SECONDS = 0.02

_log = structlog.get_logger(__name__)


class Sink(Protocol):
    """Where surfaces are written to; a store."""

    def append(self, messages: list[surface_pb2.Surface], /) -> None:
        """Write all or raise Unavailable."""


class StoreWriter:
    """Writes surfaces in the order in which they are put, many at a time.

    At most ``capacity`` surfaces wait. While the store cannot be used they are kept and tried
    again; when there is no more room the oldest is lost, counted in ``lost`` and logged.
    """

    def __init__(
        self,
        store: Sink,
        *,
        capacity: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lost = 0
        self._store = store
        self._capacity = capacity
        self._clock = clock
        self._waiting: deque[surface_pb2.Surface] = deque()
        self._changed = threading.Condition()
        self._closing_at: float | None = None
        self._abandoned = False
        self._thread = threading.Thread(target=self._run, name="calib-store", daemon=True)
        self._thread.start()

    def put(self, message: surface_pb2.Surface) -> None:
        """Hand a surface over; returns at once."""
        with self._changed:
            if len(self._waiting) >= self._capacity:
                self._waiting.popleft()
                self._count_lost(1)
            self._waiting.append(message)
            if len(self._waiting) == 1:
                self._changed.notify_all()

    def close(self, timeout_seconds: float) -> bool:
        """Write what waits and end; False where that took longer and surfaces were lost."""
        with self._changed:
            self._closing_at = self._clock() + timeout_seconds
            self._changed.notify_all()
        # A write that hangs in the database must not hang whoever closes.
        self._thread.join(timeout_seconds + 1.0)
        return not self._thread.is_alive() and not self._abandoned

    def _run(self) -> None:
        while batch := self._next_batch():
            if not self._write(batch):
                with self._changed:
                    self._abandoned = True
                    self._count_lost(len(batch) + len(self._waiting))
                    self._waiting.clear()
                return

    def _next_batch(self) -> list[surface_pb2.Surface]:
        """What to write next; empty when nothing will come any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing_at is not None)
            self._changed.wait_for(lambda: self._closing_at is not None, _LINGER_SECONDS)
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), _LARGEST_BATCH))]

    def _write(self, batch: list[surface_pb2.Surface]) -> bool:
        """Write, trying again while the store is away; False when the time to close is up."""
        pause = _FIRST_PAUSE
        while True:
            try:
                self._store.append(batch)
            except Unavailable as error:
                _log.error("store_unavailable", error=str(error), retry_seconds=pause)
                if not self._wait(pause):
                    return False
                pause = min(2.0 * pause, _LONGEST_PAUSE)
            except Exception:  # noqa: BLE001 - one bad surface must not end the writing of all
                _log.exception("store_refused_surfaces", count=len(batch))
                if len(batch) == 1:
                    with self._changed:
                        self._count_lost(1)
                    return True
                # One surface that cannot be written must not take the others with it.
                return all(self._write([message]) for message in batch)
            else:
                return True

    def _wait(self, seconds: float) -> bool:
        """Pause; False where the time to close is up."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing_at is not None, seconds)
            if self._closing_at is None:
                return True
            left = self._closing_at - self._clock()
        if left > 0.0:
            time.sleep(min(seconds, left))
        return left > 0.0

    def _count_lost(self, count: int) -> None:
        before, self.lost = self.lost, self.lost + count
        if before == 0 or before // 1_000 != self.lost // 1_000:
            _log.error("surfaces_not_stored", lost=self.lost, capacity=self._capacity)
