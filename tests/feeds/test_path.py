"""The path of spot and variance: its laws, and that options are worth what it pays."""

from __future__ import annotations

import numpy as np
import pytest

from calib.conventions import Floats
from calib.feeds.simulated.bates import Bates, expected_variance
from calib.feeds.simulated.contour import option_value
from calib.feeds.simulated.path import Carry, Level, moved

PATHS = 40_000
CRYPTO = Bates(3.0, 0.24, 1.3, -0.25, 9.0, -0.012, 0.05)
INDEX = Bates(4.0, 0.026, 0.75, -0.72, 0.8, -0.07, 0.06)


def ends(model: Bates, variance: float, years: float, growth: float = 0.0) -> Level:
    start = Level(np.ones(PATHS), np.full(PATHS, variance))
    return moved(model, start, years, growth, np.random.default_rng(11))


def in_errors(sample: Floats, mean: Floats | float) -> Floats:
    """How many of its standard errors the mean of a sample, over the last axis, lies off."""
    error = sample.std(axis=-1) / np.sqrt(sample.shape[-1])
    return np.asarray(np.abs(sample.mean(axis=-1) - mean) / error)


@pytest.mark.parametrize(("model", "variance"), [(CRYPTO, 0.19), (INDEX, 0.05)])
@pytest.mark.parametrize("years", [1e-7, 0.01, 0.25])
def test_forwards_are_martingales(model: Bates, variance: float, years: float) -> None:
    level = ends(model, variance, years, growth=0.02 * years)
    assert in_errors(level.spot * np.exp(-0.02 * years), 1.0) < 4.0


@pytest.mark.parametrize(("model", "variance"), [(CRYPTO, 0.19), (INDEX, 0.05)])
def test_variance_has_the_mean_and_spread_of_its_law(model: Bates, variance: float) -> None:
    years = 0.1
    after = ends(model, variance, years).variance
    keep = np.exp(-model.kappa * years)
    mean = model.theta + (variance - model.theta) * keep
    square = (
        variance * model.sigma**2 / model.kappa * (keep - keep * keep)
        + 0.5 * model.theta * model.sigma**2 / model.kappa * (1.0 - keep) ** 2
    )
    assert np.all(after >= 0.0)
    assert in_errors(after, mean) < 4.0
    assert in_errors((after - mean) ** 2, square) < 4.0


@pytest.mark.parametrize(("model", "variance"), [(CRYPTO, 0.19), (INDEX, 0.05)])
def test_options_are_worth_what_the_paths_pay(model: Bates, variance: float) -> None:
    years = 30.0 / 365.0
    spot = ends(model, variance, years).spot
    width = np.sqrt(float(expected_variance(model, np.asarray(years), variance)))
    k = np.linspace(-2.0, 2.0, 9) * width
    paid = np.maximum(np.exp(k)[:, None] - spot, 0.0)
    assert np.all(in_errors(paid, option_value(model, k, years, variance, False)) < 4.0)


def test_a_second_moves_spot_by_a_seconds_worth() -> None:
    second = 1.0 / 365.0 / 86_400.0
    calm = Bates(3.0, 0.24, 1.3, -0.25)
    returns = np.log(ends(calm, 0.19, second).spot)
    assert returns.std() == pytest.approx(np.sqrt(0.19 * second), rel=0.02)


def test_carry_integrates_its_own_curve() -> None:
    carry = Carry(rate=0.03, start_rate=0.08, fading_years=0.4)
    s = np.linspace(0.2, 1.5, 4001)
    middle = 0.5 * (s[1:] + s[:-1])
    curve = 0.03 + 0.05 * np.exp(-middle / 0.4)
    assert float(carry.integral(0.2, 1.5)) == pytest.approx(np.sum(curve * np.diff(s)), rel=1e-6)
    parts = carry.integral(0.2, 0.7) + carry.integral(0.7, 1.5)
    assert float(parts) == pytest.approx(float(carry.integral(0.2, 1.5)), rel=1e-13)
