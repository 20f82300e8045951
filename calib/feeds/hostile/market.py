"""Faults put into a quote table, and the record of what was done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from calib.feeds.hostile.effects import effect
from calib.feeds.hostile.fault import Fault
from calib.quotes.table import QuoteTable, validated

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class HostileMarket:
    """A quote table in which ``faults`` have happened."""

    quotes: QuoteTable
    faults: tuple[Fault, ...]

    def causes_frame(self) -> pd.DataFrame:
        """A row a fault: start, end (exclusive), underlying, venue and expiry (empty: all), cause
        (the name of the fault) and size, in the unit of `calib.feeds.hostile.fault.FaultName`."""
        import pandas as pd

        none = np.datetime64("NaT", "us")

        def instants(values: Sequence[np.datetime64]) -> pd.DatetimeIndex:
            return pd.DatetimeIndex(np.array(values, "datetime64[us]"), tz="UTC")

        return pd.DataFrame(
            {
                "start": instants([fault.start for fault in self.faults]),
                "end": instants([fault.end for fault in self.faults]),
                "underlying": [fault.underlying for fault in self.faults],
                "venue": [fault.venue for fault in self.faults],
                "expiry": instants(
                    [f.expiry if f.expiry is not None else none for f in self.faults]
                ),
                "cause": [fault.name.value for fault in self.faults],
                "size": [fault.size for fault in self.faults],
            }
        )


def hostile(quotes: QuoteTable, faults: Sequence[Fault]) -> HostileMarket:
    """The table with the faults in it, one after another; the same rows in the same order.

    A fault sees what those before it have left. Every row is judged anew by what then stands in it;
    what a chain had said of it is to be said again.
    """
    for fault in faults:
        rows, columns = effect(fault, quotes)
        changed = {}
        for name, values in columns.items():
            column = getattr(quotes, name).copy()
            column[rows] = values
            changed[name] = column
        quotes = replace(quotes, **changed)
    return HostileMarket(judged(quotes), tuple(faults))


def judged(quotes: QuoteTable) -> QuoteTable:
    """The rows, each judged anew on its own."""
    fresh = validated(
        quote_time=quotes.quote_time,
        venue=quotes.venue,
        underlying=quotes.underlying,
        expiry=quotes.expiry,
        strike=quotes.strike,
        right=quotes.right_text,
        unit=quotes.unit_text,
        bid=quotes.bid,
        ask=quotes.ask,
        bid_size=quotes.bid_size,
        ask_size=quotes.ask_size,
        forward=quotes.forward,
        spot=quotes.spot,
        exercise=quotes.exercise_text,
    )
    return replace(fresh, row=quotes.row)
