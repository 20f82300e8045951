"""Analytic functions on cells, bounded from their values at Chebyshev points.

Let f be analytic with |f| ≤ M inside the disc of radius R about the middle of a cell of half-width
h < R. The Bernstein ellipse with half-axis R about the cell lies in that disc; its parameter is
ϱ = R/h + √(R²/h² − 1), and the polynomial of degree n through the values at the n+1 Chebyshev
points of the second kind is wrong by at most 4Mϱ⁻ⁿ/(ϱ−1) on the cell (Trefethen 2013,
Approximation Theory and Approximation Practice, theorem 8.2). The polynomial itself lies between
its Bernstein coefficients, on every quarter of the cell.
"""

from __future__ import annotations

from math import comb

import numpy as np

from calib.arbitrage.slices import Floats

DEGREE = 8
MIDDLE = DEGREE // 2
"""Which of the points is the middle of the cell."""

POINTS: Floats = -np.cos(np.pi * np.arange(DEGREE + 1) / DEGREE)
POINTS[MIDDLE] = 0.0
_COLUMNS = 768  # at once: below BLAS's threshold for threads


def _chebyshev() -> Floats:
    """Coefficients of Chebyshev polynomials from values at the points."""
    n = DEGREE
    halved = np.ones(n + 1)
    halved[[0, -1]] = 0.5
    cosines = np.cos(np.pi * np.outer(np.arange(n + 1), np.arange(n, -1, -1)) / n)
    return np.asarray(2.0 / n * halved[:, None] * cosines * halved)


def _bernstein() -> Floats:
    """Bernstein coefficients on [−1, 1], degree n, of the Chebyshev polynomials, exact rationals.

    That of T_k in its own degree is (−1)^{k−i} C(2k, 2i)/C(k, i); the rest is raised to degree n.
    """
    n = DEGREE
    table = np.zeros((n + 1, n + 1))
    for k in range(n + 1):
        for i in range(k + 1):
            own = (-1) ** (k - i) * comb(2 * k, 2 * i)  # times C(k, i), which the raise takes out
            for j in range(i, i + n - k + 1):
                table[j, k] += own * comb(n - k, j - i) / comb(n, j)
    return table


def _halving() -> tuple[Floats, Floats]:
    left = np.zeros((DEGREE + 1, DEGREE + 1))
    for i in range(DEGREE + 1):
        for j in range(i + 1):
            left[i, j] = comb(i, j) / 2.0**i
    return left, left[::-1, ::-1]


_HALF, _OTHER_HALF = _halving()
_TO_QUARTERS = np.vstack(
    [inner @ outer for outer in (_HALF, _OTHER_HALF) for inner in (_HALF, _OTHER_HALF)]
) @ (_bernstein() @ _chebyshev())


def bernstein(values: Floats) -> Floats:
    """Bernstein coefficients (4(n+1), …) on the quarters of cells from values (n+1, …) at POINTS.

    No coefficient exceeds three times the largest value (the rows of the matrix sum to 3 at most
    in absolute values), and so it is with what rounding does to the values.
    """
    flat = values.reshape(DEGREE + 1, -1)
    table = np.empty((_TO_QUARTERS.shape[0], flat.shape[1]))
    for begin in range(0, flat.shape[1], _COLUMNS):
        part = slice(begin, begin + _COLUMNS)
        np.matmul(_TO_QUARTERS, flat[:, part], out=table[:, part])
    return table.reshape(-1, *values.shape[1:])


def truncation(reach: Floats) -> Floats:
    """The share of M by which a polynomial is wrong on its cell; `reach` is R/h.

    Infinite where R ≤ h; falls with the eighth power of R/h.
    """
    inside = reach > 1.0
    a = np.where(inside, reach, 2.0)
    parameter = a + np.sqrt((a - 1.0) * (a + 1.0))
    # A thousandth more than it is: for its own rounding and for that of M.
    share = 4.004 * parameter ** (-DEGREE) / (parameter - 1.0)
    return np.where(inside, share, np.inf)
