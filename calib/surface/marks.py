"""Marks: what an operator has set on a smile by hand, as the surface that carries it says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from math import isfinite

import numpy as np

from calib.conventions import iso, to_instant
from calib.errors import InvalidSurface


class MarkHandle(IntEnum):
    """Which handle of a smile is marked; the numbers are those of ``calib.v1.MarkHandle``.

    ATM_VOL: σ at the forward, a decimal. SKEW: dσ/dk there. LEFT_WING and RIGHT_WING: how steeply
    total variance rises toward −∞ and +∞, |dw/dk|.
    """

    ATM_VOL = 1
    SKEW = 2
    LEFT_WING = 3
    RIGHT_WING = 4


@dataclass(frozen=True)
class Mark:
    """One handle of one expiry, ``pinned`` at ``value`` or else shifted by it.

    In force from ``at`` until ``until``, which is not included. Raises InvalidSurface without an
    author and a reason, for a value that is not finite, and for an end that is not after ``at``.
    """

    expiry: np.datetime64
    handle: MarkHandle
    pinned: bool
    value: float
    author: str
    reason: str
    at: np.datetime64
    until: np.datetime64

    def __post_init__(self) -> None:
        for name in ("expiry", "at", "until"):
            object.__setattr__(self, name, to_instant(getattr(self, name)))
        if not (self.author.strip() and self.reason.strip()):
            raise InvalidSurface("a mark needs an author and a reason")
        if not isfinite(self.value):
            raise InvalidSurface(f"a mark's value must be finite, not {self.value!r}")
        if not self.until > self.at:
            raise InvalidSurface(f"a mark must end after {iso(self.at)}, not {iso(self.until)}")

    def in_force(self, now: np.datetime64) -> bool:
        """Whether the mark holds at this instant."""
        return bool(self.at <= now < self.until)

    def __str__(self) -> str:
        how = f"pinned at {self.value:g}" if self.pinned else f"shifted by {self.value:+g}"
        return (
            f"{self.handle.name} of {iso(self.expiry)} {how} by {self.author} until "
            f"{iso(self.until)}: {self.reason}"
        )
