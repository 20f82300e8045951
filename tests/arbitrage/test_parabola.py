"""Enclosures by parabolas, courses along cells and bounds of growth, against dense values."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import mpmath
import numpy as np
import pytest

from calib.arbitrage.cells import Cells, tailored
from calib.arbitrage.course import along
from calib.arbitrage.growth import growth_bounds
from calib.arbitrage.parabola import Parabola, quotients
from calib.arbitrage.shapes import enclose
from calib.arbitrage.slices import Floats, SviSlices
from calib.arbitrage.strips import lowest_between
from tests.arbitrage.dense import Curves, durrleman, raw_svi
from tests.arbitrage.slice_samples import ordinary, rows, successors

ALONG = np.linspace(-1.0, 1.0, 41)[:, None]


def some(seed: int, number: int = 500) -> tuple[Parabola, Floats]:
    """Random enclosures, and functions inside them at `ALONG`, shape (41, number)."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, (3, number)) * 10 ** rng.uniform(-2, 1, number)
    start, middle, end = values
    error = np.abs(values).max(axis=0) * 10 ** rng.uniform(-6, 0, number)
    between = 0.5 * (start + end) - middle
    exact = middle + 0.5 * (end - start) * ALONG + between * ALONG**2
    wave = np.sin(np.pi * ALONG) * np.cos(
        rng.uniform(0, 9, number) * ALONG
    )  # 0 at the three points
    return Parabola(start, middle, end, error), exact + error * wave


def assert_encloses(found: Parabola, truth: Floats) -> None:
    start, middle, end, error = found
    curve = middle + 0.5 * (end - start) * ALONG + (0.5 * (start + end) - middle) * ALONG**2
    size = 1e-12 * (1 + np.abs(truth))
    assert (np.abs(truth - curve) <= error + size).all()
    assert (found.lowest <= truth + size).all()
    assert (found.highest >= truth - size).all()
    assert (found.size >= np.abs(truth) - size).all()


def test_sums_products_and_quotients_are_enclosed() -> None:
    (one, first), (two, second) = some(91), some(92)
    assert_encloses(one, first)
    assert_encloses(one.plus(two), first + second)
    assert_encloses(one.minus(two).shifted(2.0), first - second + 2.0)
    assert_encloses(one.scaled(0.3), 0.3 * first)
    assert_encloses(one.times(two), first * second)
    assert_encloses(one.squared(), first**2)
    two, second = two.shifted(3.0), second + 3.0
    positive = two.lowest > 1e-3
    assert positive.mean() > 0.3
    one, two = (Parabola(*(part[positive] for part in x)) for x in (one, two))
    (ratio,) = quotients((one,), two)
    assert_encloses(ratio, (first / second)[:, positive])


def test_a_divisor_that_may_vanish_leaves_no_bound() -> None:
    one = Parabola(*np.array([[1.0], [1.0], [1.0], [0.0]]))
    small = Parabola(*np.array([[1.0], [0.1], [1.0], [0.2]]))
    (ratio,) = quotients((one,), small)
    assert not np.isfinite(ratio.error).any()


def cells_of(rng: np.random.Generator, slices: SviSlices) -> Cells:
    """Some cells of each slice, in the centre and in the wings."""
    number = slices.number
    start = slices.m + slices.sigma * np.sinh(rng.normal(0, 2, number))
    width = slices.sigma * 10 ** rng.uniform(-2, 0.5, number)
    wing, side, one = rng.random(number) < 0.4, rng.choice([-1.0, 1.0], number), np.ones(number)
    near = 1.0 / (1.5 * np.abs(slices.m) + 3 * slices.sigma)
    inner, outer = np.sort(rng.random((2, number)) * near, axis=0)
    return Cells(
        np.arange(number),
        np.where(wing, side, start),
        np.where(wing, inner, one),
        np.where(wing, side, start + width),
        np.where(wing, outer, one),
        wing,
    )


Function: TypeAlias = Callable[[mpmath.mpf], mpmath.mpf]


def exact_along(parameters: Floats, side: float | None) -> tuple[Function, Function, Function]:
    """W, p and q by the coordinate that moves: u in the centre, v in the wing of u = `side`."""
    a, b, rho, m, sigma = map(mpmath.mpf, map(float, parameters))

    def at(t: mpmath.mpf) -> tuple[mpmath.mpf, mpmath.mpf, mpmath.mpf]:
        u, v = (t, mpmath.mpf(1)) if side is None else (mpmath.mpf(side), t)
        d = u - m * v
        return v, d, mpmath.sqrt(d * d + (sigma * v) ** 2)

    def variance(t: mpmath.mpf) -> mpmath.mpf:
        v, d, r = at(t)
        return a * v + b * (rho * d + r)

    def slope(t: mpmath.mpf) -> mpmath.mpf:
        _, d, r = at(t)
        return b * (rho + d / r)

    def curvature(t: mpmath.mpf) -> mpmath.mpf:
        v, _, r = at(t)
        return b * sigma**2 * (v / r) ** 3

    return variance, slope, curvature


def test_derivatives_along_cells_are_bounded_as_stated() -> None:
    """Against mpmath's numerical derivatives at points of the cells."""
    rng = np.random.default_rng(93)
    slices = ordinary(rng, 24)
    cells = cells_of(rng, slices)
    _, _, _, *stated = along(slices, cells)
    tightest = np.full(len(stated), np.inf)
    with mpmath.workdps(40):
        for index, row in enumerate(rows(slices)):
            wing = bool(cells.wing[index])
            w, p, q = exact_along(row, cells.u[index] if wing else None)
            begin, end = (cells.v, cells.v_end) if wing else (cells.u, cells.u_end)
            for share in (0.0, 0.3, 0.6, 1.0):
                t = mpmath.mpf(begin[index] + share * (end[index] - begin[index]))
                derivatives = ((w, 3), (w, 4), (p, 2), (p, 3), (q, 3))
                seen = [float(abs(mpmath.diff(f, t, order))) for f, order in derivatives]
                bound = np.array([column[index] for column in stated])
                assert (seen <= bound * (1 + 1e-9)).all()
                tightest = np.minimum(tightest, bound / np.maximum(seen, 1e-300))
    assert (tightest < 3).all()  # somewhere each of them is nearly reached


def test_shapes_enclose_slices_along_cells() -> None:
    rng = np.random.default_rng(94)
    slices = ordinary(rng, 3_000)
    cells = cells_of(rng, slices)
    shapes = enclose(slices, cells, along(slices, cells))
    share = 0.5 * (1 + ALONG)
    u = cells.u + share * (cells.u_end - cells.u)
    v = cells.v + share * (cells.v_end - cells.v)
    seen = raw_svi(rows(slices), (u / np.maximum(v, 1e-300)).T)
    w, p, q = (curve.T for curve in seen)
    for found, truth in (
        (shapes.scaled_variance, v * w),
        (shapes.intercept, v * w - u * p),
        (shapes.scaled_slope, v * p),
        (shapes.slope, p),
        (shapes.curvature, q),
    ):
        assert_encloses(found, truth)


def test_growth_is_bounded_on_every_cell() -> None:
    rng = np.random.default_rng(95)
    first = ordinary(rng, 2_000)
    second = successors(rng, first)
    cells = tailored(first, second)
    pair = (first, second)
    bounds = growth_bounds(pair, (along(first, cells), along(second, cells)), cells)
    lowest = np.full(bounds.lower.shape, np.inf)
    for share in np.linspace(0, 1, 13):
        u = cells.u + share * (cells.u_end - cells.u)
        v = cells.v + share * (cells.v_end - cells.v)
        k = (u / np.maximum(v, 1e-12)).T
        one, two = (raw_svi(rows(slices), k).w for slices in pair)
        lowest = np.minimum(lowest, (two / one - 1).T)
    assert (bounds.lower <= lowest + 1e-9 * (1 + np.abs(lowest))).all()
    assert (bounds.seen >= lowest.min(axis=0) - 1e-3).all()
    assert np.isfinite(bounds.lower).mean() > 0.95


def test_cells_cover_the_line_without_a_gap() -> None:
    rng = np.random.default_rng(96)
    first = ordinary(rng, 300)
    cells = tailored(first, ordinary(rng, 300))
    listed = cells.listed()
    for pair in range(300):
        own = listed.take(np.flatnonzero(listed.owner == pair))
        centre = own.take(np.flatnonzero(~own.wing))
        assert np.array_equal(centre.u[1:], centre.u_end[:-1])
        for side, reach in ((-1.0, -centre.u[0]), (1.0, centre.u_end[-1])):
            wing = own.take(np.flatnonzero(own.wing & (own.u == side)))
            assert wing.v[0] == 0.0
            assert np.array_equal(wing.v[1:], wing.v_end[:-1])
            assert wing.v_end[-1] * reach > 1.0


@pytest.mark.parametrize("like", [True, False])
def test_what_lies_between_two_slices_is_bounded_at_every_strike(like: bool) -> None:
    """With exact values at a strike: 4g(λ) is never below, and close where slices are alike."""
    rng = np.random.default_rng(97)
    first = ordinary(rng, 1_500)
    second = successors(rng, first) if like else ordinary(rng, 1_500)
    k = first.m[:, None] + first.sigma[:, None] * np.sinh(rng.normal(0, 2, (1_500, 8)))
    one, two = raw_svi(rows(first), k), raw_svi(rows(second), k)
    g = [4 * durrleman(curves, k) for curves in (one, two)]
    y1, y2 = ((curves.w - k * curves.first) / curves.w for curves in (one, two))
    growth, step = two.w / one.w - 1, y2 - y1
    bulges = (
        2 * growth * (1 + y1) * step - step**2,
        2 * (1 - one.w / two.w) * (1 + y2) * step - step**2,
    )
    bound = lowest_between(g[0], g[1], *bulges, growth, growth)
    lowest = np.full(k.shape, np.inf)
    for share in np.linspace(0, 1, 33):
        mixed = Curves(*((1 - share) * a + share * b for a, b in zip(one, two, strict=True)))
        lowest = np.minimum(lowest, 4 * durrleman(mixed, k))
    size = 1 + np.abs(lowest) + np.abs(bulges[0]) + np.abs(bulges[1])
    assert (bound <= lowest + 1e-9 * size).all()
    assert np.median((lowest - bound) / size) < (0.02 if like else 0.1)
    # Known only to lie in a range, growth can but lower the bound.
    wider = lowest_between(g[0], g[1], *bulges, growth - 0.1 * (1 + growth), growth + 0.1)
    assert (wider <= bound + 1e-12 * size).all()
