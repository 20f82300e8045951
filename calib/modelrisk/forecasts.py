"""Forecasts scored: the next quotes against the error bars of the last surface, quote by quote."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, nan, sqrt

import numpy as np

from calib.conventions import Floats, micros_of, years_between
from calib.market.slices import QuoteKind, Slices
from calib.modelrisk.innovations import InnovationSettings, predict, process_reach
from calib.modelrisk.plain_values import Value, plain_values
from calib.modelrisk.tenors import Tenor, tenor_of
from calib.surface.surface import ExpirySlice, Surface


@dataclass(frozen=True)
class Forecast:
    """One expiry, one step ahead: how far its two-sided quotes came from what was said of them.

    Of ``count`` errors, mid − predicted: their root mean square ``rms``, a vol, and the share
    ``inside`` of bid-asks that hold the prediction. Standardised, z = error/sd: the shares within
    ``one`` and ``two`` standard errors and the mean ``square`` of z, honest at .683, .954 and 1.
    ``still``: sd² = e² + (sh)², the error of the last surface and the noise of the quote, as if
    the market stood still (`calib.modelrisk.innovations.Innovation`). ``moving``: with the process
    noise of the level of vol added, (λσ₀)²Δ·T^−2p.
    """

    expiry: np.datetime64
    years: float
    tenor: Tenor
    count: int = 0
    rms: float = nan
    inside: float = nan
    still_one: float = nan
    still_two: float = nan
    still_square: float = nan
    moving_one: float = nan
    moving_two: float = nan
    moving_square: float = nan

    def values(self) -> dict[str, Value]:
        """The fields as plain values; the expiry as ISO 8601 text."""
        return plain_values(self)


def forecasts(
    previous: Surface, slices: Slices, settings: InnovationSettings | None = None
) -> tuple[Forecast, ...]:
    """A score for every expiry of the chain that ``previous`` was fitted at.

    None where the chain is not later than ``previous``, which then is no forecast.
    """
    settings = settings or InnovationSettings()
    elapsed = float(years_between(previous.quote_time, slices.chain.quote_time))
    if not elapsed > 0.0:
        return ()
    predicted = predict(previous, slices, settings.memory)
    known = {micros_of(one.expiry): one for one in previous.expiries}
    counted = (slices.kind == QuoteKind.TWO_SIDED) & np.isfinite(predicted.vol)
    found = []
    for number, moment in enumerate(slices.expiry.astype(np.int64).tolist()):
        if moment not in known:
            continue
        rows = np.flatnonzero(counted & (slices.slice_index == number))
        years = float(slices.years[number])
        bare = Forecast(slices.expiry[number], years, tenor_of(years))
        if not rows.size:
            found.append(bare)
            continue
        vol, error = predicted.vol[rows], predicted.error[rows]
        gap = slices.mid_vol[rows] - vol
        still = np.hypot(np.where(np.isfinite(error), error, 0.0), predicted.noise[rows])
        level = _atm_vol(previous, known[moment], float(slices.forward[number]), settings)
        drift = settings.noise.level * process_reach(level, years, elapsed, settings.noise)
        inside = (slices.bid_vol[rows] <= vol) & (vol <= slices.ask_vol[rows])
        found.append(
            Forecast(
                bare.expiry,
                years,
                bare.tenor,
                len(rows),
                sqrt(float(gap @ gap) / len(rows)),
                float(inside.mean()),
                *_scores(gap / still),
                *_scores(gap / np.hypot(still, drift)),
            )
        )
    return tuple(found)


def _scores(z: Floats) -> tuple[float, float, float]:
    away = np.abs(z)
    return float((away <= 1.0).mean()), float((away <= 2.0).mean()), float(z @ z) / len(z)


def _atm_vol(
    previous: Surface, one: ExpirySlice, forward: float, settings: InnovationSettings
) -> float:
    """The vol at the next forward, the last smile carried there."""
    moved = settings.memory.skew_stickiness * log(forward / one.forward)
    return float(previous.implied_vol(one.forward * np.exp(moved), one.years))
