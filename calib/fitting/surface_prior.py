"""What a surface is taken to be where its quotes say little: the last surface, else an eSSVI one.

Each slice's deviation from there is drawn toward zero, weakly, and toward the deviation of the
next expiry, so that a slice with a few quotes takes its shape from those beside it. What was
known of the last surface is added as a precision of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from calib.fitting.block_tridiagonal import eliminate, product
from calib.fitting.descent import Schedule
from calib.fitting.essvi_surface import fit_essvi, rough_essvi
from calib.fitting.joint import Prior
from calib.fitting.smile import LossName
from calib.fitting.surface_quotes import SurfaceQuotes
from calib.models import essvi, svi
from calib.models.model import PRIOR_SPREAD

_ROUGHLY = Schedule(cost=1e-2, max_steps=10)


class LastSurface(NamedTuple):
    """The last surfaces, carried to now, of the expiries that they have (``known``, (N, B)).

    ``parameters`` (5, N, B) and their ``covariance`` (5, 5, N, B), nan where unknown; ``drift``
    (5, N, B): variance by which coordinates, in spreads, may have moved since; ``superseded``
    (N, B): the share of the quotes behind them that is gone from the present ones.
    """

    known: Array
    parameters: Array
    covariance: Array
    drift: Array
    superseded: Array


def anchor_of(loss: LossName, coupling: float, quotes: SurfaceQuotes) -> Prior:
    """An eSSVI surface near the quotes; of unlinked expiries, each alone, read off its quotes."""
    rough = fit_essvi(loss, _ROUGHLY, quotes)
    prior: Prior = _anchor(rough.parameters, coupling, quotes)
    return prior


@jax.jit
def _anchor(fitted: Array, coupling: Array, quotes: SurfaceQuotes) -> Prior:
    linked = quotes.linked.any(axis=0)
    shape = jnp.where(linked, fitted, rough_essvi(quotes))
    return _around(svi.to_chart(essvi.to_svi(shape)), shape[0], coupling, quotes)


def _around(at: Array, theta: Array, coupling: Array, quotes: SurfaceQuotes) -> Prior:
    unit = jnp.ones_like(theta)
    spread = PRIOR_SPREAD * jnp.stack([unit, unit, unit, jnp.sqrt(theta), unit])
    nothing = jnp.zeros((5, *at.shape))
    return Prior(at, spread, nothing, coupling * quotes.linked)


@jax.jit
def remembered(last: LastSurface, coupling: Array, quotes: SurfaceQuotes, anchor: Prior) -> Prior:
    """The prior around the last surface, and around ``anchor`` for expiries that are new.

    The last surface's own precision C⁻¹ fades to (C + drift)⁻¹ and counts by the share of its
    quotes that the present ones no longer hold: those that they do hold speak for themselves, so
    that no quote counts twice, and quotes that did not move move nothing.
    """
    natural = jnp.where(last.known, last.parameters, svi.from_chart(anchor.coordinates))
    theta = svi.total_variance(natural, 0.0)
    at = jnp.where(last.known, svi.to_chart(natural), anchor.coordinates)
    prior = _around(at, theta, coupling, quotes)
    _, push = jax.linearize(svi.from_chart, prior.coordinates)
    units = jnp.eye(5)[:, :, None, None] * prior.spread
    chart = jax.vmap(push, out_axes=1)(units)
    eye = jnp.broadcast_to(jnp.eye(5)[:, :, None, None], chart.shape)
    there = eliminate_general(chart, eye)
    spread = product(product(there, last.covariance), there.swapaxes(0, 1))
    spread = spread + jnp.eye(5)[:, :, None, None] * last.drift
    good = last.known & (last.superseded > 0.0) & jnp.isfinite(spread).all(axis=(0, 1))
    safe = jnp.where(good, spread, eye)
    precision = eliminate(jnp.concatenate([safe, eye], axis=1))
    precision = 0.5 * (precision + precision.swapaxes(0, 1)) * last.superseded
    return prior._replace(memory=jnp.where(good, precision, 0.0))


def eliminate_general(matrix: Array, right: Array) -> Array:
    """matrix⁻¹·right of (P, P, …) and (P, R, …): any regular matrix, not only positive definite."""
    solved = jnp.linalg.solve(jnp.moveaxis(matrix, (0, 1), (-2, -1)), jnp.moveaxis(right, (0, 1), (-2, -1)))
    return jnp.moveaxis(solved, (-2, -1), (0, 1))
