"""The options that are in force at venues, followed so that a recording can say which of them are
withdrawn without a row of their own."""

from __future__ import annotations

from calib.jobs.recorder import Recorder
from calib.quotes.book import Book
from calib.quotes.table import QuoteTable, joined


class LiveOptions:
    """What stands, by venue and underlying, as far as the rows that are taken tell, and those of
    that day that ``recorder`` has written before."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._books: dict[str, Book] = {}

    def take(
        self,
        quotes: QuoteTable,
        venue: str,
        underlying: str,
        *,
        begins: bool = False,
        ends: bool = False,
    ) -> QuoteTable:
        """The rows of one venue and underlying, and before them, where they end a full chain
        (which ``begins`` with them, or began after the last one), a row without prices for each
        option that no row of it has named.

        Such a row has the latest quote time of its venue: it holds from then on. Raises OSError,
        and InvalidQuoteTable, as the recorder does.
        """
        book = self._book(underlying, quotes)
        taken = book.take(quotes, venue=venue, snapshot_begin=begins, snapshot_complete=ends)
        if not ends:
            return quotes
        own = book.venues[venue]
        own.drop_expired(own.latest)
        # A row that was refused itself says more, of the same time, than that its option is over.
        return quotes if taken.withdrawn is None else joined([taken.withdrawn, quotes])

    def take_standing(
        self, quotes: QuoteTable, venue: str, underlying: str, *, whole: bool
    ) -> QuoteTable:
        """The rows that stand at one venue and underlying; where they are the ``whole`` of what is
        left of those that were taken, as of a server that never stopped, the others are withdrawn
        as at the end of a chain."""
        told = self.take(quotes, venue, underlying, begins=whole, ends=whole)
        if whole:
            self.take(quotes, venue, underlying)  # the chain that is under way may have named them
        return told

    def _book(self, underlying: str, quotes: QuoteTable) -> Book:
        """The book of an underlying; where these are its first rows, with what is written of their
        day."""
        if underlying in self._books:
            return self._books[underlying]
        book = Book(underlying)

        def hear(written: QuoteTable) -> None:
            for name in written.venue.names:
                book.take(written.take(written.venue.equal(name)), venue=name)

        if len(quotes):
            self._recorder.read_day(underlying, quotes.quote_time.max(), hear)
            self._books[underlying] = book
        return book
