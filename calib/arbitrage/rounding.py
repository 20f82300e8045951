"""Rounding, bounded rather than waved away: in comparisons, and in `calib.arbitrage.shapes`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from calib.arbitrage.cells import Indices
from calib.arbitrage.slices import UNIT_ROUNDOFF, Flags, Floats, SviSlices, minimum_variance
from calib.models.arrays import Array

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

    In the terms of `calib.arbitrage.cells`: i is a sum of terms no larger than |a| + b(2|m| + σ),
    and w ≥ w*, so y = i/w is computed within 32uκ(1 + |y|), p within 12ub, and w′²/w + w′²/4
    within 32u of b²(4/w* + 1).

    A cell is meant to run from one k to another, and its middle to be half way. Each of its points
    may be off by 8u|k|: the middle is rounded, and what a compiler makes of the same formula need
    not agree to the last bit between two neighbours. That is no more than a rounding error either:
    |kw′| ≤ w + |i|, |ki′| = k²q ≤ b(σ + 2m²/σ), |kq| ≤ b(1 + |m|/σ) and |kq′| ≤ 3q(1 + |m|/σ), and
    what bounds third derivatives times width³ moves by as little. So

        κ = 1 + |m|/σ + (|a| + b(2|m| + σ + 2m²/σ))/w*,

    summed over the slices of a group, like the skew.
    """

    intercept: Array
    """κ."""
    skew: Array
    """b²(4/w* + 1)."""

    @classmethod
    def of(cls, groups: Sequence[SviSlices]) -> Amplification:
        """Of groups with one slice of each entry."""
        kappa: Array = 0.0
        skew: Array = 0.0
        for slices in groups:
            a, b, _, m, sigma = slices
            lowest = minimum_variance(slices)
            off = abs(m) / sigma
            kappa = kappa + (1.0 + off)
            kappa = kappa + (abs(a) + b * (2.0 * abs(m) + sigma + 2.0 * abs(m) * off)) / lowest
            skew = skew + b * b * (4.0 / lowest + 1.0)
        return cls(kappa, skew)

    def take(self, owner: Indices) -> Amplification:
        """Of the group of each cell."""
        return Amplification(self.intercept[owner], self.skew[owner])

    def error(self, tilt: Array, curvature: Array, growth: Array) -> Array:
        """A bound of the rounding error of 4g, and of what interpolation adds to it, on each cell.

        Both are sums of products whose sizes stay below s = z²(3 + 2·growth) + skew + 2q with
        z = 1 + `tilt`, where `tilt`, `curvature` and `growth` are bounds of Σ|y|, of all |q|, and
        of |w₂/w₁ − 1| and |w₁/w₂ − 1|. No value passes more than 100 roundings on its way from
        parameters to bound, fewer where products and sums are fused; nor do the error terms of
        the enclosures, which are parts of s. Sums may be taken in any order: what counts is the
        sum of the sizes. Points off by 8u|k| cost each factor 24uκ more, and the middle Bernstein
        coefficient of a parabola has three times the error of its values: 4096uκs dominates.
        """
        z = 1.0 + tilt
        size = z * z * (3.0 + 2.0 * growth) + self.skew + 2.0 * curvature
        return (4096.0 * UNIT_ROUNDOFF) * self.intercept * size
