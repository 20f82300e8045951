"""No-arbitrage conditions on a surface of SVI slices as a few rows: its worst points.

On each slice Durrleman's g and on each pair of expiries w₂/w₁ − 1 are scanned on points that move
with the slices, k = m + σ·sinh(u − artanh ρ), u = 8·sgn(x)|x|^1.4, out to 1,500 widths; beyond,
the wings are straight and their slopes decide. Of each stretch of the scan only the lowest point
enters a fit, moved to the vertex of the parabola through it and its neighbours, so that what lies
between the points of the scan is seen as well.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

MARGIN = 0.003
"""What a fit asks of g and of growth: what it gets may fall a little short, a proof needs > 0."""

_POINTS, _STRETCHES = 40, 5
_REACH, _POWER = 8.0, 1.4


class Rows(NamedTuple):
    """Conditions c ≥ 0 at one surface, linearised in the natural parameters.

    ``own`` (S, N, B) with ``own_slope`` (S, 5, N, B): of each slice. ``pair`` (R, N, B) with
    ``pair_first`` and ``pair_second`` (R, 5, N, B): of slice i and slice i + 1, at place i. Rows
    that do not count hold c = 1 and slopes 0.
    """

    own: Array
    own_slope: Array
    pair: Array
    pair_first: Array
    pair_second: Array


def condition_rows(parameters: Array, single: Array, linked: Array) -> Rows:
    """The rows at ``parameters`` (5, N, B); ``single`` (N, B) says which slices count, ``linked``
    (N, B) which are to lie below the one that follows."""
    following = jnp.concatenate([parameters[:, 1:], parameters[:, -1:]], axis=1)
    own_at = _lowest(_durrleman(parameters, _scan(parameters)))
    first_at = _lowest(_growth(parameters, following, _strikes(parameters, _scan(parameters))))
    second_at = _lowest(_growth(parameters, following, _strikes(following, _scan(parameters))))

    def own_rows(p: Array) -> Array:
        return _durrleman(p, own_at) - MARGIN

    def pair_rows(p: Array, q: Array) -> Array:
        k = jnp.concatenate([_strikes(p, first_at), _strikes(q, second_at)])
        slopes = [q[1] * (1.0 + side * q[2]) / (p[1] * (1.0 + side * p[2])) for side in (-1, 1)]
        return jnp.concatenate([_growth(p, q, k), jnp.stack(slopes) - 1.0]) - MARGIN

    own, own_push = jax.linearize(own_rows, parameters)
    pair, pair_push = jax.linearize(pair_rows, parameters, following)
    nothing = jnp.zeros_like(parameters)
    units = jnp.broadcast_to(jnp.eye(5)[:, :, None, None], (5, *parameters.shape))
    by_own = jax.vmap(own_push, out_axes=1)(units)
    by_first = jax.vmap(lambda unit: pair_push(unit, nothing), out_axes=1)(units)
    by_second = jax.vmap(lambda unit: pair_push(nothing, unit), out_axes=1)(units)
    return Rows(
        jnp.where(single, own, 1.0),
        jnp.where(single, by_own, 0.0),
        jnp.where(linked, pair, 1.0),
        jnp.where(linked, by_first, 0.0),
        jnp.where(linked, by_second, 0.0),
    )


def _place(x: Array) -> Array:
    return jnp.asarray(_REACH * jnp.sign(x) * jnp.abs(x) ** _POWER)


def _scan(parameters: Array) -> Array:
    u = _place(jnp.linspace(-1.0, 1.0, _POINTS))
    return jnp.broadcast_to(u[:, None, None], (_POINTS, *parameters.shape[1:]))


def _strikes(parameters: Array, u: Array) -> Array:
    _, _, rho, m, sigma = parameters
    return jnp.asarray(m + sigma * jnp.sinh(u - jnp.arctanh(rho)))


def _durrleman(parameters: Array, u: Array) -> Array:
    """g at the points u (S, N, B), with (k − m)/σ = sinh s."""
    a, b, rho, m, sigma = parameters
    rise = jnp.exp(u - jnp.arctanh(rho))
    x, root = 0.5 * (rise - 1.0 / rise), 0.5 * (rise + 1.0 / rise)
    w = a + b * sigma * (rho * x + root)
    slope = b * (rho + x / root)
    curvature = b / (sigma * root * root * root)
    drift = 1.0 - (m + sigma * x) * slope / (2.0 * w)
    return jnp.asarray(drift * drift - 0.25 * slope * slope * (1.0 / w + 0.25) + 0.5 * curvature)


def _growth(first: Array, second: Array, k: Array) -> Array:
    return _variance(second, k) / _variance(first, k) - 1.0


def _variance(parameters: Array, k: Array) -> Array:
    a, b, rho, m, sigma = parameters
    x = k - m
    return jnp.asarray(a + b * (rho * x + jnp.sqrt(x * x + sigma * sigma)))


def _lowest(values: Array) -> Array:
    """u of the lowest value of each stretch (stretches, N, B), at its parabola's vertex."""
    before = jnp.concatenate([values[:1], values[:-1]])
    after = jnp.concatenate([values[1:], values[-1:]])
    bend = before - 2.0 * values + after
    dip = (values <= before) & (values <= after) & (bend > 0.0)
    moved = jnp.where(dip, 0.5 * (before - after) / jnp.where(dip, bend, 1.0), 0.0)
    number = jnp.arange(_POINTS)[:, None, None] + jnp.clip(moved, -0.5, 0.5)
    shape = (_STRETCHES, _POINTS // _STRETCHES, *values.shape[1:])

    def lower(one: tuple[Array, Array], two: tuple[Array, Array]) -> tuple[Array, Array]:
        take = one[0] <= two[0]
        return jnp.where(take, one[0], two[0]), jnp.where(take, one[1], two[1])

    infinite = jnp.asarray(jnp.inf, values.dtype)
    start = (infinite, jnp.zeros((), values.dtype))
    _, best = lax.reduce((values.reshape(shape), number.reshape(shape)), start, lower, (1,))
    return lax.stop_gradient(_place(2.0 * best / (_POINTS - 1.0) - 1.0))
