"""What a surface is taken to be where its quotes say little: the last surface, else an eSSVI one.

Each slice's deviation from there is drawn toward zero, weakly, and toward the deviation of the
next expiry, so that a slice with a few quotes takes its shape from those beside it. What was
known of the last surface is added as a precision of its own.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from calib.fitting.block_tridiagonal import eliminate, product
from calib.fitting.descent import Schedule
from calib.fitting.essvi_surface import essvi_parameters, rough_essvi
from calib.fitting.joint import JOINT_SVI, Prior, with_jacobian
from calib.fitting.memory import Remembered
from calib.fitting.smile import LossName
from calib.fitting.surface_quotes import SurfaceQuotes
from calib.models import svi
from calib.models.model import PRIOR_SPREAD, svi_near

_ROUGHLY = Schedule(cost=1e-2, max_steps=10)


def anchor_of(loss: LossName, coupling: float, quotes: SurfaceQuotes) -> Prior:
    """An eSSVI surface near the quotes; of unlinked expiries, each alone, read off its quotes."""
    prior: Prior = _anchor(essvi_parameters(loss, _ROUGHLY, quotes), coupling, quotes)
    return prior


@jax.jit
def _anchor(fitted: Array, coupling: Array, quotes: SurfaceQuotes) -> Prior:
    linked = quotes.linked.any(axis=0)
    return _around(jnp.where(linked, fitted, rough_essvi(quotes)), coupling, quotes)


def _around(anchor: Array, coupling: Array, quotes: SurfaceQuotes) -> Prior:
    at, spread = svi_near(anchor)
    nothing = jnp.zeros_like(at)
    return Prior(anchor, at, spread, jnp.zeros((5, *at.shape)), nothing, coupling * quotes.linked)


@jax.jit
def remembered(last: Remembered, coupling: Array, quotes: SurfaceQuotes, fresh: Array) -> Prior:
    """The prior around the last surface's anchors, and around ``fresh`` ones, (θ, ρ, ψ) of shape
    (3, N, B), for expiries that are new; with what is known of the last surface.

    ``last``: arrays with expiries and lanes as last axes. Its precision C⁻¹ fades to
    (C + drift)⁻¹ and counts by the share of its quotes that the present ones no longer hold: those
    that they do hold speak for themselves, so that no quote counts twice, and quotes that did not
    move move nothing.
    """
    prior = _around(jnp.where(last.known, last.anchor, fresh), coupling, quotes)
    natural = jnp.where(last.known, last.parameters, svi.from_chart(prior.coordinates))
    there = (svi.to_chart(natural) - prior.coordinates) / prior.spread
    charted = jnp.isfinite(there).all(axis=0)  # or else it has wings that no coordinates reach
    there = jnp.where(charted, there, 0.0)
    eye = jnp.broadcast_to(jnp.eye(5)[:, :, None, None], (5, *there.shape))
    _, chart = with_jacobian(JOINT_SVI, prior, there)
    back = jnp.linalg.inv(jnp.moveaxis(chart, (0, 1), (-2, -1)))
    turn = jnp.moveaxis(back, (-2, -1), (0, 1))
    spread = product(product(turn, jnp.asarray(last.covariance)), turn.swapaxes(0, 1))
    spread = spread + eye * (last.drift / PRIOR_SPREAD**2)
    good = last.known & charted & (last.superseded > 0.0) & jnp.isfinite(spread).all(axis=(0, 1))
    precision = eliminate(jnp.concatenate([jnp.where(good, spread, eye), eye], axis=1))
    precision = 0.5 * (precision + precision.swapaxes(0, 1)) * last.superseded
    return prior._replace(last=there, memory=jnp.where(good, precision, 0.0))
