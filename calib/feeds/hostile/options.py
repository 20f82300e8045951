"""Options of a table by number, so that a fault keeps to those that it has chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.conventions import Bools, Ints
from calib.quotes.table import QuoteTable


def option_numbers(quotes: QuoteTable, *, strikes: bool = False) -> Ints:
    """A number for each (venue, expiry, strike, right) of the table, row by row; with ``strikes``
    for each (expiry, strike). Equal tables give equal numbers."""
    columns: list[NDArray[Any]] = [quotes.expiry.astype(np.int64), quotes.strike]
    if not strikes:
        columns += [quotes.venue.codes, quotes.right]
    return row_numbers(columns)


def row_numbers(columns: Sequence[NDArray[Any]]) -> Ints:
    """A number from 0 on for each combination of values that occurs, row by row."""
    number = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        _, place = np.unique(column, return_inverse=True)
        number = number * (int(place.max(initial=0)) + 1) + place
        # Numbers stay below the count of rows, so that products stay small.
        number = np.unique(number, return_inverse=True)[1]
    return number


def chosen(number: Ints, rows: Ints, share: float, seed: int) -> Bools:
    """Which of ``rows`` belong to a random ``share`` (rounded, one at least) of their options."""
    options = np.unique(number[rows])
    if not options.size:
        return np.zeros(0, bool)
    count = max(1, round(share * options.size))
    picked = np.random.default_rng(seed).choice(options, count, replace=False)
    return np.isin(number[rows], picked)
