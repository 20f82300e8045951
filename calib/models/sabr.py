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

CONTINUATION_CAP = 1.95
"""The steepest slope with which total variance goes on outside the quotes; Lee's is 2."""

_SERIES_BELOW = 1e-3
"""|z| under which z/x(z) comes from its series: its derivative in closed form loses ε/|z| there,
the series cut after z⁵ loses z⁵; both are under 1e-12 on either side of this value."""

_HYPERBOLIC_SERIES_BELOW = 0.125
"""|x| under which 1/sinh x − 1/x and its derivative come from their series: in closed form the
derivative loses ε/x² there, the series cut after x⁹ loses x¹⁰/42000; both are under 3e-14."""

_HYPERBOLIC_SERIES = (-1 / 6, 7 / 360, -31 / 15120, 127 / 604800, -73 / 3421440)
"""1/sinh x − 1/x = Σ cₙx²ⁿ⁺¹."""


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
    far = xp.log1p(2.0 * y / _gap(y, c)) / y
    near_z = xp.where(near, z, 0.0)
    p1, p2, p3, p4, p5 = _series(rho)
    series = 1.0 + near_z * (p1 + near_z * (p2 + near_z * (p3 + near_z * (p4 + near_z * p5))))
    return xp.where(near, series, far)


def _gap(y: Array, c: Array) -> Array:
    """√(1−2cy+y²) + 1 − y for y ≥ 0, without cancellation: e^x − 1 = 2y/gap."""
    ahead = y - c
    size = namespace(ahead).abs(ahead)
    root = _root(y, c)
    # √(d²+s²) − d for d > 0 is s²/(√(d²+s²) + d).
    rest = namespace(ahead).where(ahead > 0.0, (1.0 - c) * (1.0 + c) / (root + size), root + size)
    return (1.0 - c) + rest


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


def _log_ratio_by_z(z: Array, rho: Array, ratio: Array) -> tuple[Array, Array]:
    """The first two derivatives by z of ln(z/x).

    tanh(x/2) = t = z/(1+R) with R = √(1−2ρz+z²), so that ln(z/x) = ln((1+R)/2) + Λ(x) where
    Λ = ln(tanh(x/2)/(x/2)); Λ′ = 1/sinh x − 1/x and Λ″ do not depend on ρ, and x′ = 1/R.
    """
    xp = namespace(z)
    root = _root(z, rho)
    above = 1.0 + root
    x = ratio * z
    near = xp.abs(x) < _HYPERBOLIC_SERIES_BELOW
    t = xp.where(near, 0.5, z / above)
    far_x = xp.where(near, 1.0, x)
    square = t * t
    near_x = xp.where(near, x, 0.0)
    by_x, by_x_twice = _hyperbolic_series(near_x)
    by_x = xp.where(near, by_x, 0.5 * (1.0 - square) / t - 1.0 / far_x)
    far = 1.0 / (far_x * far_x) - 0.25 * (1.0 - square) * (1.0 + square) / square
    by_x_twice = xp.where(near, by_x_twice, far)
    lean = (z - rho) / root  # R′
    bend = lean / above
    first = bend + by_x / root
    flat = (1.0 - rho) * (1.0 + rho)
    second = (
        flat / (root * root * root * above)
        - bend * bend
        + (by_x_twice - by_x * lean) / (root * root)
    )
    return first, second


def _hyperbolic_series(x: Array) -> tuple[Array, Array]:
    """1/sinh x − 1/x and its derivative near 0."""
    c0, c1, c2, c3, c4 = _HYPERBOLIC_SERIES
    square = x * x
    value = x * (c0 + square * (c1 + square * (c2 + square * (c3 + square * c4))))
    derivative = c0 + square * (
        3.0 * c1 + square * (5.0 * c2 + square * (7.0 * c3 + square * (9.0 * c4)))
    )
    return value, derivative


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


def curvature(parameters: Parameters, k: Array, years: Array) -> Array:
    """d²w/dk²."""
    return jet(parameters, k, years)[2]


def jet(parameters: Parameters, k: Array, years: Array) -> tuple[Array, Array, Array]:
    """w, dw/dk and d²w/dk² at once: with u = ln σ they are w, 2wu′ and w(2u″ + 4u′²).

    u = ln α − ½(1−β)k − ln D(L) + ln(z/x) + ln(1 + T·H), D = 1 + L²/24 + L⁴/1920. No step
    cancels but the sum 1 + T·H, so the error is of a few units in the last place of the largest
    term. Source: the formula of `total_variance`, differentiated.
    """
    alpha, beta, rho, nu = parameters
    f = _factors(parameters, k, years)
    elasticity = 1.0 - beta
    square = f.wing * f.wing
    leaning = f.wing * (1.0 / 12.0 + square / 480.0) / f.denominator  # D′/D
    bending = (1.0 / 12.0 + square / 160.0) / f.denominator - leaning * leaning
    by_z, by_z_twice = _log_ratio_by_z(f.z, rho, f.ratio)
    scale = -(nu / alpha) * f.e
    z_by_k = scale * (1.0 + 0.5 * f.wing)
    z_by_k_twice = scale * elasticity * (1.0 + 0.25 * f.wing)
    share = years * elasticity / f.time
    by_time = share * (f.h_backbone + 0.5 * f.h_skew)
    by_time_twice = share * elasticity * (f.h_backbone + 0.25 * f.h_skew) - by_time * by_time
    first = by_z * z_by_k - elasticity * (0.5 + leaning) - by_time
    second = (
        by_z_twice * z_by_k * z_by_k
        + by_z * z_by_k_twice
        - elasticity * elasticity * bending
        + by_time_twice
    )
    w = _variance(alpha, f, years)
    return w, 2.0 * w * first, w * (2.0 * second + 4.0 * first * first)


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
