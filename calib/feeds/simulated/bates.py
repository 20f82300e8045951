"""The Bates model: Heston's stochastic variance with lognormal jumps, through its moments.

Under the measure of the forward F (Bates 1996; Heston 1993, §1),

    dF/F = √v dW + (e^J − 1) dN − λ m dt,   dv = κ(θ − v) dt + σ √v dB,   d⟨W, B⟩ = ρ dt,

with N a Poisson process of intensity λ, J normal with mean ν and deviation δ, m = e^{ν+δ²/2} − 1.
Everything is expressed in the moments M(w) = E[(F_T/F)^w], w complex; the characteristic function
of ln(F_T/F) is M(iu).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.conventions import Floats
from calib.errors import InvalidRequest

Complexes = NDArray[np.complex128]


@dataclass(frozen=True)
class Bates:
    """Parameters of the Bates model; decimals and years.

    ``kappa`` κ > 0: speed of mean reversion. ``theta`` θ > 0: long-run variance. ``sigma`` σ > 0:
    volatility of variance. ``rho`` ρ in (−1, 1): correlation of price and variance.
    ``jump_rate`` λ ≥ 0: jumps a year. ``jump_mean`` ν and ``jump_std`` δ: mean and deviation of the
    jump of the log price, δ > 0 where there are jumps. Without jumps the model is Heston's.
    Raises InvalidRequest where a parameter is outside its domain.
    """

    kappa: float
    theta: float
    sigma: float
    rho: float
    jump_rate: float = 0.0
    jump_mean: float = 0.0
    jump_std: float = 0.0

    def __post_init__(self) -> None:
        domain = {
            "kappa": self.kappa > 0,
            "theta": self.theta > 0,
            "sigma": self.sigma > 0,
            "rho": -1 < self.rho < 1,
            "jump_rate": self.jump_rate >= 0,
            "jump_mean": math.isfinite(self.jump_mean),
            "jump_std": self.jump_std >= 0 and (self.jump_std > 0 or self.jump_rate == 0),
        }
        for name, good in domain.items():
            value = getattr(self, name)
            if not good or not math.isfinite(value):
                raise InvalidRequest(f"Bates {name}={value} is outside the domain of the model")

    @property
    def jump_compensator(self) -> float:
        """m = E[e^J] − 1, the mean relative jump of the price."""
        return math.expm1(self.jump_mean + 0.5 * self.jump_std**2)


def expected_variance(model: Bates, years: Floats, variance: Any) -> Floats:
    """E ∫₀^T v dt of the diffusion alone, from the present ``variance`` v (total, not a year's)."""
    relaxed = -np.expm1(-model.kappa * years) / model.kappa
    return np.asarray(model.theta * (years - relaxed) + variance * relaxed, np.float64)


def jump_variance(model: Bates, years: Floats) -> Floats:
    """λT(ν² + δ²): the total variance that the jumps add."""
    return np.asarray(model.jump_rate * years * (model.jump_mean**2 + model.jump_std**2))


def log_moment(model: Bates, w: Complexes, years: Any, variance: Any) -> Complexes:
    """ln E[(F_T/F)^w] for complex ``w`` inside the strip of finite moments; arguments broadcast.

    In the form of Albrecher, Mayer, Schoutens & Tistaert (2007), whose logarithm stays on its
    principal branch (Lord & Kahl 2010), with β = κ − ρσw, d = √(β² − σ²(w² − w)),
    g = (β − d)/(β + d):

        ln M = v (w² − w)/(β + d) · (1 − e^{−dT})/(1 − g e^{−dT})
             + κθ [T (w² − w)/(β + d) − 2/σ² · ln((1 − g e^{−dT})/(1 − g))]
             + λT (e^{νw + δ²w²/2} − 1 − m w)
    """
    sigma2 = model.sigma**2
    excess = w * w - w
    beta = model.kappa - model.rho * model.sigma * w
    root = np.sqrt(beta * beta - sigma2 * excess)
    total = beta + root
    slope = excess / total  # (β − d)/σ² without its cancellation
    ratio = sigma2 * slope / total
    decay = _exp(-root * years)
    grown = (1.0 - decay) / (1.0 - ratio * decay)
    # (1 − g e)/(1 − g) = 1 + g (1 − e)/(1 − g), kept apart from 1 for small σ
    logarithm = _log1p(ratio * (1.0 - decay) / (1.0 - ratio))
    exponent = slope * grown * variance
    exponent = exponent + model.kappa * model.theta * (slope * years - (2.0 / sigma2) * logarithm)
    if model.jump_rate > 0:
        jump = _exp(w * (model.jump_mean + 0.5 * model.jump_std**2 * w))
        exponent = exponent + model.jump_rate * years * (jump - 1.0 - model.jump_compensator * w)
    return np.asarray(exponent, np.complex128)


def explosion_years(model: Bates, p: Floats) -> Floats:
    """How long E[(F_T/F)^p] stays finite, for real ``p`` outside [0, 1]; inf where for ever.

    The time in which D′ = σ²D²/2 − βD + (p² − p)/2 runs from 0 to infinity (Andersen & Piterbarg
    2007, §3). Jumps have moments of every order.
    """
    beta = model.kappa - model.rho * model.sigma * p
    square = beta * beta - model.sigma**2 * (p * p - p)
    gamma = np.sqrt(np.abs(square))
    with np.errstate(divide="ignore", invalid="ignore"):
        oscillating = 2.0 / gamma * (0.5 * np.pi + np.arctan(beta / gamma))
        monotone = np.log((gamma - beta) / (-gamma - beta)) / gamma
    return np.where(square < 0, oscillating, np.where(beta < 0, monotone, np.inf))


def _exp(z: Complexes) -> Complexes:
    # Twice as fast as numpy's complex exponential, which treats infinities one by one.
    size = np.exp(z.real)
    out = np.empty(z.shape, np.complex128)
    out.real = size * np.cos(z.imag)
    out.imag = size * np.sin(z.imag)
    return out


def _log1p(z: Complexes) -> Complexes:
    out = np.empty(z.shape, np.complex128)
    out.real = 0.5 * np.log1p(z.real * (2.0 + z.real) + z.imag * z.imag)
    out.imag = np.arctan2(z.imag, 1.0 + z.real)
    return out
