"""Forecasts: scores of the next quotes by known errors, bars and moves."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from calib.fitting.fit import fit_chains
from calib.modelrisk.forecasts import forecasts
from calib.modelrisk.innovations import InnovationSettings, ProcessNoise
from calib.quotes.chain import Chain, chain_at
from tests.service.samples import START, micros, smile_quotes


def chain(hours: float, forward: float = 70_000.0) -> Chain:
    """Quotes of the same options, so many hours later."""
    at = START + micros(timedelta(hours=hours))
    table = smile_quotes("BTC", forward=forward)
    return chain_at(replace(table, quote_time=np.full(len(table), at)), "BTC", at)


def test_a_market_that_stands_still_is_foreseen() -> None:
    (first,) = fit_chains([chain(0)])
    (second,) = fit_chains([chain(0.001)])
    found = forecasts(first.surface, second.slices)
    assert len(found) == len(first.surface.expiries)
    for one in found:
        assert one.count > 5
        assert one.inside == 1.0
        assert one.still_two == 1.0
        assert one.rms < 0.005


def test_process_noise_widens_the_bars() -> None:
    (first,) = fit_chains([chain(0)])
    (second,) = fit_chains([chain(6, 66_500.0)])
    plain = forecasts(first.surface, second.slices)
    assert len(plain) == 3
    none = InnovationSettings(noise=ProcessNoise(level=0.0))
    for one, bare in zip(plain, forecasts(first.surface, second.slices, none), strict=True):
        assert one.moving_square < one.still_square
        assert bare.moving_square == pytest.approx(bare.still_square, rel=1e-12)
        assert one.still_square == bare.still_square


def test_a_surface_is_no_forecast_of_its_own_quotes() -> None:
    (fit,) = fit_chains([chain(0)])
    assert forecasts(fit.surface, fit.slices) == ()


def test_an_expiry_without_quotes_has_no_score() -> None:
    (fit,) = fit_chains([chain(0)])
    later = chain(1)
    blank = later.quotes.with_reason(np.full(len(later.quotes), 9, later.quotes.reason.dtype))
    (empty,) = fit_chains([chain_at(blank, "BTC", later.quote_time)])
    found = forecasts(fit.surface, empty.slices)
    assert all(one.count == 0 and np.isnan(one.rms) for one in found)
    assert sum(one.count for one in forecasts(fit.surface, fit_chains([later])[0].slices)) > 30
