"""Small quote tables for tests, as frames and as values."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd

from calib.quotes.labels import Labels
from calib.quotes.table import QuoteTable

TIME = pd.Timestamp("2026-03-02T08:00:00.123456Z")
EXPIRY = pd.Timestamp("2026-03-27T08:00Z")


def frame(rows: int = 3, **columns: Any) -> pd.DataFrame:
    """A sound quote table, a call a strike, with columns replaced or added."""
    base: dict[str, Any] = {
        "quote_time": [TIME] * rows,
        "venue": ["deribit"] * rows,
        "underlying": ["BTC"] * rows,
        "expiry": [EXPIRY] * rows,
        "strike": [90_000.0 + 1_000.0 * i for i in range(rows)],
        "right": ["C"] * rows,
        "unit": ["inverse"] * rows,
        "bid": [0.01] * rows,
        "ask": [0.0125] * rows,
    }
    return pd.DataFrame(base | columns)


def assert_same(one: QuoteTable, other: QuoteTable) -> None:
    """All columns equal, bit for bit; how texts are coded does not matter."""
    for column in fields(QuoteTable):
        left, right = getattr(one, column.name), getattr(other, column.name)
        if isinstance(left, Labels):
            assert left.texts() == right.texts(), column.name
        else:
            assert left.dtype == right.dtype, column.name
            equal_nan = left.dtype.kind in "fM"
            assert np.array_equal(left, right, equal_nan=equal_nan), column.name
