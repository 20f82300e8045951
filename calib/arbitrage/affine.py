"""Enclosures of functions on a cell by a line and an error: middle + slope·x ± error, |x| ≤ 1.

Sums and products keep the common dependence on x, so that what they enclose shrinks with the
square of the cell's width, where plain intervals shrink with the width.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from calib.arbitrage.slices import Floats


class Affine(NamedTuple):
    """Enclosures of functions f on cells: |f(x) − middle − slope·x| ≤ error for x in [−1, 1]."""

    middle: Floats
    slope: Floats
    error: Floats

    @property
    def lowest(self) -> Floats:
        """A lower bound on the cell."""
        return np.asarray(self.middle - np.abs(self.slope) - self.error)

    def plus(self, other: Affine) -> Affine:
        """The sum."""
        return Affine(
            self.middle + other.middle, self.slope + other.slope, self.error + other.error
        )

    def minus(self, other: Affine) -> Affine:
        """The difference."""
        return Affine(
            self.middle - other.middle, self.slope - other.slope, self.error + other.error
        )

    def shifted(self, constant: float) -> Affine:
        """The sum with a constant."""
        return self._replace(middle=self.middle + constant)

    def scaled(self, factor: Floats | float) -> Affine:
        """The product with constants, one for each cell or for all."""
        return Affine(self.middle * factor, self.slope * factor, self.error * np.abs(factor))

    def row(self, which: int | slice) -> Affine:
        """Some of several enclosures, by their first axis; `slice(None, None, -1)` turns it."""
        return Affine(self.middle[which], self.slope[which], self.error[which])

    @property
    def size(self) -> Floats:
        """A bound of the absolute value on the cell."""
        return np.asarray(np.abs(self.middle) + np.abs(self.slope) + self.error)

    def times(self, other: Affine) -> Affine:
        """The product; x² in [0, 1] is split into ½ ± ½."""
        bend = 0.5 * self.slope * other.slope
        size = np.abs(self.middle) + np.abs(self.slope)
        other_size = np.abs(other.middle) + np.abs(other.slope)
        error = np.abs(bend) + size * other.error + (other_size + other.error) * self.error
        return Affine(
            self.middle * other.middle + bend,
            self.middle * other.slope + self.slope * other.middle,
            error,
        )

    def squared(self) -> Affine:
        """The square."""
        bend = 0.5 * self.slope * self.slope
        size = np.abs(self.middle) + np.abs(self.slope)
        return Affine(
            self.middle * self.middle + bend,
            2.0 * self.middle * self.slope,
            bend + (2.0 * size + self.error) * self.error,
        )

    def over(self, divisor: Affine) -> Affine:
        """The quotient by something positive; the error is infinite where positivity is not seen.

        With x₀ = f₀/g₀ and x₁ = (f₁ − x₀g₁)/g₀ the remainder f − (x₀ + x₁x)g is −x₁g₁x² ± errors.
        """
        level = self.middle / divisor.middle
        slope = (self.slope - level * divisor.slope) / divisor.middle
        floor = divisor.lowest
        spread = (
            np.abs(slope * divisor.slope)
            + self.error
            + (np.abs(level) + np.abs(slope)) * divisor.error
        )
        return Affine(level, slope, np.where(floor > 0.0, spread / floor, np.inf))


def chord(start: Floats, end: Floats, curvature: Floats, width: Floats) -> Affine:
    """The enclosure of a function with these end values and |second derivative| ≤ `curvature`."""
    return Affine(0.5 * (start + end), 0.5 * (end - start), 0.125 * curvature * (width * width))
