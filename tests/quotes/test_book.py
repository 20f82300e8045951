"""The live quote book: what replaces what, what leaves, and what a chain made from it holds."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.conventions import Instants
from calib.quotes.book import Book, Taken
from calib.quotes.chain import Chain, chain_at
from calib.quotes.labels import Labels
from calib.quotes.reasons import Reason
from calib.quotes.table import QuoteTable, validated
from calib.quotes.venue_book import MOST_EXPIRIES

START = np.datetime64("2026-03-02T08:00:00", "us")
NEAR = np.datetime64("2026-03-27T08:00:00", "us")
FAR = np.datetime64("2026-06-26T08:00:00", "us")
Row = tuple[float, str, float, float]  # strike, right, bid, ask


def seconds(count: float) -> np.timedelta64:
    return np.timedelta64(round(count * 1e6), "us")


def table(
    rows: list[Row],
    *,
    at: float | list[float] = 0.0,
    expiry: np.datetime64 = NEAR,
    venue: str = "deribit",
    forward: float = float("nan"),
    spot: float = float("nan"),
) -> QuoteTable:
    offsets = at if isinstance(at, list) else [at] * len(rows)
    size = len(rows)
    return validated(
        quote_time=np.array([START + seconds(offset) for offset in offsets], "datetime64[us]"),
        venue=Labels.constant(venue, size),
        underlying=Labels.constant("BTC", size),
        expiry=np.full(size, expiry),
        strike=np.array([row[0] for row in rows], float),
        right=Labels.of([row[1] for row in rows]),
        unit=Labels.constant("inverse", size),
        bid=np.array([row[2] for row in rows], float),
        ask=np.array([row[3] for row in rows], float),
        forward=np.full(size, forward),
        spot=np.full(size, spot),
    )


def take(book: Book, rows: list[Row], *, complete: bool = False, **how: object) -> Taken:
    quotes = table(rows, **how)  # type: ignore[arg-type]
    return book.take(quotes, venue=str(how.get("venue", "deribit")), snapshot_complete=complete)


def quoted(book: Book) -> dict[tuple[float, int], tuple[float, float, Reason]]:
    chain = book.chain()
    if chain is None:
        return {}
    q = chain.quotes
    return {
        (float(q.strike[i]), int(q.right[i])): (
            float(q.bid[i]),
            float(q.ask[i]),
            Reason(int(q.reason[i])),
        )
        for i in range(len(q))
    }


def reasons(taken: Taken) -> list[Reason]:
    return [Reason(int(code)) for code in taken.reason]


def the_chain(book: Book) -> Chain:
    chain = book.chain()
    assert chain is not None
    return chain


def test_nothing_comes_out_before_a_full_chain_has_ended() -> None:
    book = Book("BTC")
    assert not take(book, [(100.0, "C", 1.0, 2.0)]).changed
    assert book.chain() is None
    assert take(book, [(110.0, "C", 0.5, 0.6)], complete=True).changed
    assert set(quoted(book)) == {(100.0, 1), (110.0, 1)}


def test_a_row_replaces_the_last_one_of_its_option_and_no_other() -> None:
    book = Book("BTC")
    take(book, [(100.0, "C", 1.0, 2.0), (100.0, "P", 3.0, 4.0)], complete=True)
    assert take(book, [(100.0, "C", 1.1, 1.9)], at=1.0).changed
    assert quoted(book) == {
        (100.0, 1): (1.1, 1.9, Reason.USABLE),
        (100.0, 2): (3.0, 4.0, Reason.USABLE),
    }
    assert the_chain(book).quote_time == START + seconds(1)


def test_an_empty_side_withdraws_that_side_and_two_empty_sides_the_option() -> None:
    book = Book("BTC")
    take(book, [(100.0, "C", 1.0, 2.0), (110.0, "C", 1.0, 2.0)], complete=True)
    taken = take(book, [(100.0, "C", np.nan, 2.0), (110.0, "C", 0.0, np.nan)], at=1.0)
    assert reasons(taken) == [Reason.USABLE, Reason.USABLE]
    held = quoted(book)
    assert np.isnan(held[100.0, 1][0])
    assert held[100.0, 1][1:] == (2.0, Reason.USABLE)
    assert held[110.0, 1][2] is Reason.NO_QUOTE


def test_an_older_row_is_out_of_order_and_an_equally_old_one_is_not() -> None:
    book = Book("BTC")
    take(book, [(100.0, "C", 1.0, 2.0), (110.0, "C", 1.0, 2.0)], at=5.0, complete=True)
    taken = take(book, [(100.0, "C", 9.0, 9.5), (110.0, "C", 1.5, 2.0)], at=[4.0, 5.0])
    assert reasons(taken) == [Reason.OUT_OF_ORDER, Reason.USABLE]
    assert quoted(book)[100.0, 1][:2] == (1.0, 2.0)
    assert quoted(book)[110.0, 1][:2] == (1.5, 2.0)


def test_within_a_batch_the_last_row_wins_unless_it_is_older() -> None:
    book = Book("BTC")
    rows = [(100.0, "C", float(i), float(i) + 1.0) for i in range(1, 5)]
    taken = take(book, rows, at=[0.0, 2.0, 1.0, 2.0], complete=True)
    assert reasons(taken) == [Reason.USABLE, Reason.USABLE, Reason.OUT_OF_ORDER, Reason.USABLE]
    assert quoted(book)[100.0, 1][:2] == (4.0, 5.0)


def test_a_thousand_rows_of_one_option_leave_one() -> None:
    book = Book("BTC")
    rows = [(100.0, "C", 1.0 + i / 1000.0, 3.0) for i in range(1000)]
    assert set(reasons(take(book, rows, complete=True))) == {Reason.USABLE}
    assert quoted(book) == {(100.0, 1): (1.999, 3.0, Reason.USABLE)}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ((100.0, "C", -1.0, 2.0), Reason.BAD_PRICE),
        ((100.0, "C", 1.0, np.inf), Reason.BAD_PRICE),
        ((100.0, "C", 3.0, 2.0), Reason.CROSSED),
    ],
)
def test_an_unusable_row_ends_the_quote_that_it_would_have_replaced(
    row: Row, reason: Reason
) -> None:
    book = Book("BTC")
    take(book, [(100.0, "C", 1.0, 2.0)], complete=True)
    assert reasons(take(book, [row], at=1.0)) == [reason]
    assert quoted(book)[100.0, 1][2] is reason
    take(book, [(100.0, "C", 1.2, 1.8)], at=2.0)
    assert quoted(book)[100.0, 1] == (1.2, 1.8, Reason.USABLE)


@pytest.mark.parametrize("strike", [np.nan, np.inf, -5.0, 0.0])
def test_a_row_that_names_no_option_changes_nothing_and_good_rows_beside_it_go_through(
    strike: float,
) -> None:
    book = Book("BTC")
    take(book, [(100.0, "C", 1.0, 2.0)], complete=True)
    taken = take(
        book, [(strike, "C", 1.0, 2.0), (100.0, "X", 1.0, 2.0), (100.0, "C", 1.1, 2.0)], at=1.0
    )
    assert reasons(taken) == [Reason.BAD_STRIKE, Reason.BAD_RIGHT, Reason.USABLE]
    assert quoted(book) == {(100.0, 1): (1.1, 2.0, Reason.USABLE)}


def test_the_end_of_a_chain_withdraws_what_it_did_not_name() -> None:
    book = Book("BTC")
    take(book, [(100.0, "C", 1.0, 2.0), (110.0, "C", 1.0, 2.0)], complete=True)
    take(book, [(120.0, "C", 1.0, 2.0)], at=1.0)
    assert set(quoted(book)) == {(100.0, 1), (110.0, 1), (120.0, 1)}
    assert take(book, [(100.0, "C", 1.0, 2.0)], at=2.0, complete=True).changed
    assert set(quoted(book)) == {(100.0, 1), (120.0, 1)}


def test_an_empty_batch_may_end_a_chain() -> None:
    book = Book("BTC")
    take(book, [(100.0, "C", 1.0, 2.0)])
    assert take(book, [], complete=True).changed
    assert set(quoted(book)) == {(100.0, 1)}
    assert take(book, [], complete=True).changed
    assert book.chain() is None


def test_the_same_batch_again_changes_nothing() -> None:
    book = Book("BTC")
    rows = [(100.0, "C", 1.0, 2.0), (110.0, "C", np.nan, 2.0)]
    assert take(book, rows, complete=True, forward=105.0).changed
    assert not take(book, rows, complete=True, forward=105.0).changed
    assert take(book, rows, complete=True, forward=105.5).changed
    assert take(book, rows, complete=True, forward=105.5, at=1.0).changed


def test_prices_moved_when_the_last_row_that_changed_one_says() -> None:
    book = Book("BTC")
    take(book, [(100.0, "C", 1.0, 2.0), (110.0, "C", 1.0, np.nan)], at=1.0, complete=True)

    def moved() -> np.timedelta64:
        return np.datetime64(book.venues["deribit"].moved, "us") - START

    assert moved() == seconds(1)
    take(book, [(100.0, "C", 1.0, 2.0), (110.0, "C", 1.0, np.nan)], at=5.0)
    assert moved() == seconds(1)
    take(book, [(100.0, "C", 1.0, 2.1), (110.0, "C", 1.0, np.nan)], at=[6.0, 8.0])
    assert moved() == seconds(6)
    take(book, [(100.0, "C", 1.0, 2.1), (120.0, "C", 1.0, 2.0)], at=[8.0, 7.0])
    assert moved() == seconds(7)  # an option that is new


def test_old_quotes_are_marked_stale_by_quote_time() -> None:
    book = Book("BTC", timedelta(seconds=60))
    take(book, [(100.0, "C", 1.0, 2.0), (110.0, "C", 1.0, 2.0)], complete=True)
    take(book, [(100.0, "C", 1.0, 2.0)], at=60.0)
    assert {row[2] for row in quoted(book).values()} == {Reason.USABLE}
    take(book, [(100.0, "C", 1.0, 2.0)], at=60.000001)
    assert quoted(book)[110.0, 1][2] is Reason.STALE
    assert quoted(book)[100.0, 1][2] is Reason.USABLE


def test_expired_options_leave_and_the_rest_stays() -> None:
    book = Book("BTC")
    soon = START + seconds(10)
    take(book, [(100.0, "C", 1.0, 2.0)], expiry=soon, forward=101.0)
    take(book, [(100.0, "C", 3.0, 4.0)], expiry=FAR, forward=102.0, complete=True)
    assert len(the_chain(book).quotes) == 2
    take(book, [(100.0, "P", 3.0, 4.0)], expiry=FAR, at=10.0, forward=103.0)
    quotes = the_chain(book).quotes
    assert len(quotes) == 2
    assert (quotes.expiry == FAR).all()
    assert (quotes.forward == 103.0).all()
    taken = take(book, [(100.0, "C", 1.0, 2.0)], expiry=soon, at=11.0)
    assert reasons(taken) == [Reason.EXPIRED]
    assert len(the_chain(book).quotes) == 2


def test_levels_leave_with_their_expiry_where_no_chain_was_ever_ended_too() -> None:
    book = Book("BTC")
    soon = START + seconds(10)

    def tick(at: float, expiry: np.datetime64) -> None:
        forward = np.array([100.0])
        book.tick(
            venue="ticks",
            quote_time=START + seconds(at),
            expiry=np.array([expiry]),
            forward=forward,
        )

    tick(0.0, soon)
    tick(0.0, FAR)
    take(book, [(100.0, "C", 1.0, 2.0)], expiry=FAR, at=11.0, complete=True)
    the_chain(book)
    assert set(book.venues["ticks"].levels().forwards) == {int(FAR.astype(np.int64))}


def test_expiries_are_counted_without_those_that_are_over() -> None:
    book = Book("BTC")
    expiries = START + np.arange(1, MOST_EXPIRIES + 1) * np.timedelta64(1, "s")

    def tick(at: float, expiry: Instants) -> None:
        forward = np.full(len(expiry), 100.0)
        book.tick(venue="a", quote_time=START + seconds(at), expiry=expiry, forward=forward)

    tick(0.0, expiries)
    venue = book.venues["a"]
    known, new = expiries.astype(np.int64), np.array([int(FAR.astype(np.int64))])
    assert venue.expiries_with(known) == MOST_EXPIRIES
    assert venue.expiries_with(new) == MOST_EXPIRIES + 1
    tick(10.0, expiries[-1:])
    assert venue.expiries_with(new) == MOST_EXPIRIES - 10 + 1
    assert len(venue.levels().forwards) == MOST_EXPIRIES  # to look changes nothing
    tick(10.0, expiries[-1:])
    assert len(venue.levels().forwards) == MOST_EXPIRIES - 10


def test_what_is_missing_is_counted_since_the_last_full_chain() -> None:
    book = Book("BTC")

    def hear(number: int, *, whole: bool) -> int:
        quotes = table([(100.0, "C", 1.0, 2.0)])
        book.take(quotes, venue="a", sequence=number, snapshot_begin=whole, snapshot_complete=whole)
        return book.venues["a"].missing

    assert hear(1, whole=True) == 0
    assert hear(4, whole=False) == 2
    assert hear(6, whole=False) == 3
    assert hear(7, whole=True) == 0
    assert hear(9, whole=False) == 1
    assert hear(1, whole=False) == 0
    assert book.venues["a"].sequence.missed == 4


_Message = tuple[list[tuple[int, str, float]], str, bool, bool]
"""Rows (strike, what they are, time), the step of the count, and the marks of a chain."""

_MESSAGES = st.lists(
    st.tuples(
        st.lists(
            st.tuples(
                st.integers(1, 4),
                st.sampled_from(["good", "crossed", "withdrawn", "bad price", "over", "nameless"]),
                st.floats(0.0, 3.0),
            ),
            max_size=5,
        ),
        st.sampled_from(["next", "next", "next", "gap", "again", "first", "uncounted"]),
        st.booleans(),
        st.booleans(),
    ),
    max_size=12,
)


@given(_MESSAGES)
def test_who_applies_what_is_accepted_and_what_is_withdrawn_holds_what_the_book_does(
    messages: list[_Message],
) -> None:
    book, number = Book("BTC"), 0
    held: dict[tuple[float, int], tuple[float, float]] = {}
    prices = {"crossed": (3.0, 2.0), "withdrawn": (np.nan, np.nan), "bad price": (-1.0, 2.0)}
    for price, (rows, step, begin, complete) in enumerate(messages, 1):
        number = {"next": number + 1, "gap": number + 3, "first": 1}.get(step, number)
        quotes = table(
            [
                (
                    np.nan if kind == "nameless" else float(strike),
                    "C",
                    *prices.get(kind, (float(price), price + 1.0)),
                )
                for strike, kind, _ in rows
            ],
            at=[1e9 if kind == "over" else 60.0 * price + at for _, kind, at in rows],
        )
        taken = book.take(
            quotes,
            venue="a",
            sequence=0 if step == "uncounted" else number,
            snapshot_begin=begin,
            snapshot_complete=complete,
        )
        told = [quotes.take(taken.reason == Reason.USABLE)]
        if taken.withdrawn is not None:
            assert set(taken.withdrawn.reason) == {Reason.NO_QUOTE}
            told.append(taken.withdrawn)
        for part in told:
            for i in range(len(part)):
                key = float(part.strike[i]), int(part.right[i])
                held.pop(key, None)
                if not np.isnan(part.bid[i]):
                    held[key] = float(part.bid[i]), float(part.ask[i])
        stands = book.venues["a"].rows("a", "BTC")
        stands = stands.take(stands.usable)
        keys = zip(stands.strike.tolist(), stands.right.tolist(), strict=True)
        standing = zip(stands.bid.tolist(), stands.ask.tolist(), strict=True)
        assert held == dict(zip(keys, standing, strict=True))


def test_what_is_withdrawn_says_when_and_in_what_unit() -> None:
    book = Book("BTC")
    take(book, [(strike, "P", 1.0, 2.0) for strike in (100.0, 110.0, 120.0)], complete=True)
    assert take(book, [(100.0, "P", 1.5, 2.5)], at=1.0).withdrawn is None
    crossed = take(book, [(110.0, "P", 3.0, 2.0)], at=2.0).withdrawn
    assert take(book, [(110.0, "P", 3.0, 2.0)], at=3.0).withdrawn is None  # it was told
    take(book, [(100.0, "P", 1.5, 2.5)], at=4.0, complete=True)  # since the first chain
    take(book, [(100.0, "P", 1.5, 2.5), (130.0, "P", 1.5, 2.5)], at=[4.0, 5.0], complete=True)
    over = take(book, [(100.0, "P", 1.5, 2.5)], at=4.5, complete=True).withdrawn
    for told, strikes, at in ((crossed, [110.0], 2.0), (over, [130.0], 5.0)):
        assert told is not None
        assert told.strike.tolist() == strikes
        assert told.quote_time.tolist() == [(START + seconds(at)).item()]
        assert told.unit_text.texts() == ["inverse"]
        assert (told.right_text.texts(), told.expiry.tolist()) == (["P"], [NEAR.item()])
        assert np.isnan(np.concatenate([told.bid, told.ask, told.forward, told.spot])).all()


def test_what_a_new_count_forgets_is_withdrawn_as_of_its_own_time() -> None:
    """So that it stands in a recording when it is told again with that time."""
    book = Book("BTC")
    rows = table([(100.0, "P", 1.0, 2.0), (110.0, "P", 1.0, 2.0)], at=[1.0, 5.0])
    book.take(rows, venue="deribit", sequence=7, snapshot_complete=True)
    told = book.take(rows.take(np.arange(0)), venue="deribit", sequence=1).withdrawn
    assert told is not None
    assert dict(zip(told.strike.tolist(), told.quote_time, strict=True)) == {
        100.0: START + seconds(1.0),
        110.0: START + seconds(5.0),
    }


def test_a_row_from_the_future_is_refused_and_moves_no_clock() -> None:
    book = Book("BTC")
    take(book, [(100.0, "C", 1.0, 2.0)], complete=True)
    quotes = table([(100.0, "C", 5.0, 6.0), (110.0, "C", 5.0, 6.0)], at=[86_400.0, 1.0])
    taken = book.take(quotes, venue="deribit", latest=START + seconds(2))
    assert reasons(taken) == [Reason.AHEAD_OF_CLOCK, Reason.USABLE]
    assert the_chain(book).quote_time == START + seconds(1)


def test_standing_quotes_are_read_under_the_latest_forward_and_spot() -> None:
    book = Book("BTC")
    rows = [(100.0, "C", 1.0, 2.0), (110.0, "C", 1.0, 2.0)]
    take(book, rows, forward=100.0, spot=99.0, complete=True)
    take(book, [(110.0, "C", 1.0, 2.0)], at=1.0, forward=101.0, spot=99.5)
    quotes = the_chain(book).quotes
    assert quotes.forward.tolist() == [101.0, 101.0]
    assert quotes.spot.tolist() == [99.5, 99.5]
    expiry, forward = np.array([NEAR]), np.array([104.0])
    tick = book.tick(
        venue="deribit", quote_time=START + seconds(2), expiry=expiry, forward=forward, spot=103.0
    )
    assert tick.reason.tolist() == [0, 0]
    quotes = the_chain(book).quotes
    assert quotes.forward.tolist() == [104.0, 104.0]
    assert quotes.spot.tolist() == [103.0, 103.0]
    assert the_chain(book).quote_time == START + seconds(1)  # no quote is younger than that


def test_forwards_of_one_moment_keep_their_differences() -> None:
    book = Book("BTC")
    take(book, [(100.0, "C", 1.0, 2.0)], forward=100.0)
    take(book, [(110.0, "C", 1.0, 2.0)], forward=100.2, complete=True)
    assert the_chain(book).quotes.forward.tolist() == [100.0, 100.2]


@pytest.mark.parametrize(
    ("expiry", "forward", "spot", "expected"),
    [
        (NEAR, np.nan, None, [Reason.BAD_FORWARD]),
        (NEAR, -1.0, 100.0, [Reason.BAD_FORWARD, Reason.USABLE]),
        (NEAR, 100.0, np.inf, [Reason.USABLE, Reason.BAD_SPOT]),
        (np.datetime64("NaT", "us"), 100.0, None, [Reason.BAD_EXPIRY]),
        (START - seconds(1), 100.0, 0.0, [Reason.EXPIRED, Reason.BAD_SPOT]),
    ],
)
def test_a_bad_level_is_refused_by_name(
    expiry: np.datetime64, forward: float, spot: float | None, expected: list[Reason]
) -> None:
    reason = Book("BTC").tick(
        venue="deribit",
        quote_time=START,
        expiry=np.array([expiry]),
        forward=np.array([forward]),
        spot=spot,
    )
    assert [Reason(int(code)) for code in reason.reason] == expected


def test_an_older_level_is_out_of_order() -> None:
    book = Book("BTC")
    take(book, [(100.0, "C", 1.0, 2.0)], at=5.0, forward=100.0, spot=100.0, complete=True)
    reason = book.tick(
        venue="deribit",
        quote_time=START,
        expiry=np.array([NEAR]),
        forward=np.array([90.0]),
        spot=90.0,
    )
    assert reason.reason.tolist() == [Reason.OUT_OF_ORDER, Reason.OUT_OF_ORDER]
    assert the_chain(book).quotes.forward.tolist() == [100.0]


def test_levels_say_how_far_forwards_moved() -> None:
    book = Book("BTC")
    near, far = int(NEAR.astype(np.int64)), int(FAR.astype(np.int64))
    take(book, [(100.0, "C", 1.0, 2.0)], forward=100.0, spot=50.0)
    take(book, [(100.0, "C", 1.0, 2.0)], expiry=FAR, spot=50.0, complete=True)
    before = book.levels()
    book.tick(
        venue="deribit",
        quote_time=START + seconds(1),
        expiry=np.array([NEAR]),
        forward=np.array([101.0]),
        spot=51.0,
    )
    now = book.levels()
    assert now.spot == 51.0
    assert now.moved_since(before, near) == pytest.approx(1.01, rel=1e-14)
    assert now.moved_since(before, far) == pytest.approx(1.02, rel=1e-14)  # follows the spot
    assert before.moved_since(before, near) == 1.0


def test_venues_stand_side_by_side_and_only_complete_ones_count() -> None:
    book = Book("BTC")
    take(book, [(100.0, "C", 1.0, 2.0)], complete=True)
    take(book, [(100.0, "C", 1.2, 1.8)], venue="okx", at=1.0)
    assert the_chain(book).quotes.venue.texts() == ["deribit"]
    take(book, [], venue="okx", complete=True)
    quotes = the_chain(book).quotes
    assert quotes.venue.texts() == ["deribit", "okx"]
    assert quotes.bid.tolist() == [1.0, 1.2]


def test_a_chain_does_not_change_when_the_book_does() -> None:
    book = Book("BTC")
    take(book, [(100.0, "C", 1.0, 2.0)], forward=100.0, complete=True)
    chain = the_chain(book)
    take(book, [(100.0, "C", 1.5, 1.6)], forward=101.0, at=1.0, complete=True)
    assert chain.quotes.bid.tolist() == [1.0]
    assert chain.quotes.forward.tolist() == [100.0]
    assert chain.quotes.quote_time.tolist() == [START.astype(object)]


ROWS = st.lists(
    st.tuples(
        st.sampled_from([90.0, 100.0, 110.0, np.nan]),
        st.sampled_from(["C", "P"]),
        st.sampled_from([np.nan, 0.0, 1.0, 1.5, -1.0]),
        st.sampled_from([np.nan, 1.2, 2.0, np.inf]),
    ),
    max_size=12,
)


@given(st.lists(ROWS, min_size=1, max_size=6))
def test_batches_in_order_give_the_chain_of_the_joined_table(batches: list[list[Row]]) -> None:
    """What the book holds is what the table of all rows would hold, option by option."""
    book = Book("BTC")
    for i, rows in enumerate(batches):
        book.take(table(rows, at=float(i)), venue="deribit")
    take(book, [], complete=True)
    rows = [row for batch in batches for row in batch]
    times = [float(i) for i, batch in enumerate(batches) for _ in batch]
    whole = chain_at(table(rows, at=times), "BTC", START + seconds(len(batches)))
    q = whole.quotes
    # chain_at marks the replaced rows DUPLICATE, so that of each option the last one decides.
    last = {
        (float(q.strike[i]), int(q.right[i])): Reason(int(q.reason[i]))
        for i in range(len(q))
        if Reason(int(q.reason[i])) is not Reason.BAD_STRIKE
    }
    assert {key: row[2] for key, row in quoted(book).items()} == last
