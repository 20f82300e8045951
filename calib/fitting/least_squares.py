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
    times the cost, or to move no coordinate by more than ``step``; at most ``max_steps`` tries."""

    cost: float = 1e-9
    step: float = 1e-8
    max_steps: int = 50


class Solution(NamedTuple):
    """Where each lane ended.

    ``coordinates`` (P, B); ``state`` (B,) as numbers of :class:`FitState`; ``steps`` (B,) tries;
    ``cost`` (B,): sum of losses and of half the prior's squares; ``normal`` (P, P, B): Jᵀ ρ″ J plus
    the prior's precision there.
    """

    coordinates: Array
    state: Array
    steps: Array
    cost: Array
    normal: Array


class _Normal(NamedTuple):
    """Jᵀρ″J (lower triangle, rows of (B,) arrays), Jᵀρ′ and Σρ of every lane, prior included."""

    matrix: tuple[tuple[Array, ...], ...]
    gradient: tuple[Array, ...]
    cost: Array


class _Loop(NamedTuple):
    at: Array
    normal: _Normal
    damping: Array
    growth: Array
    accepted: Array
    done: Array
    bad: Array
    steps: Array


def solve(
    residual: Residual,
    loss: Loss,
    start: Coordinates,
    prior: Prior,
    tolerances: Tolerances,
    active: Array,
) -> Solution:
    """Minimise Σ ρ(residual(q)) + ½Σ precision·(q − mean)² in every lane, from ``start``.

    Lanes that are not ``active`` (B,) stay where they start.

    Levenberg–Marquardt with Marquardt's diagonal scaling; the damping follows the gain ratio
    (Nielsen 1999). Lanes run in lock-step; finished ones are frozen. A lane whose start is not
    finite ends NON_FINITE, one in which no step was ever accepted (and that did not start at its
    minimum) NO_STEP_ACCEPTED.
    """
    lanes = start.shape[1]
    first = _normal(residual, loss, start, prior)
    finite = _finite(first)
    one = jnp.ones(lanes)
    state = _Loop(
        at=start,
        normal=first,
        damping=1e-2 * one,
        growth=_GROW * one,
        accepted=jnp.zeros(lanes, bool),
        done=~(finite & active),
        bad=~finite,
        steps=jnp.zeros(lanes, jnp.int32),
    )

    def unfinished(loop: _Loop) -> Array:
        return jnp.any(~loop.done)

    def step(loop: _Loop) -> _Loop:
        return _step(residual, loss, prior, tolerances, loop)

    end = lax.while_loop(unfinished, step, state)
    failed = ~end.accepted & (
        (end.steps >= tolerances.max_steps) | (end.damping >= _LARGEST_DAMPING)
    )
    code = jnp.select(
        [end.bad, failed, end.steps >= tolerances.max_steps],
        [FitState.NON_FINITE, FitState.NO_STEP_ACCEPTED, FitState.STEP_LIMIT],
        FitState.CONVERGED,
    )
    return Solution(end.at, code, end.steps, end.normal.cost, _full(end.normal.matrix))


def _step(
    residual: Residual, loss: Loss, prior: Prior, tolerances: Tolerances, loop: _Loop
) -> _Loop:
    delta = _damped_step(loop.normal, loop.damping)
    predicted = sum(
        0.5 * d * (loop.damping * loop.normal.matrix[i][i] * d - g)
        for i, (d, g) in enumerate(zip(delta, loop.normal.gradient, strict=True))
    )
    moves = jnp.stack(delta)
    small = (predicted <= tolerances.cost * loop.normal.cost) | (
        jnp.max(jnp.abs(moves), axis=0) <= tolerances.step
    )
    at = loop.at + moves
    normal = _normal(residual, loss, at, prior)
    gain = (loop.normal.cost - normal.cost) / jnp.where(predicted > 0.0, predicted, 1.0)
    better = _finite(normal) & (normal.cost <= loop.normal.cost)
    take = better & ~loop.done
    steps = loop.steps + jnp.where(loop.done, 0, 1).astype(loop.steps.dtype)
    # A lane is done once a step that was small when it was lightly damped has been tried.
    settled = small & (better | (loop.damping <= 1.0))
    stuck = ~better & (loop.damping * loop.growth >= _LARGEST_DAMPING)
    shrink = jnp.maximum(_SHRINK, 1.0 - (2.0 * gain - 1.0) ** 3)
    damping = jnp.where(
        better, jnp.maximum(loop.damping * shrink, 1e-12), loop.damping * loop.growth
    )
    return _Loop(
        at=jnp.where(take, at, loop.at),
        normal=jax.tree.map(lambda new, old: jnp.where(take, new, old), normal, loop.normal),
        damping=jnp.where(loop.done, loop.damping, jnp.minimum(damping, _LARGEST_DAMPING)),
        growth=jnp.where(loop.done, loop.growth, jnp.where(better, _GROW, 2.0 * loop.growth)),
        accepted=loop.accepted | take,
        done=loop.done | settled | stuck | (steps >= tolerances.max_steps),
        bad=loop.bad,
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
    sums = _sum_rows(products)
    away = at - prior.mean
    pulls = prior.precision * away
    matrix = []
    for i in range(size):
        line = sums[i * (i + 1) // 2 : (i + 1) * (i + 2) // 2]
        matrix.append((*line[:i], line[i] + prior.precision[i]))
    triangle = size * (size + 1) // 2
    gradient = tuple(sums[triangle + i] + pulls[i] for i in range(size))
    cost = sums[-1] + 0.5 * jnp.sum(pulls * away, axis=0)
    return _Normal(tuple(matrix), gradient, cost)


def _sum_rows(products: list[Array]) -> list[Array]:
    """Sums over rows of many arrays in one pass: a single variadic reduction is what XLA's CPU
    back end fuses with the products, at half the time of one reduction each."""
    zero = jnp.zeros((), products[0].dtype)

    def add(left: tuple[Array, ...], right: tuple[Array, ...]) -> tuple[Array, ...]:
        return tuple(x + y for x, y in zip(left, right, strict=True))

    return list(lax.reduce(tuple(products), (zero,) * len(products), add, (0,)))


def _damped_step(normal: _Normal, damping: Array) -> tuple[Array, ...]:
    """−(N + λ·diag N)⁻¹g by an unrolled Cholesky factorisation, lane by lane."""
    matrix, size = normal.matrix, len(normal.gradient)
    factor: list[list[Array]] = []
    for i in range(size):
        line: list[Array] = []
        for j in range(i):
            rest = matrix[i][j] - sum(line[k] * factor[j][k] for k in range(j))
            line.append(rest * factor[j][j])
        pivot = matrix[i][i] * (1.0 + damping) - sum(value * value for value in line)
        # The inverse of the diagonal is kept; rounding can leave a pivot that is not positive.
        line.append(lax.rsqrt(jnp.maximum(pivot, 1e-14 * matrix[i][i] + 1e-300)))
        factor.append(line)
    forward: list[Array] = []
    for i in range(size):
        rest = -normal.gradient[i] - sum(factor[i][k] * forward[k] for k in range(i))
        forward.append(rest * factor[i][i])
    step: list[Array] = [forward[-1]] * size
    for i in reversed(range(size)):
        rest = forward[i] - sum(factor[k][i] * step[k] for k in range(i + 1, size))
        step[i] = rest * factor[i][i]
    return tuple(step)


def _finite(normal: _Normal) -> Array:
    fine = jnp.isfinite(normal.cost)
    for value in normal.gradient:
        fine &= jnp.isfinite(value)
    return fine


def _full(matrix: tuple[tuple[Array, ...], ...]) -> Array:
    size = len(matrix)
    return jnp.stack(
        [jnp.stack([matrix[max(i, j)][min(i, j)] for j in range(size)]) for i in range(size)]
    )
