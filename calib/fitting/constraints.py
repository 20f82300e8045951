"""No-arbitrage conditions on a surface of SVI slices as a few rows: its worst points.

On each slice Durrleman's g and on each pair of expiries w₂/w₁ − 1 are scanned on points that move
with the slices, k = m + σ·sinh(u − artanh ρ), u = 8·sgn(x)|x|^1.4, out to 1,500 widths; beyond,
the wings are straight and their slopes decide. Of each stretch of the scan only the lowest point
enters a fit, moved to the vertex of the parabola through it and its neighbours, so that what lies
between the points of the scan is seen as well. There the condition is stationary in k, so that its
derivatives are those at a fixed k.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from calib.models import svi

MARGIN = 0.003
"""What a fit asks of g and of growth: what it gets may fall a little short, a proof needs > 0."""

_POINTS, _STRETCHES = 40, 5
_REACH, _POWER = 8.0, 1.4


class Rows(NamedTuple):
    """Conditions c ≥ 0 at one surface, linearised in its coordinates.

    ``own`` (S, N, B) with ``own_slope`` (S, P, N, B): of each slice. ``pair`` (R, N, B) with
    ``pair_first`` and ``pair_second`` (R, P, N, B): of slice i and slice i + 1, at place i. Rows
    that do not count hold c = 1 and slopes 0.
    """

    own: Array
    own_slope: Array
    pair: Array
    pair_first: Array
    pair_second: Array


def condition_rows(parameters: Array, chart: Array, single: Array, linked: Array) -> Rows:
    """The rows at ``parameters`` (5, N, B), with ``chart`` (5, 5, N, B) their derivatives by the
    coordinates; ``single`` (N, B) says which slices count, ``linked`` (N, B) which are to lie
    below the one that follows."""
    following = jnp.concatenate([parameters[:, 1:], parameters[:, -1:]], axis=1)
    u = _place(jnp.linspace(-1.0, 1.0, _POINTS))[:, None, None]
    points = _strikes(parameters, u)
    later = jnp.concatenate([points[:, 1:], points[:, -1:]], axis=1)
    own_k = _strikes(parameters, _lowest(durrleman(parameters, points)))
    first_k = _strikes(parameters, _lowest(_growth(parameters, following, points)))
    second_k = _strikes(following, _lowest(_growth(parameters, following, later)))
    own_k, pair_k = lax.stop_gradient((own_k, jnp.concatenate([first_k, second_k])))

    def own_rows(p: Array) -> Array:
        return durrleman(p, own_k) - MARGIN

    def pair_rows(p: Array, q: Array) -> Array:
        slopes = [q[1] * (1.0 + side * q[2]) / (p[1] * (1.0 + side * p[2])) for side in (-1, 1)]
        return jnp.concatenate([_growth(p, q, pair_k), jnp.stack(slopes) - 1.0]) - MARGIN

    own, own_push = jax.linearize(own_rows, parameters)
    pair, pair_push = jax.linearize(pair_rows, parameters, following)
    nothing = jnp.zeros_like(parameters)
    after = jnp.concatenate([chart[:, :, 1:], chart[:, :, -1:]], axis=2)
    by_own = jax.vmap(own_push, in_axes=1, out_axes=1)(chart)
    by_first = jax.vmap(lambda turn: pair_push(turn, nothing), in_axes=1, out_axes=1)(chart)
    by_second = jax.vmap(lambda turn: pair_push(nothing, turn), in_axes=1, out_axes=1)(after)
    return Rows(
        jnp.where(single, own, 1.0),
        jnp.where(single, by_own, 0.0),
        jnp.where(linked, pair, 1.0),
        jnp.where(linked, by_first, 0.0),
        jnp.where(linked, by_second, 0.0),
    )


def durrleman(parameters: Array, k: Array) -> Array:
    """g(k) = (1 − kw′/(2w))² − (w′²/4)(1/w + ¼) + w″/2 of raw SVI slices."""
    w = svi.total_variance(parameters, k)
    slope = svi.slope(parameters, k)
    drift = 1.0 - k * slope / (2.0 * w)
    bend = svi.curvature(parameters, k)
    return jnp.asarray(drift * drift - 0.25 * slope * slope * (1.0 / w + 0.25) + 0.5 * bend)


def _place(x: Array) -> Array:
    return jnp.asarray(_REACH * jnp.sign(x) * jnp.abs(x) ** _POWER)


def _strikes(parameters: Array, u: Array) -> Array:
    """k = m + σ·sinh(u − artanh ρ), the sinh by exponentials of u alone where u is constant."""
    _, _, rho, m, sigma = parameters
    rise = jnp.exp(u) * jnp.sqrt((1.0 - rho) / (1.0 + rho))
    return jnp.asarray(m + sigma * (0.5 * (rise - 1.0 / rise)))


def _growth(first: Array, second: Array, k: Array) -> Array:
    return jnp.asarray(svi.total_variance(second, k) / svi.total_variance(first, k) - 1.0)


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
