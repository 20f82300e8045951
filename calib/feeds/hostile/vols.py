"""Premiums to vols and back, row by row: for what happens to vols and to forwards."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from calib.conventions import Floats, Ints, Right, Unit, years_between
from calib.market.black import black_price, implied_vol
from calib.market.forwards import implied_forwards
from calib.quotes.chain import chain_at
from calib.quotes.table import QuoteTable

_LEAST_VOL = 0.01


class Levels(NamedTuple):
    """Forward and discount factor of each row, nan where there is none."""

    forward: Floats
    discount_factor: Floats


def levels(quotes: QuoteTable, rows: Ints) -> Levels:
    """Of ``rows``, all of one underlying, each by the chain of its underlying at its quote time."""
    forward, discount = (np.full(len(quotes), np.nan) for _ in range(2))
    mine = quotes.underlying.codes == quotes.underlying.codes[rows[0]] if len(rows) else rows
    for time in np.unique(quotes.quote_time[rows]):
        members = np.flatnonzero(mine & (quotes.quote_time == time))
        found = implied_forwards(chain_at(quotes.take(members), "", time))
        forward[members] = np.append(found.forward, np.nan)[found.group]
        discount[members] = np.append(found.discount_factor, np.nan)[found.group]
    return Levels(forward[rows], discount[rows])


@np.errstate(divide="ignore", invalid="ignore")
def at_other_vols(quotes: QuoteTable, rows: Ints, by: float) -> dict[str, Floats]:
    """Bids and asks of ``rows`` at vols higher by ``by``; sides without a vol as they were."""
    return _repriced(quotes, rows, levels(quotes, rows), by, 1.0)


@np.errstate(divide="ignore", invalid="ignore")
def at_other_forwards(quotes: QuoteTable, rows: Ints, factor: float) -> dict[str, Floats]:
    """Bids and asks of ``rows`` under forwards times ``factor``, each at the vol it had; a side
    without a vol moves by its intrinsic value."""
    return _repriced(quotes, rows, levels(quotes, rows), 0.0, factor)


def _repriced(
    quotes: QuoteTable, rows: Ints, level: Levels, by: float, factor: float
) -> dict[str, Floats]:
    forward, strike, unit = level.forward, quotes.strike[rows], quotes.unit[rows]
    years = years_between(quotes.quote_time[rows], quotes.expiry[rows])
    sign = np.where(quotes.right[rows] == Right.CALL, 1, -1)
    premium_before = np.where(unit == Unit.INVERSE, 1.0 / forward, level.discount_factor)
    premium_after = np.where(unit == Unit.INVERSE, premium_before / factor, premium_before)
    intrinsic = [np.maximum(sign * (f - strike), 0.0) for f in (forward, factor * forward)]
    sides = {}
    for name in ("bid", "ask"):
        side = getattr(quotes, name)[rows]
        price = side / premium_before
        vol = implied_vol(price, forward, strike, years, sign)
        moved = black_price(np.maximum(vol + by, _LEAST_VOL), factor * forward, strike, years, sign)
        without = np.maximum(price + intrinsic[1] - intrinsic[0], 0.0)
        after = np.where(np.isfinite(moved), moved, without) * premium_after
        told = np.where(unit == Unit.VOL, np.maximum(side + by, _LEAST_VOL), after)
        # What has no forward cannot be repriced.
        sides[name] = np.where(np.isfinite(told), told, side)
    return sides
