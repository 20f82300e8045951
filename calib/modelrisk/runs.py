"""The runs test: whether the signs of residuals along strikes are those of noise."""

from __future__ import annotations

from math import nan, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class RunsTest(NamedTuple):
    """``runs`` of equal sign among ``positive`` + ``negative`` residuals, and their score.

    Under independence the number of runs R of n₁ and n₂ signs, n = n₁ + n₂, has the mean
    μ = 2n₁n₂/n + 1 and the variance (2n₁n₂)(2n₁n₂ − n)/(n²(n − 1)); ``z`` = (R − μ)/sd, nan where
    the variance is 0. Few long runs (z well below 0) are a shape that the model lacks.
    Source: Wald & Wolfowitz, "On a test whether two samples are from the same population", Annals
    of Mathematical Statistics 11 (1940), section 3.
    """

    runs: int
    positive: int
    negative: int
    mean: float
    variance: float
    z: float


def runs_test(residuals: ArrayLike) -> RunsTest:
    """The test on residuals in order of strike; those that are 0 or nan have no sign and are left
    out."""
    values = np.asarray(residuals, np.float64)
    signs = values[(values > 0.0) | (values < 0.0)] > 0.0
    n, positive = len(signs), int(np.count_nonzero(signs))
    negative = n - positive
    runs = int(np.count_nonzero(signs[1:] != signs[:-1])) + 1 if n else 0
    if not n:
        return RunsTest(0, 0, 0, nan, nan, nan)
    pairs = 2.0 * positive * negative
    mean = pairs / n + 1.0
    variance = pairs * (pairs - n) / (n * n * (n - 1.0)) if n > 1 else 0.0
    z = (runs - mean) / sqrt(variance) if variance > 0.0 else nan
    return RunsTest(runs, positive, negative, mean, variance, z)
