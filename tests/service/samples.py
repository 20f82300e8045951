"""Surfaces and quotes for tests, small and plausible."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np

from calib.arbitrage.certificate import Certificate
from calib.conventions import ExpiryCalendar, years_between
from calib.quotes.labels import Labels
from calib.quotes.table import QuoteTable, validated
from calib.states import FitState, ModelName
from calib.surface.surface import ExpirySlice, SliceDiagnostics, Surface

START = np.datetime64("2026-03-02T08:00:00", "us")


def micros(span: timedelta) -> np.timedelta64:
    return np.timedelta64(span // timedelta(microseconds=1), "us")


def surface(
    underlying: str = "BTC",
    *,
    at: np.datetime64 = START,
    level: float = 0.04,
    model: ModelName = ModelName.SVI,
    epoch: str = "",
    revision: int = 0,
) -> Surface:
    """Three expiries whose total variance rises with time."""
    expiries = []
    for days in (7, 30, 90):
        expiry = at + np.timedelta64(days * 86_400_000_000, "us")
        years = float(years_between(at, expiry))
        w = level * years * 12.0
        parameters = {
            ModelName.SVI: (0.3 * w, 0.4 * w, -0.3, 0.0, 1.5),
            ModelName.ESSVI: (w, -0.3, w),
            ModelName.SABR: ((w / years) ** 0.5, 1.0, -0.3, 0.5),
        }[model]
        expiries.append(
            ExpirySlice(
                expiry=expiry,
                years=years,
                variance_time=years,
                forward=70_000.0 * (1.0 + 0.05 * years),
                discount_factor=1.0,
                parameters=parameters,
                log_moneyness_min=-0.5,
                log_moneyness_max=0.4,
                diagnostics=SliceDiagnostics(FitState.CONVERGED, quotes_used=20),
            )
        )
    return Surface(
        underlying=underlying,
        quote_time=at,
        model=model,
        calendar=ExpiryCalendar.SAME_ASSET,
        certificate=Certificate.not_checked(),
        expiries=tuple(expiries),
        spot=70_000.0,
        epoch=epoch,
        revision=revision,
    )


def smile_quotes(
    underlying: str = "BTC",
    *,
    at: np.datetime64 = START,
    vol: float = 0.6,
    days: tuple[int, ...] = (7, 30, 90),
    strikes: int = 15,
    forward: float = 70_000.0,
    venue: str = "test",
    spread: float = 0.01,
) -> QuoteTable:
    """Out-of-the-money quotes in vol, a parabola in log-moneyness, whole chains at one time."""
    k = np.linspace(-0.3, 0.3, strikes)
    size = len(days) * strikes
    spans = np.array(days, np.int64) * np.int64(86_400_000_000)
    expiry = np.repeat(at + spans.astype("timedelta64[us]"), strikes)
    moneyness = np.tile(k, len(days))
    mid = vol * (1.0 - 0.2 * moneyness + 0.8 * moneyness**2)
    return validated(
        quote_time=np.full(size, at),
        venue=Labels.constant(venue, size),
        underlying=Labels.constant(underlying, size),
        expiry=expiry,
        strike=forward * np.exp(moneyness),
        right=Labels((moneyness < 0.0).astype(np.int32), ("C", "P")),
        unit=Labels.constant("vol", size),
        bid=mid - 0.5 * spread,
        ask=mid + 0.5 * spread,
        forward=np.full(size, forward),
        spot=np.full(size, forward),
    )


def at_time(quotes: QuoteTable, at: np.datetime64) -> QuoteTable:
    """The same quotes, of the same expiries, seen at another time."""
    return replace(quotes, quote_time=np.full(len(quotes), at))
