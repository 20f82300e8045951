"""Which rows make a chain, at which times, and which of them count."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.errors import InvalidRequest
from calib.quotes.chain import Chain, chain_at, chains
from calib.quotes.labels import Labels
from calib.quotes.reasons import Reason
from calib.quotes.table import QuoteTable, validated

START = np.datetime64("2026-03-02T08:00:00", "us")
NAN = float("nan")


class Row(NamedTuple):
    """A quote ``at`` seconds after the start, of an option that expires after ``life`` seconds."""

    at: int | None
    underlying: str | None = "BTC"
    venue: str | None = "x"
    life: int | None = 1_000_000
    strike: float = 100.0
    right: str = "C"
    bid: float = 1.0


def table_of(rows: list[Row]) -> QuoteTable:
    def instants(seconds: list[int | None]) -> np.ndarray:
        none = np.timedelta64("NaT", "us")
        return START + np.array(
            [none if s is None else np.timedelta64(s, "s") for s in seconds], "timedelta64[us]"
        )

    size = len(rows)
    return validated(
        quote_time=instants([row.at for row in rows]),
        venue=Labels.of([row.venue for row in rows]),
        underlying=Labels.of([row.underlying for row in rows]),
        expiry=instants([row.life for row in rows]),
        strike=np.array([row.strike for row in rows], float),
        right=Labels.of([row.right for row in rows]),
        unit=Labels.constant("linear", size),
        bid=np.array([row.bid for row in rows], float),
        ask=np.full(size, 2.0),
    )


def seconds(chain: Chain) -> int:
    return int((chain.quote_time - START) // np.timedelta64(1, "s"))


Content = list[tuple[int, str, list[tuple[int, Reason]]]]


def content(found: list[Chain]) -> Content:
    """Time, underlying, and the rows with their reasons, of every chain."""
    return [
        (
            seconds(chain),
            chain.underlying,
            [
                (int(row), Reason(int(reason)))
                for row, reason in zip(chain.quotes.row, chain.quotes.reason, strict=True)
            ],
        )
        for chain in found
    ]


STAMPED = st.builds(
    Row,
    at=st.sampled_from([None, 0, 1, 7, 10, 11, 29, 30, 31, 95]),
    underlying=st.sampled_from([None, "BTC", "ETH"]),
    venue=st.sampled_from([None, "x", "y"]),
    life=st.sampled_from([None, 5, 30, 36, 1_000_000]),
    strike=st.sampled_from([-1.0, 100.0, 110.0]),
    right=st.sampled_from(["C", "P", "?"]),
    bid=st.sampled_from([1.0, NAN, 9.0, -1.0]),
)
TABLES = st.lists(STAMPED, max_size=16)

NAMELESS = {
    Reason.BAD_QUOTE_TIME,
    Reason.BAD_VENUE,
    Reason.BAD_EXPIRY,
    Reason.BAD_STRIKE,
    Reason.BAD_RIGHT,
}


def judged(table: QuoteTable, rows: list[int], now: int, oldest: float) -> list[tuple[int, Reason]]:
    """What the rows of one chain count for at ``now``, said row by row."""
    option = {
        i: (table.venue[i], table.expiry[i], table.strike[i], table.right[i])
        for i in rows
        if Reason(int(table.reason[i])) not in NAMELESS
    }

    def newer(i: int, j: int) -> bool:
        return (table.quote_time[j], j) > (table.quote_time[i], i)

    result = []
    for i in rows:
        reason = Reason(int(table.reason[i]))
        age = now - int((table.quote_time[i] - START) // np.timedelta64(1, "s"))
        if reason is Reason.USABLE:
            if table.expiry[i] <= START + np.timedelta64(now, "s"):
                reason = Reason.EXPIRED
            elif any(option[i] == option.get(j) and newer(i, j) for j in rows):
                reason = Reason.DUPLICATE
            elif age > oldest:
                reason = Reason.STALE
        result.append((i, reason))
    return result


@given(TABLES)
def test_rows_of_one_exact_time_and_underlying_make_a_chain(rows: list[Row]) -> None:
    table = table_of(rows)
    expected: Content = []
    for at in sorted({row.at for row in rows if row.at is not None}):
        for name in ("BTC", "ETH"):
            members = [i for i, row in enumerate(rows) if (row.at, row.underlying) == (at, name)]
            if members:
                expected.append((at, name, judged(table, members, at, np.inf)))
    assert content(list(chains(table))) == expected


@given(TABLES, st.sampled_from([1, 7, 10, 40, 1_000]), st.sampled_from([None, 1, 9, 10, 45]))
def test_as_of_chains_hold_what_is_in_force_and_what_has_come_since(
    rows: list[Row], every: int, max_age: int | None
) -> None:
    """Against the definition, applied to the whole table at every multiple of ``every``."""
    table = table_of(rows)
    oldest = np.inf if max_age is None else max_age
    epoch = int((START - np.datetime64(0, "us")) // np.timedelta64(1, "s"))
    placed = [row.at for row in rows if row.at is not None and row.underlying is not None]
    expected: Content = []
    if placed:
        first = -(-(epoch + min(placed)) // every) * every - epoch
        for now in range(first, max(placed) + every, every):
            for name in ("BTC", "ETH"):
                members = as_of(table, rows, name, now, every, oldest)
                if members:
                    expected.append((now, name, judged(table, members, now, oldest)))
    found = chains(
        table,
        every=timedelta(seconds=every),
        max_age=None if max_age is None else timedelta(seconds=max_age),
    )
    assert [(now, name, sorted(rows)) for now, name, rows in content(list(found))] == expected


def as_of(
    table: QuoteTable, rows: list[Row], name: str, now: int, every: int, oldest: float
) -> list[int]:
    """Rows that came after the last moment, and the latest earlier one of every living option."""
    latest: dict[tuple[object, ...], int] = {}
    order = sorted(
        (row.at, i) for i, row in enumerate(rows) if row.at is not None and row.underlying == name
    )
    fresh = []
    for at, i in order:
        if at > now:
            continue
        if at > now - every:
            fresh.append(i)
        elif Reason(int(table.reason[i])) not in NAMELESS:
            latest[table.venue[i], table.expiry[i], table.strike[i], table.right[i]] = i
    held = [
        i
        for i in latest.values()
        if table.expiry[i] > START + np.timedelta64(now, "s") and now - (rows[i].at or 0) <= oldest
    ]
    return sorted([*fresh, *held])


@given(TABLES, st.sampled_from([1, 7, 40]), st.sampled_from([None, 1, 9]))
def test_every_row_with_a_time_and_an_underlying_is_in_a_chain(
    rows: list[Row], every: int, max_age: int | None
) -> None:
    table = table_of(rows)
    whole = {i for i, row in enumerate(rows) if row.at is not None and row.underlying is not None}
    span = None if max_age is None else timedelta(seconds=max_age)
    for found in (chains(table), chains(table, every=timedelta(seconds=every), max_age=span)):
        assert {int(row) for chain in found for row in chain.quotes.row} == whole


@given(st.permutations(range(5)))
def test_the_latest_row_counts_in_whatever_order_rows_stand(order: list[int]) -> None:
    rows = [Row(at) for at in (3, 1, 4, 2, 0)]
    chain = chain_at(table_of([rows[i] for i in order]), "BTC", START + np.timedelta64(9, "s"))
    counts = chain.quotes.quote_time[chain.quotes.usable]
    assert counts.tolist() == [(START + np.timedelta64(4, "s")).astype(object)]
    assert set(chain.quotes.reason[~chain.quotes.usable]) == {Reason.DUPLICATE}


def test_of_rows_with_one_time_the_last_counts() -> None:
    chain = chain_at(table_of([Row(0, bid=1.0), Row(0, bid=1.5)]), "BTC", START)
    assert chain.quotes.reason.tolist() == [Reason.DUPLICATE, Reason.USABLE]


def test_a_row_that_cannot_be_used_replaces_an_earlier_one_all_the_same() -> None:
    chain = chain_at(table_of([Row(0), Row(1, bid=9.0)]), "BTC", START)
    assert chain.quotes.reason.tolist() == [Reason.DUPLICATE, Reason.CROSSED]


@pytest.mark.parametrize(
    "other",
    [
        Row(1, venue="y"),
        Row(1, strike=100.0 + 1e-12),
        Row(1, right="P"),
        Row(1, life=1_000_001),
        Row(1, strike=-1.0),
    ],
)
def test_other_options_do_not_replace_a_row(other: Row) -> None:
    chain = chain_at(table_of([Row(0), other]), "BTC", START)
    assert chain.quotes.reason[0] == Reason.USABLE


def test_a_quote_that_outlived_its_option_is_expired_at_the_time_of_the_chain() -> None:
    (chain,) = chains(table_of([Row(1, life=30), Row(2)]), every=timedelta(minutes=1))
    assert seconds(chain) == 60
    assert chain.quotes.reason.tolist() == [Reason.EXPIRED, Reason.USABLE]


def test_a_carried_quote_leaves_when_its_option_expires() -> None:
    rows = [Row(0, life=90), Row(0, life=120), Row(0), Row(170)]
    found = chains(table_of(rows), every=timedelta(minutes=1))
    assert [(seconds(c), c.quotes.row.tolist()) for c in found] == [
        (0, [0, 1, 2]),
        (60, [0, 1, 2]),
        (120, [2]),
        (180, [2, 3]),
    ]


def test_a_quote_counts_up_to_its_greatest_age() -> None:
    rows = [Row(9, strike=90.0), Row(10), Row(60, strike=110.0)]
    found = chains(table_of(rows), every=timedelta(seconds=60), max_age=timedelta(seconds=50))
    assert content(list(found)) == [
        (60, "BTC", [(0, Reason.STALE), (1, Reason.USABLE), (2, Reason.USABLE)])
    ]
    rows = [Row(0), Row(0, strike=90.0), Row(1, strike=90.0), Row(51)]
    found = chains(table_of(rows), every=timedelta(seconds=25), max_age=timedelta(seconds=50))
    assert [(seconds(c), c.quotes.row.tolist()) for c in found][-2:] == [
        (50, [0, 2]),
        (75, [3]),
    ]


def test_moments_at_which_nothing_is_in_force_are_passed_over() -> None:
    """However many there are: two quotes, thirty years apart, at every second."""
    later = 30 * 365 * 86_400
    rows = [Row(0, life=2_000_000_000), Row(later, life=2_000_000_000)]
    found = list(chains(table_of(rows), every=timedelta(seconds=1), max_age=timedelta(seconds=1)))
    assert [seconds(chain) for chain in found] == [0, 1, later]


def test_moments_are_multiples_of_the_span_since_the_epoch() -> None:
    (chain,) = chains(table_of([Row(1)]), every=timedelta(hours=7))
    since = chain.quote_time - np.datetime64(0, "us")
    assert since % np.timedelta64(7, "h") == np.timedelta64(0, "us")
    assert START < chain.quote_time <= START + np.timedelta64(7, "h")


def test_an_empty_table_has_no_chains() -> None:
    assert list(chains(table_of([]))) == []
    assert list(chains(table_of([]), every=timedelta(hours=1))) == []
    assert len(chain_at(table_of([]), "BTC", START).quotes) == 0


@pytest.mark.parametrize("span", [timedelta(0), timedelta(seconds=-1)])
def test_a_span_that_is_not_positive_is_refused(span: timedelta) -> None:
    with pytest.raises(InvalidRequest, match="every must be positive"):
        list(chains(table_of([Row(0)]), every=span))
    with pytest.raises(InvalidRequest, match="max_age must be positive"):
        list(chains(table_of([Row(0)]), every=timedelta(seconds=1), max_age=span))


def test_an_age_without_moments_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="max_age=0:00:01 needs `every`"):
        list(chains(table_of([Row(0)]), max_age=timedelta(seconds=1)))


def test_chains_do_not_grow_with_the_quotes_that_came_before() -> None:
    """A hundred thousand quotes of ten options, of which a chain holds a hundred and ten."""
    size = 100_000
    base = table_of([Row(0, strike=100.0 + i) for i in range(10)])
    table = base.take(np.arange(size) % 10)
    times = START + np.arange(size) * np.timedelta64(1, "s")
    moving = validated(
        quote_time=times,
        venue=table.venue,
        underlying=table.underlying,
        expiry=np.full(size, START + np.timedelta64(365, "D")),
        strike=table.strike,
        right=table.right_text,
        unit=table.unit_text,
        bid=table.bid,
        ask=table.ask,
    )
    handled = [len(chain.quotes) for chain in chains(moving, every=timedelta(seconds=100))]
    assert len(handled) == 1_001
    assert max(handled) <= 110
