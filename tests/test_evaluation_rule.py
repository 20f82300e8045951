"""`Surface` gives what the published rule gives to a reader who has nothing but the message."""

from __future__ import annotations

from dataclasses import replace
from math import exp, sqrt

import numpy as np
import pytest

from calib.arbitrage.certificate import Certificate
from calib.conventions import MICROSECONDS_PER_YEAR, ExpiryCalendar, Floats
from calib.states import ModelName
from calib.surface.surface import ExpirySlice, Surface
from tests.published_rule import PublishedRule, mp

QUOTE_TIME = np.datetime64("2026-01-05T10:00:00.123456", "us")
STRIKES = (40.0, 90.0, 100.0, 131.0, 260.0)
CLOSE = 1e-12


def _parameters(model: ModelName, years: float, random: np.random.Generator) -> tuple[float, ...]:
    rho = random.uniform(-0.8, 0.3)
    if model is ModelName.SVI:
        return (0.04 * years, 0.2 * sqrt(years), rho, 0.02, 0.15)
    if model is ModelName.ESSVI:
        return (0.09 * years, rho, 0.8 * sqrt(0.09 * years))
    return (0.3, random.choice([1.0, 0.5, 0.0]), 0.6 * rho, min(0.8, 0.5 / sqrt(years)))


def _covariance(parameters: tuple[float, ...], random: np.random.Generator) -> tuple[float, ...]:
    size = len(parameters)
    root: Floats = 0.01 * random.normal(size=(size, size)) * np.array(parameters)[:, None]
    return tuple((root @ root.T).ravel().tolist())


def _surface(model: ModelName, expiries: int, *, spot: float | None, seed: int) -> Surface:
    """A surface whose variance time is not its years, and whose errors are not zero."""
    random = np.random.default_rng(seed)
    days = np.sort(random.choice(np.arange(2, 700), expiries, replace=False))
    slices, variance_time, before = [], 0.0, 0.0
    for day in days.tolist():
        expiry = QUOTE_TIME + np.timedelta64(int(day) * 86_400_000_000 + 1_234_567, "us")
        years = int((expiry - QUOTE_TIME).astype(np.int64)) / MICROSECONDS_PER_YEAR
        variance_time += (years - before) * random.uniform(0.5, 1.4)
        before = years
        parameters = _parameters(model, years, random)
        slices.append(
            ExpirySlice(
                expiry=expiry,
                years=years,
                variance_time=variance_time,
                forward=100.0 * exp(0.03 * years + random.normal(0.0, 0.01)),
                discount_factor=exp(-0.04 * years),
                parameters=parameters,
                log_moneyness_min=-0.5 * sqrt(years),
                log_moneyness_max=0.4 * sqrt(years),
                forward_error=0.05,
                covariance=_covariance(parameters, random),
            )
        )
    return Surface(
        underlying="X",
        quote_time=QUOTE_TIME,
        model=model,
        calendar=ExpiryCalendar.SAME_ASSET,
        certificate=Certificate.not_checked(),
        expiries=tuple(slices),
        spot=spot,
    )


@pytest.mark.parametrize("spot", [None, 100.0])
@pytest.mark.parametrize("expiries", [1, 3])
@pytest.mark.parametrize("model", list(ModelName))
def test_surface_follows_the_published_rule(
    model: ModelName, expiries: int, spot: float | None
) -> None:
    surface = _surface(model, expiries, spot=spot, seed=expiries)
    rule = PublishedRule(surface.to_proto())
    first, last = surface.expiries[0].years, surface.expiries[-1].years
    for years in sorted({0.3 * first, first, 0.4 * first + 0.6 * last, last, 1.7 * last}):
        t = mp.mpf(years)
        assert surface.forward(years) == pytest.approx(float(rule.forward(t)), rel=CLOSE)
        assert surface.discount_factor(years) == pytest.approx(
            float(rule.discount_factor(t)), rel=CLOSE
        )
        for strike in STRIKES:
            vol, error = rule.vol(strike, t), rule.vol_error(strike, t)
            assert surface.implied_vol(strike, years) == pytest.approx(float(vol), rel=CLOSE)
            assert surface.vol_error(strike, years) == pytest.approx(float(error), rel=CLOSE)
            assert surface.is_extrapolated(strike, years) == rule.is_extrapolated(strike, t)


def test_arrays_follow_the_same_rule_as_numbers() -> None:
    surface = _surface(ModelName.SABR, 3, spot=100.0, seed=3)
    strike = np.array(STRIKES)[:, None]
    years = np.array([0.01, surface.expiries[1].years, 0.7, 3.0])
    vols, errors = surface.implied_vol(strike, years), surface.vol_error(strike, years)
    for i, k in enumerate(STRIKES):
        for j, t in enumerate(years.tolist()):
            assert vols[i, j] == pytest.approx(surface.implied_vol(k, t), rel=CLOSE)
            assert errors[i, j] == pytest.approx(surface.vol_error(k, t), rel=CLOSE)


@pytest.mark.parametrize(
    ("rho", "low", "high"), [(-0.3, -2.0, 0.1), (0.7, -0.1, 1.5)], ids=["left", "right"]
)
def test_steep_sabr_wings_are_continued_within_the_published_slopes(
    rho: float, low: float, high: float
) -> None:
    """At one end the formula is steeper than 1.95, at the other it falls on the way out."""
    surface = _surface(ModelName.SABR, 1, spot=None, seed=1)
    steep = replace(
        surface.expiries[0],
        expiry=QUOTE_TIME + np.timedelta64(3 * 365, "D"),
        years=3.0,
        variance_time=3.0,
        parameters=(0.9, 1.0, rho, 1.5),
        log_moneyness_min=low,
        log_moneyness_max=high,
    )
    surface = replace(surface, expiries=(steep,))
    rule = PublishedRule(surface.to_proto())
    for k in (low - 1.0, low, high, high + 1.0):
        expected = float(rule.total_variance(mp.mpf(k), mp.mpf(3)))
        assert surface.total_variance(k, 3.0) == pytest.approx(expected, rel=CLOSE)
