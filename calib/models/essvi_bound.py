"""The largest ψ for which an eSSVI slice is free of butterfly arbitrage, exactly.

Martini & Mingone (arXiv:2106.02418) give the condition on (θ, ρ, ψ) as an infimum over strikes.
With ρ ≥ 0 (else mirror the smile), ε = 1 − ρ and the rational coordinate u = 1/τ = εx of
`calib.arbitrage.butterfly`, which for eSSVI makes w a square, it reads

    1/ψ² ≥ sup over x ≥ 0 of (1+ρ)(θα + β)/(θz²),    z = e + 2x,    e = 1 + (1−ρ²)x²,
    α = (1+ρ)(1−u²)²/16,                             β = x((1−u)² − 8εx²/e).

At x = 0, which is k = ∞, this is Lee's bound ψ ≤ 4/(1+ρ); for short expiries the supremum lies
in 0 < x ≤ ½, where it is the only stationary point.
"""

from __future__ import annotations

from calib.models.arrays import Array, namespace

_NEWTON_STEPS = 4  # measured: 4e-3, 2e-6, 3e-13, 1e-15 of the bound after 1, 2, 3, 4


def binding_point(theta: Array, rho: Array) -> Array:
    """x at which the bound is attained: where a slice with the largest ψ has g = 0.

    θ > 0, ρ in (−1, 1); arrays broadcast. A fixed number of Newton steps, so that it can be
    compiled. The bound is stationary in x: its derivatives by θ and ρ are those at a fixed x
    (in jax, stop the gradient of x and save the differentiation of the iteration).
    """
    xp = namespace(theta + rho)
    rho = xp.abs(rho)
    eps, up = 1.0 - rho, 1.0 + rho
    q = eps * up
    x = xp.clip((0.5 - 0.386 * eps**0.75) * (1.0 - 0.25 * theta * up), 0.0, 0.5)
    for _ in range(_NEWTON_STEPS):
        u = eps * x
        v = q * x * x
        e = 1.0 + v
        z = e + 2.0 * x
        f = theta * up * (1.0 - u * u) ** 2 / 16.0 + x * ((1.0 - u) ** 2 - 8.0 * u * x / e)
        f1 = (
            -0.25 * theta * up * eps * u * (1.0 - u * u)
            + (1.0 - u) * (1.0 - 3.0 * u)
            - 8.0 * u * x * (3.0 + v) / (e * e)
        )
        f2 = (
            -0.25 * theta * up * eps * eps * (1.0 - 3.0 * u * u)
            - eps * (4.0 - 6.0 * u)
            - 16.0 * u * (3.0 - v) / (e * e * e)
        )
        z1 = 2.0 + 2.0 * q * x
        stationary = f1 * z - 2.0 * f * z1
        x = xp.clip(x - stationary / (f2 * z - f1 * z1 - 4.0 * q * f), 0.0, 0.5)
    return x


def psi_bound_at(theta: Array, rho: Array, x: Array) -> Array:
    """The bound that the strike of coordinate x alone puts on ψ; its infimum is the bound."""
    xp = namespace(theta + rho + x)
    rho = xp.abs(rho)
    eps, up = 1.0 - rho, 1.0 + rho
    u = eps * x
    e = 1.0 + eps * up * x * x
    f = theta * up * (1.0 - u * u) ** 2 / 16.0 + x * ((1.0 - u) ** 2 - 8.0 * u * x / e)
    return (e + 2.0 * x) * xp.sqrt(theta / (up * f))


def psi_bound(theta: Array, rho: Array) -> Array:
    """The largest ψ free of butterfly arbitrage: min(4/(1+|ρ|), the square-root bound).

    θ > 0: ATM total variance; ρ in (−1, 1); arrays broadcast; relative accuracy 1e-14. The
    result increases in θ and decreases in |ρ|.
    """
    return psi_bound_at(theta, rho, binding_point(theta, rho))
