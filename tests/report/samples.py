"""A surface whose parameters are chosen, and quotes around it: two-sided, one-sided and far off."""

import numpy as np

from calib.arbitrage.certificate import Certificate
from calib.conventions import ExpiryCalendar, years_between
from calib.market.slicing import slices_of
from calib.quotes.chain import chain_at
from calib.quotes.labels import Labels
from calib.quotes.table import validated
from calib.report.smiles import QuotedSurface
from calib.states import ModelName
from calib.surface.surface import ExpirySlice, Surface

NOW = np.datetime64("2026-03-02T08:00:00", "us")
DAYS = (2, 30, 200)
UNFITTED_DAYS = 60
FORWARD = 100.0


def surface_of(calendar: ExpiryCalendar = ExpiryCalendar.SAME_ASSET, name: str = "XYZ") -> Surface:
    expiries = []
    for days in DAYS:
        expiry = NOW + np.timedelta64(days, "D")
        years = float(years_between(NOW, expiry))
        width = 0.5 * np.sqrt(years)
        expiries.append(
            ExpirySlice(
                expiry=expiry,
                years=years,
                variance_time=years,
                forward=FORWARD,
                discount_factor=1.0,
                parameters=(0.1 * width**2, 0.4 * width, -0.4, 0.1 * width, 1.5 * width),
                log_moneyness_min=-2.0 * width,
                log_moneyness_max=2.0 * width,
            )
        )
    return Surface(
        name, NOW, ModelName.SVI, calendar, Certificate.not_checked(), tuple(expiries), spot=FORWARD
    )


def quoted_of(surface: Surface) -> QuotedSurface:
    """Eleven strikes an expiry: the lowest is only asked, the highest only bid, one is crossed."""
    columns: dict[str, list[float]] = {"days": [], "strike": [], "bid": [], "ask": []}
    for days in sorted((*DAYS, UNFITTED_DAYS)):
        width = 0.5 * np.sqrt(days / 365.0)
        for index, depth in enumerate(np.linspace(-2.0, 2.0, 11)):
            strike = FORWARD * np.exp(depth * width)
            mid = (
                0.55 if days == UNFITTED_DAYS else float(surface.implied_vol(strike, days / 365.0))
            )
            half = -0.01 if index == 3 else 0.01
            columns["days"].append(days)
            columns["strike"].append(strike)
            columns["bid"].append(np.nan if index == 0 else mid - half)
            columns["ask"].append(np.nan if index == 10 else mid + half)
    count = len(columns["days"])
    strike = np.array(columns["strike"])
    table = validated(
        quote_time=np.full(count, NOW),
        venue=Labels.constant("V", count),
        underlying=Labels.constant(surface.underlying, count),
        expiry=NOW + np.array(columns["days"], "timedelta64[D]"),
        strike=strike,
        right=Labels.of(["P" if k < FORWARD else "C" for k in strike]),
        unit=Labels.constant("vol", count),
        bid=np.array(columns["bid"]),
        ask=np.array(columns["ask"]),
        forward=np.full(count, FORWARD),
        spot=np.full(count, FORWARD),
    )
    return QuotedSurface(surface, slices_of(chain_at(table, surface.underlying, NOW)))
