"""What a recording says of options that are withdrawn without a row of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import calib
from calib.jobs.live_options import LiveOptions
from calib.jobs.recorder import Recorder
from calib.quotes.chain import chain_at
from calib.quotes.table import QuoteTable, joined
from tests.jobs.recorded import said
from tests.service.samples import START, at_time, smile_quotes


def at(seconds: int, first: int = 0, last: int = 45) -> QuoteTable:
    """Some of the options of a chain, seen so many seconds later."""
    return at_time(
        smile_quotes().take(np.arange(first, last)), START + np.timedelta64(seconds, "s")
    )


@pytest.fixture
def options(tmp_path: Path) -> Iterator[LiveOptions]:
    with Recorder(tmp_path) as recorder:
        yield LiveOptions(recorder)


def recorded(options: LiveOptions, *told: tuple[QuoteTable, dict[str, Any]]) -> list[QuoteTable]:
    return [options.take(quotes, "test", "BTC", **marks) for quotes, marks in told]


def in_force(tables: list[QuoteTable]) -> QuoteTable:
    quotes = joined(tables)
    chain = chain_at(quotes, "BTC", quotes.quote_time.max()).quotes
    return chain.take(chain.usable)


def test_the_end_of_a_chain_withdraws_what_it_does_not_name(options: LiveOptions) -> None:
    told = recorded(
        options,
        (at(0), {"ends": True}),
        (at(1, 3, 20), {"begins": True}),
        (at(2, 10, 40), {"ends": True}),
    )
    assert said(in_force(told)) == said(joined([at(1, 3, 10), at(2, 10, 40)]))
    (again,) = recorded(options, (at(3, 3, 40), {"ends": True}))
    assert said(again) == said(at(3, 3, 40))  # those that are withdrawn are so once


def test_what_begins_no_chain_and_ends_none_withdraws_nothing(options: LiveOptions) -> None:
    told = recorded(options, (at(0), {}), (at(1, 0, 3), {"begins": True}))
    assert said(joined(told)) == said(joined([at(0), at(1, 0, 3)]))


def test_what_has_expired_needs_no_withdrawal(options: LiveOptions) -> None:
    first = at(0)
    over = at_time(first.take(np.arange(1)), first.expiry.max())
    recorded(options, (first, {"ends": True}), (over, {}))
    (told,) = recorded(options, (over.take(np.arange(0)), {"ends": True}))
    assert len(told) == 0


def test_venues_and_underlyings_withdraw_their_own(options: LiveOptions) -> None:
    options.take(at(0), "test", "BTC", ends=True)
    other = at(1, 0, 5)
    assert said(options.take(other, "other", "BTC", ends=True)) == said(other)
    assert said(options.take(other, "test", "ETH", ends=True)) == said(other)


def test_what_stands_at_the_same_server_withdraws_the_rest(options: LiveOptions) -> None:
    first = options.take(at(0), "test", "BTC", begins=True)
    told = options.take_standing(at(0, 0, 30), "test", "BTC", whole=True)
    assert said(in_force([first, told])) == said(at(0, 0, 30))
    # Its rows may be of the chain that is under way.
    rest = options.take(at(1, 20, 30), "test", "BTC", ends=True)
    assert said(rest) == said(at(1, 20, 30))


def test_what_stands_at_another_one_withdraws_nothing_before_a_chain_ends(
    options: LiveOptions,
) -> None:
    options.take(at(0), "test", "BTC", ends=True)
    told = options.take_standing(at(0, 0, 30), "test", "BTC", whole=False)
    assert said(told) == said(at(0, 0, 30))
    last = options.take(at(1, 0, 30), "test", "BTC", ends=True)
    assert len(last) == 45
    assert int(last.usable.sum()) == 30


def test_what_was_written_before_of_the_day_is_withdrawn_too(tmp_path: Path) -> None:
    with Recorder(tmp_path) as first:
        first.take(joined([at(0), at_time(smile_quotes(venue="other"), START)]))
    with Recorder(tmp_path) as second:
        options = LiveOptions(second)
        # A chain may be under way, of which they were rows.
        for told in (
            options.take_standing(at(1, 0, 9), "test", "BTC", whole=False),
            options.take(at(2, 0, 9), "test", "BTC", ends=True),
            options.take(at(3, 0, 9), "test", "BTC", ends=True),
        ):
            second.take(told)
    quotes = calib.read_quotes(tmp_path)
    chain = chain_at(quotes, "BTC", quotes.quote_time.max()).quotes
    left = chain.take(chain.usable)
    assert said(left) == said(joined([at(3, 0, 9), at_time(smile_quotes(venue="other"), START)]))
