"""A programme of faults: one after another, with calm before and after each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from calib.errors import InvalidRequest
from calib.feeds.hostile.fault import Fault, FaultName
from calib.feeds.hostile.market import HostileMarket, hostile
from calib.feeds.hostile.second_venue import with_second_venue
from calib.quotes.table import QuoteTable

_OF_ONE_EXPIRY = (
    FaultName.FAT_FINGER,
    FaultName.CROSSED_CHAIN,
    FaultName.MISSING_STRIKES,
    FaultName.MISSING_SIDES,
    FaultName.WIDE_MARKET,
    FaultName.WRONG_FORWARD,
)


def fault_names(text: str) -> tuple[FaultName, ...]:
    """From names with commas between them. Raises InvalidRequest for a name that is none."""
    known = {name.value: name for name in FaultName}
    found = []
    for word in (word.strip() for word in text.split(",")):
        if word not in known:
            raise InvalidRequest(f"{word!r} is no fault: give some of {', '.join(known)}")
        found.append(known[word])
    return tuple(found)


def programme(quotes: QuoteTable, names: Sequence[FaultName], seed: int = 0) -> HostileMarket:
    """The table with each fault at its usual size, in its turn.

    The moments of the table are cut into 2n + 1 parts as equal as can be, calm and hostile ones in
    turns, calm first and last. Underlyings take turns. Faults of a venue befall a second one, which
    such an underlying is given; those that come one expiry at a time befall a random one that
    outlives them, all where none does. ``row`` says which row of ``quotes`` each row comes from.
    Raises InvalidRequest where the table has fewer moments than parts.
    """
    moments = np.unique(quotes.quote_time)
    parts = 2 * len(names) + 1
    if len(moments) < parts:
        raise InvalidRequest(
            f"{len(names)} faults with calm around them need {parts} snapshots, not {len(moments)}"
        )
    starts = [part[0] for part in np.array_split(moments, parts)]
    rng = np.random.default_rng(seed)
    faults, second = [], {}
    for i, name in enumerate(names):
        underlying = quotes.underlyings[i % len(quotes.underlyings)]
        fault = Fault(
            name, underlying, starts[2 * i + 1], starts[2 * i + 2], name.usual_size, seed=seed + i
        )
        alive = np.unique(quotes.expiry[fault.befalls(quotes) & (quotes.expiry > fault.end)])
        if name in _OF_ONE_EXPIRY and alive.size:
            fault = replace(fault, expiry=rng.choice(alive))
        if name.of_one_venue:
            first = int(np.flatnonzero(fault.place(quotes))[0])
            second[underlying] = f"{quotes.venue[first]}-2"
            fault = replace(fault, venue=second[underlying])
        faults.append(fault)
    quotes = replace(quotes, row=np.arange(len(quotes)))
    for underlying, venue in second.items():
        quotes = with_second_venue(quotes, underlying, venue, seed)
    return hostile(quotes, faults)
