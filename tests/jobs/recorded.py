"""What quote tables say, row by row, to be compared to the last bit."""

from __future__ import annotations

import numpy as np

from calib.conventions import iso
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


def accepted(quotes: QuoteTable) -> QuoteTable:
    """The rows that a server takes."""
    return quotes.take(np.isin(quotes.reason, (Reason.USABLE, Reason.NO_QUOTE)))
