"""SABR beyond its quoted range, where w goes on linearly, out to infinity.

With w = w₀ + s·(k − k₀) the tangent's intercept i = w₀ − s·k₀ is constant, and in v = 1/w

    4g = (1 + iv)² − s²v − s²/4,   0 < v ≤ 1/w₀,

a quadratic with the Bernstein coefficients b₀ = 1 − s²/4 (at infinity), b₁ = b₀ + (2i − s²)/(2w₀)
and b₂, 4g at the end of the range. Where the published limit of the slope bends w downwards there
is an arbitrage at that end, whatever lies beyond.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.arbitrage.extrapolation import lowest_quadratic
from calib.arbitrage.sabr_slices import Edges, SabrSlices, is_ordinary
from calib.arbitrage.slices import UNIT_ROUNDOFF, Flags, Floats


@dataclass(frozen=True, slots=True)
class ContinuationResult:
    """The verdict on n slices, arrays of shape (2, n), the left sides first.

    `margin` is a proved lower bound of g on the continued wing out to infinity, -inf where
    nothing could be bounded; `ok` says that it is positive and that w does not bend down at the
    end of the range.
    """

    ok: Flags
    margin: Floats


def certify_continuation(slices: SabrSlices) -> ContinuationResult:
    """Prove or refuse freedom from butterfly arbitrage beyond the quoted ranges.

    Rounding: i is known within 8u(w₀ + |sk₀|), which is multiplied by v ≤ 1/w₀; 32 times that is
    taken off.
    """
    ordinary = is_ordinary(slices)
    with np.errstate(all="ignore"):
        edges = Edges.of(slices)
        k, w, s, concave = edges
        flat = s * s
        intercept = w - s * k
        infinity = 1.0 - 0.25 * flat
        middle = infinity + (2.0 * intercept - flat) / (2.0 * w)
        y_above = 1.0 + intercept / w
        end = y_above * y_above - flat / w - 0.25 * flat
        size = 4.0 + np.abs(s * k) / w + flat / w
        blur = 256.0 * UNIT_ROUNDOFF * size * size
        margin = 0.25 * (lowest_quadratic(infinity, middle, end) - blur)
    # A flat continuation is Black's: g = 1.
    margin = np.where(s == 0.0, 1.0, margin)
    known = ordinary & np.isfinite(margin) & (w > 0.0)
    margin = np.where(known, margin, -np.inf)
    return ContinuationResult((margin > 0.0) & ~concave, margin)


def continues_above(first: SabrSlices, second: SabrSlices) -> Flags:
    """Whether w₂ ≥ w₁ on the hull of two ranges goes on to both infinities: (n,).

    Both are linear there, so that the slopes decide; those at the published limits are equal.
    """
    with np.errstate(all="ignore"):
        one, two = np.abs(Edges.of(first).slope), np.abs(Edges.of(second).slope)
        return np.asarray(((two == one) | (two * (1.0 - 1e-12) > one)).all(axis=0))
