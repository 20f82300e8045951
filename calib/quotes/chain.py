"""Chains: the quotes of one underlying that are valid together at one time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import numpy as np

from calib.conventions import Bools, Ints
from calib.errors import InvalidRequest
from calib.quotes.reasons import Reason
from calib.quotes.table import Codes, QuoteTable

_Micros = TypeVar("_Micros", int, Ints)

# Rows of which it cannot be told what option they quote: they neither replace another row nor are
# replaced.
_NAMELESS = np.isin(
    np.arange(128),
    (
        Reason.BAD_QUOTE_TIME,
        Reason.BAD_VENUE,
        Reason.BAD_EXPIRY,
        Reason.BAD_STRIKE,
        Reason.BAD_RIGHT,
    ),
)


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

    Without ``every``, rows that share an exact ``quote_time`` make a chain. With it, there is a
    chain as of every multiple of ``every`` (counted from the Unix epoch), from the first multiple
    that is not before all quotes to the first that is not before any of them. It holds the latest
    row of each option that is in force, no older than ``max_age`` where that is given, and the
    rows that came since the last multiple: those that a later one has replaced, marked DUPLICATE,
    and those that are already too old, marked STALE. So every row with an underlying and a quote
    time stands in a chain; rows without are in none.
    Raises InvalidRequest where ``every`` or ``max_age`` is not positive.
    """
    for name, value in (("every", every), ("max_age", max_age)):
        if value is not None and value <= timedelta(0):
            raise InvalidRequest(f"{name} must be positive, not {value}")
    if every is None and max_age is not None:
        raise InvalidRequest(f"max_age={max_age} needs `every`: exact quote times have no age")
    rows = np.flatnonzero((table.underlying.codes >= 0) & ~np.isnat(table.quote_time))
    time = table.quote_time[rows].astype(np.int64)
    if (time[1:] < time[:-1]).any():
        rows = rows[np.argsort(time, kind="stable")]
    if not len(rows):
        return
    if every is None:
        yield from _exact(table, rows)
    else:
        yield from _as_of(table, rows, every, max_age)


def chain_at(
    table: QuoteTable,
    underlying: str,
    quote_time: np.datetime64,
    *,
    max_age: timedelta | None = None,
) -> Chain:
    """The rows of ``table`` as one chain at ``quote_time``, in their order.

    Usable rows that do not count are marked: EXPIRED where the option has no time left at
    ``quote_time``, DUPLICATE where another row of the option has a later quote time (or the same
    and a later place), STALE where the row is older than ``max_age``.
    """
    return _chain(table, underlying, quote_time, _latest_of_each_option(table), max_age)


def _chain(
    table: QuoteTable,
    underlying: str,
    now: np.datetime64,
    latest: Bools,
    max_age: timedelta | None = None,
) -> Chain:
    reason = table.reason.copy()
    _mark(reason, table.expiry <= now, Reason.EXPIRED)
    _mark(reason, ~latest, Reason.DUPLICATE)
    if max_age is not None:
        _mark(reason, table.quote_time < now - np.timedelta64(max_age), Reason.STALE)
    return Chain(underlying, now, table.with_reason(reason))


def _mark(reason: Codes, rows: Bools, why: Reason) -> None:
    reason[rows & (reason == Reason.USABLE)] = why


def _exact(table: QuoteTable, rows: Ints) -> Iterator[Chain]:
    time = table.quote_time[rows]
    starts = np.flatnonzero(np.r_[True, time[1:] != time[:-1]])
    for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
        for name, members in _by_underlying(table, rows[start:stop]):
            yield chain_at(table.take(members), name, time[start])


def next_multiple(micros: _Micros, step: int) -> _Micros:
    """The first multiple of ``step`` that is not before: where chains stand that hold quotes of
    then."""
    return -(-micros // step) * step


def _as_of(
    table: QuoteTable, rows: Ints, every: timedelta, max_age: timedelta | None
) -> Iterator[Chain]:
    time = table.quote_time[rows].astype(np.int64)
    step = every // timedelta(microseconds=1)
    moment = next_multiple(int(time[0]), step)
    held: Ints = rows[:0]
    stop = 0
    while True:
        start, stop = stop, int(np.searchsorted(time, moment, "right"))
        now = np.datetime64(moment, "us")
        held = np.concatenate([held, rows[start:stop]])
        kept = []
        for name, members in _by_underlying(table, held):
            quotes = table.take(members)
            latest = _latest_of_each_option(quotes)
            yield _chain(quotes, name, now, latest, max_age)
            still = latest & _in_force(quotes, now + np.timedelta64(every), max_age)
            kept.append(members[still])
        if stop == len(rows):
            return
        held = np.concatenate(kept) if kept else rows[:0]
        # With nothing in force there is nothing to say before the next quote.
        ahead = step if len(held) else int(time[stop]) - moment
        moment += next_multiple(ahead, step)


def _in_force(quotes: QuoteTable, now: np.datetime64, max_age: timedelta | None) -> Bools:
    """Rows that name an option that lives at ``now`` and are not too old by then."""
    counts = ~_NAMELESS[quotes.reason] & (quotes.expiry > now)
    if max_age is not None:
        counts &= quotes.quote_time >= now - np.timedelta64(max_age)
    return counts


def _by_underlying(table: QuoteTable, rows: Ints) -> Iterator[tuple[str, Ints]]:
    codes = table.underlying.codes[rows]
    by_name = {table.underlying.names[code]: code for code in np.unique(codes)}
    for name in sorted(by_name):
        yield name, rows[codes == by_name[name]]


def _latest_of_each_option(table: QuoteTable) -> Bools:
    """Which rows are the latest of their (venue, expiry, strike, right).

    Of equal quote times the last row counts. Rows of which the option cannot be told are the
    latest of their own.
    """
    latest = np.ones(len(table), bool)
    named = np.flatnonzero(~_NAMELESS[table.reason])
    time = table.quote_time[named].astype(np.int64)
    keys = (
        table.strike[named],
        table.right[named],
        table.expiry[named].astype(np.int64),
        table.venue.codes[named],
    )
    if (time[1:] < time[:-1]).any():
        order = np.lexsort((time, *keys))
    else:
        order = np.lexsort(keys)  # stable: rows of one option stay in order of time
    replaced = np.ones(max(len(order) - 1, 0), bool)
    for key in keys:
        ordered = key[order]
        replaced &= ordered[1:] == ordered[:-1]
    latest[named[order[:-1][replaced]]] = False
    return latest
