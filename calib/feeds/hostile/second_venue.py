"""A second venue for the options of a first: the same market, quoted by other dealers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from calib.quotes.labels import Labels
from calib.quotes.table import QuoteTable, joined

_MID_NOISE = 0.3  # standard deviation of the mids' difference, in half-spreads


def with_second_venue(quotes: QuoteTable, underlying: str, venue: str, seed: int = 0) -> QuoteTable:
    """The rows of the table, and those of ``underlying`` again as quotes of ``venue``, by time.

    Each keeps its ``row``. The second venue has the spreads and sizes of the first; each mid lies
    off by a normal amount of 0.3 half-spreads. Its sides stand on no ticks, and one that falls to
    0 is absent.
    """
    rows = np.flatnonzero([name == underlying for name in quotes.underlying.texts()])
    first = quotes.take(rows)
    half = 0.5 * (first.ask - first.bid)
    off = _MID_NOISE * np.random.default_rng(seed).standard_normal(len(rows))
    moved = np.where(np.isfinite(half), off * half, 0.0)
    bid = first.bid + moved
    other = replace(
        first,
        venue=Labels.constant(venue, len(rows)),
        bid=np.where(bid > 0.0, bid, np.nan),
        ask=first.ask + moved,
    )
    both = joined([quotes, other])
    return both.take(np.argsort(both.quote_time, kind="stable"))
