"""Meters: what a Prometheus server reads off this one over HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    start_http_server,
)

from calib.errors import Unavailable
from calib.modelrisk.breakers import BreakerLevel
from calib.modelrisk.venues import VenueState
from calib.service.rpc_meters import RpcMeters
from calib.store import WriterState

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

_VENUES = {
    "quotes": "Rows of the venue that the last fit used.",
    "age_seconds": "Its newest sign of life behind that of the newest venue, in quote time.",
    "basis": "ln of its forward over that of the venues that agree.",
    "gap_half_spreads": "Its mids less those of the venues that agree, in half-spreads.",
    "offset_seconds": "The server's clock less the venue's, by the least lag of a minute.",
    "silent_seconds": "Time since its last message.",
    "missed": "Messages that never came, by the count of its publisher.",
    "repeated": "Messages that came again.",
    "left_out": "1 while it has no part in fits.",
}
"""Gauges of venues: fields of their readings, and whether they are left out."""


class Meters:
    """Counters and gauges of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.rpcs = RpcMeters(self.registry)
        ProcessCollector(registry=self.registry)  # memory, processor time, open files
        by = ("underlying",)
        self._fits = Counter(
            "calib_fits", "Chains that were fitted to a publishable surface.", by,
            registry=self.registry,
        )  # fmt: skip
        self._failures = Counter(
            "calib_fit_failures", "Chains that led to none.", by, registry=self.registry
        )
        self._seconds = Histogram(
            "calib_fit_seconds", "Time of the batch that a chain was fitted and judged in.", by,
            registry=self.registry, buckets=_SECONDS,
        )  # fmt: skip
        self._age = Gauge(
            "calib_surface_age_seconds",
            "Age of the surface in force in the market's own time.",
            by,
            registry=self.registry,
        )
        self._level = Gauge(
            "calib_breaker_level",
            "0 normal, 1 widened, 2 held, 3 halted.",
            by,
            registry=self.registry,
        )
        self._expiries = Gauge(
            "calib_breaker_expiries",
            "Expiries by their level.",
            (*by, "level"),
            registry=self.registry,
        )
        self._alarms = Counter(
            "calib_alarms", "Alarms by what they are of.", (*by, "chart", "metric"),
            registry=self.registry,
        )  # fmt: skip
        self._venues = {
            name: Gauge(f"calib_venue_{name}", text, (*by, "venue"), registry=self.registry)
            for name, text in _VENUES.items()
        }
        self._waiting = Gauge(
            "calib_store_waiting", "Entries that are not on disk yet.", registry=self.registry
        )
        self._waiting_bytes = Gauge(
            "calib_store_waiting_bytes", "Memory that they hold.", registry=self.registry
        )
        self._lost = Gauge(
            "calib_store_lost", "Entries that were given up.", registry=self.registry
        )
        self._failing = Gauge(
            "calib_store_failing", "1 while nothing can be written.", registry=self.registry
        )
        self._subscribers = Gauge(
            "calib_subscribers", "Open watches of surfaces.", registry=self.registry
        )
        self._tape_readers = Gauge(
            "calib_quote_watches", "Open watches of quotes.", registry=self.registry
        )
        self._tape_rows = Gauge(
            "calib_quote_watch_rows",
            "Rows of quotes that wait for the slowest watch.",
            registry=self.registry,
        )

    def fitted(self, underlying: str, seconds: float, *, good: bool) -> None:
        """Count a fit."""
        (self._fits if good else self._failures).labels(underlying).inc()
        self._seconds.labels(underlying).observe(seconds)

    def aged(self, underlying: str, seconds: float) -> None:
        """Say how old the surface in force is."""
        self._age.labels(underlying).set(seconds)

    def judged(self, underlying: str, level: BreakerLevel, expiries: list[BreakerLevel]) -> None:
        """Say where the breakers stand."""
        self._level.labels(underlying).set(level)
        for each in BreakerLevel:
            self._expiries.labels(underlying, each.name).set(expiries.count(each))

    def venues(self, underlying: str, states: Sequence[VenueState]) -> None:
        """Say how the venues of an underlying stand."""
        for state in states:
            values = {**vars(state.reading), "left_out": float(state.fault is not None)}
            for name, gauge in self._venues.items():
                gauge.labels(underlying, state.venue).set(values[name])

    def alarmed(self, underlying: str, chart: str, metric: str) -> None:
        """Count an alarm."""
        self._alarms.labels(underlying, chart, metric).inc()

    def stored(self, state: WriterState) -> None:
        """Say how writing goes."""
        self._waiting.set(state.waiting)
        self._waiting_bytes.set(state.waiting_bytes)
        self._lost.set(state.lost)
        self._failing.set(state.failing_since is not None)

    def watched(self, subscribers: int) -> None:
        """Say how many watches are open."""
        self._subscribers.set(subscribers)

    def taped(self, readers: int, waiting_rows: int) -> None:
        """Say how many watches of quotes are open, and what waits for the slowest."""
        self._tape_readers.set(readers)
        self._tape_rows.set(waiting_rows)

    @contextmanager
    def served(self, address: str) -> Iterator[str]:
        """Answer at HOST:PORT (port 0 takes a free one) while inside; gives where.

        Raises Unavailable where that cannot be had.
        """
        host, _, port = address.rpartition(":")
        try:
            server, thread = start_http_server(int(port), host.strip("[]"), self.registry)
        except OSError as error:
            raise Unavailable(
                f"cannot serve metrics on {address}: {error.strerror or error}; "
                "is the port taken, or the host not ours?"
            ) from error
        try:
            yield f"{host}:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
