"""What a proof costs: a slice, a pair, a strip, a surface; beside roots of companion matrices.

A time belongs to the whole batch that its name states; `us_each` in the extra information is per
slice, pair or surface.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import pytest

import calib
from calib.arbitrage.butterfly import certify_butterfly
from calib.arbitrage.calendar import certify_calendar
from calib.arbitrage.cells import Indices
from calib.arbitrage.extrapolation import certify_extrapolation
from calib.arbitrage.interpolation import certify_interpolation
from calib.arbitrage.slices import Floats, SviSlices
from calib.arbitrage.surfaces import certify_surfaces, prepare
from calib.models.essvi_bound import psi_bound
from tests.arbitrage.slice_samples import from_rows, rows
from tests.arbitrage.test_surfaces import essvi_surface

EXPIRIES = 12


@pytest.fixture(scope="module")
def universe() -> SviSlices:
    """Surfaces of twelve expiries that are free of arbitrage, 2,048 slices and more."""
    rng = np.random.default_rng(61)
    return from_rows(np.concatenate([essvi_surface(rng, EXPIRIES) for _ in range(172)]))


def timed(benchmark: Any, group: str, number: int, run: Callable[[], Any]) -> Any:
    benchmark.group = group
    result = benchmark(run)
    if benchmark.stats:  # none where benchmarks are disabled
        each = benchmark.stats.stats.median / number * 1e6
        benchmark.extra_info["us_each"] = round(each, 2)
        print(f"\n{group}, {benchmark.name}: {each:.2f} us each")
    return result


def butterfly_polynomial(parameters: Floats) -> Floats:
    """16P²D³g by its power coefficients, the highest first, as np.roots takes them."""
    a, b, rho, m, sigma = parameters
    t0 = np.sqrt((1 - rho) / (1 + rho))
    half = b * sigma * np.sqrt(1 - rho**2) / 2
    p = np.array([half, a, half])
    d = np.array([t0 * t0, 0, 1])
    n = b * (1 - rho) * np.array([1, 0, -1])
    k = np.array([sigma * t0, 2 * m, -sigma / t0])
    pd, nn = np.polymul(p, d), np.polymul(n, n)
    inner = np.polysub(4 * pd, np.polymul(k, n))
    terms = (
        np.polymul(d, np.polymul(inner, inner)),
        -4 * np.polymul([1, 0], np.polymul(nn, pd)),
        -np.polymul(nn, np.polymul(np.polymul(p, p), d)),
        64 * b / sigma * t0**3 * np.polymul([1, 0, 0, 0], np.polymul(p, p)),
    )
    total = np.zeros(11)
    for term in terms:
        total = np.polyadd(total, term)
    return np.asarray(total)


def positive_by_roots(parameters: Floats) -> bool:
    """g > 0 by companion roots: none real and positive."""
    roots = np.roots(butterfly_polynomial(parameters))
    real = np.abs(roots.imag) < 1e-9 * np.abs(roots)
    return not (real & (roots.real > 0)).any()


def ordered_by_roots(first: Floats, second: Floats) -> bool:
    """w₂ > w₁ by companion roots of the quartic of Gatheral & Jacquier (2014), section 3.1."""
    a1, b1, rho1, m1, sigma1 = first
    a2, b2, rho2, m2, sigma2 = second
    square1 = b1 * b1 * np.array([1, -2 * m1, m1 * m1 + sigma1 * sigma1])
    square2 = b2 * b2 * np.array([1, -2 * m2, m2 * m2 + sigma2 * sigma2])
    line = np.array([b2 * rho2 - b1 * rho1, a2 - a1 - b2 * rho2 * m2 + b1 * rho1 * m1])
    line2 = np.polymul(line, line)
    q = np.polysub(np.polysub(square1, line2), square2)
    roots = np.roots(np.polysub(np.polymul(q, q), 4 * np.polymul(line2, square2)))
    real = np.sort(roots.real[np.abs(roots.imag) < 1e-9 * np.abs(roots)])
    k = np.concatenate([real, (real[1:] + real[:-1]) / 2, [-1e3, 1e3]])
    w1 = a1 + b1 * (rho1 * (k - m1) + np.hypot(k - m1, sigma1))
    w2 = a2 + b2 * (rho2 * (k - m2) + np.hypot(k - m2, sigma2))
    return bool((w2 > w1 * (1 - 1e-12)).all())


@pytest.mark.parametrize("number", [1, EXPIRIES, 128, 2048])
def test_butterfly(benchmark: Any, universe: SviSlices, number: int) -> None:
    slices = universe.take(slice(0, number))
    group = "certify butterfly, per slice"
    assert timed(benchmark, group, number, lambda: certify_butterfly(slices)).ok.all()


def test_butterfly_by_companion_roots(benchmark: Any, universe: SviSlices) -> None:
    slices = rows(universe)[:128]
    group = "certify butterfly, per slice"
    assert all(timed(benchmark, group, 128, lambda: [positive_by_roots(row) for row in slices]))


def pairs(universe: SviSlices, number: int) -> tuple[SviSlices, SviSlices]:
    start = np.arange(universe.number)
    start = start[start % EXPIRIES != EXPIRIES - 1][:number]
    return universe.take(start), universe.take(start + 1)


@pytest.mark.parametrize("number", [1, EXPIRIES - 1, 128, 1892])
def test_calendar(benchmark: Any, universe: SviSlices, number: int) -> None:
    first, second = pairs(universe, number)
    group = "certify calendar, per pair"
    assert timed(benchmark, group, number, lambda: certify_calendar(first, second)).ok.all()


def test_calendar_by_companion_roots(benchmark: Any, universe: SviSlices) -> None:
    first, second = (rows(slices) for slices in pairs(universe, 128))

    def run() -> list[bool]:
        return [ordered_by_roots(*pair) for pair in zip(first, second, strict=True)]

    assert all(timed(benchmark, "certify calendar, per pair", 128, run))


@pytest.mark.parametrize("number", [1, EXPIRIES - 1, 128, 1892])
def test_interpolation(benchmark: Any, universe: SviSlices, number: int) -> None:
    first, second = pairs(universe, number)
    margins = certify_butterfly(first).margin, certify_butterfly(second).margin
    group = "certify interpolation, per pair"
    run = lambda: certify_interpolation(first, second, *margins)  # noqa: E731
    assert timed(benchmark, group, number, run).ok.all()


@pytest.mark.parametrize("number", [1, 16, 172])
def test_surfaces(benchmark: Any, universe: SviSlices, number: int) -> None:
    slices = universe.take(slice(0, number * EXPIRIES))
    counts = np.full(number, EXPIRIES)
    group = f"certify surfaces of {EXPIRIES} expiries, per surface"
    proofs = timed(benchmark, group, number, lambda: certify_surfaces(slices, counts))
    assert all(certificate.arbitrage_free for certificate in proofs.certificates)


def by_branch_and_bound(slices: SviSlices, counts: Indices) -> float:
    """All proofs without the first look; the seconds that they take."""
    began = perf_counter()
    last = np.cumsum(counts) - 1
    first = np.setdiff1d(np.arange(slices.number), last)
    steepness = certify_butterfly(slices).margin
    pairs = slices.take(first), slices.take(first + 1)
    certify_calendar(*pairs)
    certify_interpolation(*pairs, steepness[first], steepness[first + 1])
    certify_extrapolation(slices.take(last), steepness[last])
    return perf_counter() - began


def certified(slices: SviSlices, counts: Indices) -> float:
    """The seconds that all certificates take."""
    began = perf_counter()
    assert len(certify_surfaces(slices, counts).certificates) == counts.size
    return perf_counter() - began


def in_two_threads(slices: SviSlices, counts: Indices) -> float:
    """The seconds that all certificates take, one half in each thread."""
    half = counts.size // 2
    cut = int(counts[:half].sum())
    halves = (
        (slices.take(slice(0, cut)), counts[:half]),
        (slices.take(slice(cut, None)), counts[half:]),
    )
    began = perf_counter()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda part: certify_surfaces(*part), halves))
    return perf_counter() - began


def fitted_surfaces() -> list[Floats]:
    """Rows of surfaces of ten expiries, fitted jointly to real quotes."""
    chains = calib.quotes_from_frame(
        pd.read_parquet(Path(os.environ["CALIB_QUOTES_DIR"]) / "deribit_2026-04-01_07.parquet")
    )
    fits = calib.fit_many(chains, model="svi")
    found = [np.array([one.parameters for one in fit.surface.expiries])[:10] for fit in fits]
    return [part for part in found if len(part) == 10 and np.isfinite(part).all()]


def test_fifty_thousand_slices() -> None:
    """Least of a few runs, before and after in one process; memory by the process's own peak."""
    rng = np.random.default_rng(63)
    kinds = {"eSSVI up to its bound": [essvi_surface(rng, 10) for _ in range(400)]}
    if os.environ.get("CALIB_QUOTES_DIR"):
        kinds["fitted to quotes"] = fitted_surfaces()
    prepare()
    for kind, some in kinds.items():
        parts = [some[i % len(some)] for i in range(5_000)]
        slices, counts = from_rows(np.concatenate(parts)), np.full(5_000, 10)
        one = slices.take(slice(0, 10)), counts[:1]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        all_of_them = min(certified(slices, counts) for _ in range(3))
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        threads = min(in_two_threads(slices, counts) for _ in range(3))
        thorough = min(by_branch_and_bound(slices, counts) for _ in range(2))
        alone = min(certified(*one) for _ in range(200))
        alone_thorough = min(by_branch_and_bound(*one) for _ in range(50))
        each = 1e6 / slices.number
        print(
            f"\n{kind}: 5,000 surfaces of 10 expiries {all_of_them * each:.1f} us a slice,"
            f" in two threads {threads * each:.1f}, by branch and bound alone"
            f" {thorough * each:.1f} ({thorough / all_of_them:.1f} times as long);"
            f" peak memory grew by {grown:.0f} MB."
            f" One surface {alone * 1e3:.2f} ms, by branch and bound {alone_thorough * 1e3:.2f} ms."
        )
        assert all_of_them < thorough


@pytest.mark.parametrize("number", [1, 2048])
def test_essvi_bound(benchmark: Any, number: int) -> None:
    rng = np.random.default_rng(62)
    theta, rho = np.exp(rng.uniform(-9, 1, number)), rng.uniform(-0.95, 0.95, number)
    bound = timed(benchmark, "eSSVI bound, per slice", number, lambda: psi_bound(theta, rho))
    assert (bound > 0).all()
