"""The live quote book of one underlying: the last quote of every option, venue by venue.

The one mutable value among the quotes: rows come in, immutable chains go out. It is not made for
several threads; its owner feeds and reads it from one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from types import MappingProxyType

import numpy as np

from calib.conventions import Bools, Floats, Instants
from calib.quotes.chain import Chain
from calib.quotes.levels import Levels
from calib.quotes.reasons import Reason
from calib.quotes.sequence import Step
from calib.quotes.table import Codes, QuoteTable, joined
from calib.quotes.venue_book import VenueBook

# Rows of which the option, or the moment, cannot be in force: they replace nothing.
_NEVER_IN_FORCE = np.isin(
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

_NONE: Mapping[str, Reason] = MappingProxyType({})


@dataclass(frozen=True)
class Taken:
    """What became of a message.

    ``reason`` of each row is USABLE where it was accepted; a row without any price withdraws its
    option and is accepted too. ``changed``: whether the chain is another one than before.
    ``missed`` messages are missing right before it; ``repeated``: nothing of it was taken, because
    it was before; ``incomplete``: the venue has no say until it has ended a full chain.
    ``withdrawn``: what the message ended without a row that was accepted, as rows without prices:
    options that a full chain no longer names, that a count which begins again forgets, or that were
    refused; None for none.
    """

    reason: Codes
    changed: bool = False
    missed: int = 0
    repeated: bool = False
    incomplete: bool = True
    withdrawn: QuoteTable | None = None


class Book:
    """The quotes of ``underlying`` that are in force.

    A row replaces the last one of its (venue, expiry, strike, right) unless it is older. A row
    that cannot be used but names its option replaces it as well: what is known to be wrong is not
    answered with an older price. A quote counts until it is ``max_age`` older than the latest one.
    A venue of which messages are missing has no say until it has ended a chain that began later.
    """

    def __init__(self, underlying: str, max_age: timedelta | None = None) -> None:
        self.underlying = underlying
        self._max_age = None if max_age is None else max_age // timedelta(microseconds=1)
        self._venues: dict[str, VenueBook] = {}

    @property
    def venues(self) -> Mapping[str, VenueBook]:
        """Every venue that was heard of, to be looked at."""
        return MappingProxyType(self._venues)

    def take(
        self,
        quotes: QuoteTable,
        *,
        venue: str,
        sequence: int = 0,
        snapshot_begin: bool = False,
        snapshot_complete: bool = False,
        latest: np.datetime64 | None = None,
    ) -> Taken:
        """Bring rows of one venue into the book, in their order.

        Rows stamped after ``latest`` are refused. ``sequence`` is the publisher's number of the
        message, 0 where it has none. ``snapshot_complete`` ends a full chain: options of the venue
        that no row has named since it began (``snapshot_begin``, or the last end) are withdrawn.
        """
        return self._heard(
            venue,
            sequence,
            quotes.reason,
            lambda book: self._write(
                book,
                quotes,
                begin=snapshot_begin,
                complete=snapshot_complete,
                latest=latest,
            ),
        )

    def tick(
        self,
        *,
        venue: str,
        quote_time: np.datetime64,
        expiry: Instants,
        forward: Floats,
        spot: float | None = None,
        sequence: int = 0,
        latest: np.datetime64 | None = None,
    ) -> Taken:
        """Bring a venue's forwards, and its spot where it is given, up to ``quote_time``.

        There is one reason a forward and, where a spot is given, one for it.
        """
        reason = np.zeros(len(forward) + (spot is not None), np.int8)
        return self._heard(
            venue,
            sequence,
            reason,
            lambda book: (_levelled(book, quote_time, expiry, forward, spot, latest), False),
        )

    def beat(
        self,
        *,
        venue: str,
        time: np.datetime64,
        sequence: int = 0,
        latest: np.datetime64 | None = None,
    ) -> Taken:
        """A venue lives at ``time``, and what stands is still quoted; one reason, for all of it."""
        reason = stamp_reasons(1, time, latest)

        def lives(book: VenueBook) -> tuple[Codes, bool]:
            if not reason.any():
                book.live(int(time.astype(np.int64)))
            return reason, False

        return self._heard(venue, sequence, reason, lives)

    def _heard(
        self,
        venue: str,
        sequence: int,
        reason: Codes,
        take: Callable[[VenueBook], tuple[Codes, bool]],
    ) -> Taken:
        """What ``take`` comes to, unless the number of its message says that it is a repeat."""
        book = self._venue(venue)
        before, had_say = book.sequence, book.complete
        if book.hear(sequence) is Step.REPEAT:
            return Taken(_repeated(reason), repeated=True, incomplete=not book.complete)
        book.make_room()
        reason, changed = take(book)
        return Taken(
            reason,
            changed=changed if book.complete else had_say,
            missed=book.sequence.missed - before.missed,
            incomplete=not book.complete,
            withdrawn=book.withdrawn(venue, self.underlying),
        )

    @staticmethod
    def _write(
        book: VenueBook,
        quotes: QuoteTable,
        *,
        begin: bool,
        complete: bool,
        latest: np.datetime64 | None,
    ) -> tuple[Codes, bool]:
        if begin:
            book.begin_snapshot()
        reason = _timely(quotes, latest)
        void = _NEVER_IN_FORCE[reason]
        changed = False
        if not void.any():
            late, changed = book.write(quotes.with_reason(reason))
            reason[late] = Reason.OUT_OF_ORDER
        elif not void.all():
            rows = np.flatnonzero(~void)
            late, changed = book.write(quotes.with_reason(reason).take(rows))
            reason[rows[late]] = Reason.OUT_OF_ORDER
        if complete:
            changed |= book.end_snapshot()
        reason[reason == Reason.NO_QUOTE] = Reason.USABLE
        return reason, changed

    def chain(self, left_out: Mapping[str, Reason] = _NONE) -> Chain | None:
        """The chain in force; None before a venue has ended a full chain that holds an option.

        Its quote time is that of the latest row. Options that it has outlived leave the book, those
        of venues that have no part in it too; rows that are too old stay, marked STALE. Rows of
        venues that are ``left_out`` are marked with the reason, and tell no time while other venues
        do.
        """
        venues = [(name, book) for name, book in self._venues.items() if book.complete]
        timed = [book.latest for name, book in venues if book.size and name not in left_out]
        now = max(timed or [book.latest for _, book in venues if book.size], default=0)
        for book in self._venues.values():
            book.drop_expired(now)
        oldest = None if self._max_age is None else now - self._max_age
        tables = [
            book.table(name, self.underlying, oldest, left_out.get(name))
            for name, book in venues
            if book.size
        ]
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


def may_be_in_force(quotes: QuoteTable, latest: np.datetime64 | None) -> Bools:
    """Which rows name an option and a moment that can be in force; all others replace nothing."""
    return ~_NEVER_IN_FORCE[_timely(quotes, latest)]


def _timely(quotes: QuoteTable, latest: np.datetime64 | None) -> Codes:
    """The reasons of rows, of which those that are stamped after ``latest`` are refused."""
    reason = quotes.reason.copy()
    if latest is not None:
        reason[quotes.quote_time > latest] = Reason.AHEAD_OF_CLOCK
    return reason


def parts_joined(parts: Sequence[Taken]) -> Taken:
    """What became of a message that was taken in parts, one at least."""
    if len(parts) == 1:
        return parts[0]
    reason = np.concatenate([part.reason for part in parts])
    # What is missing comes before the first part, and the last one ends a chain.
    return replace(parts[-1], reason=reason, missed=parts[0].missed)


def repeat_of(first: Taken, quotes: QuoteTable) -> Taken:
    """What becomes of further rows of a message whose first ones were found to be a repeat."""
    return replace(first, reason=_repeated(quotes.reason))


def _repeated(reason: Codes) -> Codes:
    return np.where(reason == Reason.USABLE, np.int8(Reason.REPEATED), reason)


def stamp_reasons(rows: int, time: np.datetime64, latest: np.datetime64 | None) -> Codes:
    """What is wrong with rows of one time, whatever else they say."""
    if np.isnat(time):
        return np.full(rows, Reason.BAD_QUOTE_TIME, np.int8)
    if latest is not None and time > latest:
        return np.full(rows, Reason.AHEAD_OF_CLOCK, np.int8)
    return np.zeros(rows, np.int8)


def forward_reasons(
    quote_time: np.datetime64, expiry: Instants, forward: Floats, latest: np.datetime64 | None
) -> Codes:
    """What is wrong with forwards of one time, each looked at alone."""
    reason = stamp_reasons(len(forward), quote_time, latest)
    if not reason.any():
        reason[expiry <= quote_time] = Reason.EXPIRED
        reason[~(np.isfinite(forward) & (forward > 0.0))] = Reason.BAD_FORWARD
        reason[np.isnat(expiry)] = Reason.BAD_EXPIRY
    return reason


def _levelled(
    book: VenueBook,
    quote_time: np.datetime64,
    expiry: Instants,
    forward: Floats,
    spot: float | None,
    latest: np.datetime64 | None,
) -> Codes:
    """Levels brought into the book of their venue; a reason for each."""
    reason = stamp_reasons(len(forward) + (spot is not None), quote_time, latest)
    if reason.any():
        return reason
    time = int(quote_time.astype(np.int64))
    forwards = reason[: len(forward)]
    forwards[:] = forward_reasons(quote_time, expiry, forward, latest)
    for i in np.flatnonzero(forwards == Reason.USABLE):
        if not book.set_forward(int(expiry[i].astype(np.int64)), time, float(forward[i])):
            forwards[i] = Reason.OUT_OF_ORDER
    if spot is not None:
        if not (np.isfinite(spot) and spot > 0.0):
            reason[-1] = Reason.BAD_SPOT
        elif not book.set_spot(time, spot):
            reason[-1] = Reason.OUT_OF_ORDER
    return reason
