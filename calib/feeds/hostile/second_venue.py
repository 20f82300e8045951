"""A second venue for the options of a first: the same market, quoted by other dealers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from calib.feeds.hostile.market import judged
from calib.feeds.hostile.options import row_numbers
from calib.quotes.labels import Labels
from calib.quotes.table import QuoteTable, joined

_MID_NOISE = 0.3  # standard deviation of the mids' difference, in half-spreads


def with_second_venue(quotes: QuoteTable, underlying: str, venue: str, seed: int = 0) -> QuoteTable:
    """The rows of the table, and those of ``underlying`` again as quotes of ``venue``, by time.

    Each keeps its ``row``. The second venue has the spreads and sizes of the first. Its mids lie
    off by a normal amount of 0.3 half-spreads, the same for call and put of a strike, as parity
    has it. Its sides stand on no ticks, and one that falls to 0 is absent.
    """
    rows = np.flatnonzero(quotes.underlying.equal(underlying))
    first = quotes.take(rows)
    columns = (first.quote_time.astype(np.int64), first.expiry.astype(np.int64), first.strike)
    strike = row_numbers(columns)
    half = 0.5 * (first.ask - first.bid)
    least = np.full(int(strike.max(initial=-1)) + 1, np.inf)
    np.fmin.at(least, strike, half)
    off = _MID_NOISE * np.random.default_rng(seed).standard_normal(len(least))
    moved = np.where(np.isfinite(least), off * least, 0.0)[strike]
    bid, ask = first.bid + moved, first.ask + moved
    other = replace(
        first,
        venue=Labels.constant(venue, len(rows)),
        bid=np.where(bid > 0.0, bid, np.nan),
        ask=np.where(ask > 0.0, ask, np.nan),
    )
    both = judged(joined([quotes, other]))
    return both.take(np.argsort(both.quote_time, kind="stable"))
