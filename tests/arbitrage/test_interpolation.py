"""Between expiries and beyond the last: certificates of strips against dense scans."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from calib.arbitrage.butterfly import certify_butterfly
from calib.arbitrage.cells import Cells
from calib.arbitrage.extrapolation import certify_extrapolation, lowest_quadratic
from calib.arbitrage.interpolation import certify_interpolation
from calib.arbitrage.slices import Floats, SviSlices
from calib.arbitrage.strip_blocks import compiled_bounds
from calib.arbitrage.strips import Strips, bounds, lowest_chord
from tests.arbitrage.dense import (
    Curves,
    durrleman,
    lowest_g,
    lowest_g_between,
    lowest_g_beyond,
    raw_svi,
)
from tests.arbitrage.slice_samples import from_rows, ordinary, rows, steepened, successors


def certified_pairs(seed: int, number: int) -> tuple[SviSlices, SviSlices]:
    """Pairs of which both slices are free of butterfly arbitrage; about half of them cross."""
    rng = np.random.default_rng(seed)
    first = ordinary(rng, number)
    second = successors(rng, first)
    both = certify_butterfly(first).ok & certify_butterfly(second).ok
    return first.take(both), second.take(both)


def tight(slices: SviSlices) -> SviSlices:
    """The slices made as steep as butterfly allows: g almost touches zero."""
    low, high = np.ones(slices.number), np.full(slices.number, 300.0)
    for _ in range(30):
        middle = 0.5 * (low + high)
        ok = certify_butterfly(steepened(slices, middle)).ok
        low, high = np.where(ok, middle, low), np.where(ok, high, middle)
    return steepened(slices, low)


def margins(*groups: SviSlices) -> tuple[Floats, ...]:
    return tuple(certify_butterfly(slices).margin for slices in groups)


def test_what_interpolation_adds_to_the_chord_is_as_stated() -> None:
    """4g(λ) = (1−λ)4g₁ + λ4g₂ + λ(1−λ)H(1/w), and H(1/w) ≥ min(H₁, H₂)."""
    rng = np.random.default_rng(41)
    first, second = certified_pairs(41, 400)
    k = rng.normal(0, 1, (first.number, 40)) * 2
    one, two = raw_svi(rows(first), k), raw_svi(rows(second), k)
    y1, y2 = ((c.w - k * c.first) / c.w for c in (one, two))
    ratio, step = two.w / one.w, y2 - y1
    h1 = 2 * (ratio - 1) * (1 + y1) * step - step**2
    h2 = 2 * (1 - 1 / ratio) * (1 + y2) * step - step**2
    log_slopes = one.first / one.w - two.first / two.w
    for share in (0.0, 0.1, 0.35, 0.5, 0.8, 1.0):
        mixed = Curves(*((1 - share) * a + share * b for a, b in zip(one, two, strict=True)))
        w = mixed.w
        bulge = (
            (two.w - one.w) * step * (2 + y1 + y2) / w
            - one.w * two.w * step**2 / w**2
            + one.w * two.w * log_slopes**2 / w
            + (one.first - two.first) ** 2 / 4
        )
        chord = (1 - share) * durrleman(one, k) + share * durrleman(two, k)
        exact = durrleman(mixed, k)
        size = 1 + np.abs(chord) + np.abs(bulge)
        assert (np.abs(exact - chord - share * (1 - share) * bulge / 4) < 1e-11 * size).all()
        assert (bulge >= np.minimum(h1, h2) - 1e-11 * size).all()


def assert_strips_hold(first: SviSlices, second: SviSlices, share: float) -> None:
    one, two = margins(first, second)
    result = certify_interpolation(first, second, one, two)
    assert result.ok.mean() >= share
    truth = np.concatenate(
        [
            lowest_g_between(rows(first)[i : i + 40], rows(second)[i : i + 40], 10)
            for i in range(0, first.number, 40)
        ]
    )
    assert (result.margin <= truth * (1 + 1e-9)).all()
    assert (truth[result.ok] > 0).all()


def test_strips_of_certified_pairs_are_certified_and_bounded() -> None:
    assert_strips_hold(*certified_pairs(42, 1_500), share=0.995)


def test_strips_between_slices_at_the_edge_of_arbitrage() -> None:
    first, second = certified_pairs(43, 700)
    assert_strips_hold(tight(first), second, share=0.97)
    assert_strips_hold(tight(first), tight(second), share=0.9)


def test_unlike_slices_are_never_certified_against_the_dense_scan() -> None:
    """Pairs that have nothing to do with each other: some interpolants have arbitrage."""
    slices = ordinary(np.random.default_rng(44), 3_000)
    slices = tight(slices.take(certify_butterfly(slices).ok))
    half = slices.number // 2
    first, second = slices.take(slice(0, half)), slices.take(slice(half, 2 * half))
    assert_strips_hold(first, second, share=0.2)


def test_interpolating_a_slice_with_itself_or_a_raised_one() -> None:
    first, _ = certified_pairs(45, 200)
    raised = SviSlices(first.a * 1.0 + 0.01, *first[1:])
    one, two = margins(first, raised)
    assert certify_interpolation(first, first, one, one).ok.all()
    kept = two > 0
    assert certify_interpolation(first, raised, one, two).ok[kept].all()


def test_what_is_not_proved_of_a_slice_is_not_proved_of_the_strip() -> None:
    good = SviSlices.of(0.04, 0.1, -0.3, 0.05, 0.2)
    flat = SviSlices.of(0.05, 0.0, 0.0, 0.0, 0.0)
    bad = SviSlices.of(0.04, 2.0, 0.5, 0.0, 0.1)
    nothing = SviSlices.of(np.nan, 0.1, 0.0, 0.0, 0.1)
    for other in (flat, bad, nothing):
        for pair in ((good, other), (other, good)):
            result = certify_interpolation(*pair, *margins(*pair))
            assert not result.ok[0]
            assert result.margin[0] == -np.inf


small = st.floats(-3, 3)


@settings(max_examples=300, deadline=None)
@given(small, small, small)
def test_lowest_chord_and_quadratic_are_minima(first: float, second: float, third: float) -> None:
    share = np.linspace(0, 1, 2001)
    one, two, three = (np.array([x]) for x in (first, second, third))
    seen = ((1 - share) * first + share * second + share * (1 - share) * third).min()
    assert lowest_chord(one, two, three)[0] == pytest.approx(seen, abs=1e-5)
    assert lowest_chord(one, two, three)[0] <= seen + 1e-12
    curve = (1 - share) ** 2 * first + 2 * share * (1 - share) * second + share**2 * third
    assert lowest_quadratic(one, two, three)[0] == pytest.approx(curve.min(), abs=1e-5)
    assert lowest_quadratic(one, two, three)[0] <= curve.min() + 1e-12


def assert_raises_hold(slices: SviSlices, share: float) -> None:
    (margin,) = margins(slices)
    result = certify_extrapolation(slices, margin)
    raises = np.concatenate([[0.0], np.geomspace(1e-6, 1e3, 40)])
    truth = np.concatenate(
        [lowest_g_beyond(rows(slices)[i : i + 40], raises) for i in range(0, slices.number, 40)]
    )
    assert result.ok.mean() >= share
    assert (result.margin <= truth * (1 + 1e-9)).all()
    assert (truth[result.ok] > 0).all()


def test_raised_slices_are_certified_for_every_raise() -> None:
    slices, _ = certified_pairs(46, 800)
    assert_raises_hold(slices, share=0.995)
    assert_raises_hold(tight(slices), share=0.97)


def test_a_raise_that_makes_arbitrage_is_not_certified() -> None:
    """A steep, low, far-off vertex: clean as it stands, not when raised."""
    rng = np.random.default_rng(47)
    number = 20_000
    rho = rng.uniform(-0.9, 0.9, number)
    sigma = 10 ** rng.uniform(-2, 0, number)
    b = rng.uniform(0.1, 1.2, number)
    lowest = 10 ** rng.uniform(-6, -1, number)
    slices = SviSlices.of(
        lowest - b * sigma * np.sqrt(1 - rho**2),
        b,
        rho,
        2 * sigma * rng.normal(0, 1, number),
        sigma,
    )
    slices = slices.take(certify_butterfly(slices).ok)
    assert_raises_hold(slices.take(slice(0, 2_000)), share=0.9)


def test_flat_slices_stay_flat() -> None:
    flat = SviSlices.of(0.05, 0.0, 0.0, 0.0, 0.0)
    result = certify_extrapolation(flat, *margins(flat))
    assert (result.ok[0], result.margin[0]) == (True, 1.0)


def test_a_scaled_down_slice_keeps_its_share_of_the_margin() -> None:
    """Before the first expiry, w₁·τ/τ₁: g(λ) ≥ λ·g(1)."""
    slices, _ = certified_pairs(48, 300)
    (margin,) = margins(slices)
    for share in (0.9, 0.5, 0.1, 0.01):
        scaled = rows(slices) * np.array([share, share, 1, 1, 1])
        assert (lowest_g(scaled) >= share * margin - 1e-12).all()
        assert certify_butterfly(from_rows(scaled)).ok.all()


def test_bounds_of_strips_hold_on_any_cell_of_any_slices() -> None:
    """The enclosures themselves, with nothing known of the slices, arbitrage included."""
    rng = np.random.default_rng(49)
    number = 4_000
    first = ordinary(rng, number)
    second = successors(rng, first).take(rng.permutation(number))
    start = first.m + first.sigma * np.sinh(rng.normal(0, 2, number))
    width = first.sigma * 10 ** rng.uniform(-4, 0.3, number)
    wing = rng.random(number) < 0.3
    near = (1.5 * np.abs(first.m) + 20 * first.sigma) ** -1.0
    inner, outer = np.sort(rng.random((2, number)) * near, axis=0)
    side, one = rng.choice([-1.0, 1.0], number), np.ones(number)
    cells = Cells(
        np.arange(number),
        np.where(wing, side, start),
        np.where(wing, inner, one),
        np.where(wing, side, start + width),
        np.where(wing, outer, one),
        wing,
    )
    begin, end = np.sort(rng.random((2, number)), axis=0)
    pair = (first, second)
    parameters = np.stack([np.stack(slices) for slices in pair], axis=1)
    strips, floors = Strips(cells, begin, end), np.full((2, number), -np.inf)
    with np.errstate(all="ignore"):
        plain = bounds(pair, strips, (floors[0], floors[1]))
    bound, middle = compiled_bounds(parameters, strips, floors)
    assert_allclose(bound, plain.lower, rtol=1e-9, atol=1e-9)
    assert_allclose(middle, plain.middle, rtol=1e-9, atol=1e-9)
    # Wide cells may stay unbounded; enough must be bounded for the test to say something.
    assert (bound > -10).mean() > 0.5
    for along in np.linspace(0, 1, 9):
        u = cells.u + along * (cells.u_end - cells.u)
        v = cells.v + along * (cells.v_end - cells.v)
        k = (u / v)[:, None]
        curves = [raw_svi(rows(slices), k) for slices in pair]
        for across in np.linspace(0, 1, 9):
            share = (begin + across * (end - begin))[:, None]
            mixed = Curves(*((1 - share) * x + share * y for x, y in zip(*curves, strict=True)))
            seen = 4 * durrleman(mixed, k)[:, 0]
            assert not (bound > seen + 1e-9 * (1 + np.abs(seen))).any()
