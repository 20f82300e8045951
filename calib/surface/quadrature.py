"""Adaptive Gauss-Legendre quadrature of one function over many panels at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from calib.conventions import Floats

_ORDER = 16
_PANEL_TOLERANCE = 1e-13
"""Of the whole integral: what halving a panel may change without its halves being halved. The
halves of a smooth function are better than that by about 2³²."""

_HALVINGS = 60
_MOST_OPEN = 2_000
"""Open panels at which halving ends: a kink keeps a few open, rounding errors of the function
itself keep all of them open for ever."""

_POINTS, _WEIGHTS = (
    0.5 * (1.0 + np.polynomial.legendre.leggauss(_ORDER)[0]),
    0.5 * np.polynomial.legendre.leggauss(_ORDER)[1],
)


class Nodes(NamedTuple):
    """Points and weights of a rule: ∫f ≈ Σ weight·f(point)."""

    points: Floats
    weights: Floats


def adaptive_nodes(function: Callable[[Floats], Floats], edges: Floats) -> Nodes:
    """A rule between the first and the last of the ascending ``edges`` that integrates ``function``
    to about 1e-13 of ∫|function|.

    The function takes and returns one-dimensional arrays and should be smooth between the edges;
    a panel whose halves disagree with it is halved again, up to 60 times, for what is not, and
    as long as rounding is not all that is left.
    """
    low, high = edges[:-1], edges[1:]
    whole = _sums(function, low, high)
    kept: list[Nodes] = []
    for halving in range(_HALVINGS):
        middle = 0.5 * (low + high)
        starts, ends = np.concatenate([low, middle]), np.concatenate([middle, high])
        halves = _sums(function, starts, ends)
        first, second = np.split(halves, 2)
        if halving == 0:
            total = float(np.abs(halves).sum())
        # A panel that is not a number is not better in halves.
        open_ = np.abs(first + second - whole) > _PANEL_TOLERANCE * total
        both = np.concatenate([open_, open_])
        kept.append(_nodes(starts[~both], ends[~both]))
        low, high, whole = starts[both], ends[both], halves[both]
        if low.size == 0 or low.size > _MOST_OPEN:
            break
    kept.append(_nodes(low, high))
    return Nodes(*map(np.concatenate, zip(*kept, strict=True)))


def _sums(function: Callable[[Floats], Floats], low: Floats, high: Floats) -> Floats:
    nodes = _nodes(low, high)
    values = (nodes.weights * function(nodes.points)).reshape(low.size, _ORDER)
    return np.asarray(values.sum(axis=1))


def _nodes(low: Floats, high: Floats) -> Nodes:
    width = (high - low)[:, None]
    return Nodes((low[:, None] + width * _POINTS).ravel(), (width * _WEIGHTS).ravel())
