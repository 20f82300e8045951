"""SVI over all expiries at once: data, prior and no-arbitrage conditions in one damped descent.

Minimises Σ ρ(r) + prior + ½W²Σ min(c, 0)² over the chart coordinates of all slices, c the rows of
`calib.fitting.constraints`, with W raised from level to level. A step is the minimum of the
model in which residuals and conditions are linear, found by a few Newton steps on its active
set, so that a condition that the step would break holds it back before it does. The normal matrix
is block-tridiagonal in expiries.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from calib.fitting.block_tridiagonal import BlockTridiagonal, product, solve_block_tridiagonal
from calib.fitting.constraints import Rows, condition_rows
from calib.fitting.descent import Schedule, descend
from calib.fitting.smile import LossName, loss_named
from calib.fitting.surface_quotes import SurfaceQuotes, phased, sum_quotes
from calib.models import svi

_LEAST_SCALE = 0.01
"""Damping of what nothing holds, in units of the prior's precision."""


class Penalty(NamedTuple):
    """W of each level, the first of which counts residuals by their squares, and how many Newton
    steps find the active conditions of a move."""

    weights: tuple[float, ...]
    inner: int = 3


class Anchor(NamedTuple):
    """The prior: ``coordinates`` of the chart with the ``spread`` (one standard deviation) about
    them, (5, N, B), and ``coupling`` (N, B): the precision of the difference between an expiry's
    deviation, in spreads, and the following one's."""

    coordinates: Array
    spread: Array
    coupling: Array


class Joint(NamedTuple):
    """``parameters``, ``coordinates`` (5, N, B); ``steps``, ``settled``, ``moved`` (B,)."""

    parameters: Array
    coordinates: Array
    steps: Array
    settled: Array
    moved: Array


class _Point(NamedTuple):
    """A surface with its linear model: data and prior ``cost`` (B,), ``gradient`` (5, N, B),
    ``matrix`` (5, 5, N, B), and the conditions' ``rows``, by coordinates in spreads."""

    cost: Array
    gradient: Array
    matrix: Array
    rows: Rows


class _JointProblem(NamedTuple):
    loss: LossName
    weights: tuple[float, ...]
    inner: int
    quotes: SurfaceQuotes
    anchor: Anchor

    def point(self, at: Array, level: Array) -> _Point:
        parameters, chart = with_jacobian(self.anchor, at)
        w = svi.total_variance(parameters, self.quotes.k)
        slopes = svi.parameter_gradient(parameters, self.quotes.k)
        loss = phased(loss_named(self.loss), level == 0)
        sums = sum_quotes(self.quotes, loss, w, slopes)
        turned = chart.swapaxes(0, 1)
        prior = prior_of(self.anchor, at)
        rows = condition_rows(parameters, self.quotes.present, self.quotes.linked)
        after = jnp.concatenate([chart[:, :, 1:], chart[:, :, -1:]], axis=2)
        return _Point(
            sums.cost.sum(axis=0) + prior.cost,
            product(turned, sums.gradient[:, None])[:, 0] + prior.gradient,
            product(turned, product(sums.matrix, chart)) + prior.matrix,
            Rows(
                rows.own,
                product(rows.own_slope, chart),
                rows.pair,
                product(rows.pair_first, chart),
                product(rows.pair_second, after),
            ),
        )

    def cost(self, point: _Point, level: Array) -> Array:
        return point.cost + 0.5 * self._weight(level) * _broken(point.rows.own, point.rows.pair)

    def propose(self, point: _Point, level: Array, damping: Array) -> tuple[Array, Array]:
        scale = damping * (jnp.einsum("iinb->inb", point.matrix) + _LEAST_SCALE)
        weight = self._weight(level)
        moves, fall = _model_step(self.inner, point, self.anchor.coupling, weight, scale)
        return moves, fall

    def _weight(self, level: Array) -> Array:
        return jnp.asarray(self.weights)[level] ** 2


@partial(jax.jit, static_argnums=(0, 1))
def fit_joint(
    loss: LossName,
    penalty: Penalty,
    schedule: Schedule,
    quotes: SurfaceQuotes,
    anchor: Anchor,
    start: Array,
    level: Array,
) -> Joint:
    """Fit from ``start``, coordinates (5, N, B), each surface from its own ``level`` (B,)."""
    problem = _JointProblem(loss, penalty.weights, penalty.inner, quotes, anchor)
    at = (start - anchor.coordinates) / anchor.spread
    end = descend(problem, len(penalty.weights), schedule, at, level)
    q = anchor.coordinates + anchor.spread * end.at
    return Joint(svi.from_chart(q), q, end.steps, end.settled, end.moved)


def with_jacobian(anchor: Anchor, at: Array) -> tuple[Array, Array]:
    """Parameters (5, N, B), and their derivatives (5, 5, N, B) by coordinates in spreads."""
    q = anchor.coordinates + anchor.spread * at
    parameters, push = jax.linearize(svi.from_chart, q)
    units = jnp.eye(5)[:, :, None, None] * anchor.spread
    return parameters, jax.vmap(push, out_axes=1)(units)


class _Prior(NamedTuple):
    cost: Array
    gradient: Array
    matrix: Array


def prior_of(anchor: Anchor, at: Array) -> _Prior:
    """½Σ|z|² + ½Σ coupling·|zᵢ₊₁ − zᵢ|²; of its matrix the diagonal blocks."""
    step = jnp.concatenate([at[:, 1:] - at[:, :-1], jnp.zeros_like(at[:, :1])], axis=1)
    force = anchor.coupling * step
    stiffness = 1.0 + anchor.coupling + _later(anchor.coupling, 0)
    return _Prior(
        0.5 * (at * at + force * step).sum(axis=(0, 1)),
        at - force + _later(force, 1),
        jnp.eye(5)[:, :, None, None] * stiffness,
    )


def _broken(own: Array, pair: Array) -> Array:
    own, pair = jnp.minimum(own, 0.0), jnp.minimum(pair, 0.0)
    return (own * own).sum(axis=(0, 1)) + (pair * pair).sum(axis=(0, 1))


def _model_step(
    inner: int, point: _Point, coupling: Array, weight: Array, scale: Array
) -> tuple[Array, Array]:
    """The minimum of the linear-quadratic model with damping, and the fall of cost it predicts."""
    rows = point.rows
    eye = jnp.eye(5)[:, :, None, None]
    base = point.matrix + eye * scale
    bond = -eye * coupling

    def pass_(_: int, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        own_next, pair_next, _unused = state
        own = weight * (own_next < 0.0)
        pair = weight * (pair_next < 0.0)
        back = pair[:, None] * rows.pair_second
        own_weighted, first_weighted = (
            own[:, None] * rows.own_slope,
            pair[:, None] * rows.pair_first,
        )
        diagonal = (
            base
            + _outer(own_weighted, rows.own_slope)
            + _outer(first_weighted, rows.pair_first)
            + _later(_outer(back, rows.pair_second), 2)
        )
        upper = bond + _outer(first_weighted, rows.pair_second)
        right = -(
            point.gradient
            + (own_weighted * rows.own[:, None]).sum(axis=0)
            + (first_weighted * rows.pair[:, None]).sum(axis=0)
            + _later((back * rows.pair[:, None]).sum(axis=0), 1)
        )
        blocks = BlockTridiagonal(jnp.moveaxis(diagonal, 2, 0), jnp.moveaxis(upper, 2, 0))
        moves = jnp.moveaxis(solve_block_tridiagonal(blocks, jnp.moveaxis(right, 1, 0)), 0, 1)
        return (*_ahead(rows, moves), moves)

    state = (rows.own, rows.pair, jnp.zeros_like(point.gradient))
    own, pair, moves = lax.fori_loop(0, inner, pass_, state)
    quadratic = (moves * product(base, moves[:, None])[:, 0]).sum(axis=0)
    across = 2.0 * coupling[:-1] * (moves[:, 1:] * moves[:, :-1]).sum(axis=0)
    change = (point.gradient * moves).sum(axis=(0, 1)) + 0.5 * (
        quadratic.sum(axis=0) - across.sum(axis=0)
    )
    relief = _broken(rows.own, rows.pair) - _broken(own, pair)
    return moves, 0.5 * weight * relief - change


def _ahead(rows: Rows, moves: Array) -> tuple[Array, Array]:
    """The conditions after linear moves."""
    following = jnp.concatenate([moves[:, 1:], moves[:, -1:]], axis=1)
    own = rows.own + (rows.own_slope * moves).sum(axis=1)
    pair = rows.pair + (rows.pair_first * moves + rows.pair_second * following).sum(axis=1)
    return own, pair


def _outer(left: Array, right: Array) -> Array:
    """Σ over rows of leftᵀright: (R, 5, N, B) twice to (5, 5, N, B)."""
    return (left[:, :, None] * right[:, None]).sum(axis=0)


def _later(values: Array, axis: int) -> Array:
    """Shifted to the following expiry; the first gets zero."""
    first = jnp.zeros_like(lax.slice_in_dim(values, 0, 1, axis=axis))
    return jnp.concatenate([first, lax.slice_in_dim(values, 0, -1, axis=axis)], axis=axis)
