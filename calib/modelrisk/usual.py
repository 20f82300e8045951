"""What an expiry is usually like, so that what it lacks is seen."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, nan

from calib.modelrisk.metrics import SliceMetrics


@dataclass(frozen=True)
class Usual:
    """What an expiry is used to: slow averages of its ``quotes`` and of its ``noise``."""

    quotes: float = nan
    noise: float = nan

    def starvation(self, used: int) -> float:
        """The usual number of quotes over that at hand; nan where it is usual to have none."""
        if not self.quotes > 0.0:
            return nan
        return self.quotes / used if used else inf


def accustomed(
    one: SliceMetrics, usual: Usual | None, weight: float, starved: float = inf
) -> Usual:
    """What an expiry is used to after one more fit of that weight.

    A failed fit says nothing, nor does one without quotes, or with quotes fewer than usual by the
    factor ``starved``: what is wrong does not become usual by lasting.
    """
    before = usual or Usual()
    if one.failed or not one.quotes_used or before.starvation(one.quotes_used) >= starved:
        return before
    return Usual(
        _average(before.quotes, float(one.quotes_used), weight),
        _average(before.noise, one.stated_noise, weight),
    )


def _average(old: float, new: float, weight: float) -> float:
    if new != new:
        return old
    return new if old != old else old + weight * (new - old)
