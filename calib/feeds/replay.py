"""A quote table as what venues sent when: chains, each with the moment at which it is due."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from calib.quotes.chain import chains
from calib.quotes.reasons import Reason
from calib.quotes.table import QuoteTable


@dataclass(frozen=True)
class TimedQuotes:
    """Quotes to be sent together, ``due_seconds`` of recorded time after the first ones.

    ``whole_chain`` says that these are all quotes of one underlying at that time.
    """

    due_seconds: float
    quotes: QuoteTable
    whole_chain: bool


def timed_quotes(
    table: QuoteTable, *, every: timedelta | None = None, max_age: timedelta | None = None
) -> Iterator[TimedQuotes]:
    """The chains of the table in order of time.

    Chains are those of :func:`calib.quotes.chain.chains`: rows that share a quote time, or the
    rows in force at every multiple of ``every``, in which case a row may be sent with several
    chains. Rows older than ``max_age`` at such a moment are left out, no others: rows that belong
    to no chain, for want of a quote time or an underlying, come first, so that whoever receives
    them can say so.
    Raises InvalidRequest where ``every`` or ``max_age`` makes no chains.
    """
    astray = (table.underlying.codes < 0) | np.isnat(table.quote_time)
    if astray.any():
        yield TimedQuotes(0.0, table.take(astray), whole_chain=False)
    start: np.datetime64 | None = None
    for chain in chains(table, every=every, max_age=max_age):
        start = chain.quote_time if start is None else start
        due = (chain.quote_time - start) / np.timedelta64(1, "s")
        stale = chain.quotes.reason == Reason.STALE
        quotes = chain.quotes.take(~stale) if stale.any() else chain.quotes
        if len(quotes):
            yield TimedQuotes(float(due), quotes, whole_chain=True)
