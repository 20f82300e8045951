"""One option's quote as Deribit tells it, in a ticker or in a book summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite, nan
from typing import Any

import numpy as np

from calib.feeds.deribit.instrument import Instrument
from calib.quotes.labels import Labels
from calib.quotes.table import QuoteTable, validated

VENUE = "deribit"


@dataclass(frozen=True)
class Quote:
    """The best prices of an option at the venue's ``time``.

    A side that is not there is nan: Deribit writes null for it in a summary and 0.0 in a ticker.
    ``forward`` is what Deribit calls the underlying price; ``spot`` its index, nan in a summary
    unless that is the underlying price. Implied vols are not read: they are Deribit's own, in
    percent, and 0 or 500 where there is none.
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
        time = _time(data.get("timestamp"))
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
        time = _time(row.get("creation_timestamp"))
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
        """The quote with what it does not say taken from the last one; None where it is older."""
        if last is None:
            return self
        if self.time < last.time:
            return None
        forward = self.forward if isfinite(self.forward) else last.forward
        spot = self.spot if isfinite(self.spot) else last.spot
        return replace(self, forward=forward, spot=spot)


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


def _price(value: object) -> float:
    """A positive number, else nan: null, 0.0, and at expiry the text "expired"."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return nan
    return float(value) if value > 0.0 and isfinite(value) else nan


def _time(value: object) -> np.datetime64 | None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 45:
        return None
    moment: np.datetime64 = np.datetime64(value, "ms").astype("datetime64[us]")
    return moment
