"""What a proof of SABR costs: a slice, a pair, a surface of twelve expiries.

A time belongs to the whole batch that its name states; `us_each` in the extra information is per
slice, pair or surface.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from calib.arbitrage.sabr import prove_sabr_surfaces
from calib.arbitrage.sabr_butterfly import certify_sabr_butterfly
from calib.arbitrage.sabr_pairs import certify_sabr_pairs
from calib.arbitrage.sabr_slices import Continued, SabrSlices
from tests.arbitrage.sabr_samples import as_slices, joined, surface

EXPIRIES = 12


@pytest.fixture(scope="module")
def universe() -> SabrSlices:
    """Surfaces of twelve expiries that are free of arbitrage, 2,000 slices and more."""
    rng = np.random.default_rng(61)
    surfaces = [surface(rng, EXPIRIES) for _ in range(240)]
    slices = as_slices(joined(surfaces))
    certificates = prove_sabr_surfaces(slices, np.full(240, EXPIRIES)).certificates
    free = np.array([certificate.arbitrage_free for certificate in certificates])
    kept = slices.take(np.repeat(free, EXPIRIES))
    assert kept.number >= 2_016
    return kept.take(slice(0, 2_016))


def timed(benchmark: Any, group: str, number: int, run: Callable[[], Any]) -> Any:
    benchmark.group = group
    result = benchmark(run)
    if benchmark.stats:  # none where benchmarks are disabled
        each = benchmark.stats.stats.median / number * 1e6
        benchmark.extra_info["us_each"] = round(each, 2)
        print(f"\n{group}, {benchmark.name}: {each:.2f} us each")
    return result


@pytest.mark.parametrize("number", [1, EXPIRIES, 128, 2_016])
def test_butterfly(benchmark: Any, universe: SabrSlices, number: int) -> None:
    slices = universe.take(slice(0, number))
    group = "certify SABR butterfly, per slice"
    assert timed(benchmark, group, number, lambda: certify_sabr_butterfly(slices)).ok.all()


@pytest.mark.parametrize("number", [1, EXPIRIES - 1, 128, 1_848])
def test_pairs(benchmark: Any, universe: SabrSlices, number: int) -> None:
    start = np.arange(universe.number)
    start = start[start % EXPIRIES != EXPIRIES - 1][:number]
    first, second = (Continued.of(universe.take(start + i)) for i in range(2))
    group = "certify SABR calendar and interpolation, per pair"
    result = timed(benchmark, group, number, lambda: certify_sabr_pairs(first, second))
    assert result.calendar_ok.all()
    assert result.between_ok.all()


@pytest.mark.parametrize("number", [1, 16, 168])
def test_surfaces(benchmark: Any, universe: SabrSlices, number: int) -> None:
    slices = universe.take(slice(0, number * EXPIRIES))
    counts = np.full(number, EXPIRIES)
    group = f"certify SABR surfaces of {EXPIRIES} expiries, per surface"
    proofs = timed(benchmark, group, number, lambda: prove_sabr_surfaces(slices, counts))
    assert all(certificate.arbitrage_free for certificate in proofs.certificates)
