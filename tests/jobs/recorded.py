"""What quote tables say, row by row, to be compared to the last bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calib.conventions import iso
from calib.quotes.book import Book
from calib.quotes.reasons import Reason
from calib.quotes.table import QuoteTable
from calib.store.chain_columns import FLOATS, INSTANTS, TEXTS


def said(quotes: QuoteTable) -> list[tuple[str, ...]]:
    """The rows, each as text that differs where a bit does; in no order."""
    columns = [getattr(quotes, name).texts() for name in TEXTS.values()]
    columns += [[iso(one) for one in getattr(quotes, name)] for name in INSTANTS]
    columns += [[float(one).hex() for one in getattr(quotes, name)] for name in FLOATS]
    return sorted(zip(*columns, strict=True))


def withdrawn(tables: Sequence[QuoteTable]) -> list[set[tuple[str, ...]]]:
    """What a run of a server that takes these tells after each of them: the options of which a row
    was refused, without prices."""
    books: dict[str, Book] = {}
    told: list[set[tuple[str, ...]]] = []
    for table in tables:
        told.append(set())
        for name in table.underlyings:
            for venue in table.venue.names:
                own = table.take(table.underlying.equal(name) & table.venue.equal(venue))
                gone = books.setdefault(name, Book(name)).take(own, venue=venue).withdrawn
                told[-1] |= set() if gone is None else set(said(gone))
    return told


def accepted(quotes: QuoteTable) -> QuoteTable:
    """The rows that a server takes."""
    return quotes.take(np.isin(quotes.reason, (Reason.USABLE, Reason.NO_QUOTE)))
