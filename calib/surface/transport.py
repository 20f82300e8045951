"""A surface under moved forwards, between two fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from calib.surface.surface import Surface


def with_levels(surface: Surface, factors: Sequence[float], spot: float | None = None) -> Surface:
    """The surface with the forward of expiry i multiplied by ``factors[i]``, and a new spot.

    Every smile stays the same function of log-moneyness (sticky moneyness), so that whatever was
    proved about its arbitrage holds as before. ``quote_time`` stays too: the smiles are as old as
    they were. Forward errors move in proportion; ``spot`` None keeps the one it has.
    Raises InvalidSurface where a factor or the spot is not positive and finite.
    """
    moved = tuple(
        replace(one, forward=one.forward * factor, forward_error=one.forward_error * factor)
        for one, factor in zip(surface.expiries, factors, strict=True)
    )
    return replace(surface, expiries=moved, spot=surface.spot if spot is None else spot)
