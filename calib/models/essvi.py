"""eSSVI of one expiry: w(k) = ½[θ + ρψk + √((ψk + θρ)² + θ²(1−ρ²))], ψ = θφ.

θ is the ATM total variance, ρ the correlation of the slice, ψ its scaled skew. In the theory of
extended SSVI: Hendriks & Martini (2019); Corbetta et al. (2019); Mingone (2022), section 2.
"""

from __future__ import annotations

from typing import NamedTuple

from calib.models.arrays import Array, Parameters, namespace


class EssviParameters(NamedTuple):
    """theta > 0: ATM total variance; rho in (−1, 1); psi > 0: θφ(θ), so that w′(0) = ρψ."""

    theta: float
    rho: float
    psi: float


def _root(theta: Array, rho: Array, x: Array) -> Array:
    """√((x + θρ)² + θ²(1−ρ²)) with x = ψk, free of cancellation."""
    centred = x + theta * rho
    return namespace(centred).sqrt(centred * centred + theta * theta * ((1.0 - rho) * (1.0 + rho)))


def total_variance(parameters: Parameters, k: Array, years: Array = 1.0) -> Array:
    """w(k); ``years`` has no part in it."""
    theta, rho, psi = parameters
    x = psi * k
    return 0.5 * (theta + rho * x + _root(theta, rho, x))


def slope(parameters: Parameters, k: Array, years: Array = 1.0) -> Array:
    """dw/dk = ½ψ[ρ + (ψk + θρ)/root]."""
    theta, rho, psi = parameters
    x = psi * k
    return 0.5 * psi * (rho + (x + theta * rho) / _root(theta, rho, x))


def curvature(parameters: Parameters, k: Array, years: Array = 1.0) -> Array:
    """d²w/dk² = ½ψ²θ²(1−ρ²)/root³."""
    theta, rho, psi = parameters
    root = _root(theta, rho, psi * k)
    flat = psi * psi * theta * theta * ((1.0 - rho) * (1.0 + rho))
    return 0.5 * flat / (root * root * root)


def parameter_gradient(parameters: Parameters, k: Array, years: Array = 1.0) -> tuple[Array, ...]:
    """∂w/∂(θ, ρ, ψ), three arrays of the shape of w."""
    theta, rho, psi = parameters
    x = psi * k
    root = _root(theta, rho, x)
    return (
        0.5 * (1.0 + (rho * x + theta) / root),
        0.5 * x * (1.0 + theta / root),
        0.5 * k * (rho + (x + theta * rho) / root),
    )


def to_svi(parameters: Parameters) -> tuple[Array, Array, Array, Array, Array]:
    """The raw SVI (a, b, ρ, m, σ) of the same curve.

    a = θ(1−ρ²)/2, b = ψ/2, m = −θρ/ψ, σ = θ√(1−ρ²)/ψ.
    Source: Gatheral & Jacquier (2014), section 3.2, with their natural parameters.
    """
    theta, rho, psi = parameters
    flat = (1.0 - rho) * (1.0 + rho)
    xp = namespace(flat)
    return (
        0.5 * theta * flat,
        0.5 * psi,
        rho,
        -theta * rho / psi,
        theta * xp.sqrt(flat) / psi,
    )
