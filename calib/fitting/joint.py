"""A model over all expiries at once: data, prior and no-arbitrage conditions in one damped descent.

Minimises Σ ρ(r) + prior + ½W²Σ min(c, 0)² over the chart coordinates of all slices, c the rows of
`calib.fitting.constraints`, with W raised from level to level. A step is the minimum of the
model in which residuals and conditions are linear, found by a few Newton steps on its active
set, so that a condition that the step would break holds it back before it does. The normal matrix
is block-tridiagonal in expiries. A surface that keeps its conditions can be fitted on at a weight
at which little is left to pay for breaking them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from calib.conventions import Floats
from calib.fitting.block_tridiagonal import (
    BlockTridiagonal,
    inverse_diagonal,
    product,
    solve_block_tridiagonal,
)
from calib.fitting.constraints import Rows, sabr_conditions, svi_conditions
from calib.fitting.descent import Schedule, descend
from calib.fitting.least_squares import Loss, phased, square_loss
from calib.fitting.smile import LossName, loss_named
from calib.fitting.surface_quotes import Sums, SurfaceQuotes, pulls, sum_quotes
from calib.models import sabr, svi
from calib.models.model import model_named
from calib.states import ModelName

_LEAST_SCALE = 0.01
"""Damping of what nothing holds, in units of the prior's precision."""

_SURPRISING = 5.0
"""Squared distance from memory, in its own standard deviations, from which it counts less and less:
what five coordinates come to when nothing has jumped."""

_HALVINGS, _ROUNDING = 30, 1e-9

_USUAL = 2.0 * 40.0 / 0.01**2
"""Information, above and below, of forty quotes of a vol point's half-spread each."""


class JointModel(NamedTuple):
    """A model as a joint fit needs it: ``total_variance`` and ``parameter_gradient`` of
    (parameters, k, years), the chart's map ``from_chart`` from P coordinates to parameters, and
    its no-arbitrage ``conditions``. One object a model: compiled fits are kept by its identity."""

    from_chart: Callable[[Array], Array]
    total_variance: Callable[[Array, Array, Array], Array]
    parameter_gradient: Callable[[Array, Array, Array], Sequence[Array]]
    conditions: Callable[[Array, Array, SurfaceQuotes], Rows]


JOINT_SVI = JointModel(svi.from_chart, svi.total_variance, svi.parameter_gradient, svi_conditions)


@cache
def joint_sabr(beta: float) -> JointModel:
    """SABR with its elasticity fixed."""
    from_chart = model_named(ModelName.SABR, beta=beta).from_chart
    return JointModel(from_chart, sabr.total_variance, sabr.parameter_gradient, sabr_conditions)


class Penalty(NamedTuple):
    """W of each level, the first of which counts residuals by their squares; the ``strict`` one,
    at which a fit goes on from a surface that keeps its conditions; and how many Newton steps at
    most find the active conditions of a move."""

    weights: tuple[float, ...]
    strict: float = 3e5
    inner: int = 8


class Prior(NamedTuple):
    """What a surface is taken to be before its quotes are seen, in chart coordinates (P, N, B).

    ``anchor`` (3, N, B): an eSSVI smile; its ``coordinates``, with the ``spread`` (one standard
    deviation) about them;
    ``memory`` (P, P, N, B): the precision, in spreads, of what is remembered of the last surface,
    and ``last`` (P, N, B): where that was, in spreads from the anchor;
    ``coupling`` (N, B): the precision of the difference between an expiry's deviation, in spreads,
    and the following one's.
    """

    anchor: Array
    coordinates: Array
    spread: Array
    memory: Array
    last: Array
    coupling: Array


class Joint(NamedTuple):
    """Where a fit ended.

    ``parameters`` with their ``covariance``, expiries and lanes last: the inverse of the stated
    information, that of the quotes, whatever the loss, and of the prior. ``own`` and ``memory``
    (N, B): the shares of a slice's P coordinates that its own quotes, and the last surface,
    decide: tr(ΣJᵀJ)/P and tr(Σ·memory)/P with Σ the covariance; what is left of 1 is its
    neighbours' and the anchor's. ``steps``, ``settled``, ``moved`` (B,).
    """

    parameters: Array
    covariance: Array
    own: Array
    memory: Array
    steps: Array
    settled: Array
    moved: Array


class _Point(NamedTuple):
    """A surface with its linear model: data and prior ``cost`` (B,), ``gradient`` (P, N, B),
    ``matrix`` (P, P, N, B), and the conditions' ``rows``, by coordinates in spreads."""

    cost: Array
    gradient: Array
    matrix: Array
    rows: Rows


class _JointProblem(NamedTuple):
    model: JointModel
    loss: LossName
    penalty: Penalty
    quotes: SurfaceQuotes
    prior: Prior
    scale: Array

    def point(self, at: Array, level: Array) -> _Point:
        parameters, chart = with_jacobian(self.model, self.prior, at)
        loss = phased(loss_named(self.loss), level == 0)
        sums = _sums(self.model, self.quotes, loss, parameters)
        turned = chart.swapaxes(0, 1)
        prior = _pull(self.prior, at)
        return _Point(
            sums.cost.sum(axis=0) + prior.cost,
            product(turned, sums.gradient[:, None])[:, 0] + prior.gradient,
            product(turned, product(sums.matrix, chart)) + prior.matrix,
            self.model.conditions(parameters, chart, self.quotes),
        )

    def cost(self, point: _Point, level: Array) -> Array:
        return point.cost + 0.5 * self.weight(level) * _broken(point.rows.own, point.rows.pair)

    def propose(self, point: _Point, level: Array, damping: Array) -> tuple[Array, Array]:
        scale = damping * (jnp.einsum("iinb->inb", point.matrix) + _LEAST_SCALE)
        weight = self.weight(level)
        return _model_step(self.penalty.inner, point, self.prior.coupling, weight, scale)

    def weight(self, level: Array) -> Array:
        weights = jnp.asarray((*self.penalty.weights, self.penalty.strict))
        return self.scale * weights[level] ** 2


def fit_joint(
    model: JointModel,
    loss: LossName,
    penalty: Penalty,
    schedule: Schedule,
    quotes: SurfaceQuotes,
    prior: Prior,
    start: Array | Floats | None = None,
) -> Joint:
    """Fit from the last surface, or from the anchor where there is none; or, at the strict weight,
    from a ``start`` in spreads (P, N, B) that is proved.

    From there the cost only falls, and little of it is left to pay for broken conditions; but where
    several were broken within their margins one may be beyond, so that the end is proved anew.
    """
    last = len(penalty.weights) - 1
    begin, levels = (prior.last, (0, last)) if start is None else (start, (last + 1, last + 1))
    joint: Joint = _fit(model, loss, penalty, schedule, quotes, prior, begin, levels)
    return joint


@partial(jax.jit, static_argnums=(0, 1, 2))
def _fit(
    model: JointModel,
    loss: LossName,
    penalty: Penalty,
    schedule: Schedule,
    quotes: SurfaceQuotes,
    prior: Prior,
    start: Array,
    levels: tuple[Array, Array],
) -> Joint:
    problem = _JointProblem(model, loss, penalty, quotes, prior, _insistence(quotes))
    end = descend(problem, levels, schedule, start)
    size = start.shape[0]
    parameters, chart = with_jacobian(model, prior, end.at)
    sums = _sums(model, quotes, square_loss, parameters)
    own = product(chart.swapaxes(0, 1), product(sums.matrix, chart))
    blocks = own + _pull(prior, end.at).matrix
    bond = -jnp.eye(size)[:, :, None, None] * prior.coupling
    inverse = inverse_diagonal(
        BlockTridiagonal(jnp.moveaxis(blocks, 2, 0), jnp.moveaxis(bond, 2, 0))
    )
    sigma = jnp.moveaxis(inverse, 0, 2)
    return Joint(
        parameters,
        product(product(chart, sigma), chart.swapaxes(0, 1)),
        jnp.einsum("ijnb,jinb->nb", sigma, own) / size,
        jnp.einsum("ijnb,jinb->nb", sigma, _in_force(prior, end.at)) / size,
        end.steps,
        end.settled,
        end.moved,
    )


def gradient(
    model: JointModel,
    loss: LossName,
    penalty: Penalty,
    quotes: SurfaceQuotes,
    prior: Prior,
    at: Array,
    level: Array,
    broken: tuple[Array, Array] | None = None,
) -> tuple[Array, tuple[Array, Array]]:
    """Derivatives (P, N, B), by coordinates in spreads, of what a fit minimises at a ``level`` (B,)
    of `Penalty`, the one behind the last being the strict one; and which conditions count there.

    ``broken``: those that count, (R, N, B) of each kind; None: those that are broken ``at``.
    """
    problem = _JointProblem(model, loss, penalty, quotes, prior, _insistence(quotes))
    point = problem.point(at, level)
    rows, weight = point.rows, problem.weight(level)
    counted = (rows.own < 0.0, rows.pair < 0.0) if broken is None else broken
    own, pair = weight * rows.own * counted[0], weight * rows.pair * counted[1]
    by_conditions = (
        (own[:, None] * rows.own_slope).sum(axis=0)
        + (pair[:, None] * rows.pair_first).sum(axis=0)
        + _later((pair[:, None] * rows.pair_second).sum(axis=0), 1)
    )
    return point.gradient + by_conditions, counted


def quote_pulls(
    model: JointModel, loss: LossName, quotes: SurfaceQuotes, prior: Prior, at: Array
) -> Array:
    """`calib.fitting.surface_quotes.pulls` ``at`` coordinates in spreads (P, N, B)."""
    parameters, _ = with_jacobian(model, prior, at)
    w = model.total_variance(quotes.spread(parameters), quotes.k, quotes.spread(quotes.years))
    return pulls(quotes, loss_named(loss), w)


def _sums(model: JointModel, quotes: SurfaceQuotes, loss: Loss, parameters: Array) -> Sums:
    spread, years = quotes.spread(parameters), quotes.spread(quotes.years)
    w = model.total_variance(spread, quotes.k, years)
    return sum_quotes(quotes, loss, w, model.parameter_gradient(spread, quotes.k, years))


def with_jacobian(model: JointModel, prior: Prior, at: Array) -> tuple[Array, Array]:
    """Parameters, and their derivatives (parameters, P, N, B) by coordinates in spreads."""
    q = prior.coordinates + prior.spread * at
    parameters, push = jax.linearize(model.from_chart, q)
    units = jnp.eye(at.shape[0])[:, :, None, None] * prior.spread
    return parameters, jax.vmap(push, out_axes=1)(units)


def _insistence(quotes: SurfaceQuotes) -> Array:
    """By how much the conditions of a surface have to weigh more, (B,): the information of its
    quotes, an expiry, against that of `_USUAL`: many tight quotes pull harder than few wide ones.
    """
    information = (quotes.above**-2.0 + quotes.below**-2.0).sum(axis=(0, 1))
    return jnp.maximum(1.0, information / (_USUAL * quotes.present.sum(axis=0)))


class _Pull(NamedTuple):
    cost: Array
    gradient: Array
    matrix: Array


def _pull(prior: Prior, at: Array) -> _Pull:
    """½Σ|z|² + ½Σ s·ln(1 + q/s) + ½Σ coupling·|zᵢ₊₁ − zᵢ|² with q = (z − last)ᵀmemory(z − last);
    of its matrix the diagonal blocks. Memory gives way where the market has jumped."""
    eye = jnp.eye(at.shape[0])[:, :, None, None]
    away = at - prior.last
    memory = _in_force(prior, at)
    recalled = product(memory, away[:, None])[:, 0]
    distance = (away * product(prior.memory, away[:, None])[:, 0]).sum(axis=0)
    surprise = 0.5 * _SURPRISING * jnp.log1p(distance / _SURPRISING)
    step = jnp.concatenate([at[:, 1:] - at[:, :-1], jnp.zeros_like(at[:, :1])], axis=1)
    force = prior.coupling * step
    bonds = prior.coupling + _later(prior.coupling, 0)
    return _Pull(
        0.5 * (at * at + force * step).sum(axis=(0, 1)) + surprise.sum(axis=0),
        at + recalled - force + _later(force, 1),
        memory + eye * (1.0 + bonds),
    )


def _in_force(prior: Prior, at: Array) -> Array:
    """The precision with which memory pulls at ``at``: less, the further that is from it."""
    away = at - prior.last
    distance = (away * product(prior.memory, away[:, None])[:, 0]).sum(axis=0)
    return prior.memory / (1.0 + distance / _SURPRISING)


def _broken(own: Array, pair: Array) -> Array:
    own, pair = jnp.minimum(own, 0.0), jnp.minimum(pair, 0.0)
    return (own * own).sum(axis=(0, 1)) + (pair * pair).sum(axis=(0, 1))


class _Active(NamedTuple):
    """A step of the search for a model's minimum: the conditions (R, N, B) that a move breaks, and
    that move (P, N, B), ``changed`` (B,) by the last of ``passes``."""

    own: Array
    pair: Array
    moves: Array
    passes: Array
    changed: Array


def _model_step(
    inner: int, point: _Point, coupling: Array, weight: Array, scale: Array
) -> tuple[Array, Array]:
    """The minimum of the model, and the fall of cost that it predicts.

    The model is quadratic, with damping, but for its conditions, which count where they are broken:
    convex, so that Newton's steps on the set of broken ones end at its minimum if none goes further
    than the model falls.
    """
    rows = point.rows
    eye = jnp.eye(scale.shape[0])[:, :, None, None]
    base = point.matrix + eye * scale
    bond = -eye * coupling

    def pulled(moves: Array) -> Array:
        """The Hessian of the quadratic part times moves."""
        across = coupling * jnp.concatenate([moves[:, 1:], jnp.zeros_like(moves[:, :1])], axis=1)
        back = _later(coupling * moves, 1)
        return product(base, moves[:, None])[:, 0] - across - back

    def newton(state: _Active) -> _Active:
        own, pair = weight * state.own, weight * state.pair
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
        target = jnp.moveaxis(solve_block_tridiagonal(blocks, jnp.moveaxis(right, 1, 0)), 0, 1)
        turn = target - state.moves
        share = _share(point, pulled, weight, state.moves, turn)
        moves = state.moves + jnp.where(state.changed, share, 0.0) * turn
        own_after, pair_after = _ahead(rows, moves)
        own_next, pair_next = own_after < 0.0, pair_after < 0.0
        changed = jnp.any(own_next != state.own, axis=(0, 1))
        changed |= jnp.any(pair_next != state.pair, axis=(0, 1)) | (share < 1.0)
        changed &= state.changed
        return _Active(own_next, pair_next, moves, state.passes + 1, changed)

    nothing = jnp.zeros_like(point.gradient)
    all_lanes = jnp.ones(scale.shape[-1], bool)
    first = _Active(rows.own < 0.0, rows.pair < 0.0, nothing, jnp.zeros((), jnp.int32), all_lanes)
    end = lax.while_loop(
        lambda state: jnp.any(state.changed) & (state.passes < inner), newton, first
    )
    moves = end.moves
    change = ((point.gradient + 0.5 * pulled(moves)) * moves).sum(axis=(0, 1))
    relief = _broken(rows.own, rows.pair) - _broken(*_ahead(rows, moves))
    return moves, 0.5 * weight * relief - change


def _share(
    point: _Point,
    pulled: Callable[[Array], Array],
    weight: Array,
    moves: Array,
    turn: Array,
) -> Array:
    """How far along a turn of the moves the model falls, (B,), 1 at most."""
    rows = point.rows
    own, pair = _ahead(rows, moves)
    own_turn, pair_turn = _along(rows, turn)
    slope = ((point.gradient + pulled(moves)) * turn).sum(axis=(0, 1))
    bend = (turn * pulled(turn)).sum(axis=(0, 1))

    def rise(share: Array) -> Array:
        met = (jnp.minimum(own + share * own_turn, 0.0) * own_turn).sum(axis=(0, 1))
        met += (jnp.minimum(pair + share * pair_turn, 0.0) * pair_turn).sum(axis=(0, 1))
        return slope + share * bend + weight * met

    def halve(_: int, between: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = between
        middle = 0.5 * (low + high)
        falls = rise(middle) <= 0.0
        return jnp.where(falls, middle, low), jnp.where(falls, high, middle)

    nothing, whole = jnp.zeros_like(slope), jnp.ones_like(slope)
    reached, _ = lax.fori_loop(0, _HALVINGS, halve, (nothing, whole))
    is_whole = rise(whole) <= _ROUNDING * jnp.abs(rise(nothing))
    return jnp.where(is_whole, whole, reached)


def _along(rows: Rows, moves: Array) -> tuple[Array, Array]:
    """What moves add to the conditions in the linear model."""
    following = jnp.concatenate([moves[:, 1:], moves[:, -1:]], axis=1)
    pair = (rows.pair_first * moves + rows.pair_second * following).sum(axis=1)
    return (rows.own_slope * moves).sum(axis=1), pair


def _ahead(rows: Rows, moves: Array) -> tuple[Array, Array]:
    """The conditions after linear moves."""
    own, pair = _along(rows, moves)
    return rows.own + own, rows.pair + pair


def _outer(left: Array, right: Array) -> Array:
    """Σ over rows of leftᵀright: (R, 5, N, B) twice to (P, P, N, B)."""
    return (left[:, :, None] * right[:, None]).sum(axis=0)


def _later(values: Array, axis: int) -> Array:
    """Shifted to the following expiry; the first gets zero."""
    first = jnp.zeros_like(lax.slice_in_dim(values, 0, 1, axis=axis))
    return jnp.concatenate([first, lax.slice_in_dim(values, 0, -1, axis=axis)], axis=axis)
