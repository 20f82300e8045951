"""A hold: what an expiry says of itself that was HELD when its surface was made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.conventions import NO_INSTANT, iso, to_instant
from calib.errors import InvalidSurface
from calib.surface.content import ByContent


@dataclass(frozen=True, eq=False)
class Hold(ByContent):
    """How much of its last good smile stands, and where that is from.

    ``share``: from 0 to 1, the rest being the newest fit; less than 1 where beside the other
    expiries' new smiles only so much of it is free of arbitrage, and 0 where there is no good
    smile, or hardly anything of it could stand: then nothing else is known. ``quote_time``: of the
    quotes that the good smile was fitted to, by which its age is told. ``epoch`` and ``revision``
    name the published surface that it was taken from. Raises InvalidSurface for a share that is
    none, and for one above 0 without a time or a surface.
    """

    quote_time: np.datetime64 = NO_INSTANT
    epoch: str = ""
    revision: int = 0
    share: float = 0.0

    def __str__(self) -> str:
        if not self.share:
            return "held, without a good smile: as newly fitted"
        rest = "" if self.share == 1.0 else f", {self.share:.0%} of it"
        return f"held: the smile of {iso(self.quote_time)}{rest}"

    def __post_init__(self) -> None:
        object.__setattr__(self, "quote_time", to_instant(self.quote_time))
        if not 0.0 <= self.share <= 1.0:
            raise InvalidSurface(f"a hold's share is {self.share!r}, must be from 0 to 1")
        if self.share and np.isnat(self.quote_time):
            raise InvalidSurface("a hold needs the quote time of the smile that stands")
        if self.share and not (self.epoch and self.revision > 0):
            raise InvalidSurface(
                "a hold names the published surface that its smile is from; "
                f"got epoch {self.epoch!r}, revision {self.revision!r}"
            )
