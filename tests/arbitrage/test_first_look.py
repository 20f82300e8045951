"""The compiled first look against the branch and bound, dense scans and 60-digit arithmetic."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from calib.arbitrage import first_look, strip_blocks
from calib.arbitrage.butterfly import certify_butterfly
from calib.arbitrage.calendar import certify_calendar
from calib.arbitrage.extrapolation import certify_extrapolation
from calib.arbitrage.first_look import FirstLook, look
from calib.arbitrage.interpolation import certify_interpolation
from calib.arbitrage.slices import Floats, SviSlices
from calib.arbitrage.surfaces import certify_surfaces, prepare
from tests.arbitrage.dense import lowest_g, lowest_g_between, lowest_growth
from tests.arbitrage.slice_samples import from_rows, ordinary, rows, steepened, successors
from tests.arbitrage.test_surfaces import essvi_surface


def alternating(first: SviSlices, second: SviSlices) -> SviSlices:
    """Pairs one after the other: entries 0, 2, 4… of a look are those of the pairs."""
    return SviSlices(*(np.stack(both, axis=1).ravel() for both in zip(first, second, strict=True)))


def pairs(seed: int, number: int) -> tuple[SviSlices, SviSlices]:
    """Ordinary slices and successors; one in three as steep as butterfly allows, or nearly."""
    rng = np.random.default_rng(seed)
    first = ordinary(rng, number)
    second = successors(rng, first)
    low, high = np.ones(number), np.full(number, 300.0)
    for _ in range(30):
        middle = 0.5 * (low + high)
        ok = certify_butterfly(steepened(first, middle)).ok
        low, high = np.where(ok, middle, low), np.where(ok, high, middle)
    at_the_edge = rng.choice([-1.0, 0.0, 1.0], number) * 10 ** rng.uniform(-8, -2, number)
    factor = np.where(rng.random(number) < 1 / 3, low * (1.0 - at_the_edge), 1.0)
    return steepened(first, factor), second


@pytest.fixture(scope="module")
def slices() -> SviSlices:
    surfaces = [essvi_surface(np.random.default_rng(81), 12) for _ in range(40)]
    random = alternating(*pairs(82, 4_000))
    return from_rows(np.concatenate([rows(random), *surfaces]))


@pytest.fixture(scope="module")
def seen(slices: SviSlices) -> FirstLook:
    return look(slices)


def assert_agree(quick: Floats, thorough: Floats, gap: float, decided: float) -> None:
    """Both are lower bounds within a fifth of the infimum, or `gap`, and have the same sign."""
    known = ~np.isnan(quick)
    assert known.mean() > decided
    one, two = quick[known], thorough[known]
    assert np.array_equal(one > 0, two > 0)
    reach = np.maximum(0.26 * np.maximum(np.abs(one), np.abs(two)), 1.1 * gap)
    assert (np.abs(one - two) <= reach).all()


def test_never_at_odds_with_the_branch_and_bound(slices: SviSlices, seen: FirstLook) -> None:
    first, second = (slices.take(slice(i, slices.number - 1 + i)) for i in (0, 1))
    steepness = certify_butterfly(slices).margin
    assert_agree(seen.butterfly, steepness, 1e-3, 0.8)
    assert_agree(seen.calendar[:-1], certify_calendar(first, second).margin, 1e-4, 0.8)
    between = certify_interpolation(first, second, steepness[:-1], steepness[1:])
    beyond = certify_extrapolation(slices, steepness)
    for quick, ok, share in (
        (seen.interpolation[:-1], between.ok, 0.15),
        (seen.extrapolation, beyond.ok, 0.3),
    ):
        known = ~np.isnan(quick)
        assert known.mean() > share
        assert (quick[known] > 0).all()
        assert ok[known].all()


def test_margins_are_below_dense_scans() -> None:
    first, second = pairs(83, 400)
    seen = look(alternating(first, second))
    growth, between = seen.calendar[::2], seen.interpolation[::2]
    parts = [slice(i, i + 40) for i in range(0, first.number, 40)]
    one, two = rows(first), rows(second)
    for margin, truth in (
        (seen.butterfly[::2], [lowest_g(one[i]) for i in parts]),
        (growth, [lowest_growth(one[i], two[i]) for i in parts]),
        (between, [lowest_g_between(one[i], two[i], 8) for i in parts]),
    ):
        known = ~np.isnan(margin)
        exact = np.concatenate(truth)[known]
        assert known.mean() > 0.2
        assert (margin[known] <= exact + 1e-9 * np.maximum(1, np.abs(exact))).all()


def exact(parameters: Floats, k: mpmath.mpf) -> tuple[mpmath.mpf, mpmath.mpf, mpmath.mpf]:
    a, b, rho, m, sigma = map(mpmath.mpf, map(float, parameters))
    root = mpmath.sqrt((k - m) ** 2 + sigma**2)
    return (
        a + b * (rho * (k - m) + root),
        b * (rho + (k - m) / root),
        b * sigma**2 / root**3,
    )


def test_margins_are_below_sixty_digit_values_where_rounding_bites() -> None:
    """Vertices almost at zero variance, correlations almost at ±1, m far from the money in σ."""
    rng = np.random.default_rng(84)
    number = 80
    rho = rng.choice([-1, 1], number) * (1 - 10 ** rng.uniform(-5, -0.1, number))
    sigma = 10 ** rng.uniform(-5, 0.5, number)
    b = 10 ** rng.uniform(-4, -0.2, number)
    depth = b * sigma * np.sqrt((1 - rho) * (1 + rho))
    m = sigma * rng.normal(0, 1, number) * 10 ** rng.uniform(-2, 4, number)
    lowest = depth * 10 ** rng.uniform(-4, 4, number)
    first = SviSlices.of(lowest - depth, b, rho, m, sigma)
    raised = lowest * (1 + 10 ** rng.uniform(-9, 0, number))
    steeper = 1 + 10 ** rng.uniform(-9, 0, number)
    second = SviSlices.of(raised - steeper * depth, steeper * b, rho, m, sigma)
    both = alternating(first, second)
    proofs = certify_surfaces(both, np.full(number, 2))
    margins = proofs.butterfly.margin[::2], proofs.calendar.margin, proofs.interpolation.margin
    assert [np.isfinite(found).mean() > 0.1 for found in margins] == [True] * 3
    with mpmath.workdps(60):
        for one, two, *margin in zip(rows(first), rows(second), *margins, strict=True):
            for x in np.linspace(-9, 9, 31):
                k = mpmath.mpf(one[3]) + mpmath.mpf(one[4]) * mpmath.sinh(x - np.arctanh(one[2]))
                (w1, p1, q1), (w2, p2, q2) = exact(one, k), exact(two, k)
                for share, bound in ((0, margin[0]), (0.5, margin[2])):
                    w, p, q = (y + share * (z - y) for y, z in ((w1, w2), (p1, p2), (q1, q2)))
                    assert bound <= (1 - k * p / (2 * w)) ** 2 - p * p / 4 * (1 / w + 0.25) + q / 2
                assert margin[1] <= w2 / w1 - 1


def test_hostile_numbers_are_left_undecided_and_harm_no_neighbour() -> None:
    rng = np.random.default_rng(85)
    number = 600
    good = rows(ordinary(rng, number))
    wild = good * 10 ** rng.uniform(-300, 300, (number, 5))
    wild[rng.random((number, 5)) < 0.1] = np.nan
    wild[rng.random((number, 5)) < 0.1] = np.inf
    wild[rng.random((number, 5)) < 0.1] = 0.0
    hostile = rng.random(number) < 0.5
    seen = look(from_rows(np.where(hostile[:, None], wild, good)))
    clean = look(from_rows(good))
    refused = ~certify_butterfly(from_rows(wild)).ok
    assert not (seen.butterfly[hostile & refused] > 0).any()
    assert np.array_equal(seen.butterfly[~hostile], clean.butterfly[~hostile], equal_nan=True)
    apart = ~hostile[:-1] & ~hostile[1:]
    for quick, alone in zip(seen[1:3], clean[1:3], strict=True):
        assert np.array_equal(quick[:-1][apart], alone[:-1][apart], equal_nan=True)
    beside = (hostile & np.isnan(wild).any(axis=1))[1:]
    assert np.isnan(seen.interpolation[:-1][beside]).all()


def test_compiled_minima_do_not_lose_nan() -> None:
    """What the first look takes for granted of the compiler."""
    least = jax.jit(lambda x: (jnp.minimum(x[0], x[1]), jnp.maximum(x[0], x[1]), x.min(axis=0)))
    for x in ([np.nan, 1.0], [1.0, np.nan]):
        assert np.isnan(least(np.repeat([x], 32, axis=0).T.astype(np.float32))).all()


def test_a_slice_is_looked_at_alone(slices: SviSlices, seen: FirstLook) -> None:
    """Padding, bucket and place among others change nothing."""
    for start, count in ((0, 1), (7, 2), (0, 12), (100, 16), (33, 17), (64, 60), (5, 64), (9, 200)):
        part = look(slices.take(slice(start, start + count)))
        for alone, among in zip(part, seen, strict=True):
            # The last one has no successor here, and another one there.
            here, there = alone[: count - 1], among[start : start + count - 1]
            np.testing.assert_allclose(here, there, rtol=1e-12, atol=0, equal_nan=True)
        np.testing.assert_allclose(
            part.butterfly[-1], seen.butterfly[start + count - 1], rtol=1e-12, equal_nan=True
        )


def compilations() -> tuple[int, int]:
    looks, blocks = first_look._margins, strip_blocks._bounds
    return looks._cache_size(), blocks._cache_size()  # type: ignore[attr-defined]  # typed away


def test_nothing_is_compiled_after_preparation() -> None:
    prepare()
    ready = compilations()
    assert ready == (len(first_look.BUCKETS), 1)
    slices = ordinary(np.random.default_rng(86), 150)
    for count in range(1, 150, 7):
        certify_surfaces(slices.take(slice(0, count)), [count])
    assert compilations() == ready


def test_no_slices_are_nothing_to_look_at() -> None:
    assert all(margin.shape == (0,) for margin in look(SviSlices.of(*np.empty((5, 0)))))


@pytest.fixture(scope="module")
def surfaces() -> list[Floats]:
    """Free and not free, of 1 to 40 expiries."""
    rng = np.random.default_rng(87)
    found = [essvi_surface(rng, int(number)) for number in rng.integers(1, 40, 60)]
    for number in range(0, 60, 3):
        row = found[number][rng.integers(len(found[number]))]
        row[rng.integers(5)] *= 1 + rng.normal(0, 0.2)
    return found


def test_one_surface_has_the_verdict_that_it_has_among_many(surfaces: list[Floats]) -> None:
    together = certify_surfaces(from_rows(np.concatenate(surfaces)), [len(x) for x in surfaces])
    free = [certificate.arbitrage_free for certificate in together.certificates]
    assert 0.5 < np.mean(free) < 1.0
    for part, certificate in zip(surfaces, together.certificates, strict=True):
        (alone,) = certify_surfaces(from_rows(part), [len(part)]).certificates
        assert (alone.scope, alone.detail) == (certificate.scope, certificate.detail)
        assert alone.butterfly_margin == pytest.approx(certificate.butterfly_margin, rel=1e-6)
        assert alone.calendar_margin == pytest.approx(certificate.calendar_margin, rel=1e-6)


def test_two_threads_at_once_find_what_one_finds(surfaces: list[Floats]) -> None:
    slices, counts = from_rows(np.concatenate(surfaces)), [len(x) for x in surfaces]
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: certify_surfaces(slices, counts).certificates, range(6)))
    assert all(found == certify_surfaces(slices, counts).certificates for found in both)
