"""Rounding, bounded rather than waved away: in comparisons, and in `calib.arbitrage.shapes`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from calib.arbitrage.affine import Affine
from calib.arbitrage.cells import Indices
from calib.arbitrage.slices import UNIT_ROUNDOFF, Flags, Floats, SviSlices, minimum_variance

_SPLITTER = 2.0**27 + 1.0


def _exact_product(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """x·y as rounded and its rounding error (Dekker 1971), short of overflow and underflow."""
    product = x * y
    x_high = _SPLITTER * x - (_SPLITTER * x - x)
    y_high = _SPLITTER * y - (_SPLITTER * y - y)
    x_low, y_low = x - x_high, y - y_high
    error = ((x_high * y_high - product) + x_high * y_low + x_low * y_high) + x_low * y_low
    return product, error


def product_at_most(x: Floats, y: Floats, z: Floats, w: Floats) -> Flags:
    """Whether xy ≤ zw, decided as for real numbers."""
    left, left_error = _exact_product(x, y)
    right, right_error = _exact_product(z, w)
    return np.asarray((left < right) | ((left == right) & (left_error <= right_error)))


class Amplification(NamedTuple):
    """By how much groups of slices amplify rounding errors, arrays of shape (groups,).

    In the terms of `calib.arbitrage.cells`: i is a sum of terms no larger than
    |a| + b(2|m| + σ), and w ≥ w*, so y = i/w is computed within 32uκ(1 + |y|) with
    κ = 1 + (|a| + b(2|m| + σ))/w*; p is computed within 12ub, so w′²/w + w′²/4 within 32u of
    b²(4/w* + 1). Each is the sum over the slices of a group.
    """

    intercept: Floats
    """κ."""
    skew: Floats
    """b²(4/w* + 1)."""

    @classmethod
    def of(cls, groups: tuple[SviSlices, ...]) -> Amplification:
        """Of groups with one slice of each entry."""
        kappa = np.zeros(groups[0].number)
        skew = np.zeros(groups[0].number)
        for slices in groups:
            a, b, _, m, sigma = slices
            lowest = minimum_variance(slices)
            kappa += 1.0 + (np.abs(a) + b * (2.0 * np.abs(m) + sigma)) / lowest
            skew += b * b * (4.0 / lowest + 1.0)
        return cls(kappa, skew)

    def take(self, owner: Indices) -> Amplification:
        """Of the group of each cell."""
        return Amplification(self.intercept[owner], self.skew[owner])

    def error(self, y: Affine, curvature: Affine, growth: Floats) -> Floats:
        """A bound of the rounding error of 4g, and of what interpolation adds to it, on each cell.

        Both are sums of products whose sizes stay below s = z²(3 + 2·growth) + skew + 2q, with
        z = 1 + Σ|y| and `growth` a bound of |w₂/w₁ − 1| and |w₁/w₂ − 1|. No value passes more
        than 100 roundings on its way from parameters to bound, nor do the error terms of the
        enclosures, which are parts of s: 1024uκs dominates.
        """
        z = 1.0 + y.size.sum(axis=0)
        size = z * z * (3.0 + 2.0 * growth) + self.skew + 2.0 * curvature.size.max(axis=0)
        return np.asarray((1024.0 * UNIT_ROUNDOFF) * self.intercept * size)
