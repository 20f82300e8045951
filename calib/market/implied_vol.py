"""Black's formula inverted inside compiled code: the vol of an undiscounted price, or why not.

The price is first turned into the share τ of its maximum that is time value, for the
out-of-the-money option of the strike; where τ exceeds a half, 1 - τ is inverted instead. Both are
φ(y)·Z with Z from Mills' ratio (:mod:`calib.market.black_kernel`), so one equation serves all:

    f(s) = ln Z - y²/2 - ln √(2π) - ln(τ or 1 - τ) = 0,   f' = ±1/Z.

A start within 5e-4 (relative; |k| <= 2, τ below a half) or within 7 per cent (elsewhere up to
|k| = 50) is followed by two Householder steps of fifth order, the same for every element.

Sources: Jäckel (2015, "Let's be rational", Wilmott 75), for the normalisation, the logarithmic
objectives at both ends and the two Householder steps; Jäckel (2017, "Implied normal volatility",
Wilmott 90), for the inversion of Bachelier's formula that the start below half is built on;
Householder (1970, "The numerical treatment of a single nonlinear equation").
"""

from __future__ import annotations

import math
import sys
from enum import IntEnum
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from calib.market.black_kernel import (
    LOG_ROOT_TWO_PI,
    float64_arrays,
    greeks,
    is_usable,
    scaled_value,
)
from calib.market.logarithm import log, log_ratio


class VolState(IntEnum):
    """Whether a price has an implied vol, and if not, why; tested in the order 5, 4, 2, 3.

    OK: it has. BELOW_INTRINSIC: the price is negative, below intrinsic value or exactly on it (a
    vol of 0 is not a vol), or its time value is less than 2.3e-308 of its maximum.
    ABOVE_MAXIMUM: at or above the forward (calls) or the strike (puts), which no vol reaches.
    NO_TIME: the time to expiry is zero or negative. BAD_INPUT: an argument is not finite, forward
    or strike are not positive or more than a factor 1e300 apart, or the right is neither.
    """

    OK = 1
    BELOW_INTRINSIC = 2
    ABOVE_MAXIMUM = 3
    NO_TIME = 4
    BAD_INPUT = 5


_STEPS = 2

# A lesser share of the maximum is subnormal, which jax takes for 0 on a CPU.
_LEAST_SHARE = sys.float_info.min

# Start below half of the maximum. Bachelier's normalised distance d solves
# φ(d)/d - Φ(-d) = 1/ρ with ρ = |F - K|/time value; d/v² is rational in v = √(2 ln(1 + ρ)), within
# 5e-4 for all ρ (least squares on the exact relation).
_DISTANCE_NUMERATOR = (0.19940314, 0.00140166, 0.00866153, 0.00317975)
_DISTANCE_DENOMINATOR = (1.0, 0.0029476, 0.05324399, 0.00796982, 0.00319503)
# From Bachelier's s = ξ/d to Black's: a factor 1 + s²/24 for small s (Hagan & Woodward 1999,
# "Equivalent Black volatilities"), and for greater s a rational correction fitted over ξ <= 50.
_TO_BLACK = (-0.00863215, 0.17283962, -0.09620051, 0.17571433, -0.02475201, 0.01775375)
# At the money ρ = 0 and ξ/d is 0/0; below this ρ the distance is that of this ρ, within 1e-3.
_LEAST_RHO, _GREATEST_RHO = 1e-3, 1e300

# Start above half: q = -Φ⁻¹(w·(1 - τ)) by Hastings' rational approximation in √(-2 ln ·)
# (Abramowitz & Stegun 1964, 26.2.23), then s from s/2 - ξ/s = q. w, between ½ at ξ = 0 and 1, is
# the share of Φ(y) in the complement; -ln w = ln 2·(1 + a·ξ)/(1 + b·ξ + c·ξ²), least squares.
_HASTINGS_NUMERATOR = (2.515517, 0.802853, 0.010328)
_HASTINGS_DENOMINATOR = (1.0, 1.432788, 0.189269, 0.001308)
_SHARE_NUMERATOR = (1.0, 0.32546091)
_SHARE_DENOMINATOR = (1.0, 0.75416911, 0.0374103)


class _Terms(NamedTuple):
    """A price taken apart: its time value, what it lacks to the maximum, and F and K in order."""

    time_value: Array
    complement: Array
    lower: Array
    apart: Array
    higher: Array


def implied_vol_kernel(
    price: ArrayLike, forward: ArrayLike, strike: ArrayLike, years: ArrayLike, sign: ArrayLike
) -> tuple[Array, Array]:
    """The vol at which Black's formula gives ``price``, and the :class:`VolState` (int8).

    ``price`` is undiscounted; ``sign`` is +1 for a call and -1 for a put; the arguments broadcast.
    vol is nan wherever the state is not OK. vol·√T is the exact inverse of the given doubles to
    a few units in the last place while |ln(F/K)| <= 100 (1e-11 relative up to 690); what a price
    rounded to double precision has itself lost, eps·price/vega, no inversion restores.

    Differentiable in everything but the sign, to any order, by the implicit function theorem:
    dvol = (dprice - dP/dF dF - dP/dK dK - dP/dT dT)/vega. Where there is no vol the derivative is
    0, so that a masked sum keeps a finite gradient. Raises InvalidRequest outside
    ``jax.enable_x64(True)``.
    """
    arguments = float64_arrays(price, forward, strike, years, sign)
    return _implied_vol(*arguments), _state(*arguments).astype(jnp.int8)


# XLA on a CPU cuts this into loops and computes anew, in each, whatever is not the result of a
# division or a root. So what many need ends in a division, and the branch travels as the sign of
# the share instead of as a mask: that took a third off the time.
@jax.custom_jvp
def _implied_vol(price: Array, forward: Array, strike: Array, years: Array, sign: Array) -> Array:
    time_value, complement, lower, apart, higher = _terms(price, forward, strike, sign)
    signed_share = jnp.where(time_value < 0.5 * lower, time_value, -complement) / lower
    rho = jnp.clip(apart / time_value, _LEAST_RHO, _GREATEST_RHO)
    xi = log_ratio(higher, lower)
    s = _start(xi, signed_share, rho)
    for _ in range(_STEPS):
        s = _improved(s, xi, signed_share)
    state = _state(price, forward, strike, years, sign)
    return jnp.where(state == VolState.OK, s / jnp.sqrt(years), jnp.nan)


@_implied_vol.defjvp
def _implied_vol_jvp(
    primals: tuple[Array, ...], tangents: tuple[Array, ...]
) -> tuple[Array, Array]:
    vol = _implied_vol(*primals)
    known = jnp.isfinite(vol)
    slope = greeks(known, vol, *primals[1:])
    d_price, d_forward, d_strike, d_years, _ = tangents
    change = (
        d_price - slope.forward * d_forward - slope.strike * d_strike - slope.years * d_years
    ) / jnp.where(known, slope.vol, 1.0)
    return vol, jnp.where(known, change, 0.0)


def _terms(price: Array, forward: Array, strike: Array, sign: Array) -> _Terms:
    lower, higher = jnp.minimum(forward, strike), jnp.maximum(forward, strike)
    apart = higher - lower
    # What rounding took from `apart` (Knuth's two-sum): in the money the time value is the small
    # difference of price and `apart`, and this makes it the exact one.
    virtual = higher - apart
    lost = (higher - (apart + virtual)) + (virtual - lower)
    in_the_money = sign * (forward - strike) > 0
    return _Terms(
        time_value=jnp.where(in_the_money, (price - apart) - lost, price),
        complement=jnp.where(sign > 0, forward, strike) - price,
        lower=lower,
        apart=apart,
        higher=higher,
    )


def _state(price: Array, forward: Array, strike: Array, years: Array, sign: Array) -> Array:
    terms = _terms(price, forward, strike, sign)
    state = jnp.where(terms.complement > 0, VolState.OK, VolState.ABOVE_MAXIMUM)
    has_time_value = (terms.time_value > 0) & (terms.time_value >= _LEAST_SHARE * terms.lower)
    state = jnp.where(has_time_value, state, VolState.BELOW_INTRINSIC)
    state = jnp.where(years > 0, state, VolState.NO_TIME)
    readable = (jnp.abs(price) < jnp.inf) & (jnp.abs(years) < jnp.inf)
    return jnp.where(readable & is_usable(forward, strike, sign), state, VolState.BAD_INPUT)


def _start(xi: Array, signed_share: Array, rho: Array) -> Array:
    """A first s, from the share of the maximum: τ below half, τ - 1 (negative) above."""
    below_half, share = signed_share > 0, jnp.abs(signed_share)
    # Both starts need a logarithm and its root; they share them.
    logarithm = log(jnp.where(below_half, 1 + rho, 1 / share))
    weight = math.log(2.0) * _polynomial(_SHARE_NUMERATOR, xi) / _polynomial(_SHARE_DENOMINATOR, xi)
    v = jnp.sqrt(2 * jnp.where(below_half, logarithm, logarithm + weight))

    x = jnp.maximum(xi, _LEAST_RHO * share)
    distance = v * v * _polynomial(_DISTANCE_NUMERATOR, v)
    bachelier = x * _polynomial(_DISTANCE_DENOMINATOR, v) / distance
    q = bachelier * bachelier
    a, b, c, d, e, f = _TO_BLACK
    rest = (1 + a * q + b * x) / (24 * (1 + c * q + x * (d + e * q + f * x)))
    low = bachelier * (1 + q * rest)

    quantile = v - _polynomial(_HASTINGS_NUMERATOR, v) / _polynomial(_HASTINGS_DENOMINATOR, v)
    high = quantile + jnp.sqrt(quantile * quantile + 2 * xi)
    return jnp.where(below_half, low, high)


def _improved(s: Array, xi: Array, signed_share: Array) -> Array:
    """One Householder step of fifth order on f."""
    below_half = signed_share > 0
    value, y, z, inverse = scaled_value(s, xi, below_half)
    ratio = value / signed_share
    residual = log(jnp.abs(ratio)) - (0.5 * y * y + LOG_ROOT_TWO_PI)
    signed_value = ratio * jnp.abs(signed_share)
    newton = -residual * signed_value
    # With g = f' and a = (ln φ(y))' = y·z/s: (ln f')' = a - g and g' = g·(a - g), from which
    # r₂, r₃, r₄ = f''/f', f'''/f', f''''/f'.
    g = 1 / signed_value
    h_squared = (0.5 * (y + z) * inverse) ** 2
    a = y * z * inverse
    a_slope = -(3 * h_squared + 0.25)
    a_curve = 12 * h_squared * inverse
    r2 = a - g
    r2_slope = a_slope - g * r2
    r2_curve = a_curve - g * (r2 * r2 + r2_slope)
    r3 = r2_slope + r2 * r2
    r4 = r2_curve + 2 * r2 * r2_slope + r2 * r3
    numerator = 1 + newton * (r2 + newton * r3 * (1 / 6))
    denominator = 1 + newton * (
        1.5 * r2 + newton * (0.25 * r2 * r2 + r3 * (1 / 3) + newton * r4 * (1 / 24))
    )
    return s + newton * numerator / denominator


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    total = jnp.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = total * x + coefficient
    return total
