"""Butterfly between two curves: w²g as a quartic in λ, by Bernstein coefficients.

For w = (1−λ)w₁ + λw₂ at constant k the parts a = w − kw′/2, w, w′ and w″ are linear in λ, so that

    w²g = a² − w′²w/4 − w′²w²/16 + w²w″/2

has degree 4, and w² has degree 2. With positive coefficients of w², raised to degree 4, g is not
below the least of the five ratios. The coefficients are products of the curves' own parts, linear
in those of either: signs turned to plus, the same sums bound everything that goes into them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from calib.arbitrage.slices import Floats


class Curves(NamedTuple):
    """w, a = w − kw′/2, p = w′ and q = w″ of one curve; or bounds of their absolute values.

    All are linear in w: mixing curves mixes these.
    """

    w: Floats
    a: Floats
    p: Floats
    q: Floats


def mixed(pair: Curves, share: Floats) -> Curves:
    """(1 − share)·w₁ + share·w₂ of two curves that lie along the first axis."""
    return Curves(*((1.0 - share) * part[0] + share * part[1] for part in pair))


def numerator(one: Curves, two: Curves) -> Floats:
    """Coefficients (5, …) of w²g between two curves."""
    return _sum(one, two, -1.0)


def numerator_size(one: Curves, two: Curves) -> Floats:
    """Bounds (5, …) of the absolute values of all terms in `numerator`, from bounds of parts."""
    return _sum(one, two, 1.0)


def denominator(one: Curves, two: Curves) -> Floats:
    """Coefficients (5, …) of w²."""
    return _twice_raised(_quadratic(one.w, two.w))


def _sum(one: Curves, two: Curves, sign: float) -> Floats:
    ww, pp = _quadratic(one.w, two.w), _quadratic(one.p, two.p)
    cubic = (0.25 * sign) * _cubic(pp, one.w, two.w) + 0.5 * _cubic(ww, one.q, two.q)
    square = _twice_raised(_quadratic(one.a, two.a))
    return square + _raised(cubic) + (0.0625 * sign) * _product(pp, ww)


def _quadratic(one: Floats, two: Floats) -> Floats:
    """The square of what is linear."""
    return np.array([one * one, one * two, two * two])


def _cubic(quadratic: Floats, one: Floats, two: Floats) -> Floats:
    """Times what is linear."""
    a, b, c = quadratic
    inner = (2.0 * b * one + a * two) / 3.0, (c * one + 2.0 * b * two) / 3.0
    return np.array([a * one, *inner, c * two])


def _product(x: Floats, y: Floats) -> Floats:
    """Of two quadratics."""
    (a, b, c), (d, e, f) = x, y
    inner = 0.5 * (a * e + b * d), (a * f + 4.0 * b * e + c * d) / 6.0, 0.5 * (b * f + c * e)
    return np.array([a * d, *inner, c * f])


def _raised(cubic: Floats) -> Floats:
    """To degree 4."""
    a, b, c, d = cubic
    return np.array([a, 0.25 * (a + 3.0 * b), 0.5 * (b + c), 0.25 * (3.0 * c + d), d])


def _twice_raised(quadratic: Floats) -> Floats:
    """To degree 4."""
    a, b, c = quadratic
    return np.array([a, 0.5 * (a + b), (a + 4.0 * b + c) / 6.0, 0.5 * (b + c), c])
