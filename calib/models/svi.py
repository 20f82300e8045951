"""Raw SVI of one expiry: w(k) = a + b(ρ(k−m) + R), R = √((k−m)² + σ²).

Source: Gatheral & Jacquier, "Arbitrage-free SVI volatility surfaces" (2014), sections 3.1-3.3.
Parameters broadcast with k; w, a and σ are in total variance and log-moneyness, not in vol.
"""

from __future__ import annotations

from typing import NamedTuple

from calib.models.arrays import Array, Parameters, namespace

WING_CAP = 1.95
"""Largest wing slope of the chart: Lee's bound is 2, and g(±∞) = ¼ − β²/16 wants to be above 0."""


class SviParameters(NamedTuple):
    """a: level; b ≥ 0: angle; rho in (−1, 1): rotation; m: shift in k; sigma > 0: smoothing."""

    a: float
    b: float
    rho: float
    m: float
    sigma: float


class JumpWings(NamedTuple):
    """SVI as traders read it, for an expiry of t years; w = v·t.

    v: ATM variance; psi: ATM skew, ∂vol/∂k·√t = psi; p and c: slopes of the put and the call
    wing over √w; v_min: smallest variance (the paper's ṽ).
    """

    v: Array
    psi: Array
    p: Array
    c: Array
    v_min: Array


def total_variance(parameters: Parameters, k: Array, years: Array = 1.0) -> Array:
    """w(k) = a + b(ρ(k−m) + R); ``years`` has no part in it.

    Source: Gatheral & Jacquier (2014), equation 3.1.
    """
    a, b, rho, m, sigma = parameters
    x = k - m
    return a + b * (rho * x + namespace(x).sqrt(x * x + sigma * sigma))


def slope(parameters: Parameters, k: Array, years: Array = 1.0) -> Array:
    """dw/dk = b(ρ + (k−m)/R)."""
    _, b, rho, m, sigma = parameters
    x = k - m
    return b * (rho + x / namespace(x).sqrt(x * x + sigma * sigma))


def curvature(parameters: Parameters, k: Array, years: Array = 1.0) -> Array:
    """d²w/dk² = bσ²/R³."""
    _, b, _, m, sigma = parameters
    x = k - m
    squared = x * x + sigma * sigma
    return b * sigma * sigma / (squared * namespace(x).sqrt(squared))


def parameter_gradient(parameters: Parameters, k: Array, years: Array = 1.0) -> tuple[Array, ...]:
    """∂w/∂(a, b, ρ, m, σ), five arrays of the shape of w."""
    _, b, rho, m, sigma = parameters
    x = k - m
    r = namespace(x).sqrt(x * x + sigma * sigma)
    return (x * 0.0 + 1.0, rho * x + r, b * x, -b * (rho + x / r), b * sigma / r)


def to_chart(parameters: Parameters) -> Array:
    """Coordinates in which every real 5-vector is a positive, convex slice within Lee's bound.

    q = (logit(β_L/1.95), logit(β_R/1.95), softplus⁻¹(w*), k*, ln κ*) on axis 0, where
    β_L = b(1−ρ) and β_R = b(1+ρ) are the wing slopes, k* = m − σρ/√(1−ρ²) is the vertex,
    w* = a + bσ√(1−ρ²) the minimum and κ* = b(1−ρ²)^{3/2}/σ the curvature there.
    Exact inverse of `from_chart`. A slice outside the chart (a wing slope of 0 or from 1.95 on,
    minimum ≤ 0) has no coordinates: they come back infinite or nan.
    """
    a, b, rho, m, sigma = parameters
    xp = namespace(b)
    left, right = b * (1.0 - rho), b * (1.0 + rho)
    s = xp.sqrt((1.0 - rho) * (1.0 + rho))
    minimum = a + b * sigma * s
    return xp.stack(
        xp.broadcast_arrays(
            xp.log(left) - xp.log(WING_CAP - left),
            xp.log(right) - xp.log(WING_CAP - right),
            minimum + xp.log(-xp.expm1(-minimum)),
            m - sigma * rho / s,
            xp.log(b * s * s * s / sigma),
        )
    )


def from_chart(q: Array) -> Array:
    """Parameters (a, b, ρ, m, σ) on axis 0 from the coordinates of `to_chart`.

    b = (β_L+β_R)/2, ρ = (β_R−β_L)/(β_R+β_L), 1−ρ² = 4β_Lβ_R/(β_L+β_R)²,
    σ = b(1−ρ²)^{3/2}/κ*, m = k* + σρ/√(1−ρ²), a = w* − bσ√(1−ρ²).
    """
    xp = namespace(q)
    q_left, q_right, q_minimum, vertex, q_curvature = q
    # exp(−log(1+e^{−x})) is the logistic without overflow, and smooth under differentiation.
    left = WING_CAP * xp.exp(-xp.logaddexp(-q_left, 0.0))
    right = WING_CAP * xp.exp(-xp.logaddexp(-q_right, 0.0))
    minimum = xp.logaddexp(q_minimum, 0.0)
    b = 0.5 * (left + right)
    rho = (right - left) / (right + left)
    s = xp.sqrt(left * right) / b
    sigma = b * s * s * s * xp.exp(-q_curvature)
    m = vertex + sigma * rho / s
    return xp.stack([minimum - b * sigma * s, b, rho, m, sigma])


def to_jump_wings(parameters: Parameters, years: Array) -> JumpWings:
    """Raw SVI as jump-wings; the ATM variance a + b(√(m²+σ²) − ρm) must be positive.

    Source: Gatheral & Jacquier (2014), equation 3.5.
    """
    a, b, rho, m, sigma = parameters
    xp = namespace(b)
    radius = xp.sqrt(m * m + sigma * sigma)
    w = a + b * (radius - rho * m)
    root = xp.sqrt(w)
    return JumpWings(
        v=w / years,
        psi=0.5 * b / root * (rho - m / radius),
        p=b * (1.0 - rho) / root,
        c=b * (1.0 + rho) / root,
        v_min=(a + b * sigma * xp.sqrt((1.0 - rho) * (1.0 + rho))) / years,
    )


def from_jump_wings(wings: JumpWings, years: Array) -> SviParameters:
    """Raw SVI from jump-wings, the inverse of `to_jump_wings`.

    With β = m/√(m²+σ²) = ρ − 2ψ√w/b the radius √(m²+σ²) is
    (v − ṽ)t·(1 − ρβ + √((1−ρ²)(1−β²))) / (b(ρ−β)²), which needs no case for m = 0.
    Where the skew ψ is 0 the vertex is at the money and jump-wings do not say how curved it is
    (v = ṽ): the result is nan there. |β| > 1, a skew steeper than its own wing, is nan too.
    Source: Gatheral & Jacquier (2014), lemma 3.2, rearranged.
    """
    v, psi, p, c, v_min = wings
    xp = namespace(v)
    root = xp.sqrt(v * years)
    b = 0.5 * root * (c + p)
    rho = (c - p) / (c + p)
    gap = 2.0 * psi * root / b  # ρ − β
    beta = rho - gap
    flat = xp.sqrt((1.0 - beta) * (1.0 + beta))
    s = 2.0 * xp.sqrt(c * p) / (c + p)
    radius = (v - v_min) * years * (1.0 - rho * beta + s * flat) / (b * gap * gap)
    sigma = radius * flat
    return SviParameters(
        a=v_min * years - b * sigma * s, b=b, rho=rho, m=beta * radius, sigma=sigma
    )
