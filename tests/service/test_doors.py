"""Malformed input at every door of the server: a clear refusal, and the server goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from calib.client import Client
from calib.errors import InvalidRequest, NotFitted
from calib.quotes.reasons import Reason
from calib.service.conversion import batches_of
from calib.v1 import (
    calibration_service_pb2,
    quote_service_pb2,
    quotes_pb2,
    surface_pb2,
    surface_service_pb2,
)
from tests.service.calls import Stubs, counts, refused
from tests.service.conftest import Start
from tests.service.samples import START, smile_quotes

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest_asyncio.fixture
async def doors(start: Start, tmp_path: Any) -> AsyncIterator[tuple[Stubs, Client]]:
    """Raw stubs of a server; whatever a test sent it, it still does its work afterwards."""
    server, client = await start(store=f"{tmp_path}/calib.db")
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield Stubs(channel), client
    await client.publish(smile_quotes("AFTER"))
    assert (await anext(client.watch(["AFTER"]))).surface.expiries


def good_batch(underlying: str = "BTC") -> quotes_pb2.QuoteBatch:
    ((batch, _),) = batches_of(smile_quotes(underlying), snapshot_complete=True)
    return batch


def publish(batch: quotes_pb2.QuoteBatch) -> quote_service_pb2.PublishQuoteBatchRequest:
    return quote_service_pb2.PublishQuoteBatchRequest(quotes=batch)


async def test_a_publication_without_payload(doors: tuple[Stubs, Client]) -> None:
    stubs, _ = doors
    with refused() as refusal:
        await stubs.quotes.PublishQuoteBatch(quote_service_pb2.PublishQuoteBatchRequest())
    assert (refusal.code, refusal.fields) == (INVALID, ["payload"])
    assert (refusal.reason, refusal.domain) == ("INVALID_FIELD", "calib")


async def test_columns_of_unequal_length(doors: tuple[Stubs, Client]) -> None:
    stubs, client = doors
    batch = good_batch()
    batch.bid.append(1.0)
    with refused() as refusal:
        await stubs.quotes.PublishQuoteBatch(publish(batch))
    assert (refusal.code, refusal.fields) == (INVALID, ["quotes.bid"])
    assert "46" in refusal.message
    assert "45" in refusal.message
    with pytest.raises(NotFitted):
        await client.get("BTC")


async def test_a_stream_acknowledges_up_to_the_bad_message(doors: tuple[Stubs, Client]) -> None:
    stubs, client = doors
    call = stubs.quotes.PublishQuotes()
    await call.write(quote_service_pb2.PublishQuotesRequest(quotes=good_batch()))
    first = await call.read()
    assert isinstance(first, quote_service_pb2.PublishQuotesResponse)
    assert first.ack.accepted_rows == 45
    with refused() as refusal:
        await call.write(quote_service_pb2.PublishQuotesRequest())
        await call.read()
    assert refusal.fields == ["payload"]
    assert (await anext(client.watch(["BTC"]))).surface.expiries


async def test_bytes_that_are_no_message(doors: tuple[Stubs, Client], start: Start) -> None:
    _, client = doors
    async with grpc.aio.insecure_channel(client.target) as channel:
        for method in (
            "QuoteService/PublishQuoteBatch",
            "CalibrationService/Calibrate",
            "SurfaceService/GetSurface",
        ):
            raw: Any = channel.unary_unary(f"/calib.v1.{method}")
            with refused() as refusal:
                await raw(b"\xff\xff\xff\xff garbage")
            assert refusal.code is not grpc.StatusCode.OK
            assert "Traceback" not in refusal.message


@pytest.mark.parametrize("letter", ["x", "é", "\U0001f4c8"])
async def test_a_name_that_is_longer_than_a_status(
    doors: tuple[Stubs, Client], letter: str
) -> None:
    stubs, _ = doors
    for length in (1_000, 9_000, 1_000_000):
        name = letter * length
        get = surface_service_pb2.GetSurfaceRequest(underlying=name)
        with refused() as refusal:
            await stubs.surfaces.GetSurface(get)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FITTED")
        assert letter * 200 in refusal.message
        batches = [quotes_pb2.QuoteBatch(underlying=one) for one in (name, "BTC")]
        with refused() as refusal:
            await stubs.calibration.Calibrate(
                calibration_service_pb2.CalibrateRequest(batches=batches)
            )
        assert (refusal.code, refusal.fields) == (INVALID, ["batches"])


async def test_a_message_over_the_limit(start: Start) -> None:
    server, _ = await start(max_message_bytes=65_536)
    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(server.address, options=options) as channel:
        batch = quotes_pb2.QuoteBatch(venue="x" * 100_000)
        with refused() as refusal:
            await Stubs(channel).quotes.PublishQuoteBatch(publish(batch))
        assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        await Stubs(channel).quotes.PublishQuoteBatch(publish(good_batch()))


async def test_an_empty_chain_publishes_nothing(doors: tuple[Stubs, Client]) -> None:
    stubs, client = doors
    batch = quotes_pb2.QuoteBatch(venue="test", underlying="BTC", snapshot_complete=True)
    answer = await stubs.quotes.PublishQuoteBatch(publish(batch))
    assert (answer.ack.accepted_rows, answer.ack.rejected_rows) == (0, 0)
    await asyncio.sleep(0.1)
    with pytest.raises(NotFitted):
        await client.get("BTC")


async def test_quotes_without_venue_or_underlying(doors: tuple[Stubs, Client]) -> None:
    stubs, _ = doors
    for name, reason in (("venue", Reason.BAD_VENUE), ("underlying", Reason.BAD_UNDERLYING)):
        batch = good_batch()
        batch.ClearField(name)  # type: ignore[arg-type]
        ack = (await stubs.quotes.PublishQuoteBatch(publish(batch))).ack
        assert counts(ack) == {reason: 45}
        tick = quotes_pb2.TickBatch(venue="v", underlying="u", spot=1.0)
        tick.ClearField(name)  # type: ignore[arg-type]
        request = quote_service_pb2.PublishQuoteBatchRequest(ticks=tick)
        ack = (await stubs.quotes.PublishQuoteBatch(request)).ack
        assert counts(ack) == {reason: 1}


async def test_nothing_but_unusable_prices(doors: tuple[Stubs, Client]) -> None:
    stubs, client = doors
    batch = good_batch()
    for i, price in enumerate([np.nan, np.inf, -np.inf, -1.0, 0.0] * 9):
        batch.bid[i] = batch.ask[i] = price
    ack = (await stubs.quotes.PublishQuoteBatch(publish(batch))).ack
    assert ack.accepted_rows == 18  # a nan or a zero withdraws
    assert counts(ack) == {Reason.BAD_PRICE: 27}
    await asyncio.sleep(0.1)
    with pytest.raises(NotFitted):
        await client.get("BTC")


async def test_expired_options(doors: tuple[Stubs, Client]) -> None:
    stubs, client = doors
    batch = good_batch()
    batch.quote_time.seconds += 365 * 86_400
    ack = (await stubs.quotes.PublishQuoteBatch(publish(batch))).ack
    assert set(counts(ack)) <= {Reason.EXPIRED, Reason.AHEAD_OF_CLOCK}
    assert ack.rejected_rows == 45
    with pytest.raises(NotFitted):
        await client.get("BTC")


async def test_quotes_from_the_future_do_not_poison_the_clock(
    doors: tuple[Stubs, Client],
) -> None:
    stubs, client = doors
    await stubs.quotes.PublishQuoteBatch(publish(good_batch()))
    ahead = good_batch()
    ahead.quote_time.seconds = 200_000_000_000
    ahead.expiries[0].seconds = 210_000_000_000
    ack = (await stubs.quotes.PublishQuoteBatch(publish(ahead))).ack
    assert counts(ack) == {Reason.AHEAD_OF_CLOCK: 45}
    assert (await anext(client.watch(["BTC"]))).quote_time == START


async def test_a_thousand_identical_strikes_and_a_single_one(
    doors: tuple[Stubs, Client],
) -> None:
    stubs, client = doors
    many = good_batch()
    near = list(many.expiry_index).index(0)
    for name in ("expiry_index", "strike", "right", "bid", "ask", "forward"):
        column = getattr(many, name)
        column.extend([column[near]] * 1_000)
    ack = (await stubs.quotes.PublishQuoteBatch(publish(many))).ack
    assert (ack.accepted_rows, ack.rejected_rows) == (1_045, 0)
    update = await anext(client.watch(["BTC"]))
    assert sum(e.diagnostics.quotes_used for e in update.surface.expiries) == 45
    single = await client.calibrate(smile_quotes(strikes=1, days=(30,)))
    assert single.surface is None
    assert [state.name for state in single.states] == ["TOO_FEW_QUOTES"]
    assert [Reason(int(code)) for code in single.residuals.reason] == [Reason.TOO_FEW_QUOTES]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (surface_service_pb2.GetSurfaceRequest(), "underlying"),
        (surface_service_pb2.GetSurfaceRequest(underlying="X", model=9), "model"),  # type: ignore[arg-type]
        (surface_service_pb2.EvaluateSurfaceRequest(), "underlying"),
        (surface_service_pb2.ListSurfacesRequest(page_size=-1), "page_size"),
        (surface_service_pb2.ListSurfacesRequest(model=77), "model"),  # type: ignore[arg-type]
        (surface_service_pb2.ListSurfacesRequest(page_token="!"), "page_token"),
        (surface_service_pb2.ListSurfacesRequest(page_token="W10="), "page_token"),
        (
            surface_service_pb2.ListSurfacesRequest(start_time=Timestamp(seconds=2**62)),
            "start_time",
        ),
        (
            surface_service_pb2.ListSurfacesRequest(
                start_time=Timestamp(seconds=2), end_time=Timestamp(seconds=1)
            ),
            "end_time",
        ),
        (surface_service_pb2.WatchSurfacesRequest(underlyings=["BTC", ""]), "underlyings"),
        (surface_service_pb2.WatchSurfacesRequest(underlyings=["x"] * 10_001), "underlyings"),
        (surface_service_pb2.WatchSurfacesRequest(models=[0]), "models"),  # type: ignore[list-item]
        (surface_service_pb2.WatchSurfacesRequest(models=[9]), "models"),  # type: ignore[list-item]
        (
            surface_service_pb2.WatchSurfacesRequest(heartbeat_interval=Duration()),
            "heartbeat_interval",
        ),
        (
            surface_service_pb2.WatchSurfacesRequest(heartbeat_interval=Duration(seconds=-1)),
            "heartbeat_interval",
        ),
    ],
)
async def test_a_request_for_surfaces_that_makes_no_sense(
    doors: tuple[Stubs, Client], request_: Any, field: str
) -> None:
    stubs, _ = doors
    method = getattr(stubs.surfaces, type(request_).__name__.removesuffix("Request"))
    call = method(request_)
    with refused() as refusal:
        await (call.read() if isinstance(call, grpc.aio.UnaryStreamCall) else call)
    assert (refusal.code, refusal.fields) == (INVALID, [field])


async def test_what_does_not_exist_is_not_found(doors: tuple[Stubs, Client]) -> None:
    stubs, _ = doors
    for call in (
        stubs.surfaces.GetSurface(surface_service_pb2.GetSurfaceRequest(underlying="NO")),
        stubs.surfaces.EvaluateSurface(surface_service_pb2.EvaluateSurfaceRequest(underlying="NO")),
    ):
        with refused() as refusal:
            await call
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FITTED")
        assert "'NO'" in refusal.message


async def test_a_page_token_continues_only_its_own_request(doors: tuple[Stubs, Client]) -> None:
    stubs, client = doors
    for i in range(3):
        await client.publish(smile_quotes(at=START + np.timedelta64(i, "s")))
        await anext(client.watch(["BTC"]))
    first = surface_service_pb2.ListSurfacesRequest(underlying="BTC", page_size=1)
    page = await stubs.surfaces.ListSurfaces(first)
    while not page.next_page_token:  # the store may still be writing
        page = await stubs.surfaces.ListSurfaces(first)
    assert len(page.surfaces) == 1
    other = surface_service_pb2.ListSurfacesRequest(page_token=page.next_page_token)
    with refused() as refusal:
        await stubs.surfaces.ListSurfaces(other)
    assert refusal.fields == ["page_token"]


EVALUATION = surface_service_pb2.EvaluateSurfaceRequest


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (EVALUATION(strike=[1.0]), "expiry_index"),
        (EVALUATION(strike=[1.0], expiry_index=[0]), "expiry_index[0]"),
        (
            EVALUATION(strike=[1.0], expiry_index=[-1], expiries=[Timestamp(seconds=1)]),
            "expiry_index[0]",
        ),
        (EVALUATION(strike=[1.0] * 100_001, expiry_index=[0] * 100_001), "strike"),
        (EVALUATION(expiries=[Timestamp(seconds=1)] * 10_001), "expiries"),
    ],
)
async def test_an_evaluation_that_makes_no_sense(
    doors: tuple[Stubs, Client], request_: Any, field: str
) -> None:
    stubs, client = doors
    await client.publish(smile_quotes())
    await anext(client.watch(["BTC"]))
    request_.underlying = "BTC"
    with refused() as refusal:
        await stubs.surfaces.EvaluateSurface(request_)
    assert (refusal.code, refusal.fields) == (INVALID, [field])


async def test_evaluation_is_that_of_the_surface(doors: tuple[Stubs, Client]) -> None:
    stubs, client = doors
    await client.publish(smile_quotes())
    update = await anext(client.watch(["BTC"]))
    surface = update.surface
    instants = [surface.expiries[0].expiry, START + np.timedelta64(20, "D"), START, START]
    stamps = [Timestamp(seconds=int(t.astype("datetime64[s]").astype(int))) for t in instants[:3]]
    stamps.append(Timestamp(seconds=2**62))  # no instant at all
    strikes = [65_000.0, 70_000.0, -1.0, np.nan, np.inf, 70_000.0, 70_000.0, 1e6]
    index = [0, 1, 1, 1, 1, 2, 3, 1]
    answer = await stubs.surfaces.EvaluateSurface(
        EVALUATION(underlying="BTC", expiries=stamps, expiry_index=index, strike=strikes)
    )
    assert (answer.epoch, answer.revision) == (surface.epoch, surface.revision)
    assert answer.state == surface_service_pb2.SURFACE_STATE_LIVE
    assert answer.vol[0] == surface.implied_vol(65_000.0, instants[0])
    assert answer.vol[1] == surface.implied_vol(70_000.0, instants[1])
    assert answer.forward[1] == surface.forward(instants[1])
    assert answer.discount_factor[1] == surface.discount_factor(instants[1])
    years = (instants[1] - START) / np.timedelta64(365, "D")
    assert answer.total_variance[1] == pytest.approx(answer.vol[1] ** 2 * years, rel=1e-13)
    assert answer.vol_error[1] == surface.vol_error(70_000.0, instants[1])
    assert np.isnan(answer.vol[2:7]).all()
    assert list(answer.extrapolated[:2]) == [False, False]
    assert answer.extrapolated[7]
    assert len(answer.vol) == len(strikes)


CALIBRATION = calibration_service_pb2.CalibrateRequest


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (CALIBRATION(), "batches"),
        (CALIBRATION(batches=[good_batch("A"), good_batch("B")]), "batches"),
        (CALIBRATION(batches=[good_batch("")]), "batches[0].underlying"),
        (CALIBRATION(batches=[good_batch()], model=8), "model"),  # type: ignore[arg-type]
        (CALIBRATION(batches=[good_batch()], calendar=8), "calendar"),  # type: ignore[arg-type]
        (
            CALIBRATION(batches=[quotes_pb2.QuoteBatch(underlying="A", strike=[1.0])]),
            "batches[0].expiry_index",
        ),
        (CALIBRATION(batches=[quotes_pb2.QuoteBatch(underlying="A")]), "batches"),
        (
            CALIBRATION(batches=[quotes_pb2.QuoteBatch(underlying="A", strike=[1.0] * 40_000)] * 3),
            "batches",
        ),
    ],
)
async def test_a_calibration_that_makes_no_sense(
    doors: tuple[Stubs, Client], request_: Any, field: str
) -> None:
    stubs, _ = doors
    with refused() as refusal:
        await stubs.calibration.Calibrate(request_)
    assert (refusal.code, refusal.fields) == (INVALID, [field])


async def test_a_calibration_of_rows_that_are_all_bad_answers_with_their_reasons(
    doors: tuple[Stubs, Client],
) -> None:
    stubs, _ = doors
    batch = good_batch()
    for i in range(45):
        batch.strike[i] = -1.0 if i % 2 else np.nan
    batch.expiry_index[3] = 99
    answer = await stubs.calibration.Calibrate(CALIBRATION(batches=[batch]))
    assert not answer.HasField("surface")
    assert {Reason(int(r)) for r in answer.residuals.reason} == {
        Reason.BAD_STRIKE,
        Reason.BAD_EXPIRY,
    }
    assert answer.residuals.expiry_index[3] == -1
    assert not any(answer.residuals.used)
    assert all(np.isnan(answer.residuals.model_vol))


async def test_a_calibration_honours_model_and_calendar(doors: tuple[Stubs, Client]) -> None:
    stubs, _ = doors
    request = CALIBRATION(
        batches=[good_batch()],
        model=surface_pb2.MODEL_ESSVI,
        calendar=surface_pb2.EXPIRY_CALENDAR_INDEPENDENT,
    )
    answer = await stubs.calibration.Calibrate(request)
    assert answer.surface.model == surface_pb2.MODEL_ESSVI
    assert answer.surface.calendar == surface_pb2.EXPIRY_CALENDAR_INDEPENDENT
    assert answer.surface.expiries[0].WhichOneof("parameters") == "essvi"
    assert answer.surface.revision == 0


async def test_too_many_underlyings_are_refused_and_the_known_ones_go_on(start: Start) -> None:
    server, client = await start(max_underlyings=2)
    await client.publish(smile_quotes("A"))
    await client.publish(smile_quotes("B"))
    async with grpc.aio.insecure_channel(server.address) as channel:
        with refused() as refusal:
            await Stubs(channel).quotes.PublishQuoteBatch(publish(good_batch("C")))
    assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refusal.reason == "OVERLOADED"
    assert refusal.retry_seconds is not None
    assert (await client.publish(smile_quotes("B", vol=0.7))).accepted == 45


async def test_a_server_without_store_says_so(start: Start) -> None:
    _, client = await start()
    with pytest.raises(InvalidRequest, match="no history"):
        await anext(client.history("BTC"))


async def test_the_client_turns_refusals_into_its_own_errors(doors: tuple[Stubs, Client]) -> None:
    _, client = doors
    with pytest.raises(InvalidRequest, match="underlying: is empty"):
        await client.get("")
    with pytest.raises(InvalidRequest, match="there is no model 'heston'"):
        await client.get("BTC", "heston")
    with pytest.raises(InvalidRequest, match=r"\['BTC'\]"):
        client.watch("BTC")
