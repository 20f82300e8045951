"""What a surface is taken to be where its quotes say little: an eSSVI surface, and neighbours.

Each slice's deviation from the anchor is drawn toward zero, weakly, and toward the deviation of
the next expiry, so that a slice with a few quotes takes its shape from those beside it.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from calib.fitting.block_tridiagonal import product
from calib.fitting.descent import Schedule
from calib.fitting.essvi_surface import fit_essvi, rough_essvi
from calib.fitting.joint import Anchor, prior_of, with_jacobian
from calib.fitting.least_squares import square_loss
from calib.fitting.smile import LossName
from calib.fitting.surface_quotes import SurfaceQuotes, sum_quotes
from calib.models import essvi, svi
from calib.models.model import PRIOR_SPREAD

_ROUGHLY = Schedule(cost=1e-2, max_steps=10)


def anchor_of(loss: LossName, coupling: float, quotes: SurfaceQuotes) -> Anchor:
    """An eSSVI surface near the quotes; of unlinked expiries, each alone, read off its quotes."""
    rough = fit_essvi(loss, _ROUGHLY, quotes)
    anchor: Anchor = _anchor(rough.parameters, coupling, quotes)
    return anchor


@jax.jit
def _anchor(fitted: Array, coupling: Array, quotes: SurfaceQuotes) -> Anchor:
    linked = quotes.linked.any(axis=0)
    shape = jnp.where(linked, fitted, rough_essvi(quotes))
    coordinates = svi.to_chart(essvi.to_svi(shape))
    unit = jnp.ones_like(shape[0])
    spread = PRIOR_SPREAD * jnp.stack([unit, unit, unit, jnp.sqrt(shape[0]), unit])
    return Anchor(coordinates, spread, coupling * quotes.linked)


class Uncertainty(NamedTuple):
    """``covariance`` (5, 5, N, B) of the parameters; ``lean`` (N, B): the share of a slice's five
    coordinates that its own quotes do not decide, 1 − tr(Σ JᵀJ)/5 with
    rows divided by their noise."""

    covariance: Array
    lean: Array


@jax.jit
def uncertainty(quotes: SurfaceQuotes, anchor: Anchor, coordinates: Array) -> Uncertainty:
    """From the inverse of the stated information: that of the quotes, whatever the loss, and of
    the prior."""
    at = (coordinates - anchor.coordinates) / anchor.spread
    parameters, chart = with_jacobian(anchor, at)
    w = svi.total_variance(parameters, quotes.k)
    slopes = svi.parameter_gradient(parameters, quotes.k)
    sums = sum_quotes(quotes, square_loss, w, slopes)
    own = product(chart.swapaxes(0, 1), product(sums.matrix, chart))
    blocks = own + prior_of(anchor, at).matrix
    number, lanes = at.shape[1:]
    bond = jnp.concatenate([anchor.coupling[:-1], jnp.zeros_like(anchor.coupling[:1])])[:number]
    here, eye = jnp.eye(number), jnp.eye(5)
    above = jnp.eye(number, k=1)
    full = jnp.einsum("ijnb,nm->bnimj", blocks, here)
    across = jnp.einsum("ij,nb,nm->bnimj", -eye, bond, above)
    full = full + across + jnp.einsum("bnimj->bmjni", across)
    inverse = jnp.linalg.inv(full.reshape(lanes, 5 * number, 5 * number))
    inverse = inverse.reshape(lanes, number, 5, number, 5)
    sigma = jnp.einsum("bninj->ijnb", inverse)
    lean = 1.0 - jnp.einsum("ijnb,jinb->nb", sigma, own) / 5.0
    return Uncertainty(
        product(product(chart, sigma), chart.swapaxes(0, 1)), jnp.clip(lean, 0.0, 1.0)
    )
