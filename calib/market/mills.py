"""Sums and differences of Mills' ratio M(y) = (1 - Φ(y))/φ(y), free of cancellation.

Black's time value is a difference of two Mills ratios at neighbouring points (and what it lacks to
its maximum a sum), so a difference with full relative accuracy is what makes both the price and its
inverse accurate to the last digits, with one formula and no branches.

After Shepherd & Laframboise (1981, Math. Comp. 36, 249-253), who approximate (1 + 2x)·erfcx(x) by
one Chebyshev series after mapping the half-line to an interval. Here (y + 4)·M(y) is a polynomial
in u = 6.4/(y + 4) - 1, for y from -0.8 to infinity, and the difference of two values comes from
the polynomial's divided difference.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

LOWEST_ARGUMENT = -0.8
POLE = 4.0  # where the map has its pole: 4 to the left of 0
SCALE = 2 * (LOWEST_ARGUMENT + POLE)  # u = SCALE/(y + POLE) - 1 maps onto [-1, 1]

# Interpolation at 120 Chebyshev points in 60 digits, cut after degree 27 (1e-16), as powers of u.
COEFFICIENTS = (
    2.342725175597762,
    2.6330161272206114,
    2.15656096055806,
    1.2255679890228632,
    0.40225911244095464,
    0.0031082658474135983,
    -0.05559024481341267,
    -0.010640523463762302,
    0.00844687414027873,
    0.002283390506678344,
    -0.001726240256124974,
    -0.00034153808661326073,
    0.0004227122061317699,
    5.079270188916075e-06,
    -0.00010180313840160196,
    2.447770694458708e-05,
    1.8929273172303938e-05,
    -1.2553083171078872e-05,
    -7.765595299869834e-07,
    3.87031196027911e-06,
    -1.2501043293317303e-06,
    -6.966914304694408e-07,
    5.994296086783584e-07,
    1.1012916376232694e-08,
    -1.4182726311543451e-07,
    2.7264106103349864e-08,
    1.508772774523107e-08,
    -4.804071754975143e-09,
)


def mills_combination(y: Array, z: Array, gap: Array, difference: Array) -> Array:
    """M(y) - M(z) where ``difference`` holds, M(y) + M(z) elsewhere; relative error about 1e-15.

    ``y`` and ``z`` are at least -0.8; ``gap`` is z - y, which the caller knows without
    cancellation (used only for differences). Arrays of one shape.
    """
    y_shifted, z_shifted = y + POLE, z + POLE
    both = 1 / (y_shifted * z_shifted)
    ry, rz = both * z_shifted, both * y_shifted
    u, v = SCALE * ry - 1, SCALE * rz - 1
    # Horner's rule for p(v) and for the divided difference (p(u) - p(v))/(u - v) together.
    value = COEFFICIENTS[-1] * v + COEFFICIENTS[-2]
    divided = jnp.full_like(v, COEFFICIENTS[-1])
    for coefficient in COEFFICIENTS[-3::-1]:
        divided = divided * u + value
        value = value * v + coefficient
    # M(y) = p(u)·ry and u - v = SCALE·gap·ry·rz.
    minus = gap * both * (value + SCALE * divided * ry)
    plus = (value + (u - v) * divided) * ry + value * rz
    return jnp.where(difference, minus, plus)
