"""Natural logarithms of positive float64 arrays that the compiler can vectorise.

XLA's own float64 logarithm on a CPU calls the C library once per element, which would cost more
than the rest of an implied vol. This one is bit arithmetic, one division and one polynomial.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

# x = 2^n · m with m in [√½, √2): the bit pattern of √½ marks where n steps.
_ROOT_HALF_BITS = np.int64(0x3FE6A09E667F3BCD)
_MANTISSA_BITS = 52
_EXPONENT_BIAS = 1023
# ln 2 as a head with 21 trailing zero bits, so that n · head is exact, and its tail.
_LN2_HEAD = 6.93147180369123816490e-01
_LN2_TAIL = 1.90821492927058770002e-10
# 2·(atanh(u)/u - 1)/u² as a polynomial in u² on u² <= (3 - 2√2)²: Chebyshev interpolation,
# relative error of the logarithm 5e-18.
_ATANH_TAIL = (
    0.666666666666667,
    0.3999999999989771,
    0.2857142862675966,
    0.22222211010576556,
    0.18182897953282817,
    0.15331434250577325,
    0.14619938212134295,
)


def log(x: Array) -> Array:
    """ln x for normal positive ``x``, within 2 ulp. Anything else gives a meaningless number."""
    bits, exponent = _split(x)
    mantissa = lax.bitcast_convert_type(bits - (exponent << _MANTISSA_BITS), jnp.float64)
    return _assemble((mantissa - 1) / (mantissa + 1), exponent)


def log_ratio(a: Array, b: Array) -> Array:
    """ln(a/b) for normal positive ``a``, ``b`` with 1e-300 < a/b < 1e300.

    Within 2 ulp of the result even where a/b is next to 1, because the difference a - b is taken
    before anything is rounded: ln(a/b) = 2 atanh((a - b)/(a + b)) after scaling by a power of two.
    """
    _, exponent = _split(a / b)
    scale = lax.bitcast_convert_type((_EXPONENT_BIAS - exponent) << _MANTISSA_BITS, jnp.float64)
    scaled = a * scale
    return _assemble((scaled - b) / (scaled + b), exponent)


def _split(x: Array) -> tuple[Array, Array]:
    bits = lax.bitcast_convert_type(x, jnp.int64)
    return bits, (bits - _ROOT_HALF_BITS) >> _MANTISSA_BITS


def _assemble(u: Array, exponent: Array) -> Array:
    """n ln 2 + 2 atanh(u)."""
    w = u * u
    tail = jnp.full_like(w, _ATANH_TAIL[-1])
    for coefficient in _ATANH_TAIL[-2::-1]:
        tail = tail * w + coefficient
    n = exponent.astype(jnp.float64)
    return n * _LN2_HEAD + (2 * u + (u * w * tail + n * _LN2_TAIL))
