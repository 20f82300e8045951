"""Butterfly certificates against published slices, dense scans and 60-digit arithmetic."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.arbitrage.butterfly import certify_butterfly
from calib.arbitrage.slices import Floats, SviSlices
from calib.models.svi import JumpWings, from_jump_wings, to_jump_wings
from tests.arbitrage.dense import durrleman, lowest_g, raw_svi
from tests.arbitrage.slice_samples import (
    VOGT,
    WITH_ARBITRAGE,
    from_rows,
    ordinary,
    rows,
    steepened,
)


def one(*parameters: float) -> SviSlices:
    return SviSlices.of(*parameters)


def assert_bounds_closely(margin: Floats, truth: Floats, digits: float = 1e-9) -> None:
    """A lower bound, and within its promise: a fifth of the minimum, or .001."""
    assert (margin <= truth + digits * np.maximum(1, np.abs(truth))).all()
    assert (margin >= truth - np.maximum(0.25 * np.abs(truth), 1.1e-3)).all()


@pytest.mark.parametrize("name", WITH_ARBITRAGE)
def test_known_arbitrage_is_refused_with_its_depth(name: str) -> None:
    parameters, depth, k = WITH_ARBITRAGE[name]
    points = np.array([[k]])
    seen = durrleman(raw_svi([parameters], points), points)[0, 0]
    assert seen == pytest.approx(depth, abs=6e-5)
    result = certify_butterfly(one(*parameters))
    assert not result.ok[0]
    assert_bounds_closely(result.margin, np.array([depth]), 6e-5)


def test_vogt_is_negative_on_its_published_interval_only() -> None:
    k = np.linspace(-3, 3, 60001)[None, :]
    negative = k[durrleman(raw_svi([VOGT], k), k) < 0]
    assert (negative.min(), negative.max()) == pytest.approx((0.6424, 1.2569), abs=2e-4)


def test_repairs_of_vogt_by_call_wing_and_minimum_are_clean() -> None:
    """Gatheral & Jacquier (2014), section 5.1: c′ and ṽ′, then their optimised c."""
    wings = to_jump_wings(VOGT, 1.0)
    assert tuple(wings) == pytest.approx(
        (0.01742625, -0.1752111, 0.6997381, 1.316798, 0.0116249), rel=1e-6
    )
    repaired = JumpWings(wings.v, wings.psi, wings.p, 0.3493158, 0.01548182)
    optimal = wings._replace(c=0.8564763)
    slices = from_rows(np.array([from_jump_wings(w, 1.0) for w in (repaired, optimal)]))
    result = certify_butterfly(slices)
    assert result.ok.all()
    assert 0.0065 < result.margin[1] <= 0.0081184
    k = np.array([[0.811]])
    assert durrleman(raw_svi(rows(slices)[1:], k), k)[0, 0] == pytest.approx(0.0081183, abs=2e-6)


def test_wing_slope_of_three_is_arbitrage_although_below_four() -> None:
    result = certify_butterfly(one(0.04, 2.0, 0.5, 0.0, 0.1))
    assert not result.ok[0]
    assert_bounds_closely(result.margin, np.array([-2.14]), 5e-3)


@pytest.mark.parametrize("slope", [1.99, 2.0, 2.01])
def test_lees_bound_is_two(slope: float) -> None:
    # A level so high that only the wings matter: g there is 1/4 - slope^2/16.
    result = certify_butterfly(one(40.0, slope / 1.3, 0.3, 0.0, 1.0))
    assert result.ok[0] == (slope < 2.0)
    assert result.margin[0] <= 0.25 - slope**2 / 16 + 1e-12


def ssvi_row(theta: float, rho: float, phi: float) -> Floats:
    flat = 1 - rho**2
    return np.array([[theta * flat / 2, theta * phi / 2, rho, -rho / phi, np.sqrt(flat) / phi]])


def test_arbitrage_in_the_far_wing_alone_is_seen() -> None:
    """SSVI with Heston-like φ, λ = .3, ρ = −.7, θ = 20: clean on |k| ≤ 3, not at −∞."""
    scaled = 0.3 * 20.0
    slices = ssvi_row(20.0, -0.7, (1 - (1 - np.exp(-scaled)) / scaled) / scaled)
    k = np.linspace(-3, 3, 2001)[None, :]
    assert durrleman(raw_svi(slices, k), k).min() > 0
    result = certify_butterfly(from_rows(slices))
    assert not result.ok[0]
    assert_bounds_closely(result.margin, np.array([-0.0988]), 5e-5)


def test_power_law_ssvi_at_a_short_expiry_is_refused() -> None:
    """γ = .8 > ½ with η(1+|ρ|) ≤ 2: free of arbitrage by the usual condition, and full of it."""
    theta, eta, gamma = 1e-4, 2.0, 0.8
    phi = eta / (theta**gamma * (1 + theta) ** (1 - gamma))
    result = certify_butterfly(from_rows(ssvi_row(theta, 0.0, phi)))
    assert not result.ok[0]
    assert_bounds_closely(result.margin, np.array([-19.4]), 5e-3)


def test_ten_thousand_slices_agree_with_dense_scans() -> None:
    slices = ordinary(np.random.default_rng(11), 10_000)
    result = certify_butterfly(slices)
    truth = np.concatenate([lowest_g(part) for part in np.array_split(rows(slices), 40)])
    assert 0.3 < result.ok.mean() < 0.7
    assert np.array_equal(result.ok, truth > 0)
    assert_bounds_closely(result.margin, truth)


def edge(slices: SviSlices) -> tuple[Floats, Floats]:
    """Factors of b, a billionth apart, of which the smaller is certified and the larger is not."""
    low, high = np.ones(slices.number), np.full(slices.number, 300.0)
    assert certify_butterfly(steepened(slices, low)).ok.all()
    assert not certify_butterfly(steepened(slices, high)).ok.any()
    for _ in range(40):
        middle = 0.5 * (low + high)
        ok = certify_butterfly(steepened(slices, middle)).ok
        low, high = np.where(ok, middle, low), np.where(ok, high, middle)
    return low, high


def test_the_edge_of_arbitrage_is_where_a_dense_scan_sees_it() -> None:
    slices = ordinary(np.random.default_rng(12), 1_200)
    slices = slices.take(certify_butterfly(slices).ok)
    low, high = edge(slices)
    inside = lowest_g(rows(steepened(slices, low)))
    outside = lowest_g(rows(steepened(slices, high * (1 + 1e-3))))
    assert inside.min() > -1e-12
    assert outside.max() < 0


def exact_g(parameters: Floats, k: mpmath.mpf) -> mpmath.mpf:
    a, b, rho, m, sigma = map(mpmath.mpf, map(float, parameters))
    root = mpmath.sqrt((k - m) ** 2 + sigma**2)
    w = a + b * (rho * (k - m) + root)
    first = b * (rho + (k - m) / root)
    second = b * sigma**2 / root**3
    return (1 - k * first / (2 * w)) ** 2 - first**2 / 4 * (1 / w + mpmath.mpf(1) / 4) + second / 2


def test_margins_stay_below_sixty_digit_values_where_rounding_bites() -> None:
    """Vertices almost at zero variance and correlations almost at ±1."""
    rng = np.random.default_rng(13)
    number = 300
    rho = rng.choice([-1, 1], number) * (1 - 10 ** rng.uniform(-7, -1, number))
    sigma = 10 ** rng.uniform(-3, 0.5, number)
    b = 10 ** rng.uniform(-3, -0.2, number)
    depth = b * sigma * np.sqrt((1 - rho) * (1 + rho))
    a = -depth * (1 - 10 ** rng.uniform(-7, -1, number))
    slices = SviSlices.of(a, b, rho, sigma * rng.normal(0, 2, number), sigma)
    result = certify_butterfly(slices)
    assert np.isfinite(result.margin).all()
    grid = np.linspace(-9, 9, 3001)
    with mpmath.workdps(60):
        for row, margin in zip(rows(slices), result.margin, strict=True):
            k = row[3] + row[4] * np.sinh(grid - np.arctanh(row[2]))
            worst = k[np.argmin(durrleman(raw_svi([row], k[None]), k[None])[0])]
            assert margin <= exact_g(row, mpmath.mpf(float(worst)))


@pytest.mark.parametrize(
    "parameters",
    [
        (np.nan, 0.1, 0.0, 0.0, 0.1),
        (0.04, np.inf, 0.0, 0.0, 0.1),
        (0.04, 0.1, 0.0, np.inf, 0.1),
        (0.04, -0.1, 0.0, 0.0, 0.1),
        (0.04, 0.1, 1.0, 0.0, 0.1),
        (0.04, 0.1, -1.5, 0.0, 0.1),
        (0.04, 0.1, 0.0, 0.0, 0.0),
        (0.04, 0.1, 0.0, 0.0, -0.1),
        (-0.01, 0.1, 0.0, 0.0, 0.1),  # touches zero variance
        (-0.02, 0.1, 0.0, 0.0, 0.1),
        (-0.02, 0.0, 0.0, 0.0, 0.1),
        (1e300, 1e300, 0.0, 0.0, 1e300),
        (1e-300, 1e-300, 0.0, 0.0, 1e-300),
    ],
)
def test_what_is_no_slice_is_refused(parameters: tuple[float, ...]) -> None:
    result = certify_butterfly(one(*parameters))
    assert not result.ok[0]
    assert result.margin[0] == -np.inf


def test_flat_slice_is_free_of_arbitrage_whatever_its_other_parameters() -> None:
    result = certify_butterfly(SviSlices.of(0.04, 0.0, [0.0, 1.0, np.nan], 0.0, [0.1, 0.0, np.nan]))
    assert result.ok.all()
    assert (result.margin == 1.0).all()


def test_no_slices_give_no_verdicts() -> None:
    assert certify_butterfly(SviSlices.of(*np.empty((5, 0)))).ok.shape == (0,)


def test_columns_of_two_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 2\)"):
        SviSlices.of(np.ones((2, 2)), 1.0, 0.0, 0.0, 1.0)


def test_mirror_image_has_the_same_margin() -> None:
    slices = ordinary(np.random.default_rng(14), 500)
    margin = certify_butterfly(slices).margin
    assert certify_butterfly(slices.mirrored()).margin == pytest.approx(margin, rel=1e-6)


numbers = st.floats(allow_nan=True, allow_infinity=True)


@settings(max_examples=300, deadline=None)
@given(st.tuples(numbers, numbers, numbers, numbers, numbers))
def test_any_numbers_whatever_get_a_verdict(parameters: tuple[float, ...]) -> None:
    result = certify_butterfly(one(*parameters))
    assert not np.isnan(result.margin[0])
    if result.ok[0] and parameters[1] > 0:
        assert lowest_g(np.array([parameters]))[0] > 0
