"""eSSVI over all expiries at once, inside the box in which every point is free of arbitrage.

The rows of an expiry know three parameters; the box's Jacobian carries their sums to all 3N
coordinates, so that the cost of a step is that of N small fits and one dense system.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from calib.fitting.descent import Descent, Schedule, descend
from calib.fitting.essvi_box import from_box, to_box
from calib.fitting.least_squares import Loss, phased, square_loss
from calib.fitting.smile import LossName, loss_named
from calib.fitting.surface_quotes import Sums, SurfaceQuotes, pulls, rough_smiles, sum_quotes
from calib.models import essvi
from calib.models.model import essvi_shape

_PULL = 0.04
"""Precision of the prior in the box's coordinates, logarithms and logits: factors of e⁵."""

SCHEDULE = Schedule(cost=1e-5)
_LEVELS = 2


class EssviSurface(NamedTuple):
    """``parameters`` (θ, ρ, ψ), (3, N, B); ``covariance`` (3, 3, N, B) of them;
    ``lean`` (N, B): the share of a smile's shape that its own quotes do not decide; ``steps``,
    ``settled``, ``moved`` (B,)."""

    parameters: Array
    covariance: Array
    lean: Array
    steps: Array
    settled: Array
    moved: Array


class _Point(NamedTuple):
    cost: Array
    gradient: Array
    normal: Array


class _BoxProblem(NamedTuple):
    """Coordinates (3, N, B) from a centre to which the prior pulls."""

    loss: LossName
    quotes: SurfaceQuotes
    centre: Array

    def point(self, at: Array, level: Array) -> _Point:
        loss = phased(loss_named(self.loss), level == 0)
        sums, jacobian = _sums(self.quotes, loss, at)
        _, n, lanes = at.shape
        flat = jacobian.reshape(3 * n, 3 * n, lanes)
        away = at - self.centre
        gradient = jnp.einsum("pib,pb->ib", flat, sums.gradient.reshape(3 * n, lanes))
        return _Point(
            sums.cost.sum(axis=0) + 0.5 * _PULL * (away * away).sum(axis=(0, 1)),
            gradient + _PULL * away.reshape(3 * n, lanes),
            _normal(sums, jacobian),
        )

    def cost(self, point: _Point, level: Array) -> Array:
        return point.cost

    def propose(self, point: _Point, level: Array, damping: Array) -> tuple[Array, Array]:
        scale = damping * jnp.diagonal(point.normal).T
        damped = point.normal + jnp.eye(scale.shape[0])[:, :, None] * scale
        moves = -jnp.linalg.solve(jnp.moveaxis(damped, -1, 0), point.gradient.T[:, :, None])[
            ..., 0
        ].T
        predicted = 0.5 * (moves * (scale * moves - point.gradient)).sum(axis=0)
        return moves.reshape(self.centre.shape), predicted


def _with_jacobian(at: Array) -> tuple[Array, Array]:
    """(θ, ρ, ψ) and their derivatives (3, N, 3N, B) by all coordinates of the same lane."""
    size = at.shape[0] * at.shape[1]
    parameters, push = jax.linearize(from_box, at)
    units = jnp.eye(size).reshape(size, *at.shape[:2], 1)
    columns = jax.vmap(push)(jnp.broadcast_to(units, (size, *at.shape)))
    return parameters, jnp.moveaxis(columns, 0, 2)


def rough_essvi(quotes: SurfaceQuotes) -> Array:
    """(θ, ρ, ψ) of each expiry, (3, N, B): a slice with about the level and skew that is seen."""
    return jnp.stack(essvi_shape(rough_smiles(quotes)))


@partial(jax.jit, static_argnums=0)
def fit_essvi(loss: LossName, schedule: Schedule, quotes: SurfaceQuotes) -> EssviSurface:
    """Fit surfaces of linked expiries, from a start read off the quotes."""
    end = _descended(loss, schedule, quotes)
    sums, jacobian = _sums(quotes, square_loss, end.at)
    inverse = jnp.linalg.inv(jnp.moveaxis(_normal(sums, jacobian), -1, 0))
    covariance = jnp.einsum("pnib,bij,qnjb->pqnb", jacobian, inverse, jacobian)
    lean = 1.0 - jnp.einsum("pqnb,qpnb->nb", covariance, sums.matrix) / 3.0
    return EssviSurface(
        from_box(end.at), covariance, jnp.clip(lean, 0.0, 1.0), end.steps, end.settled, end.moved
    )


@partial(jax.jit, static_argnums=0)
def essvi_parameters(loss: LossName, schedule: Schedule, quotes: SurfaceQuotes) -> Array:
    """(θ, ρ, ψ), (3, N, B), of the same fit, at a fifth less time for an anchor's rough one."""
    return from_box(_descended(loss, schedule, quotes).at)


def gradient(loss: LossName, quotes: SurfaceQuotes, centre: Array, at: Array) -> Array:
    """Derivatives (3, N, B), by coordinates of the box, of what a fit minimises at last."""
    level = jnp.full(at.shape[-1], _LEVELS - 1)
    return _BoxProblem(loss, quotes, centre).point(at, level).gradient.reshape(at.shape)


def quote_pulls(loss: LossName, quotes: SurfaceQuotes, at: Array) -> Array:
    """`calib.fitting.surface_quotes.pulls` ``at`` coordinates of the box (3, N, B)."""
    w = essvi.total_variance(quotes.spread(from_box(at)), quotes.k)
    return pulls(quotes, loss_named(loss), w)


def start_of(quotes: SurfaceQuotes) -> Array:
    """Coordinates (3, N, B) of the box to start from, and to be drawn toward."""
    theta, rho, psi = rough_essvi(quotes)
    # One ρ for all at the start: steps in ρ force total variance up.
    weight = quotes.present / jnp.maximum(theta, 1e-4)
    common = (weight * rho).sum(axis=0) / weight.sum(axis=0)
    return to_box(theta, jnp.broadcast_to(common, rho.shape), psi)


def _descended(loss: LossName, schedule: Schedule, quotes: SurfaceQuotes) -> Descent:
    start = start_of(quotes)
    problem = _BoxProblem(loss, quotes, start)
    return descend(problem, (0, _LEVELS - 1), schedule, start)


def _sums(quotes: SurfaceQuotes, loss: Loss, at: Array) -> tuple[Sums, Array]:
    """Sums over quotes by (θ, ρ, ψ), and the box's Jacobian (3, N, 3N, B)."""
    parameters, jacobian = _with_jacobian(at)
    spread = quotes.spread(parameters)
    w = essvi.total_variance(spread, quotes.k)
    return sum_quotes(quotes, loss, w, essvi.parameter_gradient(spread, quotes.k)), jacobian


def _normal(sums: Sums, jacobian: Array) -> Array:
    """The normal matrix (3N, 3N, B) by the box's coordinates, prior included."""
    size, lanes = jacobian.shape[2:]
    weighted = (sums.matrix[:, :, :, None] * jacobian[None]).sum(axis=1)
    flat, other = (t.reshape(size, size, lanes) for t in (jacobian, weighted))
    return jnp.einsum("pib,pjb->ijb", flat, other) + _PULL * jnp.eye(size)[:, :, None]
