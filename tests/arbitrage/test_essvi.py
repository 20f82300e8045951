"""eSSVI: the exact butterfly bound and the exact calendar conditions."""

from __future__ import annotations

from itertools import pairwise

import jax
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from calib.arbitrage.butterfly import certify_butterfly
from calib.arbitrage.calendar import certify_calendar
from calib.arbitrage.essvi import (
    EssviSlices,
    as_svi,
    certify_essvi_calendar,
    is_butterfly_free,
)
from calib.arbitrage.slices import Floats
from calib.models.essvi_bound import binding_point, psi_bound, psi_bound_at
from tests.arbitrage.dense import essvi_as_raw, lowest_growth, raw_svi
from tests.arbitrage.slice_samples import rows

# Square-root bounds on ψ, two of them beyond Lee's 4/(1+|ρ|) nowhere.
BOUNDS = {
    (0.01, 0.0): 0.4432157,
    (0.04, 0.5): 0.6234069,
    (0.04, -0.5): 0.6234069,
    (0.2, -0.9): 0.9815157,
    (1.0, 0.3): 2.6391600,
}

# Pass the wing half of the calendar condition only, and cross.
WING_ONLY = ((0.0814489, -0.872150, 1.301675), (0.0824262, -0.918597, 7.129747))
# Does not cross, but falls by half in between when θ, ψ and ρψ are interpolated.
NOT_INTERPOLABLE = ((0.003135, -0.97198, 0.014324), (0.028118, -0.98, 0.283391))


@pytest.mark.parametrize("slice_", BOUNDS)
def test_published_bounds(slice_: tuple[float, float]) -> None:
    assert float(psi_bound(*slice_)) == pytest.approx(BOUNDS[slice_], abs=6e-8)


def bound_of_the_paper(theta: float, rho: float) -> float:
    """Martini & Mingone (2021), arXiv:2106.02418, as an infimum over l, by a scalar minimiser."""
    rho = abs(rho)
    s = np.sqrt(1 - rho**2)

    def squared(log_excess: float) -> float:
        l = (1 + np.exp(log_excess)) / np.tan(np.arccos(-rho) / 3)
        root = np.sqrt(l * l + 1)
        n, n1, n2 = s + rho * l + root, rho + l / root, root**-3
        h, g = 1 - (l - rho / s) * n1 / (2 * n), n1 / 4
        return float(4 * theta * s * h * h / (theta * s * g * g - (n2 - n1 * n1 / (2 * n))))

    starts = np.linspace(-6, 14, 101)
    best = starts[np.argmin([squared(x) for x in starts])]
    found = minimize_scalar(squared, bounds=(best - 0.3, best + 0.3), method="bounded")
    return min(4 / (1 + rho), float(np.sqrt(found.fun)))


def test_bound_is_the_papers_infimum() -> None:
    rng = np.random.default_rng(31)
    for theta, rho in zip(
        np.exp(rng.uniform(-9, 2, 300)), rng.uniform(-0.98, 0.98, 300), strict=True
    ):
        assert float(psi_bound(theta, rho)) == pytest.approx(
            bound_of_the_paper(theta, rho), rel=1e-8
        )


def random_shapes(seed: int, number: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    theta = np.exp(rng.uniform(np.log(1e-9), np.log(50), number))
    extreme = 1 - 10 ** rng.uniform(-9, -0.5, number)
    rho = np.where(rng.random(number) < 0.5, rng.uniform(-1, 1, number), extreme)
    return theta, rho


def test_binding_point_is_the_minimum_over_all_strikes() -> None:
    theta, rho = random_shapes(32, 3_000)
    bound = psi_bound(theta, rho)
    for x in np.linspace(0, 0.6, 241):
        with np.errstate(invalid="ignore"):  # no bound at this strike
            at_strike = psi_bound_at(theta, rho, np.full_like(theta, x))
        assert not (at_strike < bound * (1 - 1e-12)).any()


def test_bound_is_the_edge_of_the_certificate() -> None:
    theta, rho = random_shapes(33, 4_000)
    ordinary = (theta > 1e-5) & (np.abs(rho) < 0.999)
    theta, rho = theta[ordinary], rho[ordinary]
    bound = psi_bound(theta, rho)
    below = EssviSlices(theta, rho, bound * (1 - 1e-7))
    above = EssviSlices(theta, rho, bound * (1 + 1e-7))
    assert certify_butterfly(as_svi(below)).ok.all()
    assert is_butterfly_free(below).all()
    assert not certify_butterfly(as_svi(above)).ok.any()
    assert not is_butterfly_free(above).any()


def test_bound_grows_with_theta_and_falls_with_rho() -> None:
    theta, rho = random_shapes(34, 20_000)
    rho = np.abs(rho)
    bound = psi_bound(theta, rho)
    assert (psi_bound(theta * 1.001, rho) >= bound * (1 - 1e-13)).all()
    assert (psi_bound(theta, rho + 1e-3 * (1 - rho)) <= bound * (1 + 1e-13)).all()


def test_bound_compiles_and_differentiates_in_jax_without_its_iteration() -> None:
    theta, rho = np.array([1e-4, 0.01, 0.3, 2.0, 6.0]), np.array([0.2, -0.5, 0.9, -0.3, 0.1])

    def fixed(t: jax.Array, r: jax.Array) -> jax.Array:
        bound: jax.Array = psi_bound_at(t, r, jax.lax.stop_gradient(binding_point(t, r)))
        return bound

    with jax.enable_x64(True):
        value = jax.jit(psi_bound)(theta, rho)
        slopes = jax.jit(jax.vmap(jax.grad(fixed, argnums=(0, 1))))(theta, rho)
    assert np.asarray(value) == pytest.approx(psi_bound(theta, rho), rel=1e-14)
    step = 1e-6
    by_theta = psi_bound(theta * (1 + step), rho) - psi_bound(theta * (1 - step), rho)
    by_rho = psi_bound(theta, rho + step) - psi_bound(theta, rho - step)
    assert np.asarray(slopes[0]) == pytest.approx(by_theta / (2 * step * theta), rel=1e-6, abs=1e-8)
    assert np.asarray(slopes[1]) == pytest.approx(by_rho / (2 * step), rel=1e-6, abs=1e-8)


def random_pairs(seed: int, number: int) -> tuple[EssviSlices, EssviSlices]:
    rng = np.random.default_rng(seed)
    theta = np.exp(rng.uniform(np.log(1e-3), 0, number))
    rho = rng.uniform(-0.99, 0.99, number)
    psi = psi_bound(theta, rho) * rng.uniform(0.1, 1, number)
    return EssviSlices(theta, rho, psi), EssviSlices(
        theta * np.exp(rng.normal(0.3, 0.4, number)),
        np.clip(rho + rng.normal(0, 0.15, number), -0.995, 0.995),
        psi * np.exp(rng.normal(0.3, 0.4, number)),
    )


def test_sixty_thousand_pairs_agree_with_the_certificate_of_raw_svi() -> None:
    """Two proofs that share nothing: conditions on three parameters, and branch and bound."""
    first, second = random_pairs(35, 60_000)
    exact = certify_essvi_calendar(first, second)
    proved = certify_calendar(as_svi(first), as_svi(second))
    assert 0.3 < exact.ok.mean() < 0.5
    assert np.array_equal(exact.ok, proved.ok)
    ok = exact.ok
    assert (exact.margin[ok] >= proved.margin[ok] - 1e-8).all()
    assert (proved.margin[ok] >= exact.margin[ok] - np.maximum(0.25 * exact.margin[ok], 2e-4)).all()


def test_pairs_agree_with_dense_scans() -> None:
    first, second = random_pairs(36, 4_000)
    result = certify_essvi_calendar(first, second)
    raw = [essvi_as_raw(np.stack(slices, axis=1)) for slices in (first, second)]
    truth = np.concatenate(
        [lowest_growth(*(part[i : i + 100] for part in raw)) for i in range(0, 4_000, 100)]
    )
    # At the money the ratio is θ₂/θ₁ whatever the grid sees.
    truth = np.minimum(truth, second.theta / first.theta - 1)
    assert np.array_equal(result.ok, truth >= 0)
    assert (result.margin[result.ok] <= truth[result.ok] + 1e-9).all()
    assert (result.margin[result.ok] >= truth[result.ok] - 2e-3).all()


def pair_of(rows_: tuple[tuple[float, ...], ...]) -> tuple[EssviSlices, EssviSlices]:
    return EssviSlices.of(*rows_[0]), EssviSlices.of(*rows_[1])


def test_wings_alone_do_not_make_a_pair_free_of_crossing() -> None:
    first, second = pair_of(WING_ONLY)
    turn = abs(second.rho * second.psi - first.rho * first.psi)[0]
    assert turn <= (second.psi - first.psi)[0]
    assert lowest_growth(*(essvi_as_raw(np.array([row])) for row in WING_ONLY))[0] < 0
    result = certify_essvi_calendar(first, second)
    assert not result.ok[0]
    assert result.margin[0] == -np.inf


def test_a_pair_may_be_free_of_crossing_and_yet_not_be_interpolated() -> None:
    first, second = pair_of(NOT_INTERPOLABLE)
    result = certify_essvi_calendar(first, second)
    assert result.ok[0]
    assert not result.interpolable[0]
    assert certify_calendar(as_svi(first), as_svi(second)).ok[0]
    # What goes wrong in between: linear in θ, ψ, ρψ, total variance halves near k = .18.
    shares = np.linspace(0, 1, 51)[:, None]
    start, end = (np.array([t, p, r * p]) for t, r, p in NOT_INTERPOLABLE)
    theta, psi, turn = ((1 - shares) * start + shares * end).T
    k = np.linspace(0.1, 0.3, 401)[None, :]
    w = raw_svi(essvi_as_raw(np.stack([theta, turn / psi, psi], axis=1)), k).w
    assert (w[1:] / w[:1]).min() < 0.5


def test_interpolable_pairs_stay_ordered_between_any_two_times() -> None:
    first, second = random_pairs(37, 20_000)
    chosen = np.flatnonzero(certify_essvi_calendar(first, second).interpolable)[:2_000]
    start = np.stack([first.theta, first.psi, first.rho * first.psi])[:, chosen]
    end = np.stack([second.theta, second.psi, second.rho * second.psi])[:, chosen]
    shares = np.linspace(0, 1, 9)
    path = []
    for share in shares:
        theta, psi, turn = (1 - share) * start + share * end
        path.append(EssviSlices(theta, turn / psi, psi))
    for earlier, later in pairwise(path):
        assert certify_calendar(as_svi(earlier), as_svi(later)).ok.all()


@pytest.mark.parametrize(
    ("second", "ok", "interpolable"),
    [
        ((0.04, -0.4, 0.3), True, True),  # the same slice
        ((0.05, -0.4, 0.3), True, True),  # the level alone
        ((0.0399999, -0.4, 0.3), False, False),
        ((0.08, -0.4, 0.6), True, True),  # scaled: ψ/θ the same, exactly
        ((0.08, -0.4, 0.61), True, False),
        ((0.08, -0.4, 0.2999999), False, False),
        ((0.08, -0.5, 0.3), False, False),
    ],
)
def test_equal_and_scaled_slices(second: tuple[float, ...], ok: bool, interpolable: bool) -> None:
    result = certify_essvi_calendar(EssviSlices.of(0.04, -0.4, 0.3), EssviSlices.of(*second))
    assert (result.ok[0], result.interpolable[0]) == (ok, interpolable)


def test_conversion_to_raw_svi_is_the_same_curve() -> None:
    first, _ = random_pairs(38, 500)
    assert rows(as_svi(first)) == pytest.approx(essvi_as_raw(np.stack(first, axis=1)), rel=1e-12)


@pytest.mark.parametrize(
    "bad",
    [(0.0, 0.0, 0.1), (-0.1, 0.0, 0.1), (0.04, 1.0, 0.1), (0.04, 0.0, 0.0), (np.nan, 0.0, 0.1),
     (0.04, np.nan, 0.1), (np.inf, 0.0, 0.1), (0.04, 0.0, np.inf)],
)  # fmt: skip
def test_what_is_no_slice_is_refused(bad: tuple[float, ...]) -> None:
    good = EssviSlices.of(0.04, -0.4, 0.3)
    slices = EssviSlices.of(*bad)
    assert not is_butterfly_free(slices)[0]
    assert not certify_butterfly(as_svi(slices)).ok[0]
    assert not certify_essvi_calendar(good, slices).ok[0]
    assert not certify_essvi_calendar(slices, good).ok[0]
