"""One simulated moment: the quote table that a venue would send, and the truth behind its rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from calib.conventions import Floats
from calib.quotes.table import QuoteTable, joined

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Truth:
    """What no venue tells, one row for each row of the quotes.

    ``forward`` and ``discount_factor`` of the expiry; ``true_price``, the option's worth under the
    model, in the unit of the quotes; ``true_vol``, its Black vol (nan where the worth is below the
    smallest double); ``noise_vol``, the standard deviation of the error of the quoted mid, in vol.
    """

    forward: Floats
    discount_factor: Floats
    true_price: Floats
    true_vol: Floats
    noise_vol: Floats


@dataclass(frozen=True)
class Snapshot:
    """All quotes of all underlyings at one ``quote_time``, with their truth row by row."""

    quote_time: np.datetime64
    quotes: QuoteTable
    truth: Truth

    def quotes_frame(self) -> pd.DataFrame:
        """The quotes as a data frame in the form of a quote table."""
        return quotes_frame(self.quotes)

    def truth_frame(self) -> pd.DataFrame:
        """The truth as a data frame: the option, the time and the columns of :class:`Truth`."""
        return _truth_frame(self.quotes, self.truth)


@dataclass(frozen=True)
class Simulation:
    """Snapshots put together: ``quotes`` is a quote table, ``truth`` has the same rows."""

    quotes: pd.DataFrame
    truth: pd.DataFrame


def collected(snapshots: Iterable[Snapshot]) -> Simulation:
    """All snapshots as two data frames, in their order."""
    parts = list(snapshots)
    quotes = joined([part.quotes for part in parts])
    truth = Truth(
        *(np.concatenate([getattr(p.truth, f.name) for p in parts]) for f in fields(Truth))
    )
    return Simulation(quotes_frame(quotes), _truth_frame(quotes, truth))


def quotes_frame(quotes: QuoteTable) -> pd.DataFrame:
    """A quote table as the data frame that it could be read from."""
    import pandas as pd

    return pd.DataFrame(
        {
            "quote_time": pd.Series(quotes.quote_time).dt.tz_localize("UTC"),
            "venue": quotes.venue.texts(),
            "underlying": quotes.underlying.texts(),
            "expiry": pd.Series(quotes.expiry).dt.tz_localize("UTC"),
            "strike": quotes.strike,
            "right": quotes.right_text.texts(),
            "unit": quotes.unit_text.texts(),
            "bid": quotes.bid,
            "ask": quotes.ask,
            "bid_size": quotes.bid_size,
            "ask_size": quotes.ask_size,
            "forward": quotes.forward,
            "spot": quotes.spot,
            "exercise": quotes.exercise_text.texts(),
        }
    )


def _truth_frame(quotes: QuoteTable, truth: Truth) -> pd.DataFrame:
    import pandas as pd

    option = quotes_frame(quotes)[["quote_time", "underlying", "expiry", "strike", "right"]]
    columns = pd.DataFrame({f.name: getattr(truth, f.name) for f in fields(Truth)})
    return pd.concat([option, columns], axis=1)
