"""One thing that goes wrong in a market: what, where, from when to when, and by how much."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite

import numpy as np

from calib.conventions import Bools, to_instant
from calib.errors import InvalidRequest
from calib.quotes.table import QuoteTable


class FaultName(StrEnum):
    """What happens, and what ``size`` says of it.

    STALE_VENUE: the venue sends no more; its rows stay those of the last moment before, stamp
    included. Size: the share of its options.
    SHIFTED_VENUE: a venue's quotes move away from the market. Size: by so much vol.
    FAT_FINGER: both sides of one option near the money. Size: the factor on its premium.
    CROSSED_CHAIN: bids stand above asks. Size: the share of options.
    MISSING_STRIKES: strikes are withdrawn, calls and puts. Size: the share of strikes.
    MISSING_SIDES: options lose their bid. Size: the share of options.
    WIDE_MARKET: spreads open about the mid, bids staying positive. Size: the factor.
    WRONG_FORWARD: the venue shows a wrong forward. Size: by which share of itself.
    SPOT_JUMP: spot and forwards jump, options keep the vol of their strike. Size: ln(after/before).
    VOL_JUMP: the vols of all venues jump. Size: by so much.
    """

    STALE_VENUE = "stale-venue"
    SHIFTED_VENUE = "shifted-venue"
    FAT_FINGER = "fat-finger"
    CROSSED_CHAIN = "crossed-chain"
    MISSING_STRIKES = "missing-strikes"
    MISSING_SIDES = "missing-sides"
    WIDE_MARKET = "wide-market"
    WRONG_FORWARD = "wrong-forward"
    SPOT_JUMP = "spot-jump"
    VOL_JUMP = "vol-jump"

    @property
    def of_one_venue(self) -> bool:
        """Whether it takes a second venue to see it for what it is."""
        return self in (FaultName.STALE_VENUE, FaultName.SHIFTED_VENUE)

    @property
    def usual_size(self) -> float:
        """A size that nobody should miss."""
        return _USUAL_SIZES[self]


_USUAL_SIZES = {
    FaultName.STALE_VENUE: 1.0,
    FaultName.SHIFTED_VENUE: 0.05,
    FaultName.FAT_FINGER: 2.0,
    FaultName.CROSSED_CHAIN: 0.4,
    FaultName.MISSING_STRIKES: 0.5,
    FaultName.MISSING_SIDES: 0.75,
    FaultName.WIDE_MARKET: 4.0,
    FaultName.WRONG_FORWARD: 0.01,
    FaultName.SPOT_JUMP: -0.08,
    FaultName.VOL_JUMP: 0.08,
}

_SHARES = (
    FaultName.STALE_VENUE,
    FaultName.CROSSED_CHAIN,
    FaultName.MISSING_STRIKES,
    FaultName.MISSING_SIDES,
)
_FACTORS = (FaultName.FAT_FINGER, FaultName.WIDE_MARKET)


@dataclass(frozen=True)
class Fault:
    """``name`` befalls quotes of ``underlying`` stamped from ``start`` to before ``end``.

    ``venue`` and ``expiry`` None: all of them. ``size`` in the unit of its name. ``seed`` chooses
    the options where it befalls some only; an option once chosen stays so.
    Raises InvalidRequest where the time is empty or the size is none of its kind: a share in
    (0, 1], a positive factor, a relative error above -1, a finite number else.
    """

    name: FaultName
    underlying: str
    start: np.datetime64
    end: np.datetime64
    size: float
    venue: str | None = None
    expiry: np.datetime64 | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not to_instant(self.start) < to_instant(self.end):
            raise InvalidRequest(f"{self.name} from {self.start} to {self.end} has no time")
        good = isfinite(self.size)
        if self.name in _SHARES:
            good = 0.0 < self.size <= 1.0
        elif self.name in _FACTORS:
            good = good and self.size > 0.0
        elif self.name is FaultName.WRONG_FORWARD:
            good = good and self.size > -1.0
        if not good:
            raise InvalidRequest(f"{self.name} of size {self.size} is out of its range")

    def place(self, quotes: QuoteTable) -> Bools:
        """Which rows are of its underlying, venue and expiry, whenever they were stamped."""
        hit = quotes.underlying.equal(self.underlying)
        if self.venue is not None:
            hit &= quotes.venue.equal(self.venue)
        if self.expiry is not None:
            hit &= quotes.expiry == self.expiry
        return hit

    def befalls(self, quotes: QuoteTable) -> Bools:
        """Which rows it befalls: those of its place and time."""
        time = quotes.quote_time
        return self.place(quotes) & (time >= self.start) & (time < self.end)
