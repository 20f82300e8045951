"""One event of a watch: a surface, and how it stands."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import nan
from typing import Any

import numpy as np

from calib.arbitrage.certificate import Certificate
from calib.client.contact import Contact
from calib.client.risk import ModelRisk, risk_of
from calib.conventions import NO_INSTANT, Clock, ExpiryCalendar, utc_now
from calib.errors import InvalidSurface
from calib.modelrisk.breakers import BreakerLevel
from calib.states import ModelName, SurfaceState
from calib.surface.messages import instant
from calib.surface.surface import ExpirySlice, Surface
from calib.surface.transport import with_levels
from calib.v1 import surface_service_pb2


class StaleCause(StrEnum):
    """Why a surface is stale; the value says it to people."""

    REPORTED = "the server says so"
    AGED = "its quotes are older than their limit"
    SILENT = "the server has been silent for too long"
    CLOCK = "the server's clock and ours are too far apart, or its messages are late"


@dataclass(frozen=True)
class SurfaceUpdate:
    """A surface as it was sent, and how it stands at the moment of asking.

    `state` and `level` are worked out anew each time: an update that is kept turns stale by
    itself, with no message and no connection needed.

    ``reported_state`` is what the server said when it sent it; ``valid_until`` (NaT: no limit) is
    when the surface becomes stale whatever was said; ``conflated_count`` is how many surfaces were
    skipped since the one before, because this reader was slower than the market;
    ``previous_quote_time`` is that of the update before it in the same watch, whichever server
    that came from, NaT for the first; ``risk``: how far it may be trusted, None where the server
    does not judge; ``variance_scale_max``: the certificate holds with all total variances times any
    factor up to this (0: for none but 1); ``contact`` with the server that sent it, None where it
    came from none.
    """

    surface: Surface
    reported_state: SurfaceState
    valid_until: np.datetime64 = NO_INSTANT
    conflated_count: int = 0
    previous_quote_time: np.datetime64 = NO_INSTANT
    risk: ModelRisk | None = None
    variance_scale_max: float = 0.0
    contact: Contact | None = field(default=None, repr=False, compare=False)
    clock: Clock = field(default=utc_now, repr=False, compare=False)

    @property
    def stale_cause(self) -> StaleCause | None:
        """Why it may not be relied on as the present market; None while it may."""
        if self.reported_state is not SurfaceState.LIVE:
            return StaleCause.REPORTED
        if not np.isnat(self.valid_until) and self.clock() >= self.valid_until:
            return StaleCause.AGED
        if self.contact is not None:
            if self.contact.is_silent:
                return StaleCause.SILENT
            if self.contact.clocks_disagree:
                return StaleCause.CLOCK
        return None

    @property
    def state(self) -> SurfaceState:
        """LIVE, or STALE for whichever cause."""
        return SurfaceState.LIVE if self.stale_cause is None else SurfaceState.STALE

    @property
    def level(self) -> BreakerLevel:
        """How far it may be quoted from; HALTED where that was not judged, and where the server has
        been silent for too long: nobody knows what its judgement would be."""
        if self.risk is None or (self.contact is not None and self.contact.is_silent):
            return BreakerLevel.HALTED
        return self.risk.level

    def level_of(self, expiry: Any) -> BreakerLevel:
        """How far one fitted expiry (datetime-like) may be quoted from: the more cautious of its
        own level and `level`; HALTED where it was not judged."""
        judged = None if self.risk is None else self.risk.of(expiry)
        return BreakerLevel.HALTED if judged is None else max(judged.level, self.level)

    @property
    def age_seconds(self) -> float:
        """Seconds from the quote time to now, by this machine's clock."""
        return float((self.clock() - self.quote_time) / np.timedelta64(1, "s"))

    @property
    def gap_seconds(self) -> float:
        """From the quote time of the update before to that of this one, nan for the first; below 0
        where another server, or another run of it, is behind what was already handed out."""
        if np.isnat(self.previous_quote_time):
            return nan
        return float((self.quote_time - self.previous_quote_time) / np.timedelta64(1, "s"))

    @property
    def server(self) -> str:
        """The address that it came from; empty where it came from none."""
        return "" if self.contact is None else self.contact.server

    @property
    def underlying(self) -> str:
        """What the surface is of."""
        return self.surface.underlying

    @property
    def epoch(self) -> str:
        """The run of the server that published it."""
        return self.surface.epoch

    @property
    def revision(self) -> int:
        """Its number within the epoch."""
        return self.surface.revision

    @property
    def quote_time(self) -> np.datetime64:
        """The instant that the surface describes."""
        return self.surface.quote_time

    # What is asked of a surface for every price can be asked here, state at hand.

    @property
    def model(self) -> ModelName:
        """Its model."""
        return self.surface.model

    @property
    def calendar(self) -> ExpiryCalendar:
        """How its expiries hang together."""
        return self.surface.calendar

    @property
    def certificate(self) -> Certificate:
        """What is proved of it."""
        return self.surface.certificate

    @property
    def expiries(self) -> tuple[ExpirySlice, ...]:
        """Its smiles, in order of expiry."""
        return self.surface.expiries

    def implied_vol(self, strike: Any, expiry: Any) -> Any:
        """As :meth:`calib.Surface.implied_vol`."""
        return self.surface.implied_vol(strike, expiry)

    def total_variance(self, log_moneyness: Any, expiry: Any) -> Any:
        """As :meth:`calib.Surface.total_variance`."""
        return self.surface.total_variance(log_moneyness, expiry)

    def vol_error(self, strike: Any, expiry: Any) -> Any:
        """As :meth:`calib.Surface.vol_error`."""
        return self.surface.vol_error(strike, expiry)

    def forward(self, expiry: Any) -> Any:
        """As :meth:`calib.Surface.forward`."""
        return self.surface.forward(expiry)

    def discount_factor(self, expiry: Any) -> Any:
        """As :meth:`calib.Surface.discount_factor`."""
        return self.surface.discount_factor(expiry)

    def is_extrapolated(self, strike: Any, expiry: Any) -> Any:
        """As :meth:`calib.Surface.is_extrapolated`."""
        return self.surface.is_extrapolated(strike, expiry)


def moved(shape: Surface | None, move: surface_service_pb2.SurfaceMove) -> Surface:
    """The surface that a move makes of ``shape``; raises InvalidSurface where it is of another."""
    if shape is None or shape.revision != move.shape_revision:
        raise InvalidSurface(
            f"{move.underlying!r} was moved from revision {move.shape_revision}, and "
            f"{'none' if shape is None else shape.revision} was sent"
        )
    spot = move.spot if move.HasField("spot") else None
    made = with_levels(shape, move.forward_factor, spot, move.variance_scale)
    return replace(made, revision=move.revision)


def update_of(
    message: surface_service_pb2.SurfaceUpdate,
    clock: Clock,
    contact: Contact | None = None,
    surface: Surface | None = None,
) -> SurfaceUpdate:
    """The update in a message, whose ``surface`` may be read already; raises InvalidSurface where
    it holds none.

    A state that is not said, or that only a later version knows, reads as STALE.
    """
    live = message.state == surface_service_pb2.SURFACE_STATE_LIVE
    return SurfaceUpdate(
        surface=surface or Surface.from_proto(message.surface),
        reported_state=SurfaceState.LIVE if live else SurfaceState.STALE,
        valid_until=(
            instant(message.valid_until, "valid_until")
            if message.HasField("valid_until")
            else NO_INSTANT
        ),
        conflated_count=message.conflated_count,
        risk=risk_of(message.risk) if message.HasField("risk") else None,
        variance_scale_max=message.variance_scale_max,
        contact=contact,
        clock=clock,
    )
