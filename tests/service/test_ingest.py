"""What a publisher is told: heartbeats, counts, clocks, bounds, and batches taken in parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from math import isnan
from pathlib import Path

import grpc
import numpy as np
import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp

from calib.conventions import NO_INSTANT, utc_now
from calib.errors import Unavailable
from calib.fitting.fit_value import Fit
from calib.quotes.reasons import Reason
from calib.quotes.venue_book import MOST_EXPIRIES
from calib.service.arrivals import Arrivals
from calib.service.conversion import batches_of
from calib.service.fit_thread import FitJob, fit_batch
from calib.store import open_store
from calib.store.assessments import Subject, of_subject
from calib.surface.messages import timestamp
from calib.v1 import model_risk_service_pb2, quote_service_pb2, quotes_pb2
from tests.service.calls import Stubs, counts, refused
from tests.service.conftest import Start
from tests.service.samples import START, at_time, smile_quotes

INVALID = grpc.StatusCode.INVALID_ARGUMENT
SECOND = np.timedelta64(1_000_000, "us")
DAY = 86_400 * SECOND


@pytest_asyncio.fixture
async def stubs(start: Start) -> AsyncIterator[Stubs]:
    server, _ = await start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield Stubs(channel)


async def beat(stubs: Stubs, **fields: object) -> quote_service_pb2.QuoteAck:
    message = quotes_pb2.VenueHeartbeat(**fields)  # type: ignore[arg-type]
    request = quote_service_pb2.PublishQuoteBatchRequest(heartbeat=message)
    return (await stubs.quotes.PublishQuoteBatch(request)).ack


async def sent(stubs: Stubs, batch: quotes_pb2.QuoteBatch) -> quote_service_pb2.QuoteAck:
    request = quote_service_pb2.PublishQuoteBatchRequest(quotes=batch)
    return (await stubs.quotes.PublishQuoteBatch(request)).ack


def chain(number: int = 0, *, strikes: int = 15, sequence: int = 0) -> quotes_pb2.QuoteBatch:
    quotes = smile_quotes(at=START + number * SECOND, strikes=strikes)
    ((batch, _),) = batches_of(quotes, snapshot_complete=True)
    batch.sequence = sequence
    return batch


async def test_a_heartbeat_is_one_row_and_says_what_is_wrong_with_it(stubs: Stubs) -> None:
    now = timestamp(utc_now())
    tomorrow = timestamp(utc_now() + 100_000 * SECOND)
    assert counts(await beat(stubs, heartbeat_time=now)) == {Reason.BAD_VENUE: 1}
    assert counts(await beat(stubs, venue="test")) == {Reason.BAD_QUOTE_TIME: 1}
    late = await beat(stubs, venue="test", heartbeat_time=tomorrow)
    assert counts(late) == {Reason.AHEAD_OF_CLOCK: 1}
    assert (late.rejected[0].column, late.rejected[0].value[-1]) == ("quote_time", "Z")
    broken = await beat(stubs, venue="test", heartbeat_time=Timestamp(seconds=10**15))
    assert counts(broken) == {Reason.BAD_QUOTE_TIME: 1}


async def test_a_heartbeat_tells_a_feed_that_the_server_knows_nothing_of_it(stubs: Stubs) -> None:
    now = timestamp(START)

    async def needed(underlying: str = "BTC") -> bool:
        ack = await beat(stubs, venue="test", underlying=underlying, heartbeat_time=now)
        assert (ack.accepted_rows, ack.rejected_rows) == (1, 0)
        return ack.snapshot_needed

    assert await needed()
    assert not (await sent(stubs, chain())).snapshot_needed
    assert not await needed()
    assert not await needed("")
    assert await needed("ETH")


@pytest.mark.parametrize("payload", ["quotes", "ticks", "heartbeat"])
async def test_a_negative_number_is_refused_by_name(stubs: Stubs, payload: str) -> None:
    request = quote_service_pb2.PublishQuoteBatchRequest()
    message = getattr(request, payload)
    message.venue, message.underlying, message.sequence = "test", "BTC", -3
    with refused() as refusal:
        await stubs.quotes.PublishQuoteBatch(request)
    assert (refusal.code, refusal.fields) == (INVALID, [f"{payload}.sequence"])
    assert "-3" in refusal.message


async def test_a_number_without_an_underlying_counts_nothing(stubs: Stubs) -> None:
    with refused() as refusal:
        await beat(stubs, venue="test", heartbeat_time=timestamp(START), sequence=4)
    assert (refusal.code, refusal.fields) == (INVALID, ["heartbeat.sequence"])


async def test_batches_ticks_and_heartbeats_share_one_count(stubs: Stubs) -> None:
    assert (await sent(stubs, chain(sequence=1))).sequence == 1
    ticks = quotes_pb2.TickBatch(
        venue="test", underlying="BTC", quote_time=timestamp(START), spot=70_000.0, sequence=2
    )
    request = quote_service_pb2.PublishQuoteBatchRequest(ticks=ticks)
    assert not (await stubs.quotes.PublishQuoteBatch(request)).ack.missed_count
    again = (await stubs.quotes.PublishQuoteBatch(request)).ack
    assert (again.repeated, counts(again)) == (True, {Reason.REPEATED: 1})
    now = timestamp(START)
    after = await beat(stubs, venue="test", underlying="BTC", heartbeat_time=now, sequence=5)
    assert (after.missed_count, after.snapshot_needed) == (2, True)
    healed = await sent(stubs, chain(1, sequence=6))
    assert (healed.missed_count, healed.snapshot_needed) == (0, False)


async def test_venues_of_an_underlying_are_bounded(start: Start) -> None:
    _, client = await start(max_venues=2)
    for venue in ("a", "b", "a"):
        await client.publish(smile_quotes(venue=venue))
    with pytest.raises(Unavailable, match="2 venues quote BTC already"):
        await client.publish(smile_quotes(venue="c"))
    await client.publish(smile_quotes("ETH", venue="c"))


async def test_options_of_a_venue_are_bounded(start: Start) -> None:
    _, client = await start(max_options=50)
    quotes = smile_quotes()
    for _ in range(2):  # the same 45 again
        assert (await client.publish(quotes)).accepted == 45
    with pytest.raises(Unavailable, match="test quotes 45 options of BTC, and more than 50"):
        await client.publish(smile_quotes(forward=71_000.0))
    assert (await client.publish(quotes)).accepted == 45


async def test_expiries_of_a_venue_are_bounded(start: Start) -> None:
    _, client = await start()
    quotes = smile_quotes()
    assert (await client.publish(quotes)).accepted == 45

    async def tick(first: int, count: int) -> None:
        days = np.arange(first, first + count) * np.timedelta64(86_400_000_000, "us")
        forwards = dict.fromkeys(START + days, 70_000.0)
        await client.publish_levels("BTC", venue="test", quote_time=START, forwards=forwards)

    await tick(1, MOST_EXPIRIES)
    await tick(1, MOST_EXPIRIES)  # the same again
    with pytest.raises(Unavailable, match="test would have 1001 expiries of BTC, more than 1000"):
        await tick(1 + MOST_EXPIRIES, 1)
    with pytest.raises(Unavailable, match="test would have 1001 expiries of BTC"):
        await client.publish(smile_quotes(days=(1 + MOST_EXPIRIES,)))
    assert (await client.publish(quotes)).accepted == 45
    # What is refused anyhow opens none, and ends no stream.
    over = smile_quotes(days=(-1,))
    nameless = replace(quotes, expiry=np.full(45, NO_INSTANT))
    early = at_time(smile_quotes(days=(1 + MOST_EXPIRIES,)), utc_now() + 2 * DAY)
    async with client.publisher() as publisher:
        for table, reason in (
            (over, Reason.EXPIRED),
            (nameless, Reason.BAD_EXPIRY),
            (early, Reason.AHEAD_OF_CLOCK),
        ):
            assert (await publisher.send(table)).reasons == {reason: len(table)}
    await client.publish_levels(
        "BTC", venue="test", quote_time=START + DAY, forwards={START: 70_000.0}
    )


async def test_a_large_batch_is_taken_in_parts_and_fitted_once(start: Start) -> None:
    fitted: list[int] = []

    def fitter(jobs: Sequence[FitJob]) -> list[Fit]:
        fitted.extend(len(job.chain.quotes) for job in jobs)
        return fit_batch([job for job in jobs if len(job.chain.quotes) < 100])

    server, _ = await start(fitter=fitter)
    async with grpc.aio.insecure_channel(server.address) as channel:
        stubs = Stubs(channel)
        batch = chain(strikes=4_000, sequence=1)
        batch.bid[11_999] = -1.0
        batch.bid[17] = -1.0
        ack = await sent(stubs, batch)
        assert (ack.accepted_rows, ack.snapshot_needed) == (11_998, False)
        assert [row.row for row in ack.rejected] == [17, 11_999]
        again = await sent(stubs, chain(strikes=4_000, sequence=1))
        assert (again.accepted_rows, again.repeated) == (12_000, False)  # 1 begins a new count
        await sent(stubs, chain(1, strikes=4_000, sequence=2))
        late = await sent(stubs, chain(2, strikes=4_000, sequence=2))
        assert (late.repeated, counts(late)) == (True, {Reason.REPEATED: 12_000})
        assert not late.snapshot_needed
        other = chain(3)
        other.venue = "other"  # has no rest of a repeat to wait for
        await sent(stubs, other)
        async with asyncio.timeout(30.0):
            while 12_045 not in fitted:  # noqa: ASYNC110 - a server tells nobody what it fits
                await asyncio.sleep(0.01)
    assert set(fitted) == {12_000, 12_045}


async def test_a_venue_s_clock_is_measured_and_shown(start: Start, tmp_path: Path) -> None:
    url = str(tmp_path / "calib.db")
    server, client = await start(store=url)
    for number in (0, 1):
        at = utc_now() + 300 * SECOND + number * SECOND
        await client.publish(smile_quotes(at=at))
        await anext(client.watch(["BTC"]))
    async with grpc.aio.insecure_channel(server.address) as channel:
        request = model_risk_service_pb2.GetModelRiskRequest(underlying="BTC")
        (venue,) = (await Stubs(channel).risks.GetModelRisk(request)).assessment.venues
    assert -302.0 < venue.offset_seconds < -280.0
    assert 0.0 <= venue.silent_seconds < 60.0
    assert isnan(venue.basis)
    assert isnan(venue.gap)
    assert (venue.venue, venue.left_out, venue.cause) == ("test", 0, "")
    assert server.writer is not None
    await asyncio.to_thread(server.writer.close, 10.0)
    with open_store(url) as store:
        kept = of_subject(store.metrics(underlying="BTC"), Subject.VENUE)
    assert set(kept.venue) == {"test"}
    assert kept.offset_seconds.between(-302.0, -280.0).all()


def test_the_least_lag_of_two_minutes_is_what_clocks_differ_by() -> None:
    arrivals = Arrivals()
    assert isnan(arrivals.offset_seconds)
    for second in range(240):
        lag = 3.0 + (second % 7) - (100.0 if second == 30 else 0.0)
        sent_at = START + second * SECOND - np.timedelta64(round(1e6 * lag), "us")
        arrivals = arrivals.with_message(float(second), START + second * SECOND, sent_at)
        # One stamp that was far out is forgotten after two minutes at most.
        if second == 40:
            assert arrivals.offset_seconds == -95.0
        if second >= 150:
            assert arrivals.offset_seconds == 3.0
    unstamped = arrivals.with_message(300.0, START, np.datetime64("NaT", "us"))
    assert (unstamped.heard_at, unstamped.offset_seconds) == (300.0, 3.0)
