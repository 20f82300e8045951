"""Quotes as they are taken, told on the wire: all of what is accepted, in order, or an end."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration

from calib.client import Client
from calib.errors import Unavailable
from calib.quotes.reasons import Reason
from calib.quotes.table import QuoteTable, joined
from calib.service.conversion import batches_of, quotes_of, with_rows
from calib.service.engine import Engine
from calib.service.quote_watch import standing_quotes
from calib.service.refusals import Interrupted, Overloaded
from calib.service.server import Running
from calib.service.tape import Selection, Tape
from calib.surface.messages import timestamp
from calib.v1 import quote_service_pb2, quotes_pb2
from tests.jobs.recorded import said
from tests.service.calls import Stubs, ending, refused
from tests.service.conftest import Start, serving
from tests.service.processes import eventually
from tests.service.samples import START, at_time, micros, smile_quotes
from tests.service.test_watch import NARROW

Watch = quote_service_pb2.WatchQuotesRequest
Event = quote_service_pb2.WatchQuotesResponse
Call = grpc.aio.UnaryStreamCall[Watch, Event]


class Site:
    """A server, its client and raw stubs of it."""

    def __init__(self, server: Running, client: Client, stubs: Stubs) -> None:
        self.server, self.client, self.stubs = server, client, stubs

    async def publish(self, *tables: QuoteTable) -> None:
        for table in tables:
            await self.client.publish(table, snapshot_complete=False)

    async def send(self, table: QuoteTable, **fields: Any) -> None:
        """One message, with what else it says."""
        ((batch, _),) = batches_of(table)
        for name, value in fields.items():
            setattr(batch, name, value)
        request = quote_service_pb2.PublishQuoteBatchRequest(quotes=batch)
        await self.stubs.quotes.PublishQuoteBatch(request)

    async def watch(self, **wishes: Any) -> tuple[Call, list[Event]]:
        """A watch, and what stood when it began, with its end."""
        call = self.stubs.quotes.WatchQuotes(Watch(**wishes))
        events = await heard(call, 1)
        while not events[-1].HasField("standing_end"):
            events += await heard(call, 1)
        return call, events


async def heard(call: Call, events: int) -> list[Event]:
    found: list[Event] = []
    while len(found) < events:
        response = await asyncio.wait_for(call.read(), 10.0)
        assert isinstance(response, Event)
        if not response.HasField("heartbeat"):
            found.append(response)
    return found


def rows(events: Iterable[Event]) -> list[tuple[str, ...]]:
    """All that these say of quotes, in no order."""
    return said(joined([told(one) for one in events]))


def told(event: Event) -> QuoteTable:
    if event.HasField("taken"):
        return quotes_of(event.taken.batch)
    return spotted(event.standing)


def spotted(standing: quote_service_pb2.StandingQuotes) -> QuoteTable:
    assert not standing.batch.HasField("spot")
    return replace(quotes_of(standing.batch), spot=np.array(standing.spot))


def applied(events: Iterable[Event], held: dict[Any, Any] | None = None) -> dict[Any, Any]:
    """What a reader holds that puts each row in the place of the last one of its option."""
    held = {} if held is None else held
    for event in events:
        quotes = told(event)
        options = zip(
            quotes.venue.texts(),
            quotes.expiry.tolist(),
            quotes.strike.tolist(),
            quotes.right.tolist(),
            strict=True,
        )
        for i, option in enumerate(options):
            held.pop(option, None)
            if quotes.reason[i] != Reason.NO_QUOTE:
                held[option] = said(quotes.take(np.array([i])))
    return held


def marks(events: Iterable[Event]) -> list[tuple[int, bool, bool]]:
    """How many rows, and whether a chain begins and ends with them."""
    batches = [one.taken.batch for one in events]
    return [(len(one.strike), one.snapshot_begin, one.snapshot_complete) for one in batches]


def at(seconds: float, underlying: str = "BTC", **more: Any) -> QuoteTable:
    """The same options as ever, seen so many seconds later."""
    return at_time(smile_quotes(underlying, **more), START + micros(timedelta(seconds=seconds)))


@pytest_asyncio.fixture
async def site(start: Start) -> AsyncIterator[Site]:
    server, client = await start()
    async with grpc.aio.insecure_channel(server.address, options=NARROW) as channel:
        yield Site(server, client, Stubs(channel))


async def test_what_stands_is_told_first_and_then_what_is_taken(site: Site) -> None:
    first, second = at(0, venue="a"), at(1, venue="b", vol=0.5)
    await site.publish(at(-1, venue="a"), first, second)
    call, standing = await site.watch()
    assert rows(standing[:-1]) == said(joined([first, second]))
    assert standing[-1].standing_end.row_count == 90
    assert {one.epoch for one in standing} == {site.server.hub.epoch}
    later = [at(2, venue="b"), at(2, "ETH"), at(3, venue="a")]
    await site.publish(*later)
    events = await heard(call, 3)
    for event, table in zip(events, later, strict=True):
        ((batch, _),) = batches_of(table)
        assert event.taken.batch == batch  # the very message
        assert event.taken.HasField("receive_time")
    stamps = [one.taken.receive_time.ToNanoseconds() for one in events]
    assert stamps == sorted(stamps)


async def test_rows_stand_as_they_came_whatever_later_levels_say(site: Site) -> None:
    chain = smile_quotes()
    await site.publish(chain)
    await site.client.publish_levels(
        "BTC", venue="test", quote_time=START + micros(timedelta(seconds=1)), spot=71_000.0
    )
    # Three options were told under another spot: a batch has one.
    some = replace(at(2).take(np.arange(3)), spot=np.full(3, 72_000.0))
    await site.publish(some)
    _, standing = await site.watch()
    assert rows(standing[:-1]) == said(joined([some, chain.take(np.arange(3, 45))]))


async def test_only_accepted_rows_are_told_and_withdrawals_are_among_them(site: Site) -> None:
    call, _ = await site.watch()
    chain = smile_quotes()
    bid, ask = chain.bid.copy(), chain.ask.copy()
    bid[4], (bid[7], ask[7]) = 2.0, (np.nan, np.nan)  # crossed, withdrawn
    await site.publish(replace(chain, bid=bid, ask=ask))
    (event,) = await heard(call, 1)
    told = replace(chain, bid=bid, ask=ask).take(np.arange(45) != 4)
    assert rows([event]) == said(told)
    _, standing = await site.watch()
    assert rows(standing[:-1]) == said(told)


async def test_nothing_is_told_of_what_is_refused_as_a_whole(site: Site) -> None:
    call, _ = await site.watch()
    chain = smile_quotes()
    async with site.client.publisher() as publisher:
        await publisher.send(chain, snapshot_complete=False)
    async with grpc.aio.insecure_channel(site.server.address) as channel:
        ((batch, _),) = batches_of(at(1))
        batch.sequence = 1
        nameless = quote_service_pb2.PublishQuoteBatchRequest(quotes=batch)
        nameless.quotes.venue = " "
        nameless.quotes.snapshot_complete = True
        await Stubs(channel).quotes.PublishQuoteBatch(nameless)
        number = quote_service_pb2.PublishQuoteBatchRequest(quotes=batch)
        number.quotes.sequence = 5
        await Stubs(channel).quotes.PublishQuoteBatch(number)
        await Stubs(channel).quotes.PublishQuoteBatch(number)  # a repeat
        ended = quote_service_pb2.PublishQuoteBatchRequest()
        ended.quotes.venue, ended.quotes.underlying = "test", "BTC"
        ended.quotes.snapshot_complete = True
        await Stubs(channel).quotes.PublishQuoteBatch(ended)  # of what, with messages missing?
    await site.publish(at(2))
    events = await heard(call, 3)
    assert rows(events[:1]) == said(chain)
    assert [one.taken.batch.sequence for one in events] == [1, 5, 0]
    assert marks(events) == [(45, False, False)] * 3


async def test_a_reader_holds_what_the_server_does_whatever_ended_it(site: Site) -> None:
    chain = smile_quotes()
    await site.send(chain, snapshot_begin=True, snapshot_complete=True, sequence=1)
    call, standing = await site.watch()
    held = applied(standing[:-1])
    assert len(held) == 45
    crossed = replace(at(2).take(np.arange(20)), bid=np.full(20, 9.0))
    whole = {"snapshot_begin": True, "snapshot_complete": True}
    steps: list[tuple[QuoteTable, dict[str, Any], list[tuple[int, bool, bool]], int]] = [
        # A chain names five options less.
        (
            at(1).take(np.arange(40)),
            whole | {"sequence": 2},
            [(40, True, False), (5, False, True)],
            40,
        ),
        # Prices that are known to be wrong, and an exercise that is refused.
        (crossed, {"sequence": 3}, [(20, False, False)], 20),
        (at(3).take(np.arange(25)), {"sequence": 4, "exercise": 2}, [(5, False, False)], 15),
        # Messages are missing: the chain says nothing about what it does not name.
        (
            at(4).take(np.arange(5)),
            {"sequence": 9, "snapshot_complete": True},
            [(5, False, False)],
            20,
        ),
        # The count begins again, with five of the options.
        (at(-9, days=(30,)), {"sequence": 1}, [(15, False, False), (15, False, False)], 15),
    ]
    for table, fields, expected, count in steps:
        await site.send(table, **fields)
        events = await heard(call, len(expected))
        assert marks(events) == expected
        _, now = await site.watch()
        assert applied(events, held) == applied(now[:-1])
        assert len(held) == count


async def test_a_heartbeat_that_begins_the_count_again_withdraws_all(site: Site) -> None:
    await site.send(at(0), sequence=7)
    call, standing = await site.watch()
    beat = quotes_pb2.VenueHeartbeat(
        venue="test", underlying="BTC", heartbeat_time=timestamp(START), sequence=1
    )
    request = quote_service_pb2.PublishQuoteBatchRequest(heartbeat=beat)
    await site.stubs.quotes.PublishQuoteBatch(request)
    events = await heard(call, 1)
    assert marks(events) == [(45, False, False)]
    assert applied(events, applied(standing[:-1])) == {}


async def test_a_chain_that_messages_are_missing_of_is_not_told_to_end(site: Site) -> None:
    call, _ = await site.watch()
    for number in (1, 3, 4):
        await site.send(at(number), sequence=number, snapshot_complete=True)
    events = await heard(call, 3)
    assert [one.taken.batch.snapshot_complete for one in events] == [True, False, True]
    assert rows(events) == said(joined([at(1), at(3), at(4)]))


async def test_a_chain_of_which_rows_came_too_late_is_not_told_to_end(site: Site) -> None:
    call, _ = await site.watch()
    newer, older, after = at(5).take(np.arange(3)), at(1), at(6)
    await site.send(newer)
    await site.send(older.take(np.arange(20)), snapshot_begin=True)  # three of them are late
    await site.send(older.take(np.arange(20, 45)), snapshot_complete=True)
    await site.send(after, snapshot_complete=True)
    assert marks(await heard(call, 4)) == [
        (3, False, False),
        (17, True, False),
        (25, False, False),
        (45, False, True),
    ]


async def test_a_watch_that_opens_amid_a_chain_is_not_told_that_it_ends(site: Site) -> None:
    early, _ = await site.watch()
    table = smile_quotes()
    await site.send(table.take(np.arange(30)), snapshot_begin=True)
    late, _ = await site.watch()
    await site.send(table.take(np.arange(30, 45)), snapshot_complete=True)
    await site.send(at(1), snapshot_complete=True)  # begins where the last one ended
    assert marks(await heard(early, 3)) == [(30, True, False), (15, False, True), (45, False, True)]
    assert marks(await heard(late, 2)) == [(15, False, False), (45, False, True)]


async def test_what_stood_is_let_go_of_when_it_was_told(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[weakref.ref[QuoteTable]] = []
    told_by = Engine.standing

    def standing(engine: Engine, wanted: Any) -> list[QuoteTable]:
        tables = told_by(engine, wanted)
        seen.extend(weakref.ref(one) for one in tables)
        return tables

    monkeypatch.setattr(Engine, "standing", standing)
    await site.publish(at(0, venue="a"), at(0, venue="b"))
    _call, _ = await site.watch()
    gc.collect()
    assert [one() for one in seen] == [None, None]


async def test_a_reader_that_falls_behind_what_stands_is_told_so_at_once(start: Start) -> None:
    server, client = await start(max_waiting_rows=50, write_timeout=30.0)
    async with grpc.aio.insecure_channel(server.address, options=NARROW) as channel:
        site = Site(server, client, Stubs(channel))
        await site.publish(smile_quotes(strikes=10_000))
        call = site.stubs.quotes.WatchQuotes(Watch())
        value = server.meters.registry.get_sample_value
        await eventually(lambda: value("calib_quote_watches") == 1.0)
        for second in range(3):
            await site.publish(at(second))
        seen: list[Event] = []
        refusal = await asyncio.wait_for(ending(call, seen.append), 20.0)
    assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not any(one.HasField("standing_end") for one in seen)


async def test_a_large_message_is_told_in_parts_that_make_it_up(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calib.service.quote_service._ROWS_A_TURN", 20)
    call, _ = await site.watch()
    table = smile_quotes()
    ((batch, _),) = batches_of(table, snapshot_complete=True)
    request = quote_service_pb2.PublishQuoteBatchRequest(quotes=batch)
    await site.stubs.quotes.PublishQuoteBatch(request)
    events = await heard(call, 3)
    assert rows(events) == said(table)
    assert marks(events) == [(20, True, False), (20, False, False), (5, False, True)]


async def test_only_what_is_asked_for_is_told(site: Site) -> None:
    await site.publish(at(0, "BTC", venue="a"), at(0, "ETH", venue="a"), at(0, "BTC", venue="b"))
    call, standing = await site.watch(underlyings=["BTC"], venues=["b"])
    told_of = [one.standing.batch for one in standing[:-1]]
    assert [(one.venue, one.underlying) for one in told_of] == [("b", "BTC")]
    await site.publish(at(1, "BTC", venue="a"), at(1, "ETH", venue="b"), at(1, "BTC", venue="b"))
    (event,) = await heard(call, 1)
    assert (event.taken.batch.venue, event.taken.batch.underlying) == ("b", "BTC")


async def test_heartbeats_tell_the_clock_of_a_quiet_server(site: Site) -> None:
    call, _ = await site.watch(heartbeat_interval=Duration(nanos=100_000_000))
    response: Any = await asyncio.wait_for(call.read(), 10.0)
    assert response.heartbeat.HasField("server_time")


@pytest.mark.parametrize(
    ("wishes", "field"),
    [
        ({"underlyings": ["BTC", ""]}, "underlyings"),
        ({"venues": ["x"] * 10_001}, "venues"),
        ({"heartbeat_interval": Duration()}, "heartbeat_interval"),
    ],
)
async def test_what_makes_no_sense_is_named(site: Site, wishes: dict[str, Any], field: str) -> None:
    with refused() as refusal:
        await site.stubs.quotes.WatchQuotes(Watch(**wishes)).read()
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, [field])


async def test_a_reader_that_is_too_slow_is_told_so_and_begins_anew(start: Start) -> None:
    server, client = await start(max_waiting_rows=500, write_timeout=30.0)
    async with grpc.aio.insecure_channel(server.address, options=NARROW) as channel:
        site = Site(server, client, Stubs(channel))
        call, _ = await site.watch()
        quick, _ = await site.watch()
        for second in range(200):
            await site.publish(at(second, strikes=30))
            (event,) = await heard(quick, 1)  # others go on
        seen: list[Event] = []
        refusal = await asyncio.wait_for(ending(call, seen.append), 20.0)
        assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refusal.retry_seconds == 1.0
        assert len(seen) < 190
        _, standing = await site.watch()
        assert rows(standing[:-1]) == rows([event])


async def test_a_server_that_goes_down_tells_all_that_it_took_before() -> None:
    seen: list[Event] = []
    stack = AsyncExitStack()
    server = await stack.enter_async_context(serving())
    async with grpc.aio.insecure_channel(server.address) as channel:
        stubs = Stubs(channel)
        call = stubs.quotes.WatchQuotes(Watch())
        assert (await heard(call, 1))[0].HasField("standing_end")
        for second in range(50):
            ((batch, _),) = batches_of(at(second))
            request = quote_service_pb2.PublishQuoteBatchRequest(quotes=batch)
            await stubs.quotes.PublishQuoteBatch(request)
        told = asyncio.create_task(ending(call, seen.append))
        await stack.aclose()
        refusal = await asyncio.wait_for(told, 20.0)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
    assert len([one for one in seen if one.HasField("taken")]) == 50


async def test_what_is_being_taken_when_a_server_goes_down_is_told_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("calib.service.quote_service._ROWS_A_TURN", 10)
    stack, seen = AsyncExitStack(), list[Event]()
    server = await stack.enter_async_context(serving())
    async with grpc.aio.insecure_channel(server.address) as channel:
        stubs = Stubs(channel)
        call = stubs.quotes.WatchQuotes(Watch())
        assert (await heard(call, 1))[0].HasField("standing_end")
        ((batch, _),) = batches_of(smile_quotes(strikes=2_000))
        request = quote_service_pb2.PublishQuoteBatchRequest(quotes=batch)
        taking = asyncio.ensure_future(published(stubs, request))
        seen += await heard(call, 1)
        told = asyncio.create_task(ending(call, seen.append))
        await stack.aclose()
        refusal = await asyncio.wait_for(told, 20.0)
        ack = await taking
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
    assert ack.accepted_rows == 6_000
    assert sum(len(one.taken.batch.strike) for one in seen) == 6_000


async def published(
    stubs: Stubs, request: quote_service_pb2.PublishQuoteBatchRequest
) -> quote_service_pb2.QuoteAck:
    return (await stubs.quotes.PublishQuoteBatch(request)).ack


async def test_watches_are_counted_and_limited(start: Start) -> None:
    server, client = await start(max_watches=1)
    async with grpc.aio.insecure_channel(server.address) as channel:
        site = Site(server, client, Stubs(channel))
        await site.watch()
        with refused() as refusal:
            await site.stubs.quotes.WatchQuotes(Watch()).read()
        assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        value = server.meters.registry.get_sample_value
        await eventually(lambda: value("calib_quote_watches") == 1.0)


def test_what_stands_is_told_in_few_messages_however_many_spots_there_are() -> None:
    table = smile_quotes(strikes=2_001)
    reason = np.zeros(len(table), np.int8)
    reason[::9], reason[1::9] = Reason.CROSSED, Reason.NO_QUOTE
    spot = np.where(np.arange(len(table)) % 5, 70_000.0 + np.arange(len(table)), np.nan)
    table = replace(table, reason=reason, spot=spot)
    messages = list(standing_quotes(table))
    assert [len(one.batch.strike) for one in messages] == [5_000, 336]
    told = table.take(reason != Reason.CROSSED)
    assert said(joined([spotted(one) for one in messages])) == said(told)
    assert list(standing_quotes(table.take(np.arange(0)))) == []


def batch_of(size: int) -> Any:
    ((batch, _),) = batches_of(smile_quotes().take(np.arange(size)))
    return batch


async def test_a_queue_holds_so_many_rows_or_one_message() -> None:
    tape = Tape("e", max_rows=10)
    with tape.reading(Selection()) as reader, tape.reading(Selection(venues=frozenset("x"))):
        tape.put(batch_of(30), START)  # alone it may be larger
        assert tape.waiting_rows == 30
        assert await reader.take(1.0) is not None
        for _ in range(2):
            tape.put(batch_of(5), START)
        assert tape.waiting_rows == 10
        tape.put(batch_of(1), START)
        assert tape.waiting_rows == 0  # nothing is kept for who will not have it
        with pytest.raises(Overloaded, match="more than 10 rows"):
            await reader.take(1.0)
    assert tape.readers == 0


async def test_what_a_message_takes_counts_where_its_rows_are_few() -> None:
    tape, batch = Tape("e", max_rows=150), batch_of(1)
    batch.expiries.extend(batch.expiries[:1] * 1_000)
    with tape.reading(Selection()) as reader:
        for _ in range(2):
            tape.put(batch, START)
        with pytest.raises(Overloaded, match="more than 150 rows"):
            await reader.take(1.0)
    assert list(with_rows(batch, [0]).expiries) == list(batch.expiries[:1])


def test_rows_keep_their_expiries_when_others_are_left_out() -> None:
    ((batch, _),) = batches_of(table := smile_quotes())
    rows = [44, 3, 16]
    assert said(quotes_of(with_rows(batch, rows))) == said(table.take(np.array(rows)))
    rows = [44, 3]
    chosen = with_rows(batch, rows)
    assert len(chosen.expiries) == 2
    assert said(quotes_of(chosen)) == said(table.take(np.array(rows)))


async def test_what_waits_is_told_before_the_end() -> None:
    tape = Tape("e")
    with tape.reading(Selection()) as reader:
        tape.put(batch_of(5), START)
        tape.close(lambda: Interrupted("SHUTTING_DOWN", "over"))
        tape.put(batch_of(5), START)
        assert await reader.take(1.0) is not None
        with pytest.raises(Unavailable, match="over"):
            await reader.take(1.0)
