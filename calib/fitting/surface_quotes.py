"""Quotes of whole surfaces side by side, and the sums over them that a fit needs.

The quotes of an expiry lie in strips of `STRIP` quotes, as many as it takes, so that an expiry with
seventy quotes costs its neighbour with ten no padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from calib.fitting.least_squares import Loss, sum_rows, triangle_place
from calib.fitting.rough_smile import LEAST_VARIANCE, read_off
from calib.models.model import RoughSmile

STRIP = 16


class SurfaceQuotes(NamedTuple):
    """B surfaces of N expiries, their quotes in C strips of Q.

    ``k``, ``target``, ``above``, ``below`` (Q, C, B): log-moneyness, the mid vol or the bound of a
    one-sided quote, and the noise that counts for a model vol above or below it, infinite where
    being there costs nothing (the free side of a bound) and for padding, which repeats a valid
    quote: a nan would poison its lane. ``owner`` (C, B): the expiry of a strip.
    ``years`` (N, B); ``present`` (N, B): expiries that there are, all before those that pad;
    ``linked`` (N, B): expiries whose total variance may nowhere exceed the following one's.
    """

    k: Array
    target: Array
    above: Array
    below: Array
    owner: Array
    years: Array
    present: Array
    linked: Array

    def spread(self, values: Array) -> Array:
        """Values by expiry (…, N, B) at each strip: (…, C, B)."""
        owner = jnp.broadcast_to(self.owner, (*values.shape[:-2], *self.owner.shape))
        return jnp.take_along_axis(values, owner, axis=-2)

    def total(self, strips: Array) -> Array:
        """Sums (T, N, B) over the strips (T, C, B) of each expiry."""
        # A matrix product: as a masked sum over strips it takes twice the time.
        return jnp.einsum("ncb,tcb->tnb", self._mine().astype(strips.dtype), strips)

    def least(self, strips: Array) -> Array:
        """The least value of the strips (C, B) of each expiry, (N, B); infinite without any."""
        return jnp.min(jnp.where(self._mine(), strips, jnp.inf), axis=1)

    def quoted_range(self) -> tuple[Array, Array]:
        """The least and the greatest k that is quoted at each expiry, (N, B) each; padding repeats
        the last expiry."""
        quoted = jnp.isfinite(self.above) | jnp.isfinite(self.below)
        low = self.least(jnp.where(quoted, self.k, jnp.inf).min(axis=0))
        high = -self.least(jnp.where(quoted, -self.k, jnp.inf).min(axis=0))
        return self.padded(low), self.padded(high)

    def padded(self, values: Array) -> Array:
        """Values (…, N, B) with those of the last expiry that there is in place of the padding."""
        number, lanes = self.present.shape
        last = jnp.sum(self.present, axis=0) - 1
        source = jnp.minimum(jnp.arange(number)[:, None], last)
        where = jnp.broadcast_to(source, (*values.shape[:-2], number, lanes))
        return jnp.take_along_axis(values, where, axis=-2)

    def _mine(self) -> Array:
        """Whether expiry n owns strip c, (N, C, B)."""
        return self.owner == jnp.arange(self.years.shape[0])[:, None, None]


class Sums(NamedTuple):
    """Over the quotes of every expiry: ρ (N, B), Jᵀρ′ (P, N, B) and Jᵀρ″J (P, P, N, B)."""

    cost: Array
    gradient: Array
    matrix: Array


def sum_quotes(quotes: SurfaceQuotes, loss: Loss, w: Array, slopes: Sequence[Array]) -> Sums:
    """Sums for total variances ``w`` (Q, C, B) with derivatives ``slopes`` by P parameters."""
    size = len(slopes)
    vol, noise = _against(quotes, w)
    value, first, second = loss((vol - quotes.target) / noise)
    # Infinite noise last: its derivatives are then zeros.
    unit = 0.5 / (vol * quotes.spread(quotes.years)) / noise
    curve, pull = jnp.maximum(second, 0.0) * unit * unit, first * unit
    terms = [curve * slopes[i] * slopes[j] for i in range(size) for j in range(i + 1)]
    terms += [pull * slope for slope in slopes]
    terms.append(value)
    sums = quotes.total(jnp.stack(sum_rows(terms)))
    square = [sums[triangle_place(i, j)] for i in range(size) for j in range(size)]
    triangle = size * (size + 1) // 2
    return Sums(
        sums[-1],
        sums[triangle : triangle + size],
        jnp.stack(square).reshape(size, size, *quotes.years.shape),
    )


def pulls(quotes: SurfaceQuotes, loss: Loss, w: Array) -> Array:
    """Derivatives −ρ′(r)/noise (Q, C, B) of a surface's cost by its targets."""
    vol, noise = _against(quotes, w)
    _, first, _ = loss((vol - quotes.target) / noise)
    return -first / noise


def _against(quotes: SurfaceQuotes, w: Array) -> tuple[Array, Array]:
    """The model's vols (Q, C, B), and the noise of the quotes on their side."""
    vol = jnp.sqrt(jnp.maximum(w, LEAST_VARIANCE) / quotes.spread(quotes.years))
    return vol, jnp.where(vol > quotes.target, quotes.above, quotes.below)


def rough_smiles(quotes: SurfaceQuotes) -> RoughSmile:
    """ATM variance and skew of every expiry, (N, B), read off its quotes; padding repeats the
    last expiry."""

    def total(values: Array) -> Array:
        return quotes.total(values.sum(axis=0)[None])[0]

    def least(values: Array) -> Array:
        return quotes.least(values.min(axis=0))

    rough = read_off(
        quotes.k, quotes.target, quotes.above, quotes.below, quotes.years, total, least,
        quotes.spread,
    )  # fmt: skip
    return RoughSmile(*(quotes.padded(part) for part in rough))
