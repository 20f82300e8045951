"""One event of a watch: a surface, and how it stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np

from calib.client.risk import ModelRisk, risk_of
from calib.conventions import NO_INSTANT
from calib.errors import InvalidSurface
from calib.modelrisk.breakers import BreakerLevel
from calib.states import SurfaceState
from calib.surface.messages import instant
from calib.surface.surface import Surface
from calib.surface.transport import with_levels
from calib.v1 import surface_service_pb2

Clock = Callable[[], np.datetime64]
"""Gives the present instant, UTC."""


def utc_now() -> np.datetime64:
    """The present by this machine's clock."""
    return np.datetime64(datetime.now(UTC).replace(tzinfo=None), "us")


@dataclass(frozen=True)
class SurfaceUpdate:
    """A surface as it was sent.

    ``reported_state`` is what the server said when it sent it; ``valid_until`` (NaT: no limit) is
    when the surface becomes stale whatever was said; ``conflated_count`` is how many surfaces were
    skipped since the one before, because this reader was slower than the market; ``risk``: how far
    it may be trusted, None where the server does not judge. ``variance_scale_max``: the certificate
    holds with all total variances times any factor up to this; 0: for none but 1.
    """

    surface: Surface
    reported_state: SurfaceState
    valid_until: np.datetime64 = NO_INSTANT
    conflated_count: int = 0
    risk: ModelRisk | None = None
    variance_scale_max: float = 0.0
    clock: Clock = field(default=utc_now, repr=False, compare=False)

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

    @property
    def age_seconds(self) -> float:
        """Seconds from the quote time to now, by this machine's clock."""
        return float((self.clock() - self.quote_time) / np.timedelta64(1, "s"))

    @property
    def state(self) -> SurfaceState:
        """How far the surface may be relied on now: what was reported, or STALE past its limit."""
        if not np.isnat(self.valid_until) and self.clock() >= self.valid_until:
            return SurfaceState.STALE
        return self.reported_state

    @property
    def level(self) -> BreakerLevel:
        """How far it may be quoted from; HALTED where that was not judged."""
        return BreakerLevel.HALTED if self.risk is None else self.risk.level


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
    message: surface_service_pb2.SurfaceUpdate, clock: Clock, surface: Surface | None = None
) -> SurfaceUpdate:
    """The update in a message, whose ``surface`` may be read already; raises InvalidSurface where
    it holds none."""
    try:
        state = SurfaceState(message.state)
    except ValueError:
        raise InvalidSurface(f"a surface in the unknown state {message.state}") from None
    return SurfaceUpdate(
        surface=surface or Surface.from_proto(message.surface),
        reported_state=state,
        valid_until=(
            instant(message.valid_until, "valid_until")
            if message.HasField("valid_until")
            else NO_INSTANT
        ),
        conflated_count=message.conflated_count,
        risk=risk_of(message.risk) if message.HasField("risk") else None,
        variance_scale_max=message.variance_scale_max,
        clock=clock,
    )
