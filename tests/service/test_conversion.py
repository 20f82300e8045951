"""Batches and acknowledgements: exact both ways, and nothing in a message can break the reader."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from calib.quotes.book import Book, Taken
from calib.quotes.labels import Labels
from calib.quotes.reasons import Reason
from calib.quotes.table import QuoteTable, joined, validated
from calib.service.conversion import (
    MOST_REJECTED_ROWS,
    MOST_ROWS,
    batches_of,
    quote_ack,
    quotes_of,
    tick_ack,
    ticks_of,
)
from calib.service.refusals import InvalidField
from calib.v1 import quotes_pb2
from tests.service.calls import counts
from tests.service.samples import START, smile_quotes

SECOND = np.timedelta64(1_000_000, "us")


def same(one: QuoteTable, other: QuoteTable) -> bool:
    """Equal rows; how their texts are coded does not matter."""
    for field in fields(QuoteTable):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, Labels):
            if [t.strip().lower() for t in a.texts()] != [t.strip().lower() for t in b.texts()]:
                return False
        elif not np.array_equal(a, b, equal_nan=a.dtype.kind in "fM"):
            return False
    return True


def batch(**changes: object) -> quotes_pb2.QuoteBatch:
    """One row that is fine, but for the changes."""
    values: dict[str, object] = {
        "venue": "test",
        "underlying": "BTC",
        "quote_time": Timestamp(seconds=1_772_438_400),
        "unit": quotes_pb2.UNIT_VOL,
        "expiries": [Timestamp(seconds=1_774_598_400)],
        "expiry_index": [0],
        "strike": [70_000.0],
        "right": [quotes_pb2.RIGHT_CALL],
        "bid": [0.5],
        "ask": [0.6],
    }
    return quotes_pb2.QuoteBatch(**(values | changes))  # type: ignore[arg-type]


def reasons(message: quotes_pb2.QuoteBatch) -> list[Reason]:
    return [Reason(int(code)) for code in quotes_of(message).reason]


def test_a_table_comes_back_as_it_was_sent() -> None:
    quotes = smile_quotes()
    ((message, rows),) = batches_of(quotes, snapshot_complete=True)
    assert rows.tolist() == list(range(len(quotes)))
    assert message.snapshot_complete
    assert same(quotes_of(message), quotes)


def test_a_mixed_table_is_cut_by_what_a_batch_says_once() -> None:
    parts = [
        smile_quotes("BTC"),
        smile_quotes("ETH", venue="other"),
        smile_quotes("BTC", at=START + SECOND),
        smile_quotes("BTC", venue="other"),
    ]
    quotes = joined(parts)
    sent = list(batches_of(quotes, snapshot_complete=True))
    assert [(m.underlying, m.venue) for m, _ in sent] == [
        ("BTC", "test"),
        ("BTC", "other"),
        ("ETH", "other"),
    ]
    assert all(message.snapshot_complete for message, _ in sent)
    assert sorted(row for _, rows in sent for row in rows.tolist()) == list(range(len(quotes)))
    for message, rows in sent:
        received = quotes_of(message)
        expected = quotes.take(rows)
        assert same(QuoteTable(**{**vars(received), "row": expected.row}), expected)


def test_a_table_larger_than_a_batch_ends_with_its_last_part() -> None:
    size = MOST_ROWS + 10
    quotes = validated(
        quote_time=np.full(size, START),
        venue=Labels.constant("test", size),
        underlying=Labels.constant("BTC", size),
        expiry=np.full(size, START + SECOND),
        strike=np.arange(1.0, size + 1.0),
        right=Labels.constant("C", size),
        unit=Labels.constant("vol", size),
        bid=np.full(size, 0.5),
        ask=np.full(size, 0.6),
    )
    sent = list(batches_of(quotes, snapshot_complete=True))
    assert [len(m.strike) for m, _ in sent] == [MOST_ROWS, 10]
    assert [m.snapshot_complete for m, _ in sent] == [False, True]


def test_rows_that_cannot_be_read_arrive_with_the_reason_that_they_left_with() -> None:
    size = 8
    quotes = validated(
        quote_time=np.array([START] * 7 + [np.datetime64("NaT")], "datetime64[us]"),
        venue=Labels.of(["test"] * 6 + [None, "test"]),
        underlying=Labels.constant("BTC", size),
        expiry=np.array([START + SECOND] * 5 + [np.datetime64("NaT")] + [START + SECOND] * 2),
        strike=np.array([1.0, 2.0, 3.0, np.inf, 5.0, 6.0, 7.0, 8.0]),
        right=Labels.of(["C", "X", "P", "C", "C", "C", "C", "C"]),
        unit=Labels.of(["vol", "vol", "points", "vol", "vol", "vol", "vol", "vol"]),
        exercise=Labels.of(["european"] * 4 + ["american"] + [None] * 3),
        bid=np.full(size, 0.5),
        ask=np.full(size, 0.6),
    )
    received = np.zeros(size, np.int8)
    for message, rows in batches_of(quotes):
        received[rows] = quotes_of(message).reason
    assert received.tolist() == quotes.reason.tolist()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"bid": []}, "quotes.bid"),
        ({"ask": [1.0, 2.0]}, "quotes.ask"),
        ({"right": []}, "quotes.right"),
        ({"expiry_index": [0, 0]}, "quotes.expiry_index"),
        ({"forward": [1.0, 2.0]}, "quotes.forward"),
        ({"bid_size": [1.0, 2.0]}, "quotes.bid_size"),
        ({"quote_time_offset_micros": [1, 2]}, "quotes.quote_time_offset_micros"),
        ({"strike": [1.0] * (MOST_ROWS + 1)}, "quotes.strike"),
        ({"expiries": [Timestamp(seconds=1)] * 1_001}, "quotes.expiries"),
    ],
)
def test_a_batch_that_cannot_be_read_as_a_whole_names_the_field(
    changes: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidField) as caught:
        quotes_of(batch(**changes))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, Reason.USABLE),
        ({"venue": ""}, Reason.BAD_VENUE),
        ({"venue": " "}, Reason.BAD_VENUE),
        ({"underlying": ""}, Reason.BAD_UNDERLYING),
        ({"quote_time": None}, Reason.BAD_QUOTE_TIME),
        ({"quote_time": Timestamp(seconds=2**60)}, Reason.BAD_QUOTE_TIME),
        ({"quote_time": Timestamp(seconds=1, nanos=-1)}, Reason.BAD_QUOTE_TIME),
        ({"quote_time_offset_micros": [2**63 - 1]}, Reason.BAD_QUOTE_TIME),
        ({"quote_time_offset_micros": [-(2**63)]}, Reason.BAD_QUOTE_TIME),
        ({"quote_time_offset_micros": [-5]}, Reason.USABLE),
        ({"expiry_index": [1]}, Reason.BAD_EXPIRY),
        ({"expiry_index": [-1]}, Reason.BAD_EXPIRY),
        ({"expiries": [Timestamp(seconds=-(2**62))]}, Reason.BAD_EXPIRY),
        ({"expiries": [Timestamp(seconds=1_772_438_400)]}, Reason.EXPIRED),
        ({"strike": [0.0]}, Reason.BAD_STRIKE),
        ({"right": [0]}, Reason.BAD_RIGHT),
        ({"right": [7]}, Reason.BAD_RIGHT),
        ({"unit": 0}, Reason.BAD_UNIT),
        ({"unit": 9}, Reason.BAD_UNIT),
        ({"exercise": 2}, Reason.AMERICAN_EXERCISE),
        ({"exercise": 9}, Reason.BAD_EXERCISE),
        ({"bid": [np.nan], "ask": [0.0]}, Reason.NO_QUOTE),
        ({"bid": [-0.1]}, Reason.BAD_PRICE),
        ({"ask": [np.inf]}, Reason.BAD_PRICE),
        ({"bid": [0.7]}, Reason.CROSSED),
        ({"bid_size": [-1.0]}, Reason.BAD_SIZE),
        ({"forward": [0.0]}, Reason.BAD_FORWARD),
        ({"spot": -1.0}, Reason.BAD_SPOT),
    ],
)
def test_what_is_wrong_within_a_row_rejects_that_row(
    changes: dict[str, object], reason: Reason
) -> None:
    assert reasons(batch(**changes)) == [reason]


def test_digits_below_the_microsecond_are_dropped() -> None:
    quotes = quotes_of(batch(quote_time=Timestamp(seconds=10, nanos=1_999)))
    assert quotes.quote_time.astype(np.int64).tolist() == [10_000_001]


def test_an_acknowledgement_counts_all_and_lists_the_first_thousand() -> None:
    size = 2 * MOST_REJECTED_ROWS
    message = batch(
        strike=[-1.0] * size,
        right=[1] * size,
        bid=[0.5] * size,
        ask=[0.6] * size,
        expiry_index=[0] * size,
    )
    quotes = quotes_of(message)
    ack = quote_ack(quotes, Taken(quotes.reason), 77)
    assert (ack.sequence, ack.accepted_rows, ack.rejected_rows) == (77, 0, size)
    assert counts(ack) == {Reason.BAD_STRIKE: size}
    assert [row.row for row in ack.rejected] == list(range(MOST_REJECTED_ROWS))
    first = ack.rejected[0]
    assert (first.column, first.value) == ("strike", "-1")
    assert "positive" in first.message


def test_a_tick_acknowledgement_names_forward_and_spot() -> None:
    message = quotes_pb2.TickBatch(
        venue="test",
        underlying="BTC",
        quote_time=Timestamp(seconds=100),
        expiries=[Timestamp(seconds=200), Timestamp(seconds=50)],
        forward=[-3.0, 5.0],
        spot=np.inf,
    )
    ticks = ticks_of(message)
    taken = Book("BTC").tick(
        venue="test",
        quote_time=ticks.quote_time,
        expiry=ticks.expiry,
        forward=ticks.forward,
        spot=ticks.spot,
    )
    ack = tick_ack(ticks, taken, 5)
    assert (ack.accepted_rows, ack.rejected_rows, ack.sequence) == (0, 3, 5)
    assert [(r.row, r.column, r.value) for r in ack.rejected] == [
        (0, "forward", "-3"),
        (1, "expiry", "1970-01-01T00:00:50Z"),
        (2, "spot", "inf"),
    ]


def test_a_tick_batch_of_unequal_columns_names_the_field() -> None:
    with pytest.raises(InvalidField) as caught:
        ticks_of(quotes_pb2.TickBatch(expiries=[Timestamp()], forward=[]))
    assert caught.value.field == "ticks.forward"


ODD = st.sampled_from([np.nan, np.inf, -np.inf, -1.0, 0.0, 5e-324, 1e308, 0.5, 0.6, 70_000.0])
WILD = st.builds(
    Timestamp,
    seconds=st.integers(-(2**63), 2**63 - 1),
    nanos=st.integers(-(2**31), 2**31 - 1),
)
STAMP = st.one_of(
    WILD, st.builds(Timestamp, seconds=st.integers(1_772_438_390, 1_772_438_410)), st.none()
)


@st.composite
def odd_batches(draw: st.DrawFn) -> quotes_pb2.QuoteBatch:
    rows = draw(st.integers(0, 6))

    def column(values: st.SearchStrategy[object], optional: bool = False) -> list[object]:
        sizes = [rows, 0] if optional else [rows]
        size = draw(st.sampled_from([*sizes * 6, rows + 1]))
        return draw(st.lists(values, min_size=size, max_size=size))

    return quotes_pb2.QuoteBatch(
        venue=draw(st.sampled_from(["test", "", " "])),
        underlying=draw(st.sampled_from(["BTC", ""])),
        quote_time=draw(STAMP),
        quote_time_offset_micros=column(st.integers(-(2**63), 2**63 - 1), True),  # type: ignore[arg-type]
        unit=draw(st.sampled_from([0, 1, 2, 3, 9, -1])),  # type: ignore[arg-type]
        exercise=draw(st.sampled_from([0, 1, 2, 9])),  # type: ignore[arg-type]
        expiries=[s for s in draw(st.lists(STAMP, max_size=3)) if s is not None],
        expiry_index=column(st.integers(-2, 4)),  # type: ignore[arg-type]
        strike=column(ODD),  # type: ignore[arg-type]
        right=column(st.sampled_from([0, 1, 2, 3, -7])),  # type: ignore[arg-type]
        bid=column(ODD),  # type: ignore[arg-type]
        ask=column(ODD),  # type: ignore[arg-type]
        bid_size=column(ODD, True),  # type: ignore[arg-type]
        ask_size=column(ODD, True),  # type: ignore[arg-type]
        forward=column(ODD, True),  # type: ignore[arg-type]
        spot=draw(st.one_of(st.none(), ODD)),
        snapshot_complete=draw(st.booleans()),
    )


@given(st.lists(odd_batches(), max_size=4))
def test_any_batch_is_taken_row_by_row_or_refused_by_field(
    messages: list[quotes_pb2.QuoteBatch],
) -> None:
    book = Book("BTC")
    for message in messages:
        try:
            quotes = quotes_of(message)
        except InvalidField:
            continue
        reason = quotes.reason
        if message.venue.strip() and message.underlying:
            reason = book.take(
                quotes,
                venue=message.venue,
                snapshot_complete=message.snapshot_complete,
                latest=START + SECOND,
            ).reason
        ack = quote_ack(quotes, Taken(reason), message.sequence)
        assert ack.accepted_rows + ack.rejected_rows == len(message.strike)
        assert sum(count.rows for count in ack.reject_counts) == ack.rejected_rows
        assert len(ack.rejected) == ack.rejected_rows
        assert all(row.message and row.reason for row in ack.rejected)
    chain = book.chain()
    if chain is not None:
        assert (chain.quotes.expiry > chain.quote_time).all()
        assert chain.quote_time <= START + SECOND
