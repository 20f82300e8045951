"""Error bars: as wide as the errors of fits whose quotes err as stated, and growing with them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from calib.conventions import Floats
from calib.errors import InvalidRequest
from calib.fitting.fit import fit
from calib.fitting.fit_value import Fit
from calib.fitting.settings import FitSettings
from calib.quotes.reading import quotes_from_frame
from tests.fitting.error_bars import Errors, Noise, errors, true_markets


@pytest.fixture(scope="module")
def truth() -> pd.DataFrame:
    return true_markets(seed=7, snapshots=16)


@pytest.mark.parametrize(
    ("noise", "reach"),
    [
        (Noise(1.0), 0.0),
        (Noise(0.4), 0.0),
        (Noise(0.5, length=0.4), 0.5),
        (Noise(0.5, length=1.0), 0.75),
        (Noise(0.4, tick=0.5), 0.0),
        (Noise(0.4, length=0.4, tick=0.5), 0.4),
    ],
)
def test_errors_of_stated_noise_have_deviation_one_in_error_bars(
    truth: pd.DataFrame, noise: Noise, reach: float
) -> None:
    settings = FitSettings(error_reach=reach, noise_scale=noise.stated)
    found = errors(truth, noise, settings, np.random.default_rng(1))
    assert 0.9 < found.deviation() < 1.1
    assert 0.8 < found.deviation(0.0) < 1.2


def test_noise_that_is_not_stated_is_measured_and_covers_what_the_shape_misses(
    truth: pd.DataFrame,
) -> None:
    for noise in (Noise(1.0), Noise(0.4)):
        found = errors(truth, noise, FitSettings(), np.random.default_rng(2))
        assert 0.75 < found.whole_deviation() < 1.25
        assert _size(found) > 0.002  # of vol: there is a shape's error to cover


@pytest.mark.parametrize(
    ("noise", "reach"),
    [(Noise(0.2), 0.0), (Noise(0.8), 0.0), (Noise(0.5, length=0.15), 0.2), (Noise(0.5, 0.4), 0.4)],
)
def test_noise_around_an_exact_model_is_measured_and_bars_stand_on_it(
    noise: Noise, reach: float
) -> None:
    scales, errors = [], []
    for seed in range(16):
        fitted = _svi_market(noise, seed, FitSettings(error_reach=reach))
        for smile in fitted.surface.expiries:
            scales.append(smile.diagnostics.noise_scale**2)
            deviation = _vol(0.0, smile.years) * np.sqrt(smile.years)
            for x in (-1.0, 0.0, 1.0):
                strike = 100.0 * np.exp(x * deviation)
                error = fitted.surface.implied_vol(strike, smile.expiry) - _vol(
                    x * deviation, smile.years
                )
                errors.append(error / fitted.surface.vol_error(strike, smile.expiry))
    assert np.sqrt(np.mean(scales)) == pytest.approx(noise.scale, rel=0.25)
    assert 0.8 < np.sqrt(np.mean(np.square(errors))) < 1.25


def test_errors_that_neighbours_share_widen_the_bars() -> None:
    alone, alike = (
        _svi_market(Noise(0.5), 3, FitSettings(error_reach=reach, noise_scale=0.5))
        for reach in (0.0, 0.5)
    )
    assert [e.parameters for e in alone.surface.expiries] == [
        e.parameters for e in alike.surface.expiries
    ]
    for smile in alone.surface.expiries:
        ratio = alike.surface.vol_error(100.0, smile.expiry) / alone.surface.vol_error(
            100.0, smile.expiry
        )
        assert 1.2 < ratio < 3.0


def test_one_wild_quote_leaves_the_bars_about_as_they_were() -> None:
    calm = _svi_market(Noise(0.4), 5, FitSettings())
    wild = _svi_market(Noise(0.4), 5, FitSettings(), stale=20.0)
    for one, other in zip(calm.slice_diagnostics, wild.slice_diagnostics, strict=True):
        assert other.noise_scale < 1.5 * one.noise_scale


@pytest.mark.parametrize(
    "bad", [{"noise_scale": 0.0}, {"noise_scale": -0.5}, {"error_reach": -0.1}, {"min_quotes": 0}]
)
def test_settings_outside_their_range_are_refused_by_name(bad: dict[str, float]) -> None:
    (name,) = bad
    with pytest.raises(InvalidRequest, match=name):
        FitSettings(**bad)  # type: ignore[arg-type]


def test_quotes_that_do_not_count_are_no_diagnostics() -> None:
    market = _svi_market(Noise(0.4), 5, FitSettings(), stale=20.0)
    quotes = market.slices.chain.quotes
    weights = np.ones(len(quotes))
    worst = int(np.nanargmax(np.abs(market.model_vol - market.slices.mid_vol)))
    weights[worst] = 0.0
    without = fit(quotes, weights=weights)
    assert not without.used[worst]
    assert without.used.sum() == market.used.sum() - 1
    place = market.slices.slice_index[worst]
    for name in ("max_abs_residual", "chi2_reduced", "rms_vol_error"):
        before, after = (getattr(f.slice_diagnostics[place], name) for f in (market, without))
        assert after < 0.5 * before


def _vol(k: float | Floats, years: float) -> Floats:
    """The truth: raw SVI, a hyperbola in total variance."""
    w = 0.04 * years + 0.4 * np.sqrt(years) * (0.8 * np.sqrt(k * k + 0.25 * years) - 0.3 * k)
    return np.asarray(np.sqrt(w / years))


def _svi_market(noise: Noise, seed: int, settings: FitSettings, *, stale: float = 0.0) -> Fit:
    """Expiries of that; one quote may be ``stale`` by so many half-spreads."""
    rng = np.random.default_rng(seed)
    now = pd.Timestamp("2026-03-02 12:00", tz="UTC")
    tables = []
    for days in (10, 20, 30, 60, 90, 120, 150, 180):
        years = days / 365.0
        x, half = np.linspace(-2.0, 2.0, 30), 0.004
        k = x * _vol(0.0, years) * np.sqrt(years)
        mid = _vol(k, years) + noise.scale * half * noise.errors(x, rng)
        if days == 60:
            mid[15] += stale * half
        tables.append(
            pd.DataFrame(
                {
                    "quote_time": now,
                    "venue": "X",
                    "underlying": "U",
                    "expiry": now + pd.Timedelta(days=days),
                    "strike": 100.0 * np.exp(k),
                    "right": np.where(k < 0.0, "P", "C"),
                    "unit": "vol",
                    "bid": mid - half,
                    "ask": mid + half,
                    "forward": 100.0,
                }
            )
        )
    return fit(quotes_from_frame(pd.concat(tables)), settings=settings)


def _size(found: Errors) -> float:
    return float(np.sqrt(np.mean(found.shape**2)))
