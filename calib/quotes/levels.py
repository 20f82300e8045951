"""Forwards and spots as venues last gave them, and how far they moved between two looks."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from calib.quotes.agreement import agreeing, mean_of


@dataclass(frozen=True)
class VenueLevels:
    """One venue's ``forwards`` (by expiry in microseconds since the epoch) and ``spot`` or nan."""

    forwards: Mapping[int, float] = field(default_factory=dict)
    spot: float = math.nan


@dataclass(frozen=True)
class Levels:
    """The levels of one underlying, by venue."""

    venues: Mapping[str, VenueLevels] = field(default_factory=lambda: MappingProxyType({}))

    def without(self, names: Container[str]) -> Levels:
        """Those of the other venues."""
        return Levels({name: one for name, one in self.venues.items() if name not in names})

    @property
    def spot(self) -> float:
        """The venues' mean spot, nan where none gives any."""
        spots = [venue.spot for venue in self.venues.values() if math.isfinite(venue.spot)]
        return math.fsum(spots) / len(spots) if spots else math.nan

    def spot_since(self, before: Levels, apart: float) -> float:
        """The mean spot of the venues whose ln S has moved since ``before`` as most say, to within
        ``apart``; of all where none gave any then."""
        logs = {
            name: math.log(venue.spot / then.spot)
            for name, venue in self.venues.items()
            if (then := before.venues.get(name)) is not None
            and math.isfinite(venue.spot)
            and math.isfinite(then.spot)
        }
        spots = {name: self.venues[name].spot for name in logs}
        return mean_of(spots, agreeing(logs, apart)) if logs else self.spot

    def moved_since(self, before: Levels, expiry: int, apart: float = math.inf) -> float:
        """F now over F ``before`` for one expiry: the geometric mean over venues.

        A venue that gave this expiry no forward then or now moves with its spot; one that gave
        neither has no say, and neither has one whose ln F has moved further than ``apart`` from
        those that agree (`calib.quotes.agreement`). 1 where no venue has a say.
        """
        logs = {
            name: math.log(now / then)
            for name, venue in self.venues.items()
            if (pair := _pair(venue, before.venues.get(name), expiry)) is not None
            for then, now in (pair,)
        }
        return math.exp(mean_of(logs, agreeing(logs, apart))) if logs else 1.0


def _pair(now: VenueLevels, then: VenueLevels | None, expiry: int) -> tuple[float, float] | None:
    if then is None:
        return None
    if expiry in now.forwards and expiry in then.forwards:
        return then.forwards[expiry], now.forwards[expiry]
    if math.isfinite(now.spot) and math.isfinite(then.spot):
        return then.spot, now.spot
    return None
