"""The main job over a real connection: quotes in, surfaces out to whoever watches."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import numpy as np
import pytest

from calib.client import SurfaceUpdate
from calib.errors import NotFitted
from calib.quotes.reasons import Reason
from calib.service.conversion import batches_of
from calib.states import SurfaceState
from calib.surface.surface import Surface
from calib.v1 import quote_service_pb2, surface_service_pb2
from tests.service.calls import Stubs
from tests.service.conftest import Start
from tests.service.samples import START, micros, smile_quotes


def at(seconds: float) -> np.datetime64:
    return START + micros(timedelta(seconds=seconds))


def atm_vol(surface: Surface) -> float:
    expiry = surface.expiries[0]
    return float(surface.implied_vol(expiry.forward, expiry.expiry))


async def test_a_published_chain_becomes_a_surface(start: Start) -> None:
    server, client = await start()
    ack = await client.publish(smile_quotes(vol=0.6))
    assert (ack.accepted, ack.rejected) == (45, 0)
    updates = client.watch(["BTC"])
    update = await anext(updates)
    assert update.epoch == server.hub.epoch
    assert update.revision == 1
    assert update.reported_state is SurfaceState.LIVE
    assert update.quote_time == START
    assert update.conflated_count == 0
    assert len(update.surface.expiries) == 3
    assert atm_vol(update.surface) == pytest.approx(0.6, abs=2e-3)
    assert await client.get("BTC") == update.surface
    assert len(update.surface.input_hash) == 64
    assert update.surface.code_version


async def test_nothing_is_published_from_a_partial_chain(start: Start) -> None:
    server, client = await start()
    quotes = smile_quotes()
    one = await client.publish(quotes.take(np.arange(20)), snapshot_complete=False)
    assert one.snapshot_needed
    await asyncio.sleep(0.2)
    with pytest.raises(NotFitted, match="BTC"):
        await client.get("BTC")
    ((rest, _),) = batches_of(quotes.take(np.arange(20, 45)))
    rest.snapshot_complete = True
    async with grpc.aio.insecure_channel(server.address) as channel:
        request = quote_service_pb2.PublishQuoteBatchRequest(quotes=rest)
        answer = await Stubs(channel).quotes.PublishQuoteBatch(request)
    assert not answer.ack.snapshot_needed
    update = await anext(client.watch(["BTC"]))
    assert sum(e.diagnostics.quotes_used for e in update.surface.expiries) == 45


async def test_revisions_rise_and_every_change_of_quotes_is_followed(start: Start) -> None:
    _, client = await start()
    updates = client.watch(["BTC"])
    seen: list[SurfaceUpdate] = []
    async with client.publisher() as publisher:
        for i in range(5):
            vol = 0.5 + 0.02 * i
            await publisher.send(smile_quotes(vol=vol, at=at(i)))
            seen.append(await anext(updates))
            assert atm_vol(seen[-1].surface) == pytest.approx(vol, abs=2e-3)
    assert [update.revision for update in seen] == sorted({update.revision for update in seen})
    assert len({update.epoch for update in seen}) == 1


async def test_unchanged_quotes_are_not_fitted_again(start: Start) -> None:
    _, client = await start()
    quotes = smile_quotes()
    await client.publish(quotes)
    first = await anext(client.watch(["BTC"]))
    await client.publish(quotes)
    await client.publish(smile_quotes("ETH"))  # overtakes nothing: fits run in order
    assert (await anext(client.watch(["ETH"]))).revision == first.revision + 1
    assert (await client.get("BTC")).revision == first.revision


async def test_an_incremental_batch_moves_only_what_it_names(start: Start) -> None:
    _, client = await start()
    await client.publish(smile_quotes(vol=0.6))
    before = await anext(client.watch(["BTC"]))
    raised = smile_quotes(vol=0.7)
    near = raised.expiry == raised.expiry.min()
    updates = client.watch(["BTC"])
    assert (await anext(updates)).revision == before.revision
    await client.publish(raised.take(near), snapshot_complete=False)
    after = await anext(updates)
    assert atm_vol(after.surface) == pytest.approx(0.7, abs=2e-3)
    for then in before.surface.expiries[1:]:
        strikes = raised.strike[~near]
        np.testing.assert_allclose(
            after.surface.implied_vol(strikes, then.expiry),
            before.surface.implied_vol(strikes, then.expiry),
            atol=5e-4,  # fitted together, expiries lean on each other within their spreads
        )


async def test_bad_rows_are_named_and_good_ones_go_through(start: Start) -> None:
    _, client = await start()
    quotes = smile_quotes()
    bid, strike = quotes.bid.copy(), quotes.strike.copy()
    bid[3], strike[7], bid[11] = -1.0, np.nan, np.inf
    spoiled = type(quotes)(**{**vars(quotes), "bid": bid, "strike": strike})
    ack = await client.publish(spoiled)
    assert (ack.accepted, ack.rejected) == (42, 3)
    assert ack.reasons == {Reason.BAD_PRICE: 2, Reason.BAD_STRIKE: 1}
    assert [(p.row, p.column, p.value) for p in ack.problems] == [
        (3, "bid", "-1"),
        (7, "strike", "nan"),
        (11, "bid", "inf"),
    ]
    update = await anext(client.watch(["BTC"]))
    assert atm_vol(update.surface) == pytest.approx(0.6, abs=2e-3)


async def test_levels_move_the_surface_between_quotes(start: Start) -> None:
    _, client = await start(level_stickiness=0.0)
    await client.publish(smile_quotes(forward=70_000.0))
    updates = client.watch(["BTC"])
    before = await anext(updates)
    first, second, third = (e.expiry for e in before.surface.expiries)
    ack = await client.publish_levels(
        "BTC",
        venue="test",
        quote_time=at(1),
        forwards={first: 70_700.0, third: -1.0},
        spot=70_350.0,
    )
    assert (ack.accepted, ack.rejected) == (2, 1)
    assert [(p.row, p.column, p.reason) for p in ack.problems] == [
        (1, "forward", Reason.BAD_FORWARD)
    ]
    after = await anext(updates)
    assert after.revision > before.revision
    assert after.quote_time == before.quote_time
    assert after.surface.spot == 70_350.0
    moved = [e.forward for e in after.surface.expiries]
    assert moved == pytest.approx([70_700.0, 70_000.0, 70_000.0], rel=1e-12)
    for now, then in zip(after.surface.expiries, before.surface.expiries, strict=True):
        assert now.parameters == then.parameters
    assert after.surface.implied_vol(70_700.0, first) == pytest.approx(
        before.surface.implied_vol(70_000.0, first), rel=1e-12
    )
    # The same level again is no news.
    await client.publish_levels("BTC", venue="test", quote_time=at(2), forwards={first: 70_700.0})
    await client.publish_levels("BTC", venue="test", quote_time=at(3), forwards={second: 71_000.0})
    last = await anext(updates)
    assert last.revision == after.revision + 1
    assert last.surface.expiries[1].forward == pytest.approx(71_000.0, rel=1e-12)


async def test_moves_are_told_in_short_and_are_the_surface_to_the_last_bit(start: Start) -> None:
    server, client = await start()
    quotes = smile_quotes(forward=70_000.0)
    skewed = replace(
        quotes,
        bid=quotes.bid - 0.1 * np.log(quotes.strike / 70_000.0),
        ask=quotes.ask - 0.1 * np.log(quotes.strike / 70_000.0),
    )
    await client.publish(skewed)
    updates = client.watch(["BTC"])
    before = await anext(updates)
    expiries = [one.expiry for one in before.surface.expiries]
    channel = grpc.aio.insecure_channel(server.address)
    calls = Stubs(channel).surfaces.WatchSurfaces(surface_service_pb2.WatchSurfacesRequest())
    told: list[Any] = [await calls.read(), await calls.read()]
    sizes = []
    for number, forward in ((1, 70_500.0), (2, 69_000.0)):
        forwards = dict.fromkeys(expiries, forward)
        await client.publish_levels("BTC", venue="test", quote_time=at(number), forwards=forwards)
        after = await anext(updates)
        assert after.surface == await client.get("BTC")
        assert after.surface.revision == before.surface.revision + number
        # The vol at the money falls as the forward rises, with the skew, and the other way round.
        scale = after.surface.expiries[0].parameters[1] / before.surface.expiries[0].parameters[1]
        assert (scale < 1.0) == (forward > 70_000.0)
        assert after.variance_scale_max == pytest.approx(before.variance_scale_max / scale)
        told.append(await calls.read())
        sizes.append(told[-1].ByteSize())
        late = await anext(client.watch(["BTC"]))
        assert late.surface == before.surface
    kinds = [
        "snapshot_end"
        if one.HasField("snapshot_end")
        else "move"
        if one.surface.HasField("move")
        else "surface"
        for one in told
    ]
    assert kinds == ["surface", "snapshot_end", "move", "move"]
    assert max(sizes) < 0.5 * told[0].ByteSize()
    # Who comes later has the shape first, as things stand, and then the move.
    newcomer = client.watch(["BTC"])
    first, second = await anext(newcomer), await anext(newcomer)
    assert (first.revision, second.revision) == (before.revision, after.revision)
    assert second.surface == after.surface
    await channel.close()


async def test_several_underlyings_go_their_own_ways(start: Start) -> None:
    _, client = await start(models={"ETH": "essvi"})
    await client.publish(smile_quotes("BTC", vol=0.5))
    await client.publish(smile_quotes("ETH", vol=0.8))
    found = {}
    async for update in client.watch():
        found[update.underlying] = update.surface
        if len(found) == 2:
            break
    assert atm_vol(found["BTC"]) == pytest.approx(0.5, abs=2e-3)
    assert atm_vol(found["ETH"]) == pytest.approx(0.8, abs=1e-2)
    assert (found["BTC"].model.name, found["ETH"].model.name) == ("SVI", "ESSVI")
    assert await client.get("ETH", "essvi") == found["ETH"]
    with pytest.raises(NotFitted, match="no SVI surface of 'ETH'"):
        await client.get("ETH", "svi")


async def test_surfaces_turn_stale_when_quotes_stop_and_live_when_they_return(start: Start) -> None:
    _, client = await start(quote_max_age=0.4)
    updates = client.watch(["BTC"], heartbeat_seconds=0.1)
    await client.publish(smile_quotes())
    live = await anext(updates)
    stale = await anext(updates)
    assert (live.reported_state, stale.reported_state) == (SurfaceState.LIVE, SurfaceState.STALE)
    assert stale.surface == live.surface
    assert stale.valid_until == START + micros(timedelta(seconds=0.4))
    await client.publish(smile_quotes(at=at(1)))
    again = await anext(updates)
    assert again.reported_state is SurfaceState.LIVE
    assert again.revision > live.revision


async def test_calibrate_answers_like_the_library_and_publishes_nothing(start: Start) -> None:
    from calib.fitting.fit import fit

    _, client = await start()
    quotes = smile_quotes()
    answer = await client.calibrate(quotes)
    local = fit(quotes)
    assert answer.surface == local.surface
    assert answer.states == local.states
    assert answer.residuals.used.tolist() == local.used.tolist()
    np.testing.assert_array_equal(answer.residuals.model_vol, local.model_vol)
    np.testing.assert_array_equal(answer.residuals.expiry, quotes.expiry)
    with pytest.raises(NotFitted):
        await client.get("BTC")


async def test_history_is_kept_and_paged(start: Start, tmp_path: object) -> None:
    _, client = await start(store=f"{tmp_path}/calib.db")
    updates = client.watch(["BTC"])
    published = []
    for i in range(3):
        await client.publish(smile_quotes(at=at(i)))
        published.append((await anext(updates)).surface)
    await client.publish(smile_quotes("ETH"))
    await anext(client.watch(["ETH"]))
    kept: list[Surface] = []
    while len(kept) < 3:
        kept = [surface async for surface in client.history("BTC")]
    assert kept == published
    assert [s async for s in client.history("BTC", start=at(1), end=at(2))] == published[1:2]
