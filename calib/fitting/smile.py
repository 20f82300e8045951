"""The fit of a batch of smiles: residuals, loss and prior, and what comes out of the solver."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from calib.conventions import Floats
from calib.fitting.least_squares import Loss, Prior, Solution, Tolerances, solve, square_loss
from calib.fitting.rough_smile import LEAST_VARIANCE, read_off
from calib.fitting.universe import Batch
from calib.models.model import Model, RoughSmile
from calib.states import FitState

INSIDE = 0.04
"""Curvature of DEAD_ZONE at the mid: what is left of a square loss inside the spread."""

EDGE = 0.8
"""Where DEAD_ZONE turns from nearly free to linear, in half-spreads: a little inside the spread, so
that the pull of a quote sets in before the surface leaves it."""


class LossName(StrEnum):
    """How a residual r, in half-spreads, counts.

    SQUARE: ½r². SOFT_L1: √(1+r²) − 1, linear far out. DEAD_ZONE: e((1 + (r/e)⁴)^¼ − 1) +
    0.04·SOFT_L1 with e = 0.8, nearly free inside the spread, linear far out.
    """

    SQUARE = "square"
    SOFT_L1 = "soft_l1"
    DEAD_ZONE = "dead_zone"


class SmileFits(NamedTuple):
    """Fits of B lanes: ``parameters`` (P, B), their ``covariance`` (P, P, B) under the stated
    noise, ``state`` and ``steps`` (B,)."""

    parameters: Floats
    covariance: Floats
    state: NDArray[np.int64]
    steps: NDArray[np.int64]


def fit_smiles(
    model: Model, loss: LossName, tolerances: Tolerances, batch: Batch, warm: Floats
) -> SmileFits:
    """Fit every lane of the batch.

    ``warm``: coordinates (P, B) to start from, nan in lanes that have none. The pull of the prior
    is toward the start read off the quotes in either case, so that where a fit starts does not
    change where it ends. The covariance is the inverse of JᵀJ, with rows divided by the noise and
    with the prior's, carried to the parameters by the chart's Jacobian.
    """
    with jax.enable_x64(True):
        solution = _fit(
            model,
            loss,
            tolerances,
            batch.k,
            batch.target,
            batch.above,
            batch.below,
            batch.years,
            warm,
        )
        natural = _natural(model, solution.coordinates, solution.information)
        parameters, covariance = (np.asarray(part) for part in natural)
    state = np.asarray(solution.state)
    broken = ~np.isfinite(parameters).all(axis=0)
    state = np.where(broken, int(FitState.NON_FINITE), state)
    return SmileFits(parameters, covariance, state, np.asarray(solution.steps))


@partial(jax.jit, static_argnums=(0, 1, 2))
def _fit(
    model: Model,
    loss: LossName,
    tolerances: Tolerances,
    k: Array,
    target: Array,
    above: Array,
    below: Array,
    years: Array,
    warm: Array,
) -> Solution:
    anchor, spread = model.start(rough_smile(k, target, above, below, years))
    cold = ~jnp.isfinite(warm).all(axis=0)
    start = jnp.where(cold, anchor, warm)

    def residual(q: Array) -> Array:
        w = model.total_variance(model.from_chart(q), k, years)
        gap = jnp.sqrt(jnp.maximum(w, LEAST_VARIANCE) / years) - target
        return gap / jnp.where(gap > 0.0, above, below)

    prior = Prior(anchor, spread**-2.0)
    return solve(residual, loss_named(loss), start, prior, tolerances, cold)


@partial(jax.jit, static_argnums=0)
def _natural(model: Model, q: Array, information: Array) -> tuple[Array, Array]:
    """Parameters, and their covariance D N⁻¹ Dᵀ with D the Jacobian of the chart, lane by lane."""
    size, lanes = q.shape
    parameters, push = jax.linearize(model.from_chart, q)
    basis = jnp.eye(size)
    columns = [push(jnp.broadcast_to(basis[:, i, None], (size, lanes))) for i in range(size)]
    jacobian = jnp.stack(columns, axis=1)  # (parameters, coordinates, lanes)
    inverse = jnp.linalg.inv(jnp.moveaxis(information, -1, 0))
    return parameters, jnp.einsum("pib,bij,qjb->pqb", jacobian, inverse, jacobian)


def loss_named(name: LossName) -> Loss:
    """The loss with its derivatives; see :class:`LossName`."""
    match name:
        case LossName.SQUARE:
            return square_loss
        case LossName.SOFT_L1:
            return _soft_l1
        case LossName.DEAD_ZONE:
            return _dead_zone


def _soft_l1(r: Array) -> tuple[Array, Array, Array]:
    # ρ = r²/(1+s) is √(1+r²) − 1 without cancellation.
    s = jnp.sqrt(1.0 + r * r)
    return r * r / (1.0 + s), r / s, 1.0 / (s * s * s)


def _dead_zone(r: Array) -> tuple[Array, Array, Array]:
    x = r / EDGE
    square = x * x
    inner = 1.0 + square * square
    root = jnp.sqrt(jnp.sqrt(inner))
    value, first, second = _soft_l1(r)
    return (
        EDGE * (root - 1.0) + INSIDE * value,
        square * x * root / inner + INSIDE * first,
        3.0 / EDGE * square * root / (inner * inner) + INSIDE * second,
    )


def rough_smile(k: Array, target: Array, above: Array, below: Array, years: Array) -> RoughSmile:
    """ATM variance and skew of each lane, see `read_off`; arguments as in :class:`Batch`."""
    return read_off(
        k,
        target,
        above,
        below,
        years,
        total=lambda values: values.sum(axis=0),
        least=lambda values: values.min(axis=0),
        spread=lambda values: values,
    )
