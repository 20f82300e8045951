"""Replaying a table sends every row, together with what belongs together, in recorded order."""

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.errors import InvalidRequest
from calib.feeds.replay import timed_quotes
from calib.quotes.labels import Labels
from calib.quotes.table import QuoteTable, validated

START = np.datetime64("2026-03-02T08:00:00", "us")

Row = tuple[int | None, str | None]  # seconds after the start, underlying
ROWS = st.lists(
    st.tuples(st.sampled_from([None, 0, 1, 5]), st.sampled_from([None, "BTC", "ETH"])), max_size=20
)


def table_of(rows: list[Row]) -> QuoteTable:
    times = [np.datetime64("NaT") if t is None else START + np.timedelta64(t, "s") for t, _ in rows]
    count = len(rows)
    return validated(
        quote_time=np.array(times, "datetime64[us]"),
        venue=Labels.constant("X", count),
        underlying=Labels.of([underlying for _, underlying in rows]),
        expiry=np.full(count, START + np.timedelta64(30, "D")),
        strike=np.arange(1.0, count + 1.0),
        right=Labels.constant("C", count),
        unit=Labels.constant("linear", count),
        bid=np.full(count, 1.0),
        ask=np.full(count, 2.0),
    )


@given(ROWS)
def test_every_row_is_sent_exactly_once(rows: list[Row]) -> None:
    sent = [each.quotes.row for each in timed_quotes(table_of(rows))]
    assert sorted(np.concatenate([np.empty(0, np.int64), *sent])) == list(range(len(rows)))


@given(ROWS)
def test_a_whole_chain_is_one_underlying_at_one_time_and_is_sent_at_once(rows: list[Row]) -> None:
    seen = set()
    for each in timed_quotes(table_of(rows)):
        names, times = set(each.quotes.underlying.texts()), set(each.quotes.quote_time)
        if each.whole_chain:
            assert len(names) == len(times) == 1
            chain = (*names, *times)
            assert chain not in seen
            seen.add(chain)
        else:
            lacking = (each.quotes.underlying.codes < 0) | np.isnat(each.quotes.quote_time)
            assert lacking.all()


@given(ROWS)
def test_chains_are_due_when_they_were_recorded(rows: list[Row]) -> None:
    sent = list(timed_quotes(table_of(rows)))
    assert [each.due_seconds for each in sent] == sorted(each.due_seconds for each in sent)
    chains = [each for each in sent if each.whole_chain]
    for each in chains:
        since_first = each.quotes.quote_time[0] - chains[0].quotes.quote_time[0]
        assert each.due_seconds == since_first / np.timedelta64(1, "s")


def test_as_of_chains_are_due_at_their_moments_and_leave_out_what_is_too_old() -> None:
    table = table_of([(0, "BTC"), (61, "BTC")])
    sent = list(timed_quotes(table, every=timedelta(minutes=1), max_age=timedelta(seconds=60)))
    assert [each.due_seconds for each in sent] == [0.0, 60.0, 120.0]
    assert [each.quotes.row.tolist() for each in sent] == [[0], [0], [1]]


def test_an_age_limit_without_moments_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="max_age"):
        list(timed_quotes(table_of([]), max_age=timedelta(seconds=1)))
