"""Damped descent of many problems side by side, in lock-step inside one `jit`, level by level.

The problem says what a point is worth and which move its model proposes at some damping; the
descent decides whether to take it, how to damp next (Nielsen 1999) and when a level is done.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax

_SHRINK, _GROW = 0.1, 2.0
_FIRST_DAMPING, _LEAST_DAMPING, _LARGEST_DAMPING = 1e-2, 1e-9, 1e12

P = TypeVar("P")


class Schedule(NamedTuple):
    """When a level is done: the next move is predicted to lower the cost by less than ``cost``
    (``rough`` before the last level) times itself, or moves nothing by more than ``step``, or
    ``max_steps`` tries have been made in it. Numbers, not shapes: none needs another compilation.
    """

    cost: float = 1e-6
    rough: float = 1e-2
    step: float = 1e-8
    max_steps: int = 60


class Problem(Protocol[P]):
    """B problems of one shape; coordinates and everything in a point have lanes last.

    Level 0 is the rough one: leaving it changes what a point is, leaving others does not.
    """

    def point(self, at: Array, level: Array) -> P:
        """Everything that ``cost`` and ``propose`` need to know at ``at``."""

    def cost(self, point: P, level: Array) -> Array:
        """(B,) costs at the levels (B,); not finite where the point is no good."""

    def propose(self, point: P, level: Array, damping: Array) -> tuple[Array, Array]:
        """Moves, shaped as coordinates, and the fall of cost (B,) that the model predicts."""


class Descent(NamedTuple):
    """Where each lane ended: ``at``, ``steps`` (B,), and whether it ``settled`` before the last
    level's tries ran out and ever ``moved``."""

    at: Array
    steps: Array
    settled: Array
    moved: Array


class _Loop(NamedTuple, Generic[P]):
    """``stale`` lanes have no point yet: their next try stays in place. ``here`` counts the tries
    of this level."""

    at: Array
    point: P
    stale: Array
    level: Array
    damping: Array
    growth: Array
    settled: Array
    moved: Array
    steps: Array
    here: Array


def descend(
    problem: Problem[P], levels: tuple[Array | int, Array | int], schedule: Schedule, start: Array
) -> Descent:
    """From ``start`` through all levels from a first to a last one, each lane at its own pace; done
    ones frozen."""
    lanes, (bottom, top) = start.shape[-1], levels
    level = jnp.full(lanes, bottom, jnp.int32)
    nothing = jnp.zeros(lanes, start.dtype)
    none = jnp.zeros(lanes, bool)
    shapes = jax.eval_shape(problem.point, start, level)
    first = _Loop(
        at=start,
        point=jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes),
        stale=~none,
        level=level,
        damping=nothing + _FIRST_DAMPING,
        growth=nothing + _GROW,
        settled=none,
        moved=none,
        steps=jnp.zeros(lanes, jnp.int32),
        here=jnp.zeros(lanes, jnp.int32),
    )

    def busy(loop: _Loop[P]) -> Array:
        return ~loop.settled & ~((loop.level == top) & (loop.here >= schedule.max_steps))

    def step(loop: _Loop[P]) -> _Loop[P]:
        active = busy(loop)
        moves, predicted = problem.propose(loop.point, loop.level, loop.damping)
        moves = jnp.where(loop.stale, 0.0, moves)
        at = loop.at + moves
        point = problem.point(at, loop.level)
        before = problem.cost(loop.point, loop.level)
        after = problem.cost(point, loop.level)
        better = jnp.isfinite(after) & (loop.stale | ~(after > before))
        gain = (before - after) / jnp.where(predicted > 0.0, predicted, 1.0)
        shrink = jnp.clip(1.0 - (2.0 * gain - 1.0) ** 3, _SHRINK, _GROW)
        damping = jnp.where(
            better, jnp.maximum(loop.damping * shrink, _LEAST_DAMPING), loop.damping * loop.growth
        )
        last = loop.level >= top
        fraction = jnp.where(last, schedule.cost, schedule.rough)
        # A model that is not at its own minimum can predict a rise: that says nothing.
        small = (predicted >= 0.0) & (predicted <= fraction * before)
        small |= jnp.max(jnp.abs(moves), axis=tuple(range(moves.ndim - 1))) <= schedule.step
        ended = ~loop.stale & small & (better | (loop.damping <= 1.0))
        ended |= ~better & (loop.stale | (damping >= _LARGEST_DAMPING))
        ended &= active
        # What starts at its minimum stays there, to the last bit.
        take = better & active & ~(ended & last & ~loop.moved & ~loop.stale)
        left = (ended | (loop.here >= schedule.max_steps - 1)) & ~last & active
        return _Loop(
            at=jnp.where(take, at, loop.at),
            point=jax.tree.map(lambda new, old: jnp.where(take, new, old), point, loop.point),
            stale=left & (loop.level == 0),
            level=jnp.where(left, loop.level + 1, loop.level),
            damping=jnp.where(
                loop.stale, loop.damping, jnp.where(left & ~better, _FIRST_DAMPING, damping)
            ),
            growth=jnp.where(better | left, _GROW, 2.0 * loop.growth),
            settled=loop.settled | (ended & last & ~loop.stale),
            moved=loop.moved | (take & ~loop.stale),
            steps=loop.steps + active.astype(jnp.int32),
            here=jnp.where(left, 0, loop.here + active.astype(jnp.int32)),
        )

    end = lax.while_loop(lambda loop: jnp.any(busy(loop)), step, first)
    return Descent(end.at, end.steps, end.settled, end.moved)
