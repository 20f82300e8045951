"""Calendar certificates of raw SVI pairs against dense scans and the roots of the quartic."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.arbitrage.calendar import certify_calendar
from calib.arbitrage.slices import Flags, Floats, SviSlices, minimum_variance
from tests.arbitrage.dense import lowest_growth, raw_svi
from tests.arbitrage.slice_samples import ordinary, rows, successors

BASE = SviSlices.of(0.04, 0.1, -0.3, 0.05, 0.2)


def pairs(seed: int, number: int) -> tuple[SviSlices, SviSlices]:
    rng = np.random.default_rng(seed)
    first = ordinary(rng, number)
    return first, successors(rng, first)


def stays_above_by_roots(first: Floats, second: Floats) -> bool:
    """The quartic of Gatheral & Jacquier (2014), section 3.1: w₂ − w₁ at, between and beyond roots.

    L = w₂ − w₁ − b₂R₂ + b₁R₁ is linear; w₂ = w₁ implies Q² = 4L²b₂²R₂² with
    Q = b₁²R₁² − L² − b₂²R₂².
    """
    a1, b1, rho1, m1, sigma1 = map(float, first)
    a2, b2, rho2, m2, sigma2 = map(float, second)
    k = np.polynomial.Polynomial([0.0, 1.0])
    square1 = b1**2 * ((k - m1) ** 2 + sigma1**2)
    square2 = b2**2 * ((k - m2) ** 2 + sigma2**2)
    line = a2 - a1 + b2 * rho2 * (k - m2) - b1 * rho1 * (k - m1)
    roots = ((square1 - line**2 - square2) ** 2 - 4 * line**2 * square2).roots()
    real = np.sort(roots.real[np.abs(roots.imag) < 1e-6 * np.maximum(1, np.abs(roots))])
    points = np.concatenate([real, (real[1:] + real[:-1]) / 2, [-1e3, 1e3]])[None, :]
    difference = raw_svi([second], points).w - raw_svi([first], points).w
    wings = [b2 * (1 + s * rho2) >= b1 * (1 + s * rho1) for s in (-1, 1)]
    return bool((difference >= -1e-13).all()) and all(wings)


def assert_bounds_closely(margin: Floats, truth: Floats) -> None:
    """A lower bound, and within its promise: a fifth of the infimum, or 1e-4."""
    assert (margin <= truth + 1e-12).all()
    assert (margin >= truth - np.maximum(0.25 * np.abs(truth), 1.1e-4)).all()


def test_five_thousand_pairs_agree_with_dense_scans() -> None:
    first, second = pairs(21, 5_000)
    result = certify_calendar(first, second)
    truth = np.concatenate(
        [
            lowest_growth(one, two)
            for one, two in zip(
                np.array_split(rows(first), 80), np.array_split(rows(second), 80), strict=True
            )
        ]
    )
    assert 0.15 < result.ok.mean() < 0.8
    assert np.array_equal(result.ok, truth > 0)
    assert_bounds_closely(result.margin, truth)


def test_two_thousand_pairs_agree_with_the_roots_of_the_quartic() -> None:
    first, second = pairs(22, 2_000)
    by_roots = [stays_above_by_roots(*pair) for pair in zip(rows(first), rows(second), strict=True)]
    assert np.array_equal(certify_calendar(first, second).ok, by_roots)


def test_the_edge_of_crossing_is_where_a_dense_scan_sees_it() -> None:
    """The second slice is lowered until the certificate fails: there it touches."""
    first, second = pairs(23, 1_000)
    level = raw_svi(rows(second), np.zeros((1, 1))).w[:, 0]

    def lifted(by: Floats) -> SviSlices:
        return second._replace(a=second.a + by * level)

    low, high = np.full(level.shape, -0.9), np.full(level.shape, 9.0)
    inside = certify_calendar(first, lifted(high)).ok
    assert inside.mean() > 0.3  # the others fall in a wing
    first, second = first.take(inside), second.take(inside)
    level, low, high = level[inside], low[inside], high[inside]
    for _ in range(45):
        middle = 0.5 * (low + high)
        ok = certify_calendar(first, lifted(middle)).ok
        low, high = np.where(ok, low, middle), np.where(ok, middle, high)
    assert lowest_growth(rows(first), rows(lifted(high))).min() >= -1e-12
    below = low - 1e-3 * np.abs(low) - 1e-4
    positive = (minimum_variance(lifted(below)) > 0) & (low > -0.9)
    assert lowest_growth(rows(first), rows(lifted(below)))[positive].max() < 0


@pytest.mark.parametrize(
    ("change", "ok"),
    [
        ({}, True),  # the same slice
        ({"a": 0.05}, True),  # parallel: the ratio tends to one in both wings
        ({"a": 0.04 * (1 + 1e-15)}, True),
        ({"a": 0.04 * (1 - 1e-15)}, False),
        ({"sigma": 0.3}, True),  # above everywhere, touching at infinity
        ({"sigma": 0.1}, False),
        ({"m": 0.06}, False),  # crosses
        ({"m": 0.06, "a": 0.05}, True),  # parallel wings, shifted
        ({"m": 0.06, "a": 0.04 + 0.1 * 0.7 * 0.01 * 1.001}, True),
        ({"m": 0.06, "a": 0.04 + 0.1 * 0.7 * 0.01 * 0.999}, False),
        ({"b": 0.11}, True),
        ({"rho": -0.31}, False),  # the right wing falls
        ({"b": 0.1001, "rho": -0.3002}, True),
    ],
)
def test_touching_and_parallel_slices_are_decided(change: dict[str, float], ok: bool) -> None:
    second = SviSlices.of(
        **{name: change.get(name, float(value[0])) for name, value in BASE._asdict().items()}
    )
    result = certify_calendar(BASE, second)
    assert result.ok[0] == ok
    assert (result.margin[0] >= 0) == ok


def test_slices_that_touch_in_the_middle_are_undecided_and_so_refused() -> None:
    """w₂ = w₁ + c(k − k₀)² to second order, made by matching value and slope at a point."""
    k0, b2, sigma2, rho2 = 0.1, 0.2, 0.15, -0.2
    one = raw_svi(rows(BASE), np.array([[k0]]))
    # Vertex offset x such that b₂(ρ₂ + x/√(x²+σ²)) is the slope of the first.
    sine = float(one.first[0, 0]) / b2 - rho2
    x = sigma2 * sine / np.sqrt(1 - sine**2)
    a2 = float(one.w[0, 0]) - b2 * (rho2 * x + np.hypot(x, sigma2))
    result = certify_calendar(BASE, SviSlices.of(a2, b2, rho2, k0 - x, sigma2))
    assert not result.ok[0]
    assert -1e-12 < result.margin[0] <= 0
    raised = certify_calendar(BASE, SviSlices.of(a2 + 1e-10, b2, rho2, k0 - x, sigma2))
    assert raised.ok[0]


def test_pairs_that_differ_by_rounding_only_are_certified_where_true_or_not_at_all() -> None:
    number = 200
    rng = np.random.default_rng(24)
    first = ordinary(rng, number)
    jitter = [1 + rng.integers(-1, 2, number) * 2.0**-52 for _ in range(5)]
    second = SviSlices(*(p * j for p, j in zip(first, jitter, strict=True)))
    result = certify_calendar(first, second)
    assert (result.margin < 1e-12).all()
    with mpmath.workdps(50):
        for one, two in zip(rows(first)[result.ok], rows(second)[result.ok], strict=True):
            for step in range(-40, 41):
                k = mpmath.mpf(one[3]) + mpmath.mpf(one[4]) * mpmath.sinh(step / 4)
                assert exact_variance(two, k) >= exact_variance(one, k)


def exact_variance(parameters: Floats, k: mpmath.mpf) -> mpmath.mpf:
    a, b, rho, m, sigma = map(mpmath.mpf, map(float, parameters))
    return a + b * (rho * (k - m) + mpmath.sqrt((k - m) ** 2 + sigma**2))


@pytest.mark.parametrize(
    ("first", "second", "ok", "margin"),
    [
        ((0.04, 0.0, 0.0, 0.0, 0.0), (0.05, 0.0, 0.0, 0.0, 0.0), True, 0.25),
        ((0.04, 0.0, 0.0, 0.0, 0.0), (0.04, 0.0, 0.5, 0.1, 1.0), True, 0.0),
        ((0.05, 0.0, 0.0, 0.0, 0.0), (0.04, 0.0, 0.0, 0.0, 0.0), False, -0.2),
        ((0.05, 0.0, 0.0, 0.0, 0.0), (0.04, 0.1, 0.6, 0.0, 0.25), True, 0.2),
        ((0.07, 0.0, 0.0, 0.0, 0.0), (0.04, 0.1, 0.6, 0.0, 0.25), False, 0.06 / 0.07 - 1),
        ((0.04, 0.1, 0.6, 0.0, 0.25), (9.0, 0.0, 0.0, 0.0, 0.0), False, -1.0),
    ],
)
def test_flat_slices_are_compared_exactly(
    first: tuple[float, ...], second: tuple[float, ...], ok: bool, margin: float
) -> None:
    result = certify_calendar(SviSlices.of(*first), SviSlices.of(*second))
    assert result.ok[0] == ok
    assert result.margin[0] == pytest.approx(margin, abs=1e-12)


def test_mirrored_pairs_have_the_same_verdict() -> None:
    first, second = pairs(25, 1_000)
    verdict: Flags = certify_calendar(first, second).ok
    assert np.array_equal(certify_calendar(first.mirrored(), second.mirrored()).ok, verdict)


numbers = st.floats(allow_nan=True, allow_infinity=True)
five = st.tuples(numbers, numbers, numbers, numbers, numbers)


@settings(max_examples=300, deadline=None)
@given(five, five)
def test_any_numbers_whatever_get_a_verdict(
    first: tuple[float, ...], second: tuple[float, ...]
) -> None:
    result = certify_calendar(SviSlices.of(*first), SviSlices.of(*second))
    assert not np.isnan(result.margin[0])
    if not (np.isfinite(first).all() and np.isfinite(second).all()) and first[1] and second[1]:
        assert not result.ok[0]
