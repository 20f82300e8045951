"""Delta buckets: strikes grouped by the probability-like scale on which smiles are quoted.

Deltas are forward deltas of calls, Δ = Φ(d₁), d₁ = −k/√w + √w/2, undiscounted and not adjusted for
premium, as in `calib.surface.handles`. Buckets meet half-way between the quoted points: a put's 10
and 25 delta at a call's delta of .825, 25 delta and the money (.5) at .625, calls likewise.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from calib.conventions import Floats, Ints


class DeltaBucket(StrEnum):
    """A range of deltas around a point at which smiles are quoted, in order of strike."""

    PUT_10 = "10P"
    PUT_25 = "25P"
    ATM = "ATM"
    CALL_25 = "25C"
    CALL_10 = "10C"


DELTA_BUCKETS = tuple(DeltaBucket)
"""All of them, in order of strike."""

CALL_DELTA_EDGES = (0.825, 0.625, 0.375, 0.175)
"""The deltas of calls at which one bucket ends and the next begins, in order of strike."""


def call_delta(log_moneyness: ArrayLike, total_variance: ArrayLike) -> Floats:
    """Φ(d₁) at k = ln(K/F) and w; nan where w is not positive."""
    from scipy.special import ndtr

    k = np.asarray(log_moneyness, np.float64)
    w = np.asarray(total_variance, np.float64)
    root = np.sqrt(np.where(w > 0.0, w, np.nan))
    return np.asarray(ndtr(0.5 * root - k / root), np.float64)


def bucket_numbers(delta: ArrayLike) -> Ints:
    """Places in `DELTA_BUCKETS` of deltas of calls; -1 for nan. An edge belongs to the bucket of
    the lower strikes."""
    falling = -np.asarray(delta, np.float64)
    numbers = np.searchsorted(-np.array(CALL_DELTA_EDGES), falling, side="left")
    return np.where(np.isnan(falling), -1, numbers).astype(np.int64)
