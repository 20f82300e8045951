"""Quotes of whole surfaces side by side, padded, and the sums over them that a fit needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from calib.fitting.least_squares import Loss
from calib.fitting.smile import SMALLEST_VARIANCE


class SurfaceQuotes(NamedTuple):
    """B surfaces of N expiries of Q quotes each.

    ``k``, ``target``, ``above``, ``below`` (Q, N, B) as in `calib.fitting.universe.Batch`;
    ``years`` (N, B); ``present`` (N, B): expiries that there are, all before those that pad;
    ``linked`` (N, B): expiries whose total variance may nowhere exceed the following one's.
    """

    k: Array
    target: Array
    above: Array
    below: Array
    years: Array
    present: Array
    linked: Array


class Sums(NamedTuple):
    """Over the quotes of every expiry: ρ (N, B), Jᵀρ′ (P, N, B) and Jᵀρ″J (P, P, N, B)."""

    cost: Array
    gradient: Array
    matrix: Array


def sum_quotes(quotes: SurfaceQuotes, loss: Loss, w: Array, slopes: Sequence[Array]) -> Sums:
    """Sums for total variances ``w`` (Q, N, B) with derivatives ``slopes`` by P parameters."""
    size = len(slopes)
    vol = jnp.sqrt(jnp.maximum(w, SMALLEST_VARIANCE) / quotes.years)
    gap = vol - quotes.target
    noise = jnp.where(gap > 0.0, quotes.above, quotes.below)
    value, first, second = loss(gap / noise)
    unit = 0.5 / (vol * quotes.years * noise)
    curve, pull = jnp.maximum(second, 0.0) * unit * unit, first * unit
    terms = [curve * slopes[i] * slopes[j] for i in range(size) for j in range(i + 1)]
    terms += [pull * slope for slope in slopes]
    terms.append(value)
    # One variadic reduction is fused with the products; one reduction each would store them all.
    zero = jnp.zeros((), w.dtype)
    sums = lax.reduce(tuple(terms), (zero,) * len(terms), _add, (0,))
    square = [sums[_place(i, j)] for i in range(size) for j in range(size)]
    triangle = size * (size + 1) // 2
    return Sums(
        sums[-1],
        jnp.stack(sums[triangle : triangle + size]),
        jnp.stack(square).reshape(size, size, *w.shape[1:]),
    )


def phased(loss: Loss, rough: Array) -> Loss:
    """The square loss in ``rough`` lanes (B,), ``loss`` in the others.

    A robust loss has valleys on the wrong side of which a poor start would stay.
    """

    def either(r: Array) -> tuple[Array, Array, Array]:
        value, first, second = loss(r)
        return (
            jnp.where(rough, 0.5 * r * r, value),
            jnp.where(rough, r, first),
            jnp.where(rough, 1.0, second),
        )

    return either


def _add(left: tuple[Array, ...], right: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(x + y for x, y in zip(left, right, strict=True))


def _place(i: int, j: int) -> int:
    """Where (i, j) of a symmetric matrix lies in its lower triangle, row by row."""
    high, low = max(i, j), min(i, j)
    return high * (high + 1) // 2 + low
