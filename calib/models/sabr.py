"""SABR of one expiry by the lognormal expansion of Hagan, Kumar, Lesniewski & Woodward (2002).

The forward is the unit of price: K/F = e^k, and ``alpha`` is the paper's α times F^(β−1), a
lognormal vol as a decimal. So total variance depends on k alone, like that of the other models;
`alpha_at_forward` and `alpha_from_forward` convert.

With e = e^{(1−β)k/2}, L = (1−β)k and z = −(ν/α)·e·k the paper's equation 2.17a reads
σ(k) = α/(e·(1 + L²/24 + L⁴/1920)) · z/x(z) · (1 + T·H),
x(z) = ln[(√(1−2ρz+z²) + z − ρ)/(1−ρ)],
H = (1−β)²α²/(24e²) + ρβνα/(4e) + (2−3ρ²)ν²/24, and w = σ²T.

Domain: alpha > 0, 0 ≤ beta ≤ 1, −1 < rho < 1, nu ≥ 0. The expansion is meaningful where
1 + T·H > 0; it breaks Lee's bound far from the money, see calib.surface for its continuation.
"""

from __future__ import annotations

from typing import NamedTuple

from calib.models.arrays import Array, Parameters, namespace

_SERIES_BELOW = 1e-3
"""|z| under which z/x(z) comes from its series: its derivative in closed form loses ε/|z| there,
the series cut after z⁵ loses z⁵; both are under 1e-12 on either side of this value."""


class SabrParameters(NamedTuple):
    """alpha: vol at unit forward; beta: elasticity; rho: correlation; nu: vol of vol."""

    alpha: float
    beta: float
    rho: float
    nu: float


def alpha_from_forward(alpha: Array, beta: Array, forward: Array) -> Array:
    """The paper's α, in units of F^(1−β), as the dimensionless alpha of this module."""
    return alpha * forward ** (beta - 1.0)


def alpha_at_forward(alpha: Array, beta: Array, forward: Array) -> Array:
    """The dimensionless alpha of this module as the paper's α, in units of F^(1−β)."""
    return alpha * forward ** (1.0 - beta)


def _ratio(z: Array, rho: Array) -> Array:
    """x(z)/z without cancellation for either sign of z, and smooth through z = 0.

    x is odd under (z, ρ) → (−z, −ρ), so that only positive arguments meet the logarithm. Near 0,
    x(z)/z = Σ Pₙ(ρ)zⁿ/(n+1) with Legendre's Pₙ, whose generating function 1/√(1−2ρz+z²) is x′.
    """
    xp = namespace(z)
    near = xp.abs(z) < _SERIES_BELOW
    # Both branches are differentiated: neither may see an argument that it cannot take.
    far_z = xp.where(near, 1.0, z)
    y = xp.abs(far_z)
    c = rho * xp.sign(far_z)
    far = xp.log1p(y * (1.0 + (y - 2.0 * c) / (_root(y, c) + 1.0)) / (1.0 - c)) / y
    near_z = xp.where(near, z, 0.0)
    p1, p2, p3, p4, p5 = _series(rho)
    series = 1.0 + near_z * (p1 + near_z * (p2 + near_z * (p3 + near_z * (p4 + near_z * p5))))
    return xp.where(near, series, far)


def _ratio_by_z(z: Array, rho: Array, ratio: Array) -> Array:
    """d(x/z)/dz = (x′ − x/z)/z, by the series near 0."""
    xp = namespace(z)
    near = xp.abs(z) < _SERIES_BELOW
    far = (1.0 / _root(z, rho) - ratio) / xp.where(near, 1.0, z)
    near_z = xp.where(near, z, 0.0)
    p1, p2, p3, p4, p5 = _series(rho)
    series = p1 + near_z * (
        2.0 * p2 + near_z * (3.0 * p3 + near_z * (4.0 * p4 + near_z * (5.0 * p5)))
    )
    return xp.where(near, series, far)


def _ratio_by_rho(z: Array, rho: Array) -> Array:
    """d(x/z)/dρ = z(1 + ρ(z−2ρ)/(root+1)) / ((root+1)·root·(1−ρ²)), free of cancellation."""
    root = _root(z, rho)
    flat = (1.0 - rho) * (1.0 + rho)
    return z * (1.0 + rho * (z - 2.0 * rho) / (root + 1.0)) / ((root + 1.0) * root * flat)


def _root(z: Array, rho: Array) -> Array:
    """√(1 − 2ρz + z²) as a sum of squares."""
    centred = z - rho
    return namespace(centred).sqrt(centred * centred + (1.0 - rho) * (1.0 + rho))


def _series(rho: Array) -> tuple[Array, Array, Array, Array, Array]:
    """Pₙ(ρ)/(n+1) for n = 1 to 5."""
    square = rho * rho
    return (
        rho / 2.0,
        (3.0 * square - 1.0) / 6.0,
        rho * (5.0 * square - 3.0) / 8.0,
        (square * (35.0 * square - 30.0) + 3.0) / 40.0,
        rho * (square * (63.0 * square - 70.0) + 15.0) / 48.0,
    )


class _Factors(NamedTuple):
    """What σ(k) is the product of, and the pieces its derivatives share."""

    e: Array
    wing: Array  # L
    denominator: Array  # 1 + L²/24 + L⁴/1920
    z: Array
    ratio: Array  # x(z)/z
    h_backbone: Array  # (1−β)²α²/(24e²)
    h_skew: Array  # ρβνα/(4e)
    time: Array  # 1 + T·H


def _factors(parameters: Parameters, k: Array, years: Array) -> _Factors:
    alpha, beta, rho, nu = parameters
    elasticity = 1.0 - beta
    wing = elasticity * k
    e = namespace(wing).exp(0.5 * wing)
    z = -(nu / alpha) * e * k
    scaled = elasticity * alpha / e
    h_backbone = scaled * scaled / 24.0
    h_skew = rho * beta * nu * alpha / (4.0 * e)
    square = wing * wing
    return _Factors(
        e=e,
        wing=wing,
        denominator=1.0 + square / 24.0 + square * square / 1920.0,
        z=z,
        ratio=_ratio(z, rho),
        h_backbone=h_backbone,
        h_skew=h_skew,
        time=1.0 + years * (h_backbone + h_skew + (2.0 - 3.0 * rho * rho) * nu * nu / 24.0),
    )


def _variance(alpha: Array, f: _Factors, years: Array) -> Array:
    vol = alpha / (f.e * f.denominator * f.ratio) * f.time
    return vol * vol * years


def total_variance(parameters: Parameters, k: Array, years: Array) -> Array:
    """w(k) = σ(k)²T for T = ``years``.

    Source: Hagan et al. (2002), equation 2.17a.
    """
    return _variance(parameters[0], _factors(parameters, k, years), years)


def slope(parameters: Parameters, k: Array, years: Array) -> Array:
    """dw/dk = 2w·d ln σ/dk."""
    alpha, beta, rho, nu = parameters
    f = _factors(parameters, k, years)
    elasticity = 1.0 - beta
    z_by_k = -(nu / alpha) * f.e * (1.0 + 0.5 * f.wing)
    log_vol_by_k = (
        -0.5 * elasticity
        - elasticity * (f.wing / 12.0 + f.wing * f.wing * f.wing / 480.0) / f.denominator
        - _ratio_by_z(f.z, rho, f.ratio) / f.ratio * z_by_k
        - years * elasticity * (f.h_backbone + 0.5 * f.h_skew) / f.time
    )
    return 2.0 * _variance(alpha, f, years) * log_vol_by_k


def parameter_gradient(parameters: Parameters, k: Array, years: Array) -> tuple[Array, ...]:
    """∂w/∂(α, β, ρ, ν) = 2w·∂ln σ, four arrays of the shape of w."""
    alpha, beta, rho, nu = parameters
    f = _factors(parameters, k, years)
    elasticity = 1.0 - beta
    twice = 2.0 * _variance(alpha, f, years)
    log_f_by_z = -_ratio_by_z(f.z, rho, f.ratio) / f.ratio
    by_alpha = (
        1.0 / alpha
        - log_f_by_z * f.z / alpha
        + years * (2.0 * f.h_backbone + f.h_skew) / (alpha * f.time)
    )
    h_by_beta = (
        k * (f.h_backbone + 0.5 * f.h_skew)
        - elasticity * alpha * alpha / (12.0 * f.e * f.e)
        + rho * nu * alpha / (4.0 * f.e)
    )
    by_beta = (
        0.5 * k
        + k * (f.wing / 12.0 + f.wing * f.wing * f.wing / 480.0) / f.denominator
        - 0.5 * k * f.z * log_f_by_z
        + years * h_by_beta / f.time
    )
    by_rho = (
        -_ratio_by_rho(f.z, rho) / f.ratio
        + years * nu * (beta * alpha / (4.0 * f.e) - 0.25 * rho * nu) / f.time
    )
    by_nu = (
        -f.e * k / alpha * log_f_by_z
        + years * (rho * beta * alpha / (4.0 * f.e) + (2.0 - 3.0 * rho * rho) * nu / 12.0) / f.time
    )
    return (twice * by_alpha, twice * by_beta, twice * by_rho, twice * by_nu)
