"""States and sources that travel from room to room; their numbers are those of ``calib.v1``."""

from enum import IntEnum


class ModelName(IntEnum):
    """Which formula the parameters of a slice belong to."""

    SVI = 1
    ESSVI = 2
    SABR = 3


class ForwardSource(IntEnum):
    """Where an expiry's forward comes from.

    VENUE: quoted by the venue. PARITY: implied from put-call parity. CURVE: from the basis curve
    of the other expiries. SPOT: the spot stands in, for want of anything better.
    """

    VENUE = 1
    PARITY = 2
    CURVE = 3
    SPOT = 4


class FitState(IntEnum):
    """How the fit of one expiry ended. Only CONVERGED and STEP_LIMIT leave usable parameters."""

    CONVERGED = 1
    STEP_LIMIT = 2
    NO_STEP_ACCEPTED = 3
    NON_FINITE = 4
    TOO_FEW_QUOTES = 5
    NO_FORWARD = 6
    EXPIRED = 7
    UNCERTIFIED = 8

    @property
    def usable(self) -> bool:
        """Whether the slice may stand in a surface."""
        return self in _USABLE


# Made once: looking up a member by name takes longer than everything else that is asked here.
_USABLE = (FitState.CONVERGED, FitState.STEP_LIMIT)


class SurfaceState(IntEnum):
    """How far a surface may be relied on as the present market.

    LIVE: calibrated from quotes within their age limit. STALE: the last good surface, whose quotes
    are older than their limit or from before a restart.
    """

    LIVE = 1
    STALE = 2
