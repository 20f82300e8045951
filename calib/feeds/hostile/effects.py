"""What each fault does to the rows that it befalls: columns for them, no row more or less."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import exp
from typing import TypeAlias

import numpy as np

from calib.conventions import Floats, Instants, Ints, Right
from calib.feeds.hostile.fault import Fault, FaultName
from calib.feeds.hostile.options import chosen, option_numbers
from calib.feeds.hostile.vols import at_other_forwards, at_other_vols, levels
from calib.quotes.table import QuoteTable

Columns: TypeAlias = Mapping[str, Floats | Instants]
Effect: TypeAlias = Callable[[QuoteTable, Ints, Fault], tuple[Ints, Columns]]
"""From a table, the rows befallen and the fault to the rows that change and their new columns."""

_CROSSING = 0.02  # of the ask: by how much a bid stands above it
_NEAR = 0.2  # of the dearest out-of-the-money premium: within about one deviation of the money
_LEAST_BID = 0.05  # of mid: where a wide market's bid stops
_LAST_SENT = ("quote_time", "bid", "ask", "bid_size", "ask_size", "forward", "spot")


def effect(fault: Fault, quotes: QuoteTable) -> tuple[Ints, Columns]:
    """The rows that change and their new columns."""
    return _EFFECTS[fault.name](quotes, np.flatnonzero(fault.befalls(quotes)), fault)


def _stale_venue(quotes: QuoteTable, rows: Ints, fault: Fault) -> tuple[Ints, Columns]:
    number = option_numbers(quotes)
    rows = rows[chosen(number, rows, fault.size, fault.seed)]
    before = np.flatnonzero(fault.place(quotes) & (quotes.quote_time < fault.start))
    last = np.full(int(number.max(initial=0)) + 1, -1)
    # The last assignment stands: rows in order of time leave the latest one.
    before = before[np.argsort(quotes.quote_time[before], kind="stable")]
    last[number[before]] = before
    source = last[number[rows]]
    columns = {
        name: np.where(source >= 0, column[source], column[rows])
        for name in _LAST_SENT
        for column in (getattr(quotes, name),)
    }
    # What was not listed yet when the venue fell silent is not quoted by it at all.
    for name in ("bid", "ask", "bid_size", "ask_size"):
        columns[name] = np.where(source >= 0, columns[name], np.nan)
    return rows, columns


def _shifted(quotes: QuoteTable, rows: Ints, fault: Fault) -> tuple[Ints, Columns]:
    return rows, at_other_vols(quotes, rows, fault.size)


def _fat_finger(quotes: QuoteTable, rows: Ints, fault: Fault) -> tuple[Ints, Columns]:
    if not rows.size:
        return rows, {}
    first = rows[quotes.quote_time[rows] == quotes.quote_time[rows].min()]
    call = quotes.right[first] == Right.CALL
    forward, strike = levels(quotes, first).forward, quotes.strike[first]
    mid = np.where(
        np.where(call, strike >= forward, strike < forward),
        0.5 * (quotes.bid[first] + quotes.ask[first]),
        np.nan,
    )
    expiry = quotes.expiry[first]
    dearest = np.array([np.nanmax(mid[expiry == one], initial=0.0) for one in expiry])
    near = first[(mid > _NEAR * dearest) & (mid > 0.0)]
    if not near.size:
        return near, {}
    number = option_numbers(quotes)
    option = np.random.default_rng(fault.seed).choice(number[near])
    rows = rows[number[rows] == option]
    return rows, {"bid": fault.size * quotes.bid[rows], "ask": fault.size * quotes.ask[rows]}


def _crossed_chain(quotes: QuoteTable, rows: Ints, fault: Fault) -> tuple[Ints, Columns]:
    rows = rows[np.isfinite(quotes.bid[rows] + quotes.ask[rows])]  # one side crosses nothing
    rows = rows[chosen(option_numbers(quotes), rows, fault.size, fault.seed)]
    return rows, {"bid": (1.0 + _CROSSING) * quotes.ask[rows], "ask": quotes.bid[rows]}


def _missing_strikes(quotes: QuoteTable, rows: Ints, fault: Fault) -> tuple[Ints, Columns]:
    rows = rows[chosen(option_numbers(quotes, strikes=True), rows, fault.size, fault.seed)]
    nothing = np.full(len(rows), np.nan)
    return rows, dict.fromkeys(("bid", "ask", "bid_size", "ask_size"), nothing)


def _missing_sides(quotes: QuoteTable, rows: Ints, fault: Fault) -> tuple[Ints, Columns]:
    rows = rows[chosen(option_numbers(quotes), rows, fault.size, fault.seed)]
    return rows, dict.fromkeys(("bid", "bid_size"), np.full(len(rows), np.nan))


def _wide_market(quotes: QuoteTable, rows: Ints, fault: Fault) -> tuple[Ints, Columns]:
    bid, ask = quotes.bid[rows], quotes.ask[rows]
    mid = 0.5 * (bid + ask)
    half = np.minimum(0.5 * fault.size * (ask - bid), (1.0 - _LEAST_BID) * mid)
    both = np.isfinite(mid)
    return rows, {"bid": np.where(both, mid - half, bid), "ask": np.where(both, mid + half, ask)}


def _wrong_forward(quotes: QuoteTable, rows: Ints, fault: Fault) -> tuple[Ints, Columns]:
    return rows, {"forward": (1.0 + fault.size) * levels(quotes, rows).forward}


def _spot_jump(quotes: QuoteTable, rows: Ints, fault: Fault) -> tuple[Ints, Columns]:
    factor = exp(fault.size)
    levels_after = {name: factor * getattr(quotes, name)[rows] for name in ("forward", "spot")}
    return rows, {**at_other_forwards(quotes, rows, factor), **levels_after}


_EFFECTS: dict[FaultName, Effect] = {
    FaultName.STALE_VENUE: _stale_venue,
    FaultName.SHIFTED_VENUE: _shifted,
    FaultName.FAT_FINGER: _fat_finger,
    FaultName.CROSSED_CHAIN: _crossed_chain,
    FaultName.MISSING_STRIKES: _missing_strikes,
    FaultName.MISSING_SIDES: _missing_sides,
    FaultName.WIDE_MARKET: _wide_market,
    FaultName.WRONG_FORWARD: _wrong_forward,
    FaultName.SPOT_JUMP: _spot_jump,
    FaultName.VOL_JUMP: _shifted,
}
