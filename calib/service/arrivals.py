"""Arrivals: when a venue was last heard, and how far its clock is from this one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf, isfinite, nan

import numpy as np

_SECOND = np.timedelta64(1, "s")
_WINDOW_SECONDS = 60.0


@dataclass(frozen=True)
class Arrivals:
    """What a venue's messages of one underlying say by their arrival.

    ``heard_at``: when the last one came, in seconds of the monotonic clock. ``least`` and
    ``least_before``: the least lag of the minute that began at ``since``, and of the one before; a
    lag is the server's clock when a message came less the newest time in it, negative where the
    venue's clock is ahead.
    """

    heard_at: float = -inf
    least: float = inf
    least_before: float = inf
    since: float = -inf

    @property
    def offset_seconds(self) -> float:
        """The least lag of one to two minutes: with the least of what the way takes in it, it is
        nearest to how far the clocks are apart. nan where nothing was stamped."""
        least = min(self.least, self.least_before)
        return least if isfinite(least) else nan

    def with_message(self, seconds: float, now: np.datetime64, stamp: np.datetime64) -> Arrivals:
        """A message came whose newest time is ``stamp`` (NaT: it has none)."""
        if np.isnat(stamp):
            return replace(self, heard_at=seconds)
        lag = float((now - stamp) / _SECOND)
        if seconds - self.since < _WINDOW_SECONDS:
            return replace(self, heard_at=seconds, least=min(lag, self.least))
        return Arrivals(seconds, least=lag, least_before=self.least, since=seconds)
