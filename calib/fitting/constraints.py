"""No-arbitrage conditions on a surface as a few rows: its worst points.

On each SVI slice Durrleman's g and on each pair of expiries w₂/w₁ − 1 are scanned on points that
move with the slices, k = m + σ·sinh(u − artanh ρ), u = 8·sgn(x)|x|^1.4, out to 1,500 widths;
beyond, the wings are straight and their slopes decide. Of each stretch of the scan only the lowest
point enters a fit, moved on, from the vertex of the parabola through it and its neighbours, to the
minimum by Newton steps, so that what lies between the points of the scan is seen as well. There the
condition is stationary in u, so that its derivatives are those at a fixed u.

SABR is free of arbitrage only within a range: its slices are scanned over their quotes, its pairs
over the hull of both their ranges, each continued by the published rule. Points are even in
arsinh(k/√w(0)): quotes may reach a hundred times as far as the smile near the money is wide, where
total variance is least and a pair comes closest. They stay at the vertices: further
derivatives of the expansion are slow to compile. Where one range ends inside of a neighbour's, two
things happen that no parabola finds, each a row of its own: the growth has a kink, and between the
expiries smiles take part as they go on beyond that end, straight, with w″ = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from calib.conventions import Floats
from calib.fitting.surface_quotes import SurfaceQuotes
from calib.models import sabr, svi

MARGIN = 0.003
"""What a fit asks of g and of growth: what it gets may fall a little short, a proof needs > 0."""

_POINTS, _STRETCHES = 40, 5
_REACH, _POWER = 8.0, 1.4
_NEWTON_STEPS = 3

_OUTWARD: Floats = np.array([-1.0, 1.0])[:, None, None]


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


def svi_conditions(parameters: Array, chart: Array, quotes: SurfaceQuotes) -> Rows:
    """The rows at raw SVI ``parameters`` (5, N, B), with ``chart`` (5, P, N, B) their derivatives
    by the coordinates."""
    following = _next(parameters)

    def own_at(p: Array, u: Array) -> Array:
        return durrleman(p, _strikes(p, u))

    def first_at(p: Array, q: Array, u: Array) -> Array:
        return _growth(p, q, _strikes(p, u))

    def second_at(p: Array, q: Array, u: Array) -> Array:
        return _growth(p, q, _strikes(q, u))

    own_u = _minima(partial(own_at, parameters))
    first_u = _minima(partial(first_at, parameters, following))
    second_u = _minima(partial(second_at, parameters, following))

    def own_rows(p: Array) -> Array:
        return own_at(p, own_u)

    def pair_rows(p: Array, q: Array) -> Array:
        slopes = [q[1] * (1.0 + side * q[2]) / (p[1] * (1.0 + side * p[2])) for side in (-1, 1)]
        growth = first_at(p, q, first_u), second_at(p, q, second_u)
        return jnp.concatenate([*growth, jnp.stack(slopes) - 1.0])

    return _linearised(own_rows, pair_rows, parameters, chart, quotes)


def sabr_conditions(parameters: Array, chart: Array, quotes: SurfaceQuotes) -> Rows:
    """The rows at SABR ``parameters`` (4, N, B); see `svi_conditions`."""
    low, high = quotes.quoted_range()
    years, next_years = quotes.years, _next(quotes.years)
    next_low, next_high = _next(low), _next(high)
    following = _next(parameters)

    ends = jnp.stack([low, high])
    next_ends = jnp.stack([next_low, next_high])

    def limited(p: Array, k: Array, at: Array) -> Array:
        """Slopes (2, N, B) by the published rule at the ends of a range, the lower one first."""
        return jnp.asarray(
            _OUTWARD * jnp.clip(_OUTWARD * sabr.slope(p, k, at), 0.0, sabr.CONTINUATION_CAP)
        )

    def curve(p: Array, k: Array, at: Array, range_: Array) -> Array:
        """w by the published rule: continued linearly outside the quotes."""
        bottom, top = range_
        left, right = limited(p, range_, at)
        w = sabr.total_variance(p, jnp.clip(k, bottom, top), at)
        return jnp.asarray(
            w + left * jnp.minimum(k - bottom, 0.0) + right * jnp.maximum(k - top, 0.0)
        )

    def own_at(p: Array, k: Array) -> Array:
        return _durrleman(k, *sabr.jet(p, k, years))

    def beyond(p: Array) -> Array:
        """g just outside of the range, (2, N, B)."""
        w = sabr.total_variance(p, ends, years)
        return _durrleman(ends, w, limited(p, ends, years), jnp.zeros_like(w))

    def pair_at(p: Array, q: Array, k: Array) -> Array:
        return curve(q, k, next_years, next_ends) / curve(p, k, years, ends) - 1.0

    width = jnp.sqrt(sabr.total_variance(parameters, jnp.zeros_like(years), years))
    own_points = _scan(low, high, width)
    pair_points = _scan(jnp.minimum(low, next_low), jnp.maximum(high, next_high), width)
    even = jnp.linspace(0.0, 1.0, _POINTS)[:, None, None]
    own_worst = _lowest(own_at(parameters, own_points(even))) / (_POINTS - 1.0)
    pair_worst = _lowest(pair_at(parameters, following, pair_points(even))) / (_POINTS - 1.0)
    inner_ends = jnp.stack([jnp.maximum(low, next_low), jnp.minimum(high, next_high)])
    own_k = lax.stop_gradient(own_points(own_worst))
    pair_k = lax.stop_gradient(jnp.concatenate([pair_points(pair_worst), inner_ends]))
    # Ends that a neighbour reaches beyond; the first expiry stands before itself, and does not.
    passed = quotes.linked & (_OUTWARD * (next_ends - ends) > 0.0)
    passed |= _before(quotes.linked) & (_OUTWARD * (_before(ends) - ends) > 0.0)

    def own_rows(p: Array) -> Array:
        return jnp.concatenate([own_at(p, own_k), jnp.where(passed, beyond(p), 1.0)])

    return _linearised(own_rows, lambda p, q: pair_at(p, q, pair_k), parameters, chart, quotes)


def _scan(low: Array, high: Array, width: Array) -> Callable[[Array], Array]:
    """From shares of [0, 1] to k between ``low`` and ``high``, even in arsinh(k/width)."""
    first, last = jnp.arcsinh(low / width), jnp.arcsinh(high / width)

    def at(share: Array) -> Array:
        return jnp.asarray(width * jnp.sinh(first + share * (last - first)))

    return at


def _linearised(
    own_rows: Callable[[Array], Array],
    pair_rows: Callable[[Array, Array], Array],
    parameters: Array,
    chart: Array,
    quotes: SurfaceQuotes,
) -> Rows:
    following = _next(parameters)
    own, own_push = jax.linearize(own_rows, parameters)
    pair, pair_push = jax.linearize(pair_rows, parameters, following)
    nothing = jnp.zeros_like(parameters)
    after = jnp.concatenate([chart[:, :, 1:], chart[:, :, -1:]], axis=2)
    by_own = jax.vmap(own_push, in_axes=1, out_axes=1)(chart)
    by_first = jax.vmap(lambda turn: pair_push(turn, nothing), in_axes=1, out_axes=1)(chart)
    by_second = jax.vmap(lambda turn: pair_push(nothing, turn), in_axes=1, out_axes=1)(after)
    single, linked = quotes.present, quotes.linked
    return Rows(
        jnp.where(single, own - MARGIN, 1.0),
        jnp.where(single, by_own, 0.0),
        jnp.where(linked, pair - MARGIN, 1.0),
        jnp.where(linked, by_first, 0.0),
        jnp.where(linked, by_second, 0.0),
    )


def _next(values: Array) -> Array:
    """Values (…, N, B) of the following expiry; the last one's own."""
    return jnp.concatenate([values[..., 1:, :], values[..., -1:, :]], axis=-2)


def _before(values: Array) -> Array:
    """Values (…, N, B) of the expiry before; the first one's own."""
    return jnp.concatenate([values[..., :1, :], values[..., :-1, :]], axis=-2)


def durrleman(parameters: Array, k: Array) -> Array:
    """g(k) = (1 − kw′/(2w))² − (w′²/4)(1/w + ¼) + w″/2 of raw SVI slices."""
    w = svi.total_variance(parameters, k)
    return _durrleman(k, w, svi.slope(parameters, k), svi.curvature(parameters, k))


def _durrleman(k: Array, w: Array, slope: Array, bend: Array) -> Array:
    drift = 1.0 - k * slope / (2.0 * w)
    return jnp.asarray(drift * drift - 0.25 * slope * slope * (1.0 / w + 0.25) + 0.5 * bend)


def _minima(values_at: Callable[[Array], Array]) -> Array:
    """Where values are lowest in each stretch of the scan, as u (stretches, N, B).

    The parabola's vertex is a start: were it left at that, derivatives at a fixed u would miss how
    the vertex moves, and a descent along them could stand still with the condition broken.
    """
    number = _lowest(values_at(_place_of(jnp.arange(_POINTS, dtype=float))[:, None, None]))
    low = _place_of(jnp.maximum(number - 1.0, 0.0))
    high = _place_of(jnp.minimum(number + 1.0, _POINTS - 1.0))

    def slope(u: Array) -> Array:
        return jnp.asarray(jax.jvp(values_at, (u,), (jnp.ones_like(u),))[1])

    u = _place_of(number)
    for _ in range(_NEWTON_STEPS):
        first, second = jax.jvp(slope, (u,), (jnp.ones_like(u),))
        dip = second > 0.0
        u = jnp.clip(u - jnp.where(dip, first / jnp.where(dip, second, 1.0), 0.0), low, high)
    return lax.stop_gradient(u)


def _place_of(number: Array) -> Array:
    x = 2.0 * number / (_POINTS - 1.0) - 1.0
    return jnp.asarray(_REACH * jnp.sign(x) * jnp.abs(x) ** _POWER)


def _strikes(parameters: Array, u: Array) -> Array:
    """k = m + σ·sinh(u − artanh ρ), the sinh by exponentials of u alone where u is constant."""
    _, _, rho, m, sigma = parameters
    rise = jnp.exp(u) * jnp.sqrt((1.0 - rho) / (1.0 + rho))
    return jnp.asarray(m + sigma * (0.5 * (rise - 1.0 / rise)))


def _growth(first: Array, second: Array, k: Array) -> Array:
    return jnp.asarray(svi.total_variance(second, k) / svi.total_variance(first, k) - 1.0)


def _lowest(values: Array) -> Array:
    """The number, from 0 to `_POINTS` − 1, of the lowest value of each stretch (stretches, N, B),
    at its parabola's vertex."""
    before = jnp.concatenate([values[:1], values[:-1]])
    after = jnp.concatenate([values[1:], values[-1:]])
    bend = before - 2.0 * values + after
    dip = (values <= before) & (values <= after) & (bend > 0.0)
    moved = jnp.where(dip, 0.5 * (before - after) / jnp.where(dip, bend, 1.0), 0.0)
    number = jnp.arange(_POINTS)[:, None, None] + jnp.clip(moved, -0.5, 0.5)
    number = jnp.clip(number, 0.0, _POINTS - 1.0)
    shape = (_STRETCHES, _POINTS // _STRETCHES, *values.shape[1:])

    def lower(one: tuple[Array, Array], two: tuple[Array, Array]) -> tuple[Array, Array]:
        take = one[0] <= two[0]
        return jnp.where(take, one[0], two[0]), jnp.where(take, one[1], two[1])

    infinite = jnp.asarray(jnp.inf, values.dtype)
    start = (infinite, jnp.zeros((), values.dtype))
    _, best = lax.reduce((values.reshape(shape), number.reshape(shape)), start, lower, (1,))
    lowest: Array = lax.stop_gradient(best)
    return lowest
