"""Raw SVI slices as columns: what every proof in this folder takes."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calib.models.arrays import Array, namespace

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

UNIT_ROUNDOFF = 2.0**-53
"""Relative error of one double-precision operation, rounding to nearest."""


class SviSlices(NamedTuple):
    """Parameters of n raw SVI slices w(k) = a + b(ρ(k − m) + √((k − m)² + σ²)), of shape (n,).

    Gatheral & Jacquier (2014), arXiv:1204.0646, §3.1. Total variance, log-moneyness.
    """

    a: Floats
    b: Floats
    rho: Floats
    m: Floats
    sigma: Floats

    @classmethod
    def of(cls, a: ArrayLike, b: ArrayLike, rho: ArrayLike, m: ArrayLike, sigma: ArrayLike) -> Self:
        """Slices from anything that broadcasts to one dimension; scalars make one slice."""
        columns = (np.atleast_1d(np.asarray(v, dtype=np.float64)) for v in (a, b, rho, m, sigma))
        broadcast = np.broadcast_arrays(*columns)
        if broadcast[0].ndim != 1:
            raise ValueError(
                f"slices are one-dimensional columns, got parameters of shape {broadcast[0].shape}"
            )
        return cls(*broadcast)

    @property
    def number(self) -> int:
        """How many slices there are."""
        return int(self.a.shape[0])

    def take(self, which: NDArray[np.intp] | Flags | slice) -> SviSlices:
        """The slices at an index, mask or range."""
        return SviSlices(*(column[which] for column in self))

    def mirrored(self) -> SviSlices:
        """The slices seen from the other side, k → −k."""
        return SviSlices(self.a, self.b, -self.rho, -self.m, self.sigma)


def minimum_variance(slices: SviSlices) -> Array:
    """w* = a + bσ√(1−ρ²), the total variance at the vertex; nan for what is no slice."""
    a, b, rho, _, sigma = slices
    with np.errstate(invalid="ignore", over="ignore"):
        return a + b * sigma * namespace(b).sqrt((1.0 - rho) * (1.0 + rho))


def is_flat(slices: SviSlices) -> Flags:
    """Slices without a smile: b = 0, where ρ, m and σ mean nothing; w is a everywhere."""
    return np.asarray((slices.b == 0.0) & np.isfinite(slices.a) & (slices.a > 0.0))


def has_chart(slices: SviSlices) -> Array:
    """Slices that the proofs can work on: finite, b > 0, σ > 0, |ρ| < 1, positive everywhere.

    σ = 0 (a kink) and |ρ| = 1 (a wing of slope zero) are left out on purpose: the first has no
    second derivative, the second no vertex, no fit produces either, and a refusal is safe.
    The limits on the magnitudes keep every intermediate far from overflow and underflow, so that
    relative rounding bounds hold.
    """
    a, b, rho, m, sigma = slices
    with np.errstate(invalid="ignore", over="ignore"):
        depth = b * sigma * namespace(b).sqrt((1.0 - rho) * (1.0 + rho))
        lowest = a + depth
        # Below this the sign of the minimum variance itself is lost in rounding.
        visible = lowest > 64.0 * UNIT_ROUNDOFF * (abs(a) + depth)
        ordinary = (
            (b > 1e-12) & (b < 1e6) & (sigma > 1e-12) & (sigma < 1e6)
            & (abs(rho) < 1.0) & (abs(m) < 1e6) & (lowest > 1e-15) & (abs(a) < 1e6)
        )  # fmt: skip
        return visible & ordinary
