"""How spot and variance move: the Bates model itself, drawn in time steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from calib.conventions import Floats
from calib.feeds.simulated.bates import Bates

_LONGEST_STEP_YEARS = 0.25 / 365.0


@dataclass(frozen=True)
class Carry:
    """The rate at which forwards grow with their expiry, as a curve in calendar time.

    c(s) = ``rate`` + (``start_rate`` − ``rate``) e^{−s/``fading_years``}, s in years from the
    start of the simulation; F(t, T) = S(t) exp ∫ₜᵀ c(s) ds. Being a function of calendar time it
    makes every forward a martingale under the path of :func:`moved`.
    """

    rate: float = 0.0
    start_rate: float = 0.0
    fading_years: float = 0.5

    def integral(self, start: ArrayLike, end: ArrayLike) -> Floats:
        """∫ c(s) ds from ``start`` to ``end``, both in years from the start of the simulation."""
        s, e = np.asarray(start, np.float64), np.asarray(end, np.float64)
        faded = np.exp(-s / self.fading_years) - np.exp(-e / self.fading_years)
        return np.asarray(
            self.rate * (e - s) + (self.start_rate - self.rate) * self.fading_years * faded
        )


class Level(NamedTuple):
    """Spot S > 0 and variance v ≥ 0; numbers or arrays of paths."""

    spot: Floats
    variance: Floats


def moved(
    model: Bates, level: Level, years: float, growth: float, random: np.random.Generator
) -> Level:
    """The level ``years`` later, drawn under the model; ``growth`` is ∫c ds over those years.

    Variance is drawn from its exact law, a scaled non-central χ² (Cox, Ingersoll & Ross 1985,
    eq. 18); the log price given both ends of the variance follows Andersen (2008, §4) with
    ∫v ≈ h(v₀ + v₁)/2, in steps of at most six hours; jumps are drawn one by one.
    """
    steps = max(1, math.ceil(years / _LONGEST_STEP_YEARS))
    for _ in range(steps):
        level = _step(model, level, years / steps, growth / steps, random)
    return level


def _step(
    model: Bates, level: Level, h: float, growth: float, random: np.random.Generator
) -> Level:
    v = np.asarray(level.variance, np.float64)
    decay = math.exp(-model.kappa * h)
    scale = model.sigma**2 * -math.expm1(-model.kappa * h) / (4.0 * model.kappa)
    freedom = 4.0 * model.kappa * model.theta / model.sigma**2
    after = scale * random.noncentral_chisquare(freedom, v * decay / scale)
    integral = 0.5 * h * (v + after)
    shock = (after - v - model.kappa * (model.theta * h - integral)) / model.sigma
    jumps = random.poisson(model.jump_rate * h, v.shape)
    log_return = (
        growth
        - model.jump_rate * model.jump_compensator * h
        - 0.5 * integral
        + model.rho * shock
        + np.sqrt((1.0 - model.rho**2) * integral) * random.standard_normal(v.shape)
        + model.jump_mean * jumps
        + model.jump_std * np.sqrt(jumps) * random.standard_normal(v.shape)
    )
    return Level(np.asarray(level.spot * np.exp(log_return)), np.asarray(after))
