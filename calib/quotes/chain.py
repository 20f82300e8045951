"""Chains: the quotes of one underlying that are valid together at one time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from calib.conventions import Bools, Ints
from calib.errors import InvalidRequest
from calib.quotes.reasons import Reason
from calib.quotes.table import Codes, QuoteTable


@dataclass(frozen=True)
class Chain:
    """All quotes of ``underlying`` in force at ``quote_time``, usable or not.

    Of rows that quote the same option at the same venue only the last counts; the earlier ones
    stay, marked DUPLICATE.
    """

    underlying: str
    quote_time: np.datetime64
    quotes: QuoteTable


def chains(
    table: QuoteTable,
    *,
    every: timedelta | None = None,
    max_age: timedelta | None = None,
) -> Iterator[Chain]:
    """The chains of a table, by underlying within quote time.

    Without ``every``, rows that share an exact ``quote_time`` make a chain. With it, a chain is
    built as of every multiple of ``every`` (counted from the Unix epoch) from the first one that
    no quote precedes by more than that to the last: of each option the latest row at or before
    it, no older than ``max_age`` where that is given.
    Raises InvalidRequest where ``every`` or ``max_age`` is not positive.
    """
    for name, value in (("every", every), ("max_age", max_age)):
        if value is not None and value <= timedelta(0):
            raise InvalidRequest(f"{name} must be positive, not {value}")
    if every is None and max_age is not None:
        raise InvalidRequest(f"max_age={max_age} needs `every`: exact quote times have no age")
    placed = (table.underlying.codes >= 0) & ~np.isnat(table.quote_time)
    time = table.quote_time[placed]
    rows = np.flatnonzero(placed)
    rows = rows[np.argsort(time, kind="stable")]
    if every is None:
        yield from _exact(table, rows)
    else:
        yield from _as_of(table, rows, every, max_age)


def chain_at(table: QuoteTable, underlying: str, quote_time: np.datetime64) -> Chain:
    """The rows of ``table`` as one chain at ``quote_time``; rows that it has outlived are EXPIRED."""
    reason = table.reason.copy()
    reason[(reason == Reason.USABLE) & (table.expiry <= quote_time)] = Reason.EXPIRED
    reason[(reason == Reason.USABLE) & ~_last_of_each_option(table, reason)] = Reason.DUPLICATE
    return Chain(underlying, quote_time, table.with_reason(reason))


def _exact(table: QuoteTable, rows: Ints) -> Iterator[Chain]:
    if not len(rows):
        return
    time = table.quote_time[rows]
    starts = np.flatnonzero(np.r_[True, time[1:] != time[:-1]])
    for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
        yield from _by_underlying(table, rows[start:stop], time[start])


def _as_of(
    table: QuoteTable, rows: Ints, every: timedelta, max_age: timedelta | None
) -> Iterator[Chain]:
    time = table.quote_time[rows].astype("datetime64[us]").astype(np.int64)
    if not len(time):
        return
    step = every // timedelta(microseconds=1)
    span = None if max_age is None else max_age // timedelta(microseconds=1)
    for moment in range(-(-int(time[0]) // step) * step, int(time[-1]) + step, step):
        stop = int(np.searchsorted(time, moment, "right"))
        start = 0 if span is None else int(np.searchsorted(time, moment - span, "left"))
        if start < stop:
            yield from _by_underlying(table, rows[start:stop], np.datetime64(moment, "us"))


def _by_underlying(table: QuoteTable, rows: Ints, moment: np.datetime64) -> Iterator[Chain]:
    codes = table.underlying.codes[rows]
    by_name = {table.underlying.names[code]: code for code in np.unique(codes)}
    for name in sorted(by_name):
        yield chain_at(table.take(rows[codes == by_name[name]]), name, moment)


def _last_of_each_option(table: QuoteTable, reason: Codes) -> Bools:
    """Which rows are the last of their (venue, expiry, strike, right) among all that are readable."""
    last = np.zeros(len(table), bool)
    readable = np.flatnonzero(~np.isin(reason, _UNREADABLE))[::-1]
    keys = (
        table.venue.codes[readable],
        table.expiry[readable].astype(np.int64),
        table.strike[readable],
        table.right[readable],
    )
    order = np.lexsort(keys)  # stable: of equal keys the latest row comes first
    fresh = np.ones(len(order), bool)
    for key in keys if len(order) else ():
        ordered = key[order]
        fresh[1:] &= ordered[1:] == ordered[:-1]
    fresh[1:] = ~fresh[1:]
    last[readable[order[fresh]]] = True
    return last


# Rows whose key cannot be read neither replace another row nor are replaced.
_UNREADABLE = [
    Reason.BAD_QUOTE_TIME,
    Reason.BAD_VENUE,
    Reason.BAD_EXPIRY,
    Reason.BAD_STRIKE,
    Reason.BAD_RIGHT,
]
