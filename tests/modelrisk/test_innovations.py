"""One step ahead: still markets have honest errors, shifts are seen in the unit they came in."""

from dataclasses import replace
from math import log, sqrt

import numpy as np
import pytest

from calib.conventions import years_between
from calib.fitting.memory import Memory
from calib.modelrisk.innovations import (
    InnovationSettings,
    ProcessNoise,
    equicorrelated_mean,
    innovations,
    pooled,
    predict,
    standing_residuals,
)
from calib.modelrisk.tenors import Tenor
from calib.surface.surface import Surface
from calib.surface.transport import with_levels
from tests.fitting.surface_samples import Smile, chain_of, true_smiles, true_svi
from tests.modelrisk.samples import earlier, fit_of

H = 0.002


def moved(smiles: list[Smile], shift: float, tilt: float = 0.0) -> list[Smile]:
    """Vols up by ``shift``, and by ``tilt`` times k."""
    return [
        s._replace(bid=s.bid + shift + tilt * s.k, ask=s.ask + shift + tilt * s.k) for s in smiles
    ]


def last(covariance: bool = False) -> Surface:
    matrix = np.diag([1e-10, 1e-8, 1e-6, 1e-8, 1e-8]) if covariance else None
    return earlier(fit_of(chain_of(true_smiles()), true_svi(), covariance=matrix).surface, 6.0)


def test_a_market_that_stands_still_has_no_innovation() -> None:
    found = innovations(last(), chain_of(true_smiles(half_spread=H)))
    assert len(found) == 5
    assert [one.count for one in found] == [12] * 5
    for one in found:
        assert abs(one.level) < 1e-12
        assert one.rms < 1e-9
        assert one.covered == 1.0
        assert one.elapsed_years == pytest.approx(6.0 / 8760.0)


def test_noise_within_the_spread_has_unit_deviation() -> None:
    rng = np.random.default_rng(7)
    smiles = true_smiles(quotes=400, half_spread=H)
    noisy = []
    for smile in smiles:
        off = rng.uniform(-H, H, smile.k.shape)  # the truth lies anywhere between bid and ask
        noisy.append(smile._replace(bid=smile.bid + off, ask=smile.ask + off))
    found = innovations(last(), chain_of(noisy))
    rms = sqrt(np.mean([one.rms**2 for one in found]))
    assert rms == pytest.approx(1.0, abs=0.06)  # 2,000 draws of kurtosis 1.8


def test_a_shift_is_the_level_and_nothing_of_the_shape() -> None:
    found = innovations(last(), chain_of(moved(true_smiles(half_spread=H), 0.01)))
    for one in found:
        assert one.level == pytest.approx(0.01, rel=1e-9)
        assert one.level_z == pytest.approx(one.level / one.level_sd)
        assert one.mean == pytest.approx(0.01 / (H / sqrt(3.0)), rel=1e-9)
        assert one.shape_rms < 1e-6
        assert abs(one.skew) < 1e-12


def test_a_tilt_is_the_skew_in_vol_per_deviation() -> None:
    surface = last()
    found = innovations(surface, chain_of(moved(true_smiles(half_spread=H), 0.0, 0.05)))
    for one, smile in zip(found, true_smiles(), strict=True):
        deviation = 0.05 * sqrt(smile.days / 365.0)  # times σ(k), within a fifth of σ(0)
        atm = float(surface.implied_vol(100.0, one.elapsed_years + one.years))
        assert one.skew == pytest.approx(deviation * atm, rel=0.25)


def test_the_predictive_deviation_adds_up_its_parts() -> None:
    smiles = [Smile(30.0, np.array([-0.02, 0.0, 0.02]), np.full(3, 0.398), np.full(3, 0.402))]
    flat = np.array([[0.16 * 30 / 365], [1e-9], [0.0], [0.0], [0.1]])
    before = earlier(fit_of(chain_of(smiles), flat).surface, 6.0)
    noise = ProcessNoise(level=0.2, decay=0.5, shared=0.4)
    (one,) = innovations(before, chain_of(smiles), InnovationSettings(noise=noise))
    quotes = 0.002**2 / 3.0 * (0.4 + 0.6 / 3.0)
    process = (0.2 * 0.4) ** 2 * (0.25 / 365) / (30 / 365)
    assert one.level_sd == pytest.approx(sqrt(quotes + process), rel=1e-6)


def test_the_error_bar_of_the_last_surface_counts() -> None:
    chain = chain_of(moved(true_smiles(half_spread=H), 0.01))
    bare, barred = innovations(last(), chain), innovations(last(covariance=True), chain)
    for one, other in zip(bare, barred, strict=True):
        assert other.rms < one.rms
        assert other.level_sd > one.level_sd


@pytest.mark.parametrize("stickiness", [0.0, 0.25, 1.0])
def test_smiles_follow_the_forward_by_the_rule_of_memory(stickiness: float) -> None:
    chain = chain_of(true_smiles())
    surface = with_levels(last(), [1.0 / 1.03] * 5)
    predicted = predict(surface, chain, Memory(skew_stickiness=stickiness))
    k = chain.log_moneyness + stickiness * log(1.03)
    for i, one in enumerate(surface.expiries):
        mine = chain.slice_index == i
        w = np.asarray(surface.total_variance(k[mine], one.years))
        assert predicted.vol[mine] == pytest.approx(np.sqrt(w / one.years), rel=1e-12)


def test_at_sticky_strike_an_option_keeps_its_vol() -> None:
    chain = chain_of(true_smiles())
    surface = with_levels(last(), [1.0 / 1.03] * 5)
    predicted = predict(surface, chain, Memory(skew_stickiness=1.0))
    years = chain.years[chain.slice_index] + float(
        years_between(surface.quote_time, chain.chain.quote_time)
    )
    old = surface.implied_vol(chain.chain.quotes.strike, years)
    assert predicted.vol == pytest.approx(np.asarray(old), rel=1e-12)


def test_a_forward_is_measured_by_the_vol_that_was_expected() -> None:
    surface = with_levels(last(), [1.0 / 1.02] * 5)
    one = innovations(surface, chain_of(true_smiles()))[0]
    atm = float(surface.implied_vol(surface.expiries[0].forward, surface.expiries[0].years))
    assert one.forward_move == pytest.approx(log(1.02))
    assert one.forward_z == pytest.approx(log(1.02) / (atm * sqrt(0.25 / 365)), rel=0.05)


def test_what_is_not_later_is_no_forecast() -> None:
    chain = chain_of(true_smiles())
    surface = fit_of(chain, true_svi()).surface
    assert innovations(surface, chain) == ()
    assert innovations(replace(surface, expiries=()), chain) == ()


def test_new_expiries_have_no_innovation() -> None:
    before = last()
    fewer = replace(before, expiries=before.expiries[1:])
    found = innovations(fewer, chain_of(true_smiles()))
    assert len(found) == 4
    assert np.isnan(predict(fewer, chain_of(true_smiles())).vol).sum() == 12


def test_expiries_of_a_bucket_count_by_how_alike_they_are() -> None:
    assert equicorrelated_mean([2.0, 2.0, 2.0], 1.0) == pytest.approx(2.0)
    assert equicorrelated_mean([2.0, 2.0, 2.0], 0.0) == pytest.approx(2.0 * sqrt(3.0))
    assert equicorrelated_mean([1.7], 0.3) == pytest.approx(1.7)
    rng = np.random.default_rng(3)
    common, own = rng.standard_normal(20_000), rng.standard_normal((20_000, 3))
    z = sqrt(0.8) * common[:, None] + sqrt(0.2) * own
    assert np.std([equicorrelated_mean(row, 0.8) for row in z.tolist()]) == pytest.approx(
        1.0, abs=0.02
    )


def test_one_innovation_a_tenor_bucket() -> None:
    found = innovations(last(), chain_of(moved(true_smiles(half_spread=H), 0.01)))
    by_tenor = pooled(found)
    assert set(by_tenor) == {Tenor.MONTH, Tenor.QUARTER, Tenor.YEAR}
    assert by_tenor[Tenor.YEAR] == pytest.approx(found[-1].level_z)
    assert set(pooled(found, name="skew_z")) == set(by_tenor)


def test_what_a_fit_leaves_over_its_own_quotes_is_no_news() -> None:
    smiles = moved(true_smiles(half_spread=H), 0.001, 0.02)  # half a spread off, and tilted
    fit = fit_of(chain_of(smiles), true_svi())
    before = earlier(fit.surface, 6.0)
    left = standing_residuals(fit)
    level = standing_residuals(fit_of(chain_of(moved(true_smiles(), 0.001)), true_svi()))
    assert [one.level for one in level.values()] == pytest.approx([0.001] * 5, rel=1e-9)
    assert [one.skew for one in level.values()] == pytest.approx([0.0] * 5, abs=1e-12)
    assert all(one.skew > 0.0005 for one in left.values())
    for one in innovations(before, chain_of(smiles), None, left):
        assert one.level_z == pytest.approx(0.0, abs=1e-9)
        assert one.skew_z == pytest.approx(0.0, abs=1e-9)
        assert one.level == pytest.approx(one.standing_level, rel=1e-9)
    for bare in innovations(before, chain_of(smiles)):
        assert bare.skew_z > 0.0


@pytest.mark.parametrize("shared", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("uneven", [False, True])
def test_level_and_skew_have_unit_deviation_under_their_own_noise(
    shared: float, uneven: bool
) -> None:
    rng = np.random.default_rng(11)
    settings = InnovationSettings(noise=ProcessNoise(level=0.0, skew=0.0, shared=shared))
    before, level, skew = last(), [], []
    for _ in range(100):
        smiles = []
        for smile in true_smiles():
            size = len(smile.k)
            h = H * np.linspace(0.5, 3.0, size) if uneven else np.full(size, H)
            z = sqrt(shared) * rng.standard_normal() + sqrt(1.0 - shared) * rng.standard_normal(
                size
            )
            mid = 0.5 * (smile.bid + smile.ask) + h / sqrt(3.0) * z
            smiles.append(smile._replace(bid=mid - h, ask=mid + h))
        found = innovations(before, chain_of(smiles), settings)
        level += [one.level_z for one in found]
        skew += [one.skew_z for one in found]
    for series in (level, skew):  # 500 draws: ±3 of their own standard errors
        assert np.sqrt(np.mean(np.square(series))) == pytest.approx(1.0, abs=0.1)


def test_quotes_of_one_strike_have_no_skew() -> None:
    k = np.zeros(4)
    smiles = [Smile(30.0, k, np.full(4, 0.398), np.full(4, 0.402))]
    flat = np.array([[0.16 * 30 / 365], [1e-9], [0.0], [0.0], [0.1]])
    (one,) = innovations(earlier(fit_of(chain_of(smiles), flat).surface, 6.0), chain_of(smiles))
    assert np.isnan(one.skew)
    assert np.isnan(one.skew_z)
