"""The thread that writes to the store, so that a slow store never stops publishing."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import structlog

from calib.errors import CalibError, Unavailable
from calib.store.entry import Entry
from calib.store.retention import KEEP_ALL, Retention

_LARGEST_BATCH = 500
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
# Surfaces are sent out in the moments after they were put; the interpreter is theirs first, and
# what comes within this time is written as one transaction.
_LINGER_SECONDS = 0.02
_TIDY_SECONDS = 60.0

_log = structlog.get_logger(__name__)


class Sink(Protocol):
    """Where entries are written to; a store."""

    def append(self, entries: Sequence[Entry], /) -> None:
        """Write all or raise Unavailable."""

    def tidy(self, retention: Retention, /) -> bool:
        """Do a piece of what can wait; whether there was anything to do."""


@dataclass(frozen=True)
class WriterState:
    """How writing goes: what an alarm is raised on.

    ``waiting``: entries that are not on disk yet, and ``waiting_bytes`` how much memory they hold;
    ``lost``: entries that were given up; ``failing_since``: since when nothing could be written,
    by the clock, and ``error`` why; None and empty while all is well.
    """

    waiting: int
    waiting_bytes: int
    lost: int
    failing_since: datetime | None
    error: str


class StoreWriter:
    """Writes entries in the order in which they are put, many at a time.

    At most ``capacity_bytes`` of them wait. While the store cannot be used they are kept and tried
    again; when there is no more room the oldest are lost, and an entry that has no room even then,
    or that is put after `close`, is lost itself; all are counted and logged. While nothing waits
    the store is kept tidy. ``clock`` is a monotonic one, ``now`` that of the wall.
    """

    def __init__(
        self,
        store: Sink,
        *,
        capacity_bytes: int = 256 * 2**20,
        retention: Retention = KEEP_ALL,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._capacity = capacity_bytes
        self._retention = retention
        self._clock = clock
        self._now = now
        self._waiting: deque[tuple[Entry, int]] = deque()
        self._writing: deque[tuple[Entry, int]] = deque()  # the oldest, in the store's hands
        self._bytes = 0  # of both
        self._lost = 0
        self._tidy_at = clock()
        self._failing_since: datetime | None = None
        self._error = ""
        self._changed = threading.Condition()
        self._closing_at: float | None = None
        self._abandoned = False
        self._thread = threading.Thread(target=self._run, name="calib-store", daemon=True)
        self._thread.start()

    @property
    def state(self) -> WriterState:
        """How writing goes now."""
        with self._changed:
            return WriterState(
                waiting=len(self._waiting) + len(self._writing),
                waiting_bytes=self._bytes,
                lost=self._lost,
                failing_since=self._failing_since,
                error=self._error,
            )

    def put(self, entry: Entry) -> None:
        """Hand an entry over; returns at once."""
        size = entry.size
        with self._changed:
            # What is being written keeps its memory whatever is given up here.
            room = self._capacity - sum(held for _, held in self._writing)
            if size > room or self._closing_at is not None:
                self._count_lost(1)
                return
            while self._bytes + size > self._capacity:
                self._bytes -= self._waiting.popleft()[1]
                self._count_lost(1)
            self._waiting.append((entry, size))
            self._bytes += size
            if len(self._waiting) == 1:
                self._changed.notify_all()

    def close(self, timeout_seconds: float) -> bool:
        """Write what waits and end; False where that took longer and entries were lost."""
        with self._changed:
            self._closing_at = self._clock() + timeout_seconds
            self._changed.notify_all()
        # A write that hangs in the database must not hang whoever closes.
        self._thread.join(timeout_seconds + 1.0)
        return not self._thread.is_alive() and not self._abandoned

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while batch := self._next_batch():
            if self._write(batch):
                pause = _FIRST_PAUSE
                continue
            _log.error("store_unavailable", error=self._error, retry_seconds=pause)
            if not self._wait(pause):
                with self._changed:
                    self._abandoned = True
                    self._count_lost(len(self._waiting))
                    self._waiting.clear()
                    self._bytes = 0
                return
            pause = min(2.0 * pause, _LONGEST_PAUSE)

    def _next_batch(self) -> list[Entry]:
        """What to write next; empty when nothing will come any more."""
        while not self._something(max(0.0, self._tidy_at - self._clock())):
            if not self._tidied():
                self._tidy_at = self._clock() + _TIDY_SECONDS
        with self._changed:
            self._changed.wait_for(lambda: self._closing_at is not None, _LINGER_SECONDS)
            count = min(len(self._waiting), _LARGEST_BATCH)
            self._writing.extend(self._waiting.popleft() for _ in range(count))
            return [entry for entry, _ in self._writing]

    def _something(self, seconds: float) -> bool:
        """Wait for something to write, or for the end."""
        with self._changed:
            return self._changed.wait_for(
                lambda: bool(self._waiting) or self._closing_at is not None, seconds
            )

    def _tidied(self) -> bool:
        try:
            return self._store.tidy(self._retention)
        except Exception as error:  # noqa: BLE001 - it can wait, and writing must go on
            _log.warning("store_untidy", error=str(error))
            return False

    def _write(self, batch: list[Entry]) -> bool:
        """Write, or give up what is refused; False where the store is away and the rest waits."""
        try:
            self._store.append(batch)
        except Unavailable as error:
            self._fails(str(error))
            return False
        except Exception as error:  # noqa: BLE001 - one bad entry must not end all writing
            unexpected = not isinstance(error, CalibError)
            _log.error(
                "store_refused_entries", count=len(batch), error=str(error), exc_info=unexpected
            )
            if len(batch) > 1:
                # One entry that cannot be written must not take the others with it.
                return all(self._write([entry]) for entry in batch)
            self._written(1, lost=True)
        else:
            self._written(len(batch))
        return True

    def _written(self, count: int, *, lost: bool = False) -> None:
        with self._changed:
            for _ in range(count):
                self._bytes -= self._writing.popleft()[1]
            if lost:
                self._count_lost(count)
            if self._failing_since is not None:
                _log.info("store_available", since=str(self._failing_since))
            self._failing_since, self._error = None, ""

    def _fails(self, error: str) -> None:
        with self._changed:
            # They wait again, and being the oldest they are the first to make room.
            self._waiting.extendleft(reversed(self._writing))
            self._writing.clear()
            self._failing_since = self._failing_since or self._now()
            self._error = error

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
        before, self._lost = self._lost, self._lost + count
        if before == 0 or before // 1_000 != self._lost // 1_000:
            _log.error("entries_not_stored", lost=self._lost, capacity_bytes=self._capacity)
