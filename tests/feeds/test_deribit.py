"""The Deribit feed against a loopback exchange: forms of messages, faults, and what arrives."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import isfinite, isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import calib
from calib.client.retrying import Backoff
from calib.errors import InvalidRequest
from calib.feeds.deribit import DeribitFeed, DeribitSettings
from calib.feeds.deribit.feed import Update
from calib.feeds.deribit.instrument import Instrument
from calib.feeds.deribit.pump import pump
from calib.feeds.deribit.quote import Quote
from calib.jobs.quote_source import QuoteSource
from calib.jobs.recorder import Recorder
from calib.quotes.chain import chains
from calib.service.server import running
from calib.service.settings import ServiceSettings
from tests.feeds.exchange import Exchange, Listed, days_since, exchange, listed, recorded
from tests.market.shared_tables import NAMES, needs_tables, shared_chains

FAST: dict[str, Any] = {
    "collect_seconds": 0.02,
    "backoff": Backoff(0.02, 0.1, random.Random(1).random),
}


def settings(one: Exchange, **changes: Any) -> DeribitSettings:
    places = {"websocket": one.url, "rest": one.rest}
    return DeribitSettings(("BTC",), **{**places, **FAST, **changes})


class Heard:
    """The last price of every option that a feed told of, and how many updates there were."""

    def __init__(self) -> None:
        self.prices: dict[tuple[np.datetime64, float, str], tuple[float, float]] = {}
        self.updates = 0

    def take(self, update: Update) -> None:
        self.updates += 1
        quotes = update.quotes
        if update.whole_chain:
            self.prices.clear()
        rights = quotes.right_text.texts()
        for i in range(len(quotes)):
            key = (quotes.expiry[i], quotes.strike[i], rights[i])
            self.prices[key] = (quotes.bid[i], quotes.ask[i])

    def agrees(self, options: dict[str, Listed]) -> bool:
        wanted = {
            (np.datetime64(o.expiry.replace(tzinfo=None), "us"), o.strike, o.right): (o.bid, o.ask)
            for o in options.values()
        }
        return self.prices.keys() == wanted.keys() and all(
            np.array_equal(self.prices[key], wanted[key], equal_nan=True) for key in wanted
        )


@asynccontextmanager
async def heard(feed: DeribitFeed) -> AsyncIterator[Heard]:
    found = Heard()

    async def listen() -> None:
        async for update in feed.updates():
            found.take(update)

    task = asyncio.create_task(listen())
    try:
        yield found
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Any, seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - on the state of two programs
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("BTC-27MAR26-70000-C", ("BTC", "2026-03-27T08:00", 70_000.0, "C", "inverse")),
        ("ETH-5JUN26-2400-P", ("ETH", "2026-06-05T08:00", 2_400.0, "P", "inverse")),
        ("XRP_USDC-27MAR26-2d35-P", ("XRP_USDC", "2026-03-27T08:00", 2.35, "P", "linear")),
    ],
)
def test_names_tell_the_option(name: str, expected: tuple[Any, ...]) -> None:
    one = Instrument.named(name)
    assert one is not None
    underlying, expiry, strike, right, unit = expected
    assert (one.underlying, one.strike, one.right, one.unit) == (underlying, strike, right, unit)
    assert one.expiry == np.datetime64(expiry, "us")


@pytest.mark.parametrize("name", ["BTC-PERPETUAL", "BTC-27MAR26", "BTC-99XYZ26-1-C", "", "X"])
def test_what_is_no_option_is_none(name: str) -> None:
    assert Instrument.named(name) is None


def test_the_instant_of_expiry_is_the_listed_one() -> None:
    row = {"instrument_name": "BTC-27MAR26-70000-C", "expiration_timestamp": 1774600200000}
    one = Instrument.listed(row)
    assert one is not None
    assert one.expiry == np.datetime64("2026-03-27T08:30", "us")
    assert Instrument.listed({**row, "is_active": False}) is None
    for none in (10**400, -1, True, "now"):
        named = Instrument.listed({**row, "expiration_timestamp": none})
        assert named == Instrument.named("BTC-27MAR26-70000-C")


def test_sides_that_are_not_there_are_absent_however_that_is_written() -> None:
    option = Instrument.named("BTC-10SEP25-106000-P")
    assert option is not None
    row = {"bid_price": None, "ask_price": 0.0001, "creation_timestamp": 1779460433267,
           "underlying_price": 76736.07, "underlying_index": "index_price"}  # fmt: skip
    summary = Quote.of_summary(option, row)
    assert summary is not None
    assert (isnan(summary.bid), summary.ask, summary.spot) == (True, 0.0001, 76736.07)
    ticker = Quote.of_ticker(
        option,
        {"timestamp": 1757433676689, "best_bid_price": 0.0, "best_ask_price": 0.0002,
         "best_bid_amount": 0.0, "best_ask_amount": 4.1, "bid_iv": 0.0, "ask_iv": 500.0,
         "mark_iv": 250.0, "estimated_delivery_price": "expired",
         "underlying_price": "expired", "index_price": 110881.2},
    )  # fmt: skip
    assert ticker is not None
    assert (isnan(ticker.bid), ticker.ask, ticker.ask_size) == (True, 0.0002, 4.1)
    assert (isnan(ticker.forward), ticker.spot) == (True, 110881.2)
    assert ticker.time == np.datetime64("2025-09-09T16:01:16.689", "us")
    after = ticker.after(replace(ticker, time=ticker.time - np.timedelta64(1, "s"), forward=9.0))
    assert after is not None
    assert after.forward == 9.0
    assert ticker.after(replace(ticker, time=ticker.time + np.timedelta64(1, "s"))) is None
    for nothing in (None, "now", True, -1, 1e12):
        assert Quote.of_ticker(option, {"timestamp": nothing}) is None


def test_numbers_that_are_none_are_absent() -> None:
    option = Instrument.named("BTC-10SEP25-106000-P")
    assert option is not None
    for none in (10**400, -(10**400), float("inf"), nan, True, "1"):
        ticker = Quote.of_ticker(option, {"timestamp": 1757433676689, "best_bid_price": none})
        assert ticker is not None
        assert isnan(ticker.bid)


def test_a_size_counts_while_its_price_does() -> None:
    option = Instrument.named("BTC-10SEP25-106000-P")
    assert option is not None
    ticker = {"timestamp": 1757433676689, "best_bid_price": 0.1, "best_ask_price": 0.2,
              "best_bid_amount": 3.0, "best_ask_amount": 4.0}  # fmt: skip
    summary = {"creation_timestamp": 1757433676690, "bid_price": 0.1, "ask_price": 0.3}
    first, second = Quote.of_ticker(option, ticker), Quote.of_summary(option, summary)
    assert second is not None
    after = second.after(first)
    assert after is not None
    assert (after.bid_size, isnan(after.ask_size)) == (3.0, True)


async def test_the_chain_comes_first_and_then_what_changes() -> None:
    async with exchange(listed()) as one:
        feed = DeribitFeed(settings(one))
        async with heard(feed) as found:
            await until(lambda: found.agrees(one.options))
            name = next(iter(one.options))
            await one.move(name, bid=0.011, ask=nan)
            await until(lambda: found.agrees(one.options))
            await until(lambda: one.answered_heartbeats >= 2)
        assert feed.counts.reconnects == 0
        assert feed.counts.garbage == 0


GARBAGE = ["{", "[]", "null", '{"method": "subscription"}', "7", "[" * 200_000, "9" * 5_000]


async def test_garbage_is_counted_when_it_comes_and_ends_nothing() -> None:
    async with exchange(listed()) as one:
        feed = DeribitFeed(settings(one))
        async with heard(feed) as found:
            await until(lambda: found.agrees(one.options))
            for text in GARBAGE:
                await one.say(text)
            await one.say(b"\x00\xff")
            await until(lambda: feed.counts.garbage == len(GARBAGE) + 1)
            await one.move(next(iter(one.options)), bid=0.011)
            await until(lambda: found.agrees(one.options))
        assert one.connections == 1


async def test_changes_come_while_the_chain_is_asked_for_again() -> None:
    async with exchange(listed()) as one:
        feed = DeribitFeed(settings(one, refresh_seconds=0.05))
        async with heard(feed) as found:
            await until(lambda: found.agrees(one.options))
            one.answering.clear()
            await asyncio.sleep(0.2)  # asked, and not answered
            chains_before = feed.counts.chains
            await one.move(next(iter(one.options)), bid=0.011)
            await until(lambda: found.agrees(one.options))
            assert feed.counts.chains == chains_before
            one.answering.set()
            await until(lambda: feed.counts.chains > chains_before)
        assert feed.counts.reconnects == 0


async def faults(
    one: Exchange, draw: random.Random, moves: int, around: Mapping[str, float] | None = None
) -> None:
    """A market that moves while everything goes wrong; asks stay ``around`` these, or wander."""
    names = list(one.options)
    for _ in range(moves):
        name = draw.choice(names)
        last = one.options[name]
        usual = around[name] if around else last.ask
        ask = usual * draw.uniform(0.9, 1.1) if isfinite(usual) else 0.05
        moved = await one.move(name, bid=nan if draw.random() < 0.2 else 0.9 * ask, ask=ask)
        match draw.randrange(12):
            case 0:
                await one.tell(moved)
            case 1:
                await one.tell(last)  # late
            case 2:
                await one.say(draw.choice(GARBAGE))
            case 3:
                await one.say(b"\x00\xff")
            case 4:
                unknown = replace(moved, name="BTC-1JAN30-1-C")
                await one.tell(unknown)
            case 5 if draw.random() < 0.3:
                await one.cut()
        await asyncio.sleep(0.002)


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_final_state_is_missed_whatever_goes_wrong(seed: int) -> None:
    async with exchange(listed()) as one:
        feed = DeribitFeed(settings(one))
        async with heard(feed) as found:
            await until(lambda: found.updates > 0)
            await faults(one, random.Random(seed), 300)
            await until(lambda: found.agrees(one.options))
        assert feed.counts.reconnects > 0
        assert feed.counts.older > 0
        assert feed.counts.garbage > 0
        assert one.connections > feed.counts.reconnects


@pytest.mark.real_data
@needs_tables
async def test_recorded_chains_come_through_as_they_were() -> None:
    name = next(name for name in NAMES if name.startswith("deribit"))
    first, second, *_ = (one for one in shared_chains(name) if one.underlying == "BTC")
    draw, later = random.Random(3), days_since(first)
    async with exchange(recorded(first, later)) as one:
        feed = DeribitFeed(settings(one))
        async with heard(feed) as found:
            await until(lambda: found.agrees(one.options))
            after = {
                name: to for name, to in recorded(second, later).items() if name in one.options
            }
            assert len(after) > 100
            for name, to in after.items():
                last = one.options[name]
                moved = await one.move(
                    name, bid=to.bid, ask=to.ask, forward=to.forward, index=to.index
                )
                match draw.randrange(40):
                    case 0:
                        await one.tell(moved)
                    case 1:
                        await one.tell(last)
                    case 2:
                        await one.say(draw.choice(GARBAGE))
                    case 3:
                        await one.cut()
                await asyncio.sleep(0.001)
            await until(lambda: found.agrees(one.options))
        assert feed.counts.reconnects > 0


async def test_options_that_appear_and_expire_are_followed() -> None:
    async with exchange(listed()) as one:
        feed = DeribitFeed(settings(one, refresh_seconds=0.2))
        async with heard(feed) as found:
            await until(lambda: found.agrees(one.options))
            first, *_, last = one.options.values()
            gone = [name for name, o in one.options.items() if o.expiry == first.expiry]
            for name in gone:
                del one.options[name]
            expiry = datetime(2027, 6, 25, 8, tzinfo=UTC)
            new = replace(last, name="BTC-25JUN27-100000-C", expiry=expiry, strike=1e5, right="C")
            one.options[new.name] = new
            await until(lambda: found.agrees(one.options))
            await one.move(new.name, bid=0.2, ask=0.21)
            await until(lambda: found.agrees(one.options))
        assert feed.counts.reconnects == 0


async def test_channels_that_are_refused_are_counted() -> None:
    async with exchange(listed()) as one:
        one.refuse_channels = 2
        feed = DeribitFeed(settings(one, refresh_seconds=0.05))
        async with heard(feed):
            await until(lambda: feed.counts.chains > 3)
            await one.cut()
            await until(lambda: one.connections == 2)
            before = feed.counts.chains
            await until(lambda: feed.counts.chains > before + 3)
        assert feed.counts.refused == 2
        assert one.asked_channels == 2 * len(one.options)  # once on each connection


async def test_rest_that_is_out_of_order_ends_no_connection() -> None:
    async with exchange(listed()) as one:
        feed = DeribitFeed(settings(one, refresh_seconds=0.05))
        async with heard(feed) as found:
            await until(lambda: feed.counts.chains > 1)
            one.failing = True
            await until(lambda: feed.counts.unanswered > 2)
            name = next(iter(one.options))
            await one.move(name, bid=0.0123)
            await until(lambda: found.agrees(one.options))
            before, one.failing = feed.counts.chains, False
            await until(lambda: feed.counts.chains > before + 1)
        assert (one.connections, feed.counts.reconnects) == (1, 0)


async def test_a_connection_begins_with_the_whole_chain_or_is_none() -> None:
    async with exchange(listed()) as one:
        one.failing = True
        feed = DeribitFeed(settings(one))
        async with heard(feed) as found:
            await until(lambda: one.failures > 1)
            assert (found.updates, feed.counts.unanswered) == (0, 0)
            one.failing = False
            await until(lambda: found.agrees(one.options))
        assert one.connections > 1


async def test_a_venue_that_is_not_there_is_tried_again() -> None:
    feed = DeribitFeed(
        DeribitSettings(("BTC",), "ws://127.0.0.1:9/ws", "http://127.0.0.1:9", **FAST)
    )
    async with heard(feed) as found:
        await asyncio.sleep(0.2)
    assert found.updates == 0


async def test_an_address_where_nothing_answers_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("calib.feeds.deribit.session._SILENCE_SECONDS", 0.05)
    callers = set()

    async def mute(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        callers.add(writer)

    async with await asyncio.start_server(mute, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        feed = DeribitFeed(DeribitSettings(("BTC",), f"ws://{host}:{port}/ws", **FAST))
        async with heard(feed):
            await until(lambda: len(callers) >= 2)
        for writer in callers:
            writer.close()


async def test_what_is_refused_for_ever_is_not_asked_again() -> None:
    async with exchange(listed()) as one:
        for feed, said in (
            (
                DeribitFeed(replace(settings(one), currencies=("XYZ",))),
                "of XYZ: refused: .*Invalid",
            ),
            (DeribitFeed(settings(one, rest="http://x:99999")), "is no address"),
            (
                DeribitFeed(replace(settings(one), websocket="wss://x..y/ws")),
                "no WebSocket address",
            ),
        ):
            with pytest.raises(InvalidRequest, match=said):
                await anext(feed.updates())


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"currencies": ()}, "currencies"), ({"collect_seconds": 0.0}, "collect_seconds")],
)
def test_settings_are_checked(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        DeribitSettings(**changes)


async def test_surfaces_come_of_it_and_a_server_that_was_away_has_the_chain_again(
    tmp_path: Path,
) -> None:
    def server(listen: str) -> ServiceSettings:
        return ServiceSettings(listen=listen, store=None, warm_up=False)

    async with exchange(listed()) as one:
        feed = DeribitFeed(settings(one))
        async with running(server("127.0.0.1:0")) as first:
            address = first.address
            client = calib.connect(address)
            async with client:
                pumping = asyncio.create_task(pump(feed, client))
                update = await anext(client.watch(["BTC"]))
                expiries = {o.expiry for o in one.options.values()}
                assert len(update.surface.expiries) == len(expiries)
        async with running(server(address)), calib.connect(address) as again:
            pumping.cancel()
            await asyncio.gather(pumping, return_exceptions=True)
            pumping = asyncio.create_task(pump(feed, again))
            later = await anext(again.watch(["BTC"]))
            assert later.epoch != update.epoch
            pumping.cancel()
            await asyncio.gather(pumping, return_exceptions=True)


async def test_what_is_recorded_is_a_quote_table(tmp_path: Path) -> None:
    async with exchange(listed(2)) as one:
        feed = DeribitFeed(
            DeribitSettings(("BTC", "ETH"), websocket=one.url, rest=one.rest, **FAST)
        )
        taken = set()
        with Recorder(tmp_path / "quotes") as recorder:
            async for update in feed.updates():
                recorder.take(update.quotes)
                taken.add(update.underlying)
                if len(taken) == 2:
                    break
    source = QuoteSource([str(tmp_path / "quotes")])
    assert {unit.underlying for unit in source.units} == {"BTC", "ETH"}
    found = 0
    for unit in source.units:
        quotes = source.quotes(unit)
        found += len(quotes)
        (chain, *_) = chains(quotes, every=timedelta(minutes=5))
        assert chain.underlying == unit.underlying
    assert found == recorder.rows == len(one.options)
