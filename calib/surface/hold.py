"""A hold: what an expiry says of itself whose last good smile stands in place of a newer one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.conventions import to_instant
from calib.errors import InvalidSurface


@dataclass(frozen=True)
class Hold:
    """Where a held smile is from.

    ``quote_time``: of the quotes that it was fitted to, by which its age is told. ``epoch`` and
    ``revision`` name the published surface that it was taken from. ``share``: how much of it
    stands, above 0 and at most 1; less than 1 where beside the other expiries' new smiles only so
    much of it is free of arbitrage, the rest being the newest fit. Raises InvalidSurface for a
    share that is not, and without a time or a surface.
    """

    quote_time: np.datetime64
    epoch: str
    revision: int
    share: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "quote_time", to_instant(self.quote_time))
        if np.isnat(self.quote_time):
            raise InvalidSurface("a hold needs the quote time of the smile that stands")
        if not (self.epoch and self.revision > 0):
            raise InvalidSurface(
                "a hold names the published surface that its smile is from; "
                f"got epoch {self.epoch!r}, revision {self.revision!r}"
            )
        if not 0.0 < self.share <= 1.0:
            raise InvalidSurface(f"a hold's share is {self.share!r}, must be above 0 and at most 1")
