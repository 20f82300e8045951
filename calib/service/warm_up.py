"""Compiling ahead, so that the first quotes of a day are fitted as fast as all others."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from calib.conventions import ExpiryCalendar
from calib.quotes.chain import Chain
from calib.quotes.labels import Labels
from calib.quotes.table import validated
from calib.service.fit_thread import FitJob, Fitter, fit_batch
from calib.states import ModelName

QUOTES = (32, 64)
"""Quotes a smile: one chain for each, so that each bucket of shapes is met."""
EXPIRIES = (12,)
"""Expiries a chain: slices are fitted sixteen at a time, however few there are."""

_START = np.datetime64("2026-01-05T08:00:00", "us")
_WEEK = np.timedelta64(7 * 86_400_000_000, "us")


class Shape(NamedTuple):
    """What is compiled together."""

    model: ModelName
    quotes: int
    expiries: int


def usual_shapes(models: Sequence[ModelName]) -> list[Shape]:
    """The shapes that live quotes of these models come in."""
    return [Shape(*parts) for parts in product(models, QUOTES, EXPIRIES)]


def warm_up(shape: Shape, fitter: Fitter = fit_batch) -> None:
    """Fit a chain of one shape."""
    chain = _chain(shape.quotes, shape.expiries)
    fitter([FitJob(chain, shape.model, ExpiryCalendar.SAME_ASSET)])


def _chain(quotes: int, expiries: int) -> Chain:
    """Out-of-the-money options priced in units of the underlying, from a parabola of vols."""
    from calib.market.black import black_price

    rows = quotes * expiries
    k = np.tile(np.linspace(-0.25, 0.25, quotes), expiries)
    weeks = np.repeat(np.arange(1, expiries + 1), quotes)
    years = weeks * 7.0 / 365.0
    put = k < 0.0
    vol = 0.6 - 0.1 * k + 0.4 * k * k
    price = black_price(vol, 1.0, np.exp(k), years, np.where(put, "P", "C"))
    table = validated(
        quote_time=np.full(rows, _START),
        venue=Labels.constant("warm-up", rows),
        underlying=Labels.constant("warm-up", rows),
        expiry=_START + weeks * _WEEK,
        strike=np.exp(k),
        right=Labels(put.astype(np.int32), ("C", "P")),
        unit=Labels.constant("inverse", rows),
        bid=0.98 * price,
        ask=1.02 * price,
        forward=np.ones(rows),
    )
    return Chain("warm-up", _START, table)
