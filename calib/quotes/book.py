"""The live quote book of one underlying: the last quote of every option, venue by venue.

The one mutable value among the quotes: rows come in, immutable chains go out. It is not made for
several threads; its owner feeds and reads it from one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from calib.conventions import Floats, Instants
from calib.quotes.chain import Chain
from calib.quotes.levels import Levels
from calib.quotes.reasons import Reason
from calib.quotes.table import Codes, QuoteTable, joined
from calib.quotes.venue_book import VenueBook

# Rows that name no option that can be in force: they replace nothing.
_NAMELESS = np.isin(
    np.arange(128),
    (
        Reason.BAD_QUOTE_TIME,
        Reason.BAD_VENUE,
        Reason.BAD_UNDERLYING,
        Reason.BAD_EXPIRY,
        Reason.BAD_STRIKE,
        Reason.BAD_RIGHT,
        Reason.EXPIRED,
        Reason.AHEAD_OF_CLOCK,
    ),
)


@dataclass(frozen=True)
class Taken:
    """What became of a batch.

    ``reason`` of each row is USABLE where it was accepted; a row without any price withdraws its
    option and is accepted too. ``changed``: whether the chain is another one than before.
    """

    reason: Codes
    changed: bool


class Book:
    """The quotes of ``underlying`` that are in force.

    A row replaces the last one of its (venue, expiry, strike, right) unless it is older. A row
    that cannot be used but names its option replaces it as well: what is known to be wrong is not
    answered with an older price. A quote counts until it is ``max_age`` older than the latest one.
    """

    def __init__(self, underlying: str, max_age: timedelta | None = None) -> None:
        self.underlying = underlying
        self._max_age = None if max_age is None else max_age // timedelta(microseconds=1)
        self._venues: dict[str, VenueBook] = {}

    def take(
        self,
        quotes: QuoteTable,
        *,
        venue: str,
        snapshot_complete: bool = False,
        latest: np.datetime64 | None = None,
    ) -> Taken:
        """Bring rows of one venue into the book, in their order.

        Rows stamped after ``latest`` are refused. ``snapshot_complete`` ends a full chain: options
        of the venue that no row has named since the last end are withdrawn.
        """
        reason = quotes.reason.copy()
        if latest is not None:
            reason[quotes.quote_time > latest] = Reason.AHEAD_OF_CLOCK
        book = self._venue(venue)
        nameless = _NAMELESS[reason]
        changed = False
        if not nameless.any():
            late, changed = book.write(quotes.with_reason(reason))
            reason[late] = Reason.OUT_OF_ORDER
        elif not nameless.all():
            rows = np.flatnonzero(~nameless)
            late, changed = book.write(quotes.with_reason(reason).take(rows))
            reason[rows[late]] = Reason.OUT_OF_ORDER
        if snapshot_complete:
            changed |= book.end_snapshot()
        reason[reason == Reason.NO_QUOTE] = Reason.USABLE
        return Taken(reason, changed and book.complete)

    def tick(
        self,
        *,
        venue: str,
        quote_time: np.datetime64,
        expiry: Instants,
        forward: Floats,
        spot: float | None = None,
        latest: np.datetime64 | None = None,
    ) -> Codes:
        """Bring a venue's forwards, and its spot where it is given, up to ``quote_time``.

        Returns one reason a forward and, where a spot is given, one for it.
        """
        reason = np.zeros(len(forward) + (spot is not None), np.int8)
        if np.isnat(quote_time):
            reason[:] = Reason.BAD_QUOTE_TIME
            return reason
        if latest is not None and quote_time > latest:
            reason[:] = Reason.AHEAD_OF_CLOCK
            return reason
        book = self._venue(venue)
        time = int(quote_time.astype(np.int64))
        forwards = reason[: len(forward)]
        forwards[expiry <= quote_time] = Reason.EXPIRED
        forwards[~(np.isfinite(forward) & (forward > 0.0))] = Reason.BAD_FORWARD
        forwards[np.isnat(expiry)] = Reason.BAD_EXPIRY
        for i in np.flatnonzero(forwards == Reason.USABLE):
            if not book.set_forward(int(expiry[i].astype(np.int64)), time, float(forward[i])):
                forwards[i] = Reason.OUT_OF_ORDER
        if spot is not None:
            if not (np.isfinite(spot) and spot > 0.0):
                reason[-1] = Reason.BAD_SPOT
            elif not book.set_spot(time, spot):
                reason[-1] = Reason.OUT_OF_ORDER
        return reason

    def chain(self) -> Chain | None:
        """The chain in force; None before a venue has ended a full chain that holds an option.

        Its quote time is that of the latest row. Options that it has outlived leave the book; rows
        that are too old stay, marked STALE.
        """
        venues = [(name, book) for name, book in self._venues.items() if book.complete]
        now = max((book.latest for _, book in venues if book.size), default=0)
        for _, book in venues:
            book.drop_expired(now)
        oldest = None if self._max_age is None else now - self._max_age
        tables = [book.table(name, self.underlying, oldest) for name, book in venues if book.size]
        if not tables:
            return None
        quotes = tables[0] if len(tables) == 1 else joined(tables)
        return Chain(self.underlying, np.datetime64(now, "us"), quotes)

    def levels(self) -> Levels:
        """Every venue's forwards and spot as they stand now."""
        venues = self._venues.items()
        return Levels({name: book.levels() for name, book in venues if book.complete})

    def _venue(self, venue: str) -> VenueBook:
        book = self._venues.get(venue)
        if book is None:
            book = self._venues[venue] = VenueBook()
        return book
