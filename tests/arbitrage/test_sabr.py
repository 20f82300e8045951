"""Certificates of SABR surfaces against dense scans, known failures and the published rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from calib.arbitrage.certificate import Certificate, CertificateScope
from calib.arbitrage.sabr import certify_sabr_surfaces, prove_sabr_surfaces
from calib.arbitrage.sabr_butterfly import certify_sabr_butterfly
from calib.arbitrage.sabr_continuation import certify_continuation, continues_above
from calib.arbitrage.sabr_pairs import SabrPairResult, certify_sabr_pairs
from calib.arbitrage.sabr_slices import Continued, SabrSlices
from calib.arbitrage.slices import Floats
from calib.models import sabr
from calib.states import ModelName
from calib.surface import smiles as published_smiles
from tests.arbitrage.dense import durrleman
from tests.arbitrage.sabr_dense import (
    KINK,
    Smiles,
    bends_down,
    formula,
    look_at_pairs,
    lowest_g,
    lowest_g_raised,
    published,
    within,
)
from tests.arbitrage.sabr_samples import as_slices, joined, ordinary, successors, surface

DENSE = 1e-6
"""What differences on the grid are wrong by, beside the size of g."""


def certify(surfaces: list[Smiles], coupled: bool | list[bool] = True) -> tuple[Certificate, ...]:
    slices = as_slices(joined(surfaces))
    counts = [s.alpha.size for s in surfaces]
    return certify_sabr_surfaces(np.array(slices[:4]), *slices[4:], counts, coupled)


def one(parameters: tuple[float, ...], years: float, k_min: float, k_max: float) -> Smiles:
    return Smiles(*(np.array([x]) for x in (*parameters, years, k_min, k_max)))


def pair_of(first: Smiles, second: Smiles) -> SabrPairResult:
    return certify_sabr_pairs(Continued.of(as_slices(first)), Continued.of(as_slices(second)))


# Slices


def assert_slices_hold(smiles: Smiles, points: int = 4001) -> None:
    result = certify_sabr_butterfly(as_slices(smiles))
    seen = np.concatenate(
        [lowest_g(smiles.take(slice(i, i + 100)), points) for i in range(0, smiles.alpha.size, 100)]
    )
    assert (result.margin <= seen + DENSE * (1 + np.abs(seen))).all()
    assert (seen[result.ok] > -DENSE).all()
    clean = seen > DENSE
    assert result.ok[clean].mean() > 0.99
    # Margins come as near as they say.
    gap = seen[result.ok] - result.margin[result.ok]
    assert (gap <= np.maximum(0.2 * seen[result.ok], 1e-3) + DENSE).all()


@pytest.mark.parametrize(("seed", "widest"), [(1, 3.0), (2, 10.0), (3, 40.0)])
def test_clean_slices_are_proved_and_no_other(seed: int, widest: float) -> None:
    assert_slices_hold(ordinary(np.random.default_rng(seed), 250, widest))


@pytest.mark.drill
def test_many_thousand_slices() -> None:
    for seed in range(20):
        for widest in (3.0, 10.0, 40.0):
            assert_slices_hold(ordinary(np.random.default_rng([seed, 9]), 1_000, widest))


def first_zeros(smiles: Smiles, side: int, deviations: float = 40.0) -> Floats:
    """Where g first falls below zero on one side of the money; nan where it does not."""
    reach = side * deviations * smiles.alpha * np.sqrt(smiles.years)

    def g(k: Floats) -> Floats:
        step = 1e-5 * np.abs(reach)
        around = within(smiles, k + step * np.array([-1.0, 0.0, 1.0])[:, None])
        middle = type(around)(*(x[1] for x in around))
        return durrleman(middle, k)

    grid = np.linspace(0.0, 1.0, 2001)[:, None] * reach
    negative = durrleman(within(smiles, grid), grid) < 0
    index = np.maximum(negative.argmax(axis=0), 1)
    rows = np.arange(index.size)
    low, high = grid[index - 1, rows], grid[index, rows]
    for _ in range(30):
        middle = 0.5 * (low + high)
        below = g(middle) < 0
        low, high = np.where(below, low, middle), np.where(below, middle, high)
    found = negative.any(axis=0) & ~negative[0] & (negative.argmax(axis=0) > 1)
    return np.where(found, high, np.nan)


@pytest.mark.parametrize("side", [-1, 1])
def test_ranges_that_end_at_a_zero_of_g(side: int) -> None:
    """A ten-thousandth before the strike where the density turns negative: proved; after: not."""
    smiles = ordinary(np.random.default_rng(4), 1_000, 1.0)
    zero = first_zeros(smiles, side)
    kept = np.isfinite(zero)
    smiles, zero = smiles.take(kept), zero[kept]
    assert zero.size > 40
    for share, expected in ((0.9999, True), (1.0001, False)):
        ends = [0.0 * zero, 0.0 * zero]
        ends[(1 + side) // 2] = share * zero
        ranged = smiles._replace(k_min=ends[0], k_max=ends[1])
        assert (certify_sabr_butterfly(as_slices(ranged)).ok == expected).all()


def test_hagan_at_ten_years_has_negative_density_below_a_strike_of_90_basis_points() -> None:
    """β = .5, F = .0488, α = .026, ρ = −.1, ν = .4: the density is negative below K = .0090."""
    forward = 0.0488
    alpha = sabr.alpha_from_forward(0.026, 0.5, forward)
    for lowest, free in ((0.004, False), (0.0089, False), (0.0091, True), (0.02, True)):
        smiles = one((alpha, 0.5, -0.1, 0.4), 10.0, np.log(lowest / forward), np.log(0.1 / forward))
        certificate = certify([smiles])[0]
        assert certificate.arbitrage_free == free
        if not free:
            assert certificate.detail == "not proved: butterfly at expiry 1"
            assert certificate.butterfly_margin < 0
    assert first_zeros(one((alpha, 0.5, -0.1, 0.4), 10.0, -1.0, 1.0), -1, 6.0)[0] == (
        pytest.approx(np.log(0.0090 / forward), abs=1e-3)
    )


@pytest.mark.parametrize(
    ("alpha", "rho", "nu", "strikes"),
    [(0.17431060, -0.11268306, 0.81694072, (1.2034, 1.5449))],
)
def test_currency_smile_of_clark_is_proved(
    alpha: float, rho: float, nu: float, strikes: tuple[float, float]
) -> None:
    """Clark, Foreign Exchange Option Pricing (2011), table 3.7: F = 1.3395, one year, β = 1."""
    low, high = np.log(np.array(strikes) / 1.3395)
    certificate = certify([one((alpha, 1.0, rho, nu), 1.0, low, high)])[0]
    assert certificate.scope is CertificateScope.QUOTED_RANGE


def test_lees_bound_is_broken_far_from_the_money() -> None:
    """At β = 1 w/|k| keeps growing: out there every slice has arbitrage, and none is proved."""
    smiles = ordinary(np.random.default_rng(5), 200, 1.0)
    smiles = smiles._replace(beta=np.ones(200), nu=np.full(200, 1.0), years=np.full(200, 1.0))
    near = smiles._replace(k_min=-smiles.alpha, k_max=smiles.alpha)
    far = smiles._replace(k_min=-smiles.alpha, k_max=np.full(200, 90.0))
    result = certify_sabr_butterfly(as_slices(far))
    assert not result.ok.any()
    assert certify_sabr_butterfly(as_slices(near)).ok.mean() > 0.5


def test_an_expansion_without_meaning_is_refused() -> None:
    """1 + T·H turns negative for a large ν²T and |ρ| near 1: w has a zero, then rises again."""
    smiles = one((0.5, 1.0, -0.95, 6.0), 1.5, -0.5, 0.5)
    assert 1 + 1.5 * (-0.95 * 6 * 0.5 / 4 + (2 - 3 * 0.95**2) * 36 / 24) < 0
    result = certify_sabr_butterfly(as_slices(smiles))
    assert (result.ok[0], result.margin[0]) == (False, -np.inf)
    # With β < 1 the sign changes inside the range.
    turning = one((0.5, 0.3, -0.9, 4.0), 4.0, -6.0, 0.5)
    assert not certify_sabr_butterfly(as_slices(turning)).ok[0]


def test_flat_smiles_and_single_strikes() -> None:
    """ν = 0 and β = 1 is Black's model, with g = 1; a single quote has a range of one point."""
    black = one((0.3, 1.0, 0.0, 0.0), 0.5, -2.0, 3.0)
    result = certify_sabr_butterfly(as_slices(black), raised=True)
    assert result.margin[0] == pytest.approx(1.0, abs=1e-3)
    assert result.raised_ok[0]
    for k in (0.0, 0.2, -1e-9):
        point = one((0.3, 0.8, -0.4, 1.0), 0.5, k, k)
        width = 1e-4
        around = lowest_g(point._replace(k_min=point.k_min - width, k_max=point.k_max + width), 5)
        margin = certify_sabr_butterfly(as_slices(point)).margin[0]
        assert margin == pytest.approx(around[0], abs=1e-3)


def test_raised_slices_hold_for_every_raise() -> None:
    smiles = ordinary(np.random.default_rng(6), 400, 8.0)
    result = certify_sabr_butterfly(as_slices(smiles), raised=True)
    seen = lowest_g_raised(smiles, np.concatenate([[0.0], np.geomspace(1e-3, 1e3, 25)]))
    assert (result.raised <= seen + DENSE * (1 + np.abs(seen))).all()
    assert (seen[result.raised_ok] > -DENSE).all()
    assert result.raised_ok[seen > 1e-3].mean() > 0.99


# Pairs


def assert_pairs_hold(first: Smiles, second: Smiles) -> None:
    result = pair_of(first, second)
    seen = look_at_pairs(first, second)
    for ok, margin, truth in (
        (result.calendar_ok, result.growth, seen.growth),
        (result.between_ok, result.between, seen.between),
    ):
        assert (truth[ok] > -DENSE).all()
        smooth = truth != KINK
        assert (margin <= truth + 3 * DENSE * (1 + np.abs(truth)))[smooth].all()
        assert ok[truth > 0].mean() > 0.99


@pytest.mark.parametrize(("seed", "widest"), [(11, 3.0), (12, 12.0)])
def test_clean_pairs_are_proved_and_no_other(seed: int, widest: float) -> None:
    rng = np.random.default_rng(seed)
    first = ordinary(rng, 250, widest)
    assert_pairs_hold(first, successors(rng, first))


def test_unlike_pairs_are_never_proved_against_the_dense_scan() -> None:
    """Pairs of which both are clean, and that have nothing else in common."""
    smiles = ordinary(np.random.default_rng(13), 1_200, 6.0)
    smiles = smiles.take(certify_sabr_butterfly(as_slices(smiles)).ok)
    smiles = smiles.take(np.argsort(smiles.alpha**2 * smiles.years))
    half = smiles.alpha.size // 2
    assert_pairs_hold(smiles.take(slice(0, half)), smiles.take(slice(half, 2 * half)))


@pytest.mark.drill
def test_many_thousand_pairs() -> None:
    for seed in range(40):
        rng = np.random.default_rng([seed, 8])
        for widest in (3.0, 6.0, 12.0):
            first = ordinary(rng, 250, widest)
            assert_pairs_hold(first, successors(rng, first))


def lowest_ratio(first: Smiles, second: Smiles) -> float:
    k = np.linspace(min(first.k_min, second.k_min), max(first.k_max, second.k_max), 4_001)
    return float((published(second, k).w / published(first, k).w).min())


@pytest.mark.parametrize(
    "second",
    [
        (0.32, 1.0, -0.3, 1.2, 0.30),  # the later one is flatter: it is below in both wings
        (0.30, 1.0, 0.4, 1.8, 0.27),  # turned: it is below on one side
        (0.24, 0.5, -0.5, 3.2, 0.32),  # rounder: it is below at the money
    ],
)
def test_crossing_pairs_are_told_from_touching_ones(second: tuple[float, ...]) -> None:
    """The later slice raised until it only just clears the earlier one, and only just not."""
    early = one((0.30, 1.0, -0.4, 2.0), 0.25, -0.6, 0.5)
    late = one(second[:4], second[4], -0.7, 0.6)
    assert not pair_of(early, late).calendar_ok[0]
    # Total variance is proportional to time at a fixed vol; α and ν that keep z/x and shift w.
    low, high = 1.0, 8.0
    for _ in range(35):
        factor = 0.5 * (low + high)
        raised = _scaled(late, factor)
        low, high = (factor, high) if lowest_ratio(early, raised) < 1 else (low, factor)
    clear, crossing = _scaled(late, high * (1 + 2e-5)), _scaled(late, high * (1 - 2e-5))
    assert 1 < lowest_ratio(early, clear) < 1 + 1e-3
    assert pair_of(early, clear).calendar_ok[0]
    result = pair_of(early, crossing)
    assert not result.calendar_ok[0]
    assert result.growth[0] < 0


def _scaled(smiles: Smiles, factor: float) -> Smiles:
    """α and ν multiplied: z, and with it the shape, stays; the level rises."""
    return smiles._replace(alpha=smiles.alpha * factor, nu=smiles.nu * factor)


def test_a_crossing_between_the_quotes_is_found() -> None:
    """Above the earlier slice at all of 14 strikes, below it at the money in between."""
    strikes = np.linspace(-0.35, 0.35, 14)[:, None] + 0j
    late = one((0.30, 1.0, 0.0, 1.0), 0.25, -0.35, 0.35)
    lowest = formula(late, strikes).real.min()
    for share, free in (
        (1 - 1e-6, False),
        (formula(late, np.zeros((1, 1)) + 0j).real[0, 0] / lowest, True),
    ):
        # Black's flat smile, just below the lowest quote or just below the lowest vol.
        early = one((np.sqrt(lowest * share * (1 - 1e-6) / 0.2), 1.0, 0.0, 0.0), 0.2, -0.35, 0.35)
        assert (formula(late, strikes) - formula(early, strikes)).real.min() > 0
        assert pair_of(early, late).calendar_ok[0] == free


def test_calendar_is_held_to_the_continuation_as_well() -> None:
    """Quotes of the later expiry end early on a steep smile; the earlier one goes on above it."""
    early = one((0.5, 1.0, 0.5, 3.0), 0.25, -0.2, 1.0)
    late = one((0.56, 1.0, 0.5, 2.0), 0.27, -0.2, 0.1)
    assert pair_of(early._replace(k_max=late.k_max), late).calendar_ok[0]
    result = pair_of(early, late)
    assert not result.calendar_ok[0]
    assert result.growth[0] < look_at_pairs(early, late).growth[0] < 0


def test_a_kink_that_bends_down_inside_the_range_in_between_is_refused() -> None:
    """The later smile ends where it is steeper than the limit; the earlier one reaches farther."""
    late = one((0.6062, 0.318, 0.05197, 0.1329), 5.96, -1.157, 1.634)
    wide, narrow = (one((0.5777, 0.318, 0.1622, 0.1791), 1.458, k, 2.101) for k in (-1.607, -1.0))
    assert bends_down(late)[0][0]
    assert certify_sabr_butterfly(as_slices(late)).ok[0]
    assert look_at_pairs(wide, late).between[0] == KINK
    result = pair_of(wide, late)
    assert result.between[0] > 0
    assert not result.between_ok[0]
    # On a range that widens towards the later expiry its kink is at the end, never inside.
    assert look_at_pairs(narrow, late).between[0] > 0
    assert pair_of(narrow, late).between_ok[0]


# Continuation


def test_continued_wings_against_a_scan_far_out() -> None:
    smiles = ordinary(np.random.default_rng(21), 400, 6.0)
    continued = Continued.of(as_slices(smiles))
    result = certify_continuation(continued)
    for side, edge in enumerate((smiles.k_min, smiles.k_max)):
        direction = 2 * side - 1
        far = edge + direction * np.geomspace(1e-6, 1e6, 700)[:, None] * smiles.alpha
        curves = published(smiles, far)
        curves = curves._replace(second=np.zeros_like(curves.second))
        seen = durrleman(curves, far).min(axis=0)
        kink = bends_down(smiles)[side]
        assert not result.ok[side][kink].any()
        assert (result.margin[side] <= seen + 1e-9).all()
        assert (seen[result.ok[side]] > 0).all()
        assert result.ok[side][(seen > 1e-9) & ~kink].mean() > 0.99
        # Ends at which the formula turns back towards the money go on flat, with g = 1.
        flat = np.asarray(continued.edges.slope[side] == 0.0)
        assert flat.any()
        np.testing.assert_array_equal(result.margin[side][flat], 1.0)


def test_pairs_that_stay_in_order_out_to_infinity() -> None:
    rng = np.random.default_rng(22)
    first = ordinary(rng, 500, 6.0)
    second = successors(rng, first)
    above = continues_above(Continued.of(as_slices(first)), Continued.of(as_slices(second)))
    far = np.array([-1e7, 1e7])[:, None] * np.ones(500)
    ratio = published(second, far).w / published(first, far).w
    above &= pair_of(first, second).calendar_ok
    assert 0.2 < above.mean() < 0.8
    assert (ratio[:, above] > 1 - 1e-6).all()


def test_the_rule_is_the_published_one() -> None:
    """Ends, slopes and the limit are those that surfaces are evaluated with."""
    smiles = ordinary(np.random.default_rng(23), 300, 8.0)
    edges = Continued.of(as_slices(smiles)).edges
    served = published_smiles.Smiles(
        ModelName.SABR,
        np.array(smiles[:4]),
        *smiles[4:],
        np.full((300, 4, 4), np.nan),
        np.full(300, np.nan),
    )
    index = np.arange(300)
    for side, direction in ((0, -1.0), (1, 1.0)):
        away = edges.k[side] + direction * 0.7
        mine = edges.w[side] + edges.slope[side] * (away - edges.k[side])
        np.testing.assert_allclose(mine, served.total_variance(index, away), rtol=1e-12)
    slope_error = np.abs(edges.outward - np.stack([-1.0, 1.0])[:, None] * _exact_slopes(smiles))
    assert (slope_error <= edges.error).all()


def _exact_slopes(smiles: Smiles) -> Floats:
    step = 1e-30
    ends = np.stack([smiles.k_min, smiles.k_max])
    return np.asarray(formula(smiles, ends + 1j * step).imag / step)


# Surfaces


@pytest.fixture(scope="module")
def surfaces() -> list[Smiles]:
    rng = np.random.default_rng(31)
    return [surface(rng, int(number)) for number in rng.integers(1, 14, 40)]


def test_surfaces_against_the_dense_scan(surfaces: list[Smiles]) -> None:
    clean = proved = 0
    for certificate, smiles in zip(certify(surfaces), surfaces, strict=True):
        first, second = smiles.take(slice(0, -1)), smiles.take(slice(1, None))
        pairs = look_at_pairs(first, second, 401, 20)
        last = smiles.take(slice(-1, None))
        g = min(
            lowest_g(smiles, 1001).min(),
            pairs.between.min(initial=np.inf),
            lowest_g_raised(last, np.geomspace(1e-3, 1e3, 20), 401).min(),
        )
        growth = pairs.growth.min(initial=np.inf)
        assert certificate.butterfly_margin <= g + DENSE
        assert certificate.calendar_margin <= growth + DENSE
        free = g > 0 and growth > 0
        clean += free
        proved += certificate.arbitrage_free
        assert free >= certificate.arbitrage_free
        if certificate.arbitrage_free:
            assert certificate.scope is CertificateScope.QUOTED_RANGE
            assert certificate.detail.startswith("within the range of the quotes")
            assert min(certificate.butterfly_margin, certificate.calendar_margin) > 0
        else:
            assert certificate.scope is CertificateScope.FAILED
            assert certificate.detail.startswith("not proved: ")
    assert clean > 20
    assert proved == clean


def test_one_surface_has_the_certificate_that_it_has_among_many(surfaces: list[Smiles]) -> None:
    for alone, together in zip(
        (certify([part])[0] for part in surfaces[:12]), certify(surfaces), strict=False
    ):
        assert alone.arbitrage_free == together.arbitrage_free
        assert alone.detail == together.detail
        assert alone.butterfly_margin == pytest.approx(together.butterfly_margin, rel=1e-6)
        assert alone.calendar_margin == pytest.approx(together.calendar_margin, rel=1e-6)


def test_failures_are_named_where_they_are(surfaces: list[Smiles]) -> None:
    proved = [c.arbitrage_free for c in certify(surfaces)]
    good = next(s for s, ok in zip(surfaces, proved, strict=True) if ok and s.alpha.size >= 5)
    wide, turned = (Smiles(*(x.copy() for x in good)) for _ in range(2))
    wide.nu[2] *= 4.0
    wide.k_max[2] = 3.0
    for column in turned:
        column[[1, 2]] = column[[2, 1]]
    results = certify([good, wide, turned])
    assert results[0].arbitrage_free
    for certificate in results[1:]:
        assert not certificate.arbitrage_free
        assert certificate.scope is CertificateScope.FAILED
    assert "butterfly at expiry 3" in results[1].detail
    assert "interpolation at expiries 2-3" not in results[1].detail
    assert "calendar at expiries 2-3" in results[2].detail
    assert "butterfly" not in results[2].detail
    assert results[2].calendar_margin < 0


def test_independent_expiries_are_proved_one_by_one(surfaces: list[Smiles]) -> None:
    good = next(s for s in surfaces if s.alpha.size >= 5 and certify([s])[0].arbitrage_free)
    backwards = good.take(slice(None, None, -1))
    alone, together = certify([backwards, backwards], [False, True])
    assert alone.arbitrage_free
    assert alone.scope is CertificateScope.QUOTED_RANGE
    assert alone.detail.startswith("every expiry alone, within the range of its quotes")
    assert alone.calendar_margin == np.inf
    assert together.scope is CertificateScope.FAILED


def test_what_is_said_of_all_strikes_is_what_was_proved(surfaces: list[Smiles]) -> None:
    slices = as_slices(joined(surfaces))
    counts = np.array([s.alpha.size for s in surfaces])
    proofs = prove_sabr_surfaces(slices, counts)
    begins = np.cumsum(counts) - counts
    said = 0
    for certificate, begin, count in zip(proofs.certificates, begins, counts, strict=True):
        wings = proofs.continuation.ok[:, begin : begin + count].all()
        pairs = (proofs.pair_first >= begin) & (proofs.pair_first < begin + count)
        everywhere = wings and proofs.above[pairs].all()
        beyond = "as continued beyond it" in certificate.detail
        assert beyond == (everywhere and certificate.arbitrage_free)
        said += beyond
    assert said > 0


def test_surfaces_without_expiries_are_not_checked() -> None:
    nothing = np.empty((4, 0))
    none = np.empty(0)
    assert certify_sabr_surfaces(nothing, none, none, none, []) == ()
    certificates = certify_sabr_surfaces(nothing, none, none, none, [0, 0])
    assert certificates == (Certificate.not_checked(),) * 2


@pytest.mark.parametrize("counts", [[1], [1, 1, 1], [3, -1]])
def test_counts_that_do_not_add_up_are_refused(counts: list[int]) -> None:
    parameters = np.array([[0.3, 0.3], [1.0, 1.0], [0.0, 0.0], [1.0, 1.0]])
    two = np.array([0.1, 0.2])
    with pytest.raises(ValueError, match="do not add up to 2 slices"):
        certify_sabr_surfaces(parameters, two, -two, two, counts)
    with pytest.raises(ValueError, match=r"shape \(4, n\)"):
        certify_sabr_surfaces(parameters[:3], two, -two, two, [2])


def test_numbers_that_are_no_slices_fail_without_a_warning() -> None:
    rng = np.random.default_rng(32)
    wild = rng.normal(0, 1, (7, 400)) * 10 ** rng.uniform(-300, 300, (7, 400))
    wild[rng.random((7, 400)) < 0.1] = np.nan
    wild[rng.random((7, 400)) < 0.1] = np.inf
    proofs = prove_sabr_surfaces(SabrSlices.of(wild[:4], *wild[4:]), np.full(100, 4))
    assert not any(certificate.arbitrage_free for certificate in proofs.certificates)
    assert not any(np.isnan(certificate.butterfly_margin) for certificate in proofs.certificates)


@settings(max_examples=150, deadline=None)
@example(alpha=1.0, beta=0.0, rho=0.9921875, nu=3.0, years=3.0, ends=[1.0, 1.0])
@given(
    alpha=st.floats(1e-3, 1e3),
    beta=st.floats(0, 1),
    rho=st.floats(-0.999999, 0.999999),
    nu=st.floats(0, 100),
    years=st.floats(1e-5, 30),
    ends=st.tuples(st.floats(-8, 8), st.floats(-8, 8)).map(sorted),
)
def test_no_slice_however_odd_is_proved_wrongly(
    alpha: float, beta: float, rho: float, nu: float, years: float, ends: list[float]
) -> None:
    smiles = one((alpha, beta, rho, nu), years, *ends)
    result = certify_sabr_butterfly(as_slices(smiles), raised=True)
    assert not np.isnan(result.margin[0])
    assert result.raised[0] <= result.margin[0] + 1e-9
    if result.ok[0]:
        k = np.linspace(smiles.k_min, smiles.k_max, 401)
        w, p, q = sabr.jet(smiles[:4], k, smiles.years)
        drift = 1 - k * p / (2 * w)
        g = drift**2 - p**2 / 4 * (1 / w + 0.25) + q / 2
        assert (g >= result.margin[0] * (1 - 1e-9)).all()
