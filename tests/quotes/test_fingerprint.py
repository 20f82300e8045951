"""The hash of a chain: the same for the same quotes, another for any other."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from calib.quotes.chain import Chain
from calib.quotes.fingerprint import fingerprint
from calib.quotes.labels import Labels
from calib.quotes.table import QuoteTable
from tests.service.samples import START, smile_quotes


def chain(quotes: QuoteTable) -> Chain:
    return Chain("BTC", START, quotes)


def test_equal_quotes_have_equal_hashes_whatever_the_codes_of_their_texts() -> None:
    quotes = smile_quotes()
    again = replace(
        smile_quotes(), venue=Labels(np.full(len(quotes), 2, np.int32), ("", "x", "test"))
    )
    assert fingerprint(chain(quotes)) == fingerprint(chain(again))
    assert len(fingerprint(chain(quotes))) == 64


@pytest.mark.parametrize(
    "name",
    [
        f.name
        for f in fields(QuoteTable)
        if f.name not in ("row", "underlying", "right_text", "unit_text", "exercise_text")
    ],
)
def test_every_column_that_a_fit_can_see_counts(name: str) -> None:
    quotes = smile_quotes()
    column = getattr(quotes, name)
    if isinstance(column, Labels):
        other = Labels(np.array([1, *column.codes[1:]], np.int32), (*column.names, "other"))
    else:
        other = column.copy()
        one = np.timedelta64(1, "us") if column.dtype.kind == "M" else 1
        other[0] = 1.0 if column.dtype.kind == "f" and np.isnan(column[0]) else column[0] + one
    column_of: dict[str, Any] = {name: other}
    changed = replace(quotes, **column_of)
    assert fingerprint(chain(quotes)) != fingerprint(chain(changed))


def test_underlying_time_and_order_count() -> None:
    quotes = smile_quotes()
    hashes = {
        fingerprint(chain(quotes)),
        fingerprint(Chain("ETH", START, quotes)),
        fingerprint(Chain("BTC", START + np.timedelta64(1, "us"), quotes)),
        fingerprint(chain(quotes.take(np.arange(len(quotes))[::-1]))),
    }
    assert len(hashes) == 4
