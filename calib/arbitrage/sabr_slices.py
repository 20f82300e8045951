"""SABR slices with their quoted ranges as columns, and how they go on outside of these ranges."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calib.arbitrage.sabr_discs import Columns, Sizes, reach, rounding_share
from calib.arbitrage.slices import Flags, Floats
from calib.models import sabr

_OUTWARD: Floats = np.array([[-1.0], [1.0]])


class SabrSlices(NamedTuple):
    """Parameters of n SABR slices, their years T and quoted ranges in k, each of shape (n,)."""

    alpha: Floats
    beta: Floats
    rho: Floats
    nu: Floats
    years: Floats
    k_min: Floats
    k_max: Floats

    @classmethod
    def of(
        cls, parameters: ArrayLike, years: ArrayLike, k_min: ArrayLike, k_max: ArrayLike
    ) -> Self:
        """Slices of parameters (4, n), rows α, β, ρ, ν; the others broadcast to (n,)."""
        rows = np.asarray(parameters, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[0] != 4:
            raise ValueError(f"SABR parameters are of shape (4, n), not {rows.shape}")
        others = (np.asarray(x, dtype=np.float64) for x in (years, k_min, k_max))
        return cls(*rows, *(np.broadcast_to(x, rows.shape[1:]) for x in others))

    @property
    def number(self) -> int:
        """How many slices there are."""
        return int(self.alpha.shape[0])

    def take(self, which: NDArray[np.intp] | Flags | slice) -> SabrSlices:
        """The slices at an index, mask or range."""
        return SabrSlices(*(column[which] for column in self))


def is_ordinary(slices: SabrSlices) -> Flags:
    """Slices that the proofs can work on: finite, in the domain, magnitudes far from overflow.

    |ρ| = 1 is left out (the smile has a kink there), and so is a range that is turned around.
    Whether the expansion has a meaning (1 + T·H > 0) is a matter of the strikes, seen later.
    """
    alpha, beta, rho, nu, years, k_min, k_max = slices
    with np.errstate(invalid="ignore"):
        return np.asarray(
            (alpha > 1e-6) & (alpha < 1e6) & (beta >= 0.0) & (beta <= 1.0)
            & (np.abs(rho) < 1.0 - 1e-12) & (nu >= 0.0) & (nu < 1e6)
            & (years > 1e-9) & (years < 1e4) & (k_min <= k_max)
            & (k_min > -100.0) & (k_max < 100.0)
        )  # fmt: skip


class Edges(NamedTuple):
    """The ends of the quoted ranges, arrays of shape (2, n), the left ones first.

    Outside, w goes on as w + slope·(k − end).
    """

    k: Floats
    w: Floats
    slope: Floats
    """The slope of the formula there, limited as published."""
    outward: Floats
    """The slope of the formula there, away from the money."""
    error: Floats
    """A bound of the rounding error of the slope; infinite where there is none."""
    amplification: Floats
    """As in `Sizes`."""

    @classmethod
    def of(cls, slices: SabrSlices) -> Self:
        """Of n slices."""
        k = np.stack([slices.k_min, slices.k_max])
        w, slope, _ = sabr.jet(slices[:4], k, slices.years)
        outward = slope * _OUTWARD
        limited = np.minimum(np.maximum(outward, 0.0), sabr.CONTINUATION_CAP) * _OUTWARD
        # On small discs the bounds are those of the terms at the point.
        columns = Columns(*slices[:5])
        radius = 0.05 * reach(columns, k)
        size = Sizes.on(columns, k, radius, w)
        lost = rounding_share(k, 0.0 * k, radius, size.amplification)
        error = lost * 2.0 * size.variance * size.first
        return cls(k, w, limited, outward, error, size.amplification)

    @property
    def concave(self) -> Flags:
        """Where the limit bends w downwards: a kink of negative density, which is an arbitrage.

        A slope of the wrong sign is replaced by 0, which bends upwards: an atom of density.
        """
        return np.asarray(~(self.outward + self.error <= sabr.CONTINUATION_CAP))

    def take(self, which: NDArray[np.intp]) -> Edges:
        """Those of the slices at an index along the last axis."""
        return Edges(*(part[..., which] for part in self))


class Continued(NamedTuple):
    """SABR slices on the whole line, as published."""

    slices: SabrSlices
    edges: Edges

    @classmethod
    def of(cls, slices: SabrSlices) -> Self:
        """Of n slices."""
        with np.errstate(all="ignore"):
            return cls(slices, Edges.of(slices))

    def take(self, which: NDArray[np.intp]) -> Continued:
        """Those at an index."""
        return Continued(self.slices.take(which), self.edges.take(which))
