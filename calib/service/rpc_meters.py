"""Meters of calls: how many, how they ended, how long they took, which are open."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class RpcMeters:
    """Counters of calls by method; only methods that the server has are counted."""

    def __init__(self, registry: CollectorRegistry) -> None:
        by = ("method",)
        self._calls = Counter(
            "calib_rpcs", "Calls that have ended.", (*by, "code"), registry=registry
        )
        self._seconds = Histogram(
            "calib_rpc_seconds", "Time of calls with one answer.", by,
            registry=registry, buckets=_SECONDS,
        )  # fmt: skip
        self._streams = Gauge(
            "calib_rpc_streams", "Watches and streams of quotes that are open.", by,
            registry=registry,
        )  # fmt: skip
        self._refused = Counter(
            "calib_rpcs_refused", "Calls refused for want of identity, right or allowance.",
            (*by, "kind"), registry=registry,
        )  # fmt: skip
        self._held_back = Counter(
            "calib_rpc_held_back_seconds", "Time that streams over their limits were not read.", by,
            registry=registry,
        )  # fmt: skip

    def began(self, method: str, *, stream: bool) -> None:
        """Count a call as open."""
        if stream:
            self._streams.labels(method).inc()

    def ended(self, method: str, code: str, seconds: float, *, stream: bool) -> None:
        """Count a call that has ended."""
        self._calls.labels(method, code).inc()
        if stream:
            self._streams.labels(method).dec()
        else:
            self._seconds.labels(method).observe(seconds)

    def refused(self, method: str, kind: str) -> None:
        """Count a refusal."""
        self._refused.labels(method, kind).inc()

    def held_back(self, method: str, seconds: float) -> None:
        """Count the time that a client was not listened to."""
        self._held_back.labels(method).inc(seconds)
