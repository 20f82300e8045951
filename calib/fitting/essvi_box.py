"""eSSVI surfaces as boxes: any real numbers are a surface without static arbitrage.

With ρᵢ = .995·tanh x, aᵢ = exp x, cᵢ = .001 + .998/(1 + e⁻ˣ), fᵢ the exact butterfly bound on ψᵢ
and pᵢ = max((1+ρᵢ₋₁)/(1+ρᵢ), (1−ρᵢ₋₁)/(1−ρᵢ)),

    θᵢ = θᵢ₋₁pᵢ + aᵢ,   S_N = f_N,  Sᵢ = min(fᵢ, Sᵢ₊₁/pᵢ₊₁),
    ψ₁ = c₁S₁,          ψᵢ = ψᵢ₋₁pᵢ + cᵢ(min(ψᵢ₋₁θᵢ/θᵢ₋₁, Sᵢ) − ψᵢ₋₁pᵢ).

Source: Mingone (2022), arXiv:2204.00312, §3, with the bound of Martini & Mingone
(arXiv:2106.02418). ψ/θ does not increase, so that interpolation linear in θ, ψ and ρψ stays free of
calendar arbitrage as well. Here every pᵢ is larger by a factor 1 + `GROWTH` and fᵢ smaller by
1 − `SLACK`: total variance then grows by at least `GROWTH` everywhere, and g stays above zero.
The larger of the two quotients is taken with its kink rounded off, max(x, y) ≤
½(x + y + √((x − y)² + `_ROUNDING`²)): at equal ρ, where fits start and often end, the mean of the
slopes on both sides of a kink need not lead down, and a descent would stand still.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax

from calib.models.essvi_bound import binding_point, psi_bound_at

GROWTH = 1e-3
SLACK = 3e-3
_STEEPEST = 0.995  # |ρ| = 1 is a wing of slope zero, where nothing can be proved
_LEAST_SHARE = 1e-3  # a ψ of zero is no smile
_ROUNDING = 2e-3  # at equal ρ as much more as `GROWTH`
_UNBOUNDED = 1e9  # finite: the derivative of a quotient of infinity is nan


def from_box(x: Array) -> Array:
    """(θ, ρ, ψ) of shape (3, N, B) from coordinates (ln a, artanh ρ, logit c) of that shape."""
    rho = _STEEPEST * jnp.tanh(x[1])
    raised = _raises(rho)
    theta = _levels(jnp.exp(x[0]), raised)
    after = psi_limits(theta, rho, raised)
    share = _LEAST_SHARE + (1.0 - 2.0 * _LEAST_SHARE) / (1.0 + jnp.exp(-x[2]))

    def along(
        before: tuple[Array, Array], here: tuple[Array, ...]
    ) -> tuple[tuple[Array, Array], Array]:
        psi_before, theta_before = before
        theta_here, raise_here, limit, part = here
        low = psi_before * raise_here
        high = jnp.minimum(psi_before * theta_here / theta_before, limit)
        psi = low + part * (high - low)
        return (psi, theta_here), psi

    first = share[0] * after[0]
    rest = (theta[1:], raised[1:], after[1:], share[1:])
    _, psi = lax.scan(along, (first, theta[0]), rest)
    return jnp.stack([theta, rho, jnp.concatenate([first[None], psi])])


def to_box(theta: Array, rho: Array, psi: Array, inside: float = 0.02) -> Array:
    """Coordinates of a surface like this one: θ raised, ψ moved, to where the box allows it.

    Shares are kept ``inside`` away from 0 and 1, and θ rises by at least that share of itself
    over what it must.
    """
    raised = _raises(rho)

    def climb(before: Array, here: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        wanted, raise_here = here
        must = before * raise_here
        level = jnp.maximum(wanted, must * (1.0 + inside))
        return level, (level, level - must)

    _, (level, rise) = lax.scan(climb, jnp.zeros_like(theta[0]), (theta, raised))
    limit = psi_limits(level, rho, raised)

    def place(
        before: tuple[Array, Array], here: tuple[Array, ...]
    ) -> tuple[tuple[Array, Array], Array]:
        psi_before, theta_before = before
        theta_here, raise_here, limit_here, wanted = here
        low = psi_before * raise_here
        high = jnp.minimum(psi_before * theta_here / theta_before, limit_here)
        part = jnp.clip((wanted - low) / (high - low), inside, 1.0 - inside)
        return (low + part * (high - low), theta_here), part

    part = jnp.clip(psi[0] / limit[0], inside, 1.0 - inside)
    rest = (level[1:], raised[1:], limit[1:], psi[1:])
    _, parts = lax.scan(place, (part * limit[0], level[0]), rest)
    shares = jnp.concatenate([part[None], parts])
    odds = (shares - _LEAST_SHARE) / (1.0 - _LEAST_SHARE - shares)
    return jnp.stack([jnp.log(rise), jnp.arctanh(rho / _STEEPEST), jnp.log(odds)])


def psi_limits(theta: Array, rho: Array, raised: Array) -> Array:
    """S, of shape (N, B): the bound on ψ that each slice and those that follow allow."""
    own = (1.0 - SLACK) * psi_bound_at(theta, rho, lax.stop_gradient(binding_point(theta, rho)))

    def back(
        after: tuple[Array, Array], here: tuple[Array, Array]
    ) -> tuple[tuple[Array, Array], Array]:
        limit_after, raise_after = after
        bound, raise_here = here
        limit = jnp.minimum(bound, limit_after / raise_after)
        return (limit, raise_here), limit

    beyond = (jnp.full_like(own[0], _UNBOUNDED), jnp.ones_like(own[0]))
    _, limit = lax.scan(back, beyond, (own, raised), reverse=True)
    return limit


def _raises(rho: Array) -> Array:
    """pᵢ, the first of them without meaning."""
    before = jnp.concatenate([rho[:1], rho[:-1]])
    right, left = (1.0 + before) / (1.0 + rho), (1.0 - before) / (1.0 - rho)
    larger = 0.5 * (right + left + jnp.hypot(right - left, _ROUNDING))
    return (1.0 + GROWTH) * larger


def _levels(rises: Array, raised: Array) -> Array:
    def along(before: Array, here: tuple[Array, Array]) -> tuple[Array, Array]:
        rise, raise_here = here
        level = before * raise_here + rise
        return level, level

    _, theta = lax.scan(along, jnp.zeros_like(rises[0]), (rises, raised))
    return theta
