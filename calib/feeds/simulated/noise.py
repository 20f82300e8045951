"""Errors of quoted mids: correlated across strikes and in time, of unit variance everywhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from calib.conventions import Floats

_WAVES = 12


@dataclass(frozen=True)
class MidNoise:
    """A stationary Gaussian field N(x, t) over standardised moneyness x = k/deviation and time.

    N(x) = J^{−1/2} Σⱼ (aⱼ cos ωⱼx + bⱼ sin ωⱼx) with a, b independent standard normals has
    variance 1 at every x and correlation J⁻¹ Σⱼ cos ωⱼ(x − x′); the ωⱼ are quantiles of a half
    normal, so that this is close to exp(−½((x − x′)/``length``)²). Every (a, b) forgets itself as
    exp(−|Δt|/``memory_seconds``).
    """

    length: float = 1.5
    memory_seconds: float = 600.0

    def fresh(self, random: np.random.Generator) -> Floats:
        """Coefficients (2, J) of one expiry, drawn from the stationary law."""
        return random.standard_normal((2, _WAVES))

    def moved(self, coefficients: Floats, seconds: float, random: np.random.Generator) -> Floats:
        """The coefficients ``seconds`` later; any leading shape."""
        keep = math.exp(-seconds / self.memory_seconds)
        news = random.standard_normal(coefficients.shape)
        return np.asarray(keep * coefficients + math.sqrt(1.0 - keep * keep) * news)

    def at(self, coefficients: Floats, x: Floats) -> Floats:
        """N(x) for points ``x`` of shape (n,) under coefficients (2, J) or (n, 2, J)."""
        angle = x[:, None] * self._frequencies()
        waves = coefficients[..., 0, :] * np.cos(angle) + coefficients[..., 1, :] * np.sin(angle)
        return np.asarray(waves.sum(axis=-1) / math.sqrt(_WAVES))

    def correlation(self, distance: Floats) -> Floats:
        """The correlation of N at two points ``distance`` apart, at one time."""
        return np.asarray(np.cos(distance[..., None] * self._frequencies()).mean(axis=-1))

    def _frequencies(self) -> Floats:
        normal = NormalDist()
        quantiles = [normal.inv_cdf(0.5 + 0.5 * (j + 0.5) / _WAVES) for j in range(_WAVES)]
        return np.array(quantiles) / self.length
