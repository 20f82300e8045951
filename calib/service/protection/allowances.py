"""What a client may still ask for: streams that are open, and rates as buckets that fill up."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from calib.service.protection.identity import Identity, Limits
from calib.service.refusals import Overloaded

_BURST_SECONDS = 2.0
_MOST_CLIENTS = 10_000
_STREAM_RETRY_SECONDS = 1.0


class Bucket:
    """Fills with ``rate`` a second up to two seconds' worth.

    Whoever finds anything in it may take as much as needed, and what is taken too much has to be
    made up before the next: no single message is too large, and the average holds.
    """

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._level = self._full = rate * _BURST_SECONDS
        self._at = now

    def wait_seconds(self, now: float) -> float:
        """How long until something may be taken."""
        self._level = min(self._full, self._level + (now - self._at) * self.rate)
        self._at = now
        return max(0.0, -self._level / self.rate)

    def take(self, amount: float) -> None:
        """Take so much."""
        self._level -= amount


class Allowance:
    """What one client may still ask for."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self.limits = limits
        self.streams = 0
        self._clock, now = clock, clock()
        self._messages = Bucket(limits.messages_per_second, now)
        self._bytes = Bucket(limits.bytes_per_second, now)
        self._rows = Bucket(limits.rows_per_second, now)

    def wait_seconds(self) -> float:
        """How long until the next message is within its limits."""
        now = self._clock()
        buckets = (self._messages, self._bytes, self._rows)
        return max(bucket.wait_seconds(now) for bucket in buckets)

    def take(self, size: int, rows: int) -> None:
        """Count a message of so many bytes and rows."""
        self._messages.take(1.0)
        self._bytes.take(size)
        self._rows.take(rows)

    @contextmanager
    def stream(self, client: str) -> Iterator[None]:
        """A stream that is open while inside; raises Overloaded when there are too many."""
        if self.streams >= self.limits.streams:
            raise Overloaded(
                f"{client!r} has {self.streams} streams open, as many as it may have",
                _STREAM_RETRY_SECONDS,
            )
        self.streams += 1
        try:
            yield
        finally:
            self.streams -= 1


class Allowances:
    """The allowance of every client: an identity, and of the anonymous each host by itself."""

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._clients: OrderedDict[str, Allowance] = OrderedDict()

    def of(self, client: str, caller: Identity) -> Allowance | None:
        """The allowance of a client; None: it has no limits of its own."""
        if caller.limits is None:
            return None
        found = self._clients.get(client)
        if found is None:
            found = self._clients[client] = Allowance(caller.limits, self._clock)
            self._forget()
        self._clients.move_to_end(client)
        return found

    def _forget(self) -> None:
        """Those who were not heard of for longest, and have nothing open."""
        if len(self._clients) <= _MOST_CLIENTS:
            return
        idle = next((name for name, one in self._clients.items() if not one.streams), None)
        if idle is not None:
            del self._clients[idle]
