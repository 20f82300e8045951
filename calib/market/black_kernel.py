"""Black's formula (1976) inside compiled code: undiscounted prices of options on a forward.

Everything is computed for the out-of-the-money option of a strike: with ξ = |ln(F/K)|, total
standard deviation s = vol·√T, y = ξ/s - s/2 and z = ξ/s + s/2, its time value is
min(F, K)·φ(y)·(M(y) - M(z)), M being Mills' ratio. What it lacks to its maximum min(F, K) is
min(F, K)·φ(y)·(M(-y) + M(z)), the accurate form where the option is worth more than about half.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import ndtr
from jax.typing import ArrayLike

from calib.errors import InvalidRequest
from calib.market.logarithm import log_ratio
from calib.market.mills import mills_combination

LOG_ROOT_TWO_PI = 0.5 * math.log(2 * math.pi)

# Left of this y the complement is the accurate form; Mills' ratio reaches down to -0.8.
_COMPLEMENT_BELOW = -0.7
# Beyond these a price is its limit to the last digit, and squares of 1/s stay finite.
_LEAST_STDEV, _GREATEST_STDEV = 1e-140, 1e3
# Forward and strike further apart than this: their ratio nears the end of the number range.
_LEAST_RATIO = 1e-300


class ScaledValue(NamedTuple):
    """A time value, or its complement, over min(F, K)·φ(y); and where it was taken."""

    value: Array
    y: Array
    z: Array
    inverse_stdev: Array


def scaled_value(total_stdev: Array, xi: Array, is_time_value: Array) -> ScaledValue:
    """M(y) - M(z) where ``is_time_value`` holds, else M(-y) + M(z); arrays of one shape."""
    inverse = 1 / total_stdev
    h, t = xi * inverse, 0.5 * total_stdev
    y, z = h - t, h + t
    value = mills_combination(jnp.where(is_time_value, y, -y), z, total_stdev, is_time_value)
    return ScaledValue(value, y, z, inverse)


def float64_arrays(*values: ArrayLike) -> list[Array]:
    """The arguments as float64 jax arrays of one shape; InvalidRequest outside 64-bit mode."""
    if jnp.result_type(float) != jnp.float64:
        raise InvalidRequest("Black kernels need float64: call them under `jax.enable_x64(True)`")
    return jnp.broadcast_arrays(*(jnp.asarray(value, jnp.float64) for value in values))


def is_usable(forward: Array, strike: Array, sign: Array) -> Array:
    """Whether these can be priced: positive, finite, not absurdly far apart, sign +1 or -1."""
    positive = (forward > 0) & (strike > 0)
    near = (forward * _LEAST_RATIO < strike) & (strike * _LEAST_RATIO < forward)
    return positive & near & (jnp.abs(sign) == 1)


def black_price_kernel(
    vol: ArrayLike, forward: ArrayLike, strike: ArrayLike, years: ArrayLike, sign: ArrayLike
) -> Array:
    """ω(F·Φ(ω·d₁) - K·Φ(ω·d₂)), d₁,₂ = ln(F/K)/(vol√T) ± vol√T/2: undiscounted price.

    ``sign`` ω is +1 for a call and -1 for a put; the arguments broadcast. The relative error of an
    out-of-the-money price is some 1e-15·(1 + d₁²), however far out. No time or no vol gives the
    intrinsic value; nan comes back for a vol or time that is negative or not finite, a forward or
    strike that is not positive and finite, a sign that is not ±1. Differentiable in
    everything but the sign. Raises InvalidRequest outside ``jax.enable_x64(True)``.
    """
    price: Array = _black_price(*float64_arrays(vol, forward, strike, years, sign))
    return price


@jax.custom_jvp
def _black_price(vol: Array, forward: Array, strike: Array, years: Array, sign: Array) -> Array:
    lower, higher = jnp.minimum(forward, strike), jnp.maximum(forward, strike)
    xi = log_ratio(higher, lower)
    stdev = vol * jnp.sqrt(years)
    s = jnp.clip(stdev, _LEAST_STDEV, _GREATEST_STDEV)
    is_time_value = xi / s - 0.5 * s > _COMPLEMENT_BELOW
    value, y, _, _ = scaled_value(s, xi, is_time_value)
    share = jnp.exp(-0.5 * y * y - LOG_ROOT_TWO_PI) * value
    share = jnp.where(is_time_value, share, 1 - share)
    time_value = jnp.where(stdev > 0, lower * share, 0.0)
    price = jnp.maximum(sign * (forward - strike), 0.0) + time_value
    known = is_usable(forward, strike, sign)
    known &= (vol >= 0) & (vol < jnp.inf) & (years >= 0) & (years < jnp.inf)
    return jnp.where(known, price, jnp.nan)


class Greeks(NamedTuple):
    """Derivatives of the undiscounted price with respect to the formula's arguments."""

    forward: Array
    strike: Array
    vol: Array
    years: Array


def greeks(known: Array, *arguments: Array) -> Greeks:
    """dPrice/dF = ωΦ(ωd₁), dPrice/dK = -ωΦ(ωd₂), vega = Fφ(d₁)√T, dPrice/dT = vega·vol/(2T).

    ``arguments`` are vol, forward, strike, years, sign, of one shape. Where ``known`` does not hold
    they may be anything, and the derivatives are finite but mean nothing: a caller who masks them
    gets clean gradients in both directions. Without time the derivative with respect to it is 0.
    """
    vol, forward, strike, years, sign = (jnp.where(known, a, 1.0) for a in arguments)
    root = jnp.sqrt(jnp.where(years > 0, years, 1.0))
    s = jnp.clip(jnp.where(years > 0, vol * root, 0.0), _LEAST_STDEV, _GREATEST_STDEV)
    h = jnp.log(forward / strike) / s
    d1, d2 = h + 0.5 * s, h - 0.5 * s
    density = forward * jnp.exp(-0.5 * d1 * d1 - LOG_ROOT_TWO_PI)
    return Greeks(
        forward=sign * ndtr(sign * d1),
        strike=-sign * ndtr(sign * d2),
        vol=jnp.where(years > 0, density * root, 0.0),
        years=jnp.where(years > 0, density * vol / (2 * root), 0.0),
    )


@_black_price.defjvp
def _black_price_jvp(
    primals: tuple[Array, ...], tangents: tuple[Array, ...]
) -> tuple[Array, Array]:
    price = _black_price(*primals)
    known = jnp.isfinite(price)
    slope = greeks(known, *primals)
    d_vol, d_forward, d_strike, d_years, _ = tangents
    change = (
        slope.vol * d_vol
        + slope.forward * d_forward
        + slope.strike * d_strike
        + slope.years * d_years
    )
    return price, jnp.where(known, change, 0.0)
