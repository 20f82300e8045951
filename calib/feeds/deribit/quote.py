"""One option's quote as Deribit tells it, in a ticker or in a book summary."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite, nan
from typing import Any

import numpy as np

from calib.feeds.deribit.instrument import Instrument, instant_of
from calib.quotes.labels import Labels
from calib.quotes.table import QuoteTable, validated

VENUE = "deribit"
_LARGEST = sys.float_info.max  # whole numbers in JSON have no bound


@dataclass(frozen=True)
class Quote:
    """The best prices of an option at the venue's ``time``.

    A side that is not there is nan: Deribit writes null for it in a summary and 0.0 in a ticker. A
    summary tells no sizes. ``forward`` is what Deribit calls the underlying price; ``spot`` its
    index, in a summary the estimated delivery price, which differs from it in the last half hour
    only. Implied vols are not read: they are Deribit's own, in percent, and 0 or 500 where there is
    none.
    """

    instrument: Instrument
    time: np.datetime64
    bid: float = nan
    ask: float = nan
    bid_size: float = nan
    ask_size: float = nan
    forward: float = nan
    spot: float = nan

    @classmethod
    def of_ticker(cls, instrument: Instrument, data: dict[str, Any]) -> Quote | None:
        """The quote in the data of a ``ticker`` channel; None where it has no time."""
        time = instant_of(data.get("timestamp"))
        if time is None:
            return None
        return cls(
            instrument,
            time,
            _price(data.get("best_bid_price")),
            _price(data.get("best_ask_price")),
            _price(data.get("best_bid_amount")),
            _price(data.get("best_ask_amount")),
            _price(data.get("underlying_price")),
            _price(data.get("index_price")),
        )

    @classmethod
    def of_summary(cls, instrument: Instrument, row: dict[str, Any]) -> Quote | None:
        """The quote in a row of ``public/get_book_summary_by_currency``."""
        time = instant_of(row.get("creation_timestamp"))
        if time is None:
            return None
        forward = _price(row.get("underlying_price"))
        is_spot = row.get("underlying_index") == "index_price"
        return cls(
            instrument,
            time,
            _price(row.get("bid_price")),
            _price(row.get("ask_price")),
            forward=forward,
            spot=forward if is_spot else _price(row.get("estimated_delivery_price")),
        )

    def after(self, last: Quote | None) -> Quote | None:
        """The quote with what it does not say taken from the last one, a size only where the price
        of its side is the same; None where it is older."""
        if last is None:
            return self
        if self.time < last.time:
            return None
        return replace(
            self,
            bid_size=_known(self.bid_size, last.bid_size if self.bid == last.bid else nan),
            ask_size=_known(self.ask_size, last.ask_size if self.ask == last.ask else nan),
            forward=_known(self.forward, last.forward),
            spot=_known(self.spot, last.spot),
        )


def table_of(quotes: Sequence[Quote]) -> QuoteTable:
    """Quotes as a quote table."""
    options = [one.instrument for one in quotes]
    return validated(
        quote_time=np.array([one.time for one in quotes], "datetime64[us]"),
        venue=Labels.constant(VENUE, len(quotes)),
        underlying=Labels.of([one.underlying for one in options]),
        expiry=np.array([one.expiry for one in options], "datetime64[us]"),
        strike=np.array([one.strike for one in options]),
        right=Labels.of([one.right for one in options]),
        unit=Labels.of([one.unit for one in options]),
        bid=np.array([one.bid for one in quotes]),
        ask=np.array([one.ask for one in quotes]),
        bid_size=np.array([one.bid_size for one in quotes]),
        ask_size=np.array([one.ask_size for one in quotes]),
        forward=np.array([one.forward for one in quotes]),
        spot=np.array([one.spot for one in quotes]),
    )


def _known(value: float, otherwise: float) -> float:
    return value if isfinite(value) else otherwise


def _price(value: object) -> float:
    """A positive number, else nan: null, 0.0, and at expiry the text "expired"."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return nan
    return float(value) if 0.0 < value <= _LARGEST else nan
