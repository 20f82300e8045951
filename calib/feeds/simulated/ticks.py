"""Price steps: the grid on which a venue lets bids and asks stand."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from calib.conventions import Floats
from calib.errors import InvalidRequest

# A price this close to a tick, in ticks, stands on it: binary fractions are not decimal ones.
_ON_TICK = 1e-9
_DECIMALS = 10


@dataclass(frozen=True)
class TickSchedule:
    """Pairs (lowest price, tick), ascending from price 0, in the unit of the premium.

    Raises InvalidRequest where the pairs do not ascend, a tick is not positive, or a price at
    which the tick changes is not on both grids.
    """

    steps: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        bounds = [bound for bound, _ in self.steps]
        if not bounds or bounds[0] != 0.0 or sorted(set(bounds)) != bounds:
            raise InvalidRequest(f"ticks {self.steps} must ascend from price 0")
        if any(not tick > 0 for _, tick in self.steps):
            raise InvalidRequest(f"ticks {self.steps} must be positive")
        for (_, below), (bound, above) in zip(self.steps, self.steps[1:], strict=False):
            if any(abs(math.remainder(bound, t)) > _ON_TICK * t for t in (below, above)):
                raise InvalidRequest(f"ticks {self.steps}: {bound} is not on both grids")

    def down(self, price: Floats) -> Floats:
        """The highest permitted price at or below each price; negative prices give 0."""
        tick = self._tick(price)
        return self._clean(np.floor(price / tick + _ON_TICK), tick)

    def up(self, price: Floats) -> Floats:
        """The lowest permitted price at or above each price, at least one tick."""
        tick = self._tick(price)
        return self._clean(np.maximum(np.ceil(price / tick - _ON_TICK), 1.0), tick)

    def _tick(self, price: Floats) -> Floats:
        bounds = np.array([bound for bound, _ in self.steps])
        ticks = np.array([tick for _, tick in self.steps])
        band = np.searchsorted(bounds, price, side="right") - 1
        return np.asarray(ticks[np.maximum(band, 0)])

    @staticmethod
    def _clean(count: Floats, tick: Floats) -> Floats:
        return np.round(np.maximum(count, 0.0) * tick, _DECIMALS)
