"""Error bars: as wide as the errors of fits whose quotes err as stated, and growing with them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

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


def test_bars_of_an_exact_model_scale_with_the_noise_of_its_quotes() -> None:
    scales = []
    for size in (0.2, 0.8):
        fitted = [_flat_market(size, seed, FitSettings()) for seed in range(12)]
        scales.append(np.mean([f.slice_diagnostics[0].noise_scale ** 2 for f in fitted]))
        bars = [f.surface.vol_error(100.0, f.surface.expiries[0].expiry) for f in fitted]
        assert np.isfinite(bars).all()
    assert np.sqrt(scales) == pytest.approx([0.2, 0.8], rel=0.15)


def test_errors_that_neighbours_share_widen_the_bars() -> None:
    alone, alike = (
        _flat_market(0.5, 3, FitSettings(error_reach=reach, noise_scale=0.5))
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
    calm = _flat_market(0.4, 5, FitSettings())
    wild = _flat_market(0.4, 5, FitSettings(), stale=20.0)
    for one, other in zip(calm.slice_diagnostics, wild.slice_diagnostics, strict=True):
        assert other.noise_scale < 1.5 * one.noise_scale


def _flat_market(size: float, seed: int, settings: FitSettings, *, stale: float = 0.0) -> Fit:
    """Expiries of raw SVI, a hyperbola in total variance; one quote may be ``stale`` by so many
    half-spreads."""
    rng = np.random.default_rng(seed)
    now = pd.Timestamp("2026-03-02 12:00", tz="UTC")
    tables = []
    for days in (10, 20, 30, 60, 90, 120, 150, 180):
        years = days / 365.0
        x = np.linspace(-2.0, 2.0, 30)
        k = x * 0.5 * np.sqrt(years)
        w = 0.04 * years + 0.4 * np.sqrt(years) * (-0.3 * k + np.sqrt(k * k + 0.25 * years) * 0.8)
        vol, half = np.sqrt(w / years), np.full(30, 0.004)
        mid = vol + size * half * rng.standard_normal(30)
        if days == 60 and stale:
            mid[15] += stale * half[15]
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
