"""Counts of messages: what is missing, what is repeated, and what a book makes of either."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from calib.quotes.book import Book
from calib.quotes.reasons import Reason
from calib.quotes.sequence import Sequence, Step
from tests.quotes.test_book import START, seconds, table

NUMBERS = st.lists(st.integers(0, 9), max_size=20)


@given(NUMBERS)
def test_every_number_is_new_or_a_repeat_and_every_hole_is_counted_once(numbers: list[int]) -> None:
    count, missed, repeated, restarts = Sequence(), 0, 0, 0
    heard: list[int] = []
    for number in numbers:
        count, step = count.heard(number)
        if number == 0:
            assert step is Step.NEXT
        elif number == 1 and heard:
            assert step is Step.RESTART
            heard, restarts = [1], restarts + 1
        elif heard and number <= max(heard):
            assert step is Step.REPEAT
            repeated += 1
        else:
            hole = number - max(heard) - 1 if heard else 0
            assert step is (Step.GAP if hole else Step.NEXT)
            missed += hole
            heard.append(number)
        assert count == Sequence(max(heard, default=0), missed, repeated, restarts)


@dataclass(frozen=True)
class Sent:
    """A message: its number, when it was stamped, its rows (strike and bid), and what of a chain it
    begins or ends."""

    number: int
    at: int
    rows: tuple[tuple[int, int], ...] = ()
    begin: bool = False
    complete: bool = False


@dataclass
class Model:
    """A book of one venue as the protocol has it, in plain words."""

    last: int = 0
    rows: dict[int, tuple[int, int]] = field(default_factory=dict)
    named: set[int] = field(default_factory=set)
    has_say: bool = False
    whole: bool = True

    def take(self, message: Sent) -> list[Reason]:
        number = message.number
        if number == 1 and self.last > 0:
            self.rows, self.named, self.has_say, self.whole = {}, set(), False, True
        elif 0 < number <= self.last:
            return [Reason.REPEATED] * len(message.rows)
        elif 0 < self.last < number - 1:
            self.has_say = self.whole = False
        self.last = number or self.last
        if message.begin:
            self.named, self.whole = set(), True
        reasons = []
        for strike, bid in message.rows:
            self.named.add(strike)
            late = strike in self.rows and self.rows[strike][0] > message.at
            reasons.append(Reason.OUT_OF_ORDER if late else Reason.USABLE)
            if not late:
                self.rows[strike] = (message.at, bid)
        if message.complete:
            if self.whole:
                self.rows = {one: row for one, row in self.rows.items() if one in self.named}
                self.has_say = True
            self.named, self.whole = set(), True
        return reasons


MESSAGES = st.lists(
    st.builds(
        Sent,
        number=st.integers(0, 6),
        at=st.integers(0, 5),
        rows=st.lists(
            st.tuples(st.integers(90, 94), st.integers(1, 5)), max_size=4, unique_by=lambda r: r[0]
        ).map(tuple),
        begin=st.booleans(),
        complete=st.booleans(),
    ),
    max_size=12,
)


@given(MESSAGES)
@example([Sent(1, 0, ((90, 1), (91, 1)), complete=True), Sent(3, 1, ((90, 2),), complete=True)])
@example([Sent(2, 0, ((90, 1),), complete=True), Sent(1, 1, ((91, 2),), True, True)])
def test_a_book_is_what_its_rules_say(messages: list[Sent]) -> None:
    """Order, gaps, repeats, restarts and chains in any succession, against a model of the rules."""
    book, model = Book("BTC"), Model()
    for message in messages:
        rows = [(float(strike), "C", float(bid), 9.0) for strike, bid in message.rows]
        taken = book.take(
            table(rows, at=float(message.at)),
            venue="deribit",
            sequence=message.number,
            snapshot_begin=message.begin,
            snapshot_complete=message.complete,
        )
        before = model.last
        assert [Reason(int(code)) for code in taken.reason] == model.take(message)
        assert taken.incomplete is not model.has_say
        hole = message.number - before - 1 if before and message.number > before else 0
        assert taken.missed == hole
        chain = book.chain()
        if not model.has_say or not model.rows:
            assert chain is None
            assert not model.has_say or book.venues["deribit"].size == 0
            continue
        assert chain is not None
        q = chain.quotes
        held = {
            int(strike): (int((time - START) / seconds(1)), int(bid))
            for strike, time, bid in zip(q.strike, q.quote_time, q.bid, strict=True)
        }
        assert held == model.rows


@given(MESSAGES)
def test_a_message_that_changes_a_chain_says_so(messages: list[Sent]) -> None:
    book = Book("BTC")
    before = None
    for message in messages:
        rows = [(float(strike), "C", float(bid), 9.0) for strike, bid in message.rows]
        taken = book.take(
            table(rows, at=float(message.at)),
            venue="deribit",
            sequence=message.number,
            snapshot_begin=message.begin,
            snapshot_complete=message.complete,
        )
        chain = book.chain()
        held = None if chain is None else (chain.quotes.strike.tolist(), chain.quotes.bid.tolist())
        if held != before:
            assert taken.changed
        before = held


def test_what_is_lost_of_a_venue_takes_it_out_of_the_chain_and_leaves_the_others() -> None:
    book = Book("BTC")
    rows = [(100.0, "C", 1.0, 2.0), (110.0, "C", 1.0, 2.0)]
    for venue in ("deribit", "okx"):
        quotes = table(rows, venue=venue, forward=105.0)
        book.take(quotes, venue=venue, sequence=1, snapshot_complete=True)
    late = table(rows[:1], at=1.0)
    taken = book.take(late, venue="deribit", sequence=4)
    assert (taken.missed, taken.incomplete, taken.changed) == (2, True, True)
    chain = book.chain()
    assert chain is not None
    assert set(chain.quotes.venue.texts()) == {"okx"}
    assert set(book.levels().venues) == {"okx"}
    # The chain that ends now may lack what was lost; only the next one is whole.
    assert book.take(late, venue="deribit", sequence=5, snapshot_complete=True).incomplete
    whole = book.take(table(rows, at=2.0), venue="deribit", sequence=6, snapshot_complete=True)
    assert not whole.incomplete
    chain = book.chain()
    assert chain is not None
    assert chain.quotes.venue.texts() == ["deribit", "deribit", "okx", "okx"]


def test_a_tick_and_a_heartbeat_count_like_a_batch() -> None:
    book = Book("BTC")
    rows = [(100.0, "C", 1.0, 2.0)]
    book.take(table(rows), venue="deribit", sequence=1, snapshot_complete=True)
    nothing = np.empty(0, "datetime64[us]"), np.empty(0)

    def tick(number: int) -> tuple[int, bool, list[int]]:
        taken = book.tick(
            venue="deribit",
            quote_time=START + seconds(1),
            expiry=nothing[0],
            forward=nothing[1],
            spot=100.0,
            sequence=number,
        )
        return taken.missed, taken.incomplete, taken.reason.tolist()

    assert tick(2) == (0, False, [0])
    assert tick(2) == (0, False, [Reason.REPEATED])
    beat = book.beat(venue="deribit", time=START + seconds(2), sequence=3)
    assert (beat.missed, beat.reason.tolist()) == (0, [0])
    assert tick(5) == (1, True, [0])


def test_a_heartbeat_makes_no_quote_younger() -> None:
    book = Book("BTC")
    book.take(table([(100.0, "C", 1.0, 2.0)]), venue="deribit", snapshot_complete=True)
    time = START + seconds(100)
    assert not book.beat(venue="deribit", time=time).changed
    assert book.beat(venue="deribit", time=time, latest=START).reason.tolist() == [
        Reason.AHEAD_OF_CLOCK
    ]
    chain = book.chain()
    assert chain is not None
    assert chain.quote_time == START
    assert book.venues["deribit"].alive == int(time.astype(np.int64))
