"""What quote tables say, row by row, to be compared to the last bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from calib.conventions import iso
from calib.quotes.book import withdrawn
from calib.quotes.reasons import Reason
from calib.quotes.table import QuoteTable

TEXTS = ("venue", "underlying", "right_text", "unit_text", "exercise_text")
NUMBERS = ("strike", "bid", "ask", "bid_size", "ask_size", "forward", "spot")


def said(quotes: QuoteTable) -> list[tuple[str, ...]]:
    """The rows, each as text that differs where a bit does; in no order."""
    columns = [getattr(quotes, name).texts() for name in TEXTS]
    columns += [[iso(one) for one in getattr(quotes, name)] for name in ("quote_time", "expiry")]
    columns += [[float(one).hex() for one in getattr(quotes, name)] for name in NUMBERS]
    return sorted(zip(*columns, strict=True))


def taken(quotes: QuoteTable) -> QuoteTable:
    """The rows as a server tells of them: those that it refuses, though they name their option,
    without prices."""
    gone = withdrawn(quotes.reason) & (quotes.reason != Reason.NO_QUOTE)
    blank: dict[str, Any] = {
        name: np.where(gone, np.nan, getattr(quotes, name))
        for name in ("bid", "ask", "bid_size", "ask_size", "forward")
    }
    known = np.isin(quotes.reason, (Reason.USABLE, Reason.NO_QUOTE))
    return replace(quotes, **blank).take(known | gone)
