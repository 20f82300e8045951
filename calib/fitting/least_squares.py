"""One damped least-squares solver for many small problems at once, inside one `jit`.

Lanes are problems and lie on the last axis, rows on the axis before. A problem brings a residual
function, differentiated forward by JAX, and a loss of one residual with its two derivatives: the
step is Gauss–Newton in the residual and Newton in the loss, without which a robust loss takes
twice the steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array, lax

from calib.fitting.block_tridiagonal import eliminate
from calib.states import FitState

Coordinates: TypeAlias = Array
"""Coordinates of P parameters in B lanes, shape (P, B)."""

Residual: TypeAlias = Callable[[Coordinates], Array]
"""Rows of residuals, shape (Q, B), of coordinates of shape (P, B)."""

Loss: TypeAlias = Callable[[Array], tuple[Array, Array, Array]]
"""ρ, ρ′ and ρ″ of residuals, elementwise; ρ″ is cut at 0. The square loss is ½r², r, 1."""

_SHRINK, _GROW = 0.1, 2.0
_LARGEST_DAMPING = 1e12


class Prior(NamedTuple):
    """Quadratic pull on each coordinate: rows √precision·(q − mean). Both of shape (P, B)."""

    mean: Array
    precision: Array


class Tolerances(NamedTuple):
    """When a lane is done: its next step is predicted to lower the cost by less than ``cost``
    times the cost, or to move no coordinate by more than ``step``; at most ``max_steps`` tries.
    ``rough_cost`` takes the place of ``cost`` in the first phase of a cold start."""

    cost: float = 1e-6
    step: float = 1e-8
    rough_cost: float = 1e-2
    max_steps: int = 120


class Solution(NamedTuple):
    """Where each lane ended.

    ``coordinates`` (P, B); ``state`` (B,) as numbers of :class:`FitState`; ``steps`` (B,) tries;
    ``cost`` (B,): sum of losses and of half the prior's squares; ``information`` (P, P, B): JᵀJ
    plus the prior's precision there, whatever the loss: the inverse of a covariance.
    """

    coordinates: Array
    state: Array
    steps: Array
    cost: Array
    information: Array


class _Normal(NamedTuple):
    """Jᵀρ″J (P, P, B), Jᵀρ′ (P, B) and Σρ (B,) of every lane, prior included."""

    matrix: Array
    gradient: Array
    cost: Array


class _Loop(NamedTuple):
    at: Array
    normal: _Normal
    damping: Array
    growth: Array
    rough: Array
    accepted: Array
    done: Array
    steps: Array


def solve(
    residual: Residual,
    loss: Loss,
    start: Coordinates,
    prior: Prior,
    tolerances: Tolerances,
    cold: Array,
) -> Solution:
    """Minimise Σ ρ(residual(q)) + ½Σ precision·(q − mean)² in every lane, from ``start``.

    Levenberg–Marquardt with Marquardt's diagonal scaling; the damping follows the gain ratio
    (Nielsen 1999). A ``cold`` lane (B,) first descends under the square loss: a robust one has
    valleys on the wrong side of which a poor start would stay. Lanes run in lock-step, finished
    ones frozen. A lane whose start is not finite ends NON_FINITE, one in which no step was ever
    accepted (and that did not start at its minimum) NO_STEP_ACCEPTED.
    """
    lanes = start.shape[1]

    def normal_at(q: Array, rough: Array) -> _Normal:
        return _normal(residual, phased(loss, rough), q, prior)

    # Nothing is known at the start but its place: an infinite cost that any finite one betters.
    nothing = jnp.zeros(lanes)
    size = start.shape[0]
    unknown = _Normal(
        jnp.broadcast_to(jnp.eye(size)[:, :, None], (size, size, lanes)),
        jnp.zeros_like(start),
        nothing + jnp.inf,
    )
    first = _Loop(
        at=start,
        normal=unknown,
        damping=nothing + 1e-2,
        growth=nothing + _GROW,
        rough=cold,
        accepted=jnp.zeros(lanes, bool),
        done=jnp.zeros(lanes, bool),
        steps=jnp.zeros(lanes, jnp.int32),
    )

    def unfinished(loop: _Loop) -> Array:
        return jnp.any(~loop.done)

    def step(loop: _Loop) -> _Loop:
        return _step(normal_at, tolerances, loop)

    end = lax.while_loop(unfinished, step, first)
    lost = jnp.isinf(end.normal.cost)
    late = end.steps >= tolerances.max_steps
    failed = ~end.accepted & (late | (end.damping >= _LARGEST_DAMPING))
    code = jnp.select(
        [lost, failed, late],
        [FitState.NON_FINITE, FitState.NO_STEP_ACCEPTED, FitState.STEP_LIMIT],
        FitState.CONVERGED,
    )
    information = _normal(residual, square_loss, end.at, prior).matrix
    return Solution(end.at, code, end.steps, end.normal.cost, information)


def square_loss(r: Array) -> tuple[Array, Array, Array]:
    """½r² and its derivatives."""
    return 0.5 * r * r, r, jnp.ones_like(r)


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


def _step(
    normal_at: Callable[[Array, Array], _Normal], tolerances: Tolerances, loop: _Loop
) -> _Loop:
    """One try in every lane: step, look, take it or damp more; then what that means for it."""
    # A lane enters a phase with an infinite cost and no gradient: its first try stays in place.
    entering = jnp.isinf(loop.normal.cost)
    scale = jnp.diagonal(loop.normal.matrix).T * loop.damping
    moves = _damped_step(loop.normal, scale)
    predicted = 0.5 * jnp.sum(moves * (scale * moves - loop.normal.gradient), axis=0)
    at = loop.at + moves
    normal = normal_at(at, loop.rough)
    better = _finite(normal) & (normal.cost <= loop.normal.cost)
    take = better & ~loop.done
    gain = (loop.normal.cost - normal.cost) / jnp.where(predicted > 0.0, predicted, 1.0)
    shrink = jnp.clip(1.0 - (2.0 * gain - 1.0) ** 3, _SHRINK, _GROW)
    damping = jnp.where(
        better, jnp.maximum(loop.damping * shrink, 1e-12), loop.damping * loop.growth
    )
    damping = jnp.where(entering, loop.damping, damping)
    steps = loop.steps + jnp.where(loop.done, 0, 1).astype(loop.steps.dtype)

    # Settled: a step that was small while lightly damped has been tried.
    fraction = jnp.where(loop.rough, tolerances.rough_cost, tolerances.cost)
    small = (predicted <= fraction * loop.normal.cost) | (
        jnp.max(jnp.abs(moves), axis=0) <= tolerances.step
    )
    settled = small & ~entering & (better | (loop.damping <= 1.0))
    stuck = ~better & (entering | (loop.damping * loop.growth >= _LARGEST_DAMPING))
    turning = loop.rough & settled & ~loop.done
    kept = jax.tree.map(lambda new, old: jnp.where(take, new, old), normal, loop.normal)
    return _Loop(
        at=jnp.where(take, at, loop.at),
        normal=_Normal(
            kept.matrix,
            jnp.where(turning, 0.0, kept.gradient),
            jnp.where(turning, jnp.inf, kept.cost),
        ),
        damping=jnp.where(loop.done, loop.damping, jnp.minimum(damping, _LARGEST_DAMPING)),
        growth=jnp.where(loop.done, loop.growth, jnp.where(better, _GROW, 2.0 * loop.growth)),
        rough=loop.rough & ~turning,
        accepted=loop.accepted | (take & ~entering),
        done=loop.done | (settled & ~loop.rough) | stuck | (steps >= tolerances.max_steps),
        steps=steps,
    )


def _normal(residual: Residual, loss: Loss, at: Array, prior: Prior) -> _Normal:
    """Normal equations of the rows by forward-mode derivatives, plus those of the prior."""
    size = at.shape[0]
    rows, push = jax.linearize(residual, at)
    basis = jnp.eye(size, dtype=at.dtype)
    columns = [push(jnp.broadcast_to(basis[:, i, None], at.shape)) for i in range(size)]
    value, first, second = loss(rows)
    second = jnp.maximum(second, 0.0)
    scaled = [second * column for column in columns]
    products = [scaled[i] * columns[j] for i in range(size) for j in range(i + 1)]
    products += [column * first for column in columns]
    products.append(value)
    sums = sum_rows(products)
    triangle = size * (size + 1) // 2
    packed = jnp.stack([sums[triangle_place(i, j)] for i in range(size) for j in range(size)])
    away = at - prior.mean
    pull = prior.precision * away
    own = jnp.eye(size)[:, :, None] * prior.precision
    return _Normal(
        packed.reshape(size, size, -1) + own,
        jnp.stack(sums[triangle : triangle + size]) + pull,
        sums[-1] + 0.5 * jnp.sum(pull * away, axis=0),
    )


def triangle_place(i: int, j: int) -> int:
    """Where (i, j) of a symmetric matrix lies in its lower triangle, row by row."""
    high, low = max(i, j), min(i, j)
    return high * (high + 1) // 2 + low


def sum_rows(products: list[Array]) -> list[Array]:
    """Sums over rows of many arrays in one pass: a single variadic reduction is what XLA's CPU
    back end fuses with the products, at half the time of one reduction each."""
    zero = jnp.zeros((), products[0].dtype)

    def add(left: tuple[Array, ...], right: tuple[Array, ...]) -> tuple[Array, ...]:
        return tuple(x + y for x, y in zip(left, right, strict=True))

    return list(lax.reduce(tuple(products), (zero,) * len(products), add, (0,)))


def _damped_step(normal: _Normal, scale: Array) -> Array:
    """−(N + diag scale)⁻¹ g, all lanes at once.

    N is positive definite, so that no pivot is chosen: whole-matrix updates make P small kernels;
    entry by entry, XLA would start a kernel for each of some fifty scalars.
    """
    damped = normal.matrix + jnp.eye(len(scale))[:, :, None] * scale
    return eliminate(jnp.concatenate([damped, -normal.gradient[:, None]], axis=1))[:, 0]


def _finite(normal: _Normal) -> Array:
    return jnp.isfinite(normal.cost) & jnp.isfinite(normal.gradient).all(axis=0)
