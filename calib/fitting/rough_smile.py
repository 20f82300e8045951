"""What can be read off quotes without a fit: where a fit starts."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from calib.models.model import RoughSmile

LEAST_VARIANCE = 1e-12


def read_off(
    k: Array,
    target: Array,
    above: Array,
    below: Array,
    years: Array,
    total: Callable[[Array], Array],
    least: Callable[[Array], Array],
    spread: Callable[[Array], Array],
) -> RoughSmile:
    """ATM variance and skew of each smile by a straight line through w(k), nearest quotes first.

    ``k``, ``target``, ``above`` and ``below`` by quote as in
    `calib.fitting.surface_quotes.SurfaceQuotes`, ``years`` by smile. ``total`` and ``least`` sum
    and minimise over the quotes of each smile, ``spread`` brings a smile's value to its quotes.
    Quotes count by a Gaussian of one ATM standard deviation in k; bounds count only where a smile
    has nothing else. A smile without quotes comes back nan.
    """
    both = jnp.isfinite(above) & jnp.isfinite(below)
    either = jnp.isfinite(above) | jnp.isfinite(below)
    good = jnp.where(spread(total(1.0 * both)) > 0.0, both, either)
    w = target * target * spread(years)
    distance = jnp.where(good, jnp.abs(k), jnp.inf)
    nearest = 1.0 * (good & (distance == spread(least(distance))))
    count = total(nearest)
    k_near = total(nearest * k) / count
    w_near = jnp.maximum(total(nearest * w) / count, LEAST_VARIANCE)
    away = k - spread(k_near)
    weight = good * jnp.exp(-0.5 * away * away / spread(w_near))
    weights = total(weight)
    k_mean, w_mean = total(weight * k) / weights, total(weight * w) / weights
    dk = k - spread(k_mean)
    # A little shrinkage toward no skew: one or two quotes do not make a slope.
    width = total(weight * dk * dk) + 0.1 * w_near
    skew = total(weight * dk * (w - spread(w_mean))) / width
    theta = jnp.clip(w_mean - skew * k_mean, 0.25 * w_mean, 4.0 * w_mean)
    return RoughSmile(jnp.maximum(theta, LEAST_VARIANCE), skew, years)
