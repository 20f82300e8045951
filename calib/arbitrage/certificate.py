"""The verdict on a whole surface: what was proved, on which range, and with how much to spare."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class CertificateScope(IntEnum):
    """How far the statement of a `Certificate` reaches; from SLICES on, larger is wider.

    The numbers are wire values: they never change their meaning.
    """

    UNSPECIFIED = 0
    NOT_CHECKED = 1
    """Nothing was tried: neither freedom from arbitrage nor its presence is claimed."""
    FAILED = 2
    """The check ran and did not reach a proof; arbitrage is present or could not be excluded."""
    SLICES = 3
    """Every expiry alone, at all strikes; nothing is claimed across (independent) expiries."""
    QUOTED_RANGE = 4
    """All expiries, at the strikes of a stated range only (SABR)."""
    WHOLE_LINE = 5
    """All strikes and all expiries, the published interpolation and extrapolation included."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A proof, or its absence, that a surface holds no static arbitrage.

    `butterfly_margin` is a proved lower bound of Durrleman's g over everything in scope from the
    first expiry on; before it, at τ, g is at least that times τ/τ₁.
    `calendar_margin` is a proved lower bound of w2/w1 - 1 over all adjacent expiries, infinite
    where no pair of expiries is coupled. A margin is -inf where no bound was found or tried.
    `detail` names what failed or limits the scope, for people.
    """

    arbitrage_free: bool
    scope: CertificateScope
    butterfly_margin: float
    calendar_margin: float
    detail: str = ""

    @classmethod
    def not_checked(cls) -> Certificate:
        """The certificate of a surface that nobody has tried to prove."""
        return cls(False, CertificateScope.NOT_CHECKED, float("-inf"), float("-inf"))
