"""How surfaces are fitted: every choice in one place, each with its default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite

from calib.conventions import ExpiryCalendar
from calib.errors import InvalidRequest
from calib.fitting.least_squares import Tolerances
from calib.fitting.memory import Memory
from calib.fitting.smile import LossName
from calib.market.variance_clock import VarianceClock
from calib.states import ModelName


@dataclass(frozen=True)
class FitSettings:
    """How surfaces are fitted.

    ``arbitrage_free``: fit all expiries of a chain together, free of static arbitrage and proved
    so; False fits each expiry alone, as its quotes lie, and proves nothing. ``loss``: how residuals
    count. ``memory``: how the last surface counts where one is given, None for not at all.
    ``coupling``: precision with which neighbouring expiries' deviations from the prior are tied.
    ``min_quotes``: two-sided quotes that an expiry needs, else it says TOO_FEW_QUOTES; an expiry
    that is fitted alone, and a chain as a whole, need three in any case. ``beta``: SABR's
    elasticity. ``error_reach``: how far the error of a quote is shared by its neighbours, in
    standard deviations at the money; 0 for errors that are independent. ``noise_scale``: the
    standard deviation of a quote's error in half-spreads where it is known, None where the
    residuals have to tell (for both see `calib.fitting.uncertainty`). ``clocks``: variance time by
    underlying, plain years where there is none. ``tolerances``: when an expiry that is fitted
    alone is done.
    Raises InvalidRequest for a number outside its range.
    """

    model: ModelName = ModelName.SVI
    calendar: ExpiryCalendar = ExpiryCalendar.SAME_ASSET
    arbitrage_free: bool = True
    loss: LossName = LossName.DEAD_ZONE
    memory: Memory | None = field(default_factory=Memory)
    coupling: float = 4.0
    min_quotes: int = 1
    beta: float = 1.0
    error_reach: float = 0.15
    noise_scale: float | None = None
    clocks: Mapping[str, VarianceClock] = field(default_factory=dict)
    tolerances: Tolerances = field(default_factory=Tolerances)

    def __post_init__(self) -> None:
        scale = self.noise_scale
        limits = {
            "coupling": (self.coupling, self.coupling >= 0.0, "at least 0"),
            "min_quotes": (self.min_quotes, self.min_quotes >= 1, "at least 1"),
            "beta": (self.beta, 0.0 <= self.beta <= 1.0, "from 0 to 1"),
            "error_reach": (self.error_reach, self.error_reach >= 0.0, "at least 0"),
            "noise_scale": (scale, scale is None or scale > 0.0, "positive, or None to measure it"),
        }
        for name, (value, fits, wanted) in limits.items():
            if not fits or (value is not None and not isfinite(value)):
                raise InvalidRequest(f"{name}={value!r} must be a finite number, {wanted}")


DEFAULT = FitSettings()
