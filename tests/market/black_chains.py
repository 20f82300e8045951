"""Chains whose vols, forwards and discount factors are known, because they were made from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from calib.conventions import Floats, Unit, years_between
from calib.market.black import black_price
from calib.quotes.chain import Chain, chain_at
from calib.quotes.labels import Labels
from calib.quotes.table import QuoteTable, joined, validated

NOW = np.datetime64("2026-03-02T08:00:00", "us")
NAN = float("nan")
STRIKES = np.arange(60.0, 151.0, 5.0)


def smile(k: Floats, years: Floats) -> Floats:
    """A vol like many: 30 % at the money, skewed, higher in the wings."""
    x = k / np.sqrt(years)
    return 0.3 - 0.05 * x + 0.08 * x * x


@dataclass(frozen=True)
class Market:
    """What one venue quotes: calls and puts of every strike and expiry, around Black prices.

    ``half_spread`` is in vol, and in premiums ``tick`` forwards come on top of it; ``given`` says
    whether the venue shows its forwards.
    """

    days: Sequence[float] = (7.0, 30.0, 91.0, 182.0)
    spot: float = 100.0
    carry: float = 0.03
    rate: float = 0.045
    unit: Unit = Unit.LINEAR
    strikes: Sequence[float] = tuple(STRIKES.tolist())
    half_spread: float = 0.002
    tick: float = 0.0
    given: bool = False
    spot_given: bool = True
    venue: str = "x"
    vol: Callable[[Floats, Floats], Floats] = smile

    @property
    def expiry(self) -> np.ndarray:
        """Settlement instants."""
        return NOW + (np.array(self.days) * 86_400e6).astype("timedelta64[us]")

    @property
    def years(self) -> Floats:
        """Years to each expiry."""
        return years_between(NOW, self.expiry)

    @property
    def forward(self) -> Floats:
        """The true forwards."""
        return self.spot * np.exp(self.carry * self.years)

    @property
    def discount(self) -> Floats:
        """The true discount factors."""
        inverse = self.unit is Unit.INVERSE
        return np.ones(len(self.days)) if inverse else np.exp(-self.rate * self.years)

    def quotes(self) -> QuoteTable:
        """Every option, calls first, expiry by expiry."""
        size = len(self.strikes)
        expiries = len(self.days)
        place = np.repeat(np.arange(expiries), 2 * size)
        strike = np.tile(np.array(self.strikes), 2 * expiries)
        right = np.tile(np.repeat([0, 1], size), expiries)
        forward, years = self.forward[place], self.years[place]
        vol = self.vol(np.log(strike / forward), years)
        if self.unit is Unit.VOL:
            bid, ask = vol - self.half_spread, vol + self.half_spread
        else:
            scale = self.discount[place] / (forward if self.unit is Unit.INVERSE else 1.0)
            sign = 1.0 - 2.0 * right
            bid, ask = (
                scale
                * np.maximum(
                    black_price(vol + side * self.half_spread, forward, strike, years, sign)
                    + side * self.tick * forward,
                    0.0,
                )
                for side in (-1.0, 1.0)
            )
        return validated(
            quote_time=np.full(len(place), NOW),
            venue=Labels.constant(self.venue, len(place)),
            underlying=Labels.constant("ABC", len(place)),
            expiry=self.expiry[place],
            strike=strike,
            right=Labels(right.astype(np.int32), ("C", "P")),
            unit=Labels.constant(self.unit.name.lower(), len(place)),
            bid=bid,
            ask=ask,
            forward=forward if self.given else None,
            spot=np.full(len(place), self.spot) if self.spot_given else None,
        )

    def chain(self) -> Chain:
        """The quotes as a chain."""
        return chain_of(self.quotes())


def chain_of(*tables: QuoteTable) -> Chain:
    """The rows of all tables as one chain."""
    return chain_at(joined(tables), "ABC", NOW)


def edited(table: QuoteTable, **columns: Floats) -> QuoteTable:
    """The table judged anew with other prices, forwards or spots."""
    return validated(
        quote_time=table.quote_time,
        venue=table.venue,
        underlying=table.underlying,
        expiry=table.expiry,
        strike=table.strike,
        right=table.right_text,
        unit=table.unit_text,
        bid=columns.get("bid", table.bid),
        ask=columns.get("ask", table.ask),
        forward=columns.get("forward", table.forward),
        spot=columns.get("spot", table.spot),
    )


def one_sided(table: QuoteTable, rows: np.ndarray) -> QuoteTable:
    """The table without the bids of these rows, so that they make no parity pair."""
    bid = table.bid.copy()
    bid[rows] = NAN
    return edited(table, bid=bid)
