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
from calib.arbitrage.sabr_slices import Continued, is_ordinary
from calib.arbitrage.slices import UNIT_ROUNDOFF, Flags, Floats
from calib.models.sabr import CONTINUATION_CAP


@dataclass(frozen=True, slots=True)
class ContinuationResult:
    """The verdict on n slices, arrays of shape (2, n), the left sides first.

    `margin` is a proved lower bound of g on the continued wing out to infinity, -inf where
    nothing could be bounded; `ok` says that it is positive and that w does not bend down at the
    end of the range.
    """

    ok: Flags
    margin: Floats


def certify_continuation(smiles: Continued) -> ContinuationResult:
    """Prove or refuse freedom from butterfly arbitrage beyond the quoted ranges.

    Rounding: s is known within the stated error e, and i so within e|k₀|; with |i| ≤ w₀ + |sk₀|,
    4g moves by less than 2(2 + |sk₀|/w₀)·e|k₀|/w₀ + (2|s| + e)·e·(1/w₀ + ¼). The rest rounds terms
    no larger than (2 + |sk₀|/w₀)² + s²/w₀ fewer than 40 times.
    """
    edges = smiles.edges
    k, w, s, outward, error, _ = edges
    with np.errstate(all="ignore"):
        square = s * s
        intercept = w - s * k
        infinity = 1.0 - 0.25 * square
        middle = infinity + (2.0 * intercept - square) / (2.0 * w)
        y_above = 1.0 + intercept / w
        end = y_above * y_above - square / w - 0.25 * square
        tilt = 2.0 + np.abs(s * k) / w
        blur = 2.0 * tilt * error * np.abs(k) / w
        blur += (2.0 * np.abs(s) + error) * error * (1.0 / w + 0.25)
        blur += 64.0 * UNIT_ROUNDOFF * (tilt * tilt + square / w)
        margin = 0.25 * (lowest_quadratic(infinity, middle, end) - blur)
        # Flat for sure: Black's, with g = 1.
        margin = np.where(outward + error <= 0.0, 1.0, margin)
        known = is_ordinary(smiles.slices) & np.isfinite(margin) & (w > 0.0)
        margin = np.where(known, margin, -np.inf)
        return ContinuationResult((margin > 0.0) & ~edges.concave, margin)


def continues_above(first: Continued, second: Continued) -> Flags:
    """Whether w₂ ≥ w₁ on the hull of two ranges goes on to both infinities: (n,).

    Both are linear there, so that the slopes decide; those beyond a published limit are equal.
    """
    one, two = first.edges, second.edges
    with np.errstate(all="ignore"):
        steeper = np.abs(two.slope) - np.abs(one.slope) >= one.error + two.error
        flat = one.outward + one.error <= 0.0
        steepest = two.outward - two.error >= CONTINUATION_CAP
        return np.asarray((steeper | flat | steepest).all(axis=0))
