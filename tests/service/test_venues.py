"""Several venues for one underlying on a running server: one goes wrong, is left out by name, the
others go on, and it comes back when it has been right for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from calib.conventions import utc_now
from calib.feeds.hostile import Fault, FaultName, hostile
from calib.fitting.fit_value import Fit
from calib.quotes.chain import Chain
from calib.quotes.reasons import Reason
from calib.quotes.table import QuoteTable
from calib.service.fit_thread import FitJob, fit_batch
from calib.states import SurfaceState
from calib.store import open_store
from calib.store.audit import Verdict, audit
from tests.service.conftest import QUIET, Start
from tests.service.floor import ROWS, Floor, Twist, clock_off, of_bad, seconds, sound, tenfold
from tests.service.samples import START, smile_quotes

Open = Callable[..., Awaitable[Floor]]

LIMITS = {"probation_seconds": 4.0, "stuck_seconds": 6.0, "behind_seconds": 4.0}


@pytest_asyncio.fixture
async def opened(start: Start) -> Open:
    async def begin(at: np.datetime64 = START, **limits: float) -> Floor:
        risk: dict[str, Any] = {**QUIET, "venues": LIMITS | limits}
        server, client = await start(model_risk=risk)
        floor = Floor(server, client, at)
        for _ in range(2):
            assert not await floor.send()
        return floor

    return begin


def everywhere_up(by: float) -> Twist:
    """The vols of all venues jump."""
    end = START + seconds(1e6)
    fault = Fault(FaultName.VOL_JUMP, "BTC", START, end, by)
    return lambda quotes: hostile(quotes, [fault]).quotes


async def comes_back(floor: Floor) -> None:
    """Good quotes serve the probation: not at once, and for good."""
    outs = [await floor.send() for _ in range(12)]
    assert outs == sorted(outs, reverse=True)
    assert 3 <= sum(outs) < 12
    assert (await floor.standing())["bad"].quotes_used == ROWS


@pytest.mark.parametrize(
    ("twist", "reason"),
    [
        (of_bad(FaultName.SHIFTED_VENUE, 0.05), Reason.VENUE_APART),
        (tenfold, Reason.VENUE_APART),
        (of_bad(FaultName.WRONG_FORWARD, 0.02), Reason.VENUE_FORWARD),
        (clock_off(-300.0), Reason.VENUE_BEHIND),
    ],
)
async def test_a_venue_that_is_wrong_moves_no_surface_and_comes_back(
    opened: Open, twist: Twist, reason: Reason
) -> None:
    floor = await opened()
    vol, forward = await floor.vol(), await floor.forward()
    if reason is Reason.VENUE_BEHIND:  # its rows are out of order where its clock has jumped back
        floor.now += 400.0
    for _ in range(3):
        assert await floor.send(twist)
        assert await floor.vol() == pytest.approx(vol, abs=2e-3)
        moved = 2e-5 * floor.now * 70_000.0 / forward
        assert await floor.forward() / forward == pytest.approx(1.0 + moved, abs=1e-4)
    standing = await floor.standing()
    assert Reason(int(standing["bad"].left_out)) is reason
    assert standing["bad"].confirmed
    assert reason.text in standing["bad"].cause
    assert (standing["bad"].quotes_used, standing["good"].quotes_used) == (0, ROWS)
    assert floor.answers["bad"].left_out is reason
    assert floor.answers["bad"].accepted == ROWS
    assert floor.answers["good"].left_out is None
    assert floor.alarms(reason.name.lower()) == 1.0
    assert floor.meter("left_out") == 1.0
    await comes_back(floor)
    assert floor.meter("left_out") == 0.0
    assert floor.alarms(reason.name.lower()) == 1.0


async def test_what_was_fitted_without_a_venue_is_built_again_bit_for_bit(
    start: Start, tmp_path: Path
) -> None:
    url = str(tmp_path / "calib.db")
    risk = {**QUIET, "venues": LIMITS}
    server, client = await start(model_risk=risk, store=url)
    floor = Floor(server, client)
    twists = [sound, sound, tenfold, tenfold, clock_off(-300.0), *[sound] * 6]
    outs = [await floor.send(twist) for twist in twists]
    assert outs[2:5] == [True] * 3
    assert not outs[-1]
    assert server.writer is not None
    await asyncio.to_thread(server.writer.close, 20.0)

    def findings() -> set[Verdict]:
        with open_store(url) as store:
            return {one.verdict for one in audit(store)}

    assert await asyncio.to_thread(findings) == {Verdict.IDENTICAL}


async def test_what_is_shown_of_a_venue_is_what_was_done_to_it(opened: Open) -> None:
    floor = await opened()
    await floor.send(of_bad(FaultName.SHIFTED_VENUE, 0.01))
    standing = (await floor.standing())["bad"]
    assert standing.gap == pytest.approx(0.01 / 2, abs=2e-3)  # from the mean of both
    assert standing.gap_half_spreads == pytest.approx(standing.gap / 0.005, rel=0.3)
    assert abs(standing.basis) < 1e-6
    await floor.send(of_bad(FaultName.WRONG_FORWARD, 0.002))
    standing = (await floor.standing())["bad"]
    assert standing.basis == pytest.approx(0.002 / 2, rel=0.02)
    assert floor.meter("basis") == pytest.approx(standing.basis)
    assert standing.age_seconds == 0.0
    assert standing.quotes_used == ROWS


async def test_a_market_that_jumps_at_one_venue_first_raises_no_alarm(opened: Open) -> None:
    floor = await opened()
    up = of_bad(FaultName.SHIFTED_VENUE, 0.08)
    everywhere = everywhere_up(0.08)
    before = await floor.vol()
    assert await floor.send(up, good=False)
    assert await floor.vol() == pytest.approx(before, abs=2e-3)  # a suspicion is left out at once
    assert not (await floor.standing())["bad"].confirmed
    floor.now -= 1.0
    assert not await floor.send(everywhere, bad=False)
    assert await floor.vol() == pytest.approx(before + 0.08, abs=5e-3)
    assert not await floor.send(everywhere)
    assert floor.alarms("venue_apart") == 0.0


async def test_prices_that_stand_still_while_others_move_are_left_out(opened: Open) -> None:
    floor = await opened()
    frozen = floor.quotes()

    def stuck(quotes: QuoteTable) -> QuoteTable:
        bad, then = quotes.venue.equal("bad"), frozen
        return replace(
            quotes,
            bid=np.where(bad, then.bid, quotes.bid),
            ask=np.where(bad, then.ask, quotes.ask),
            strike=np.where(bad, then.strike, quotes.strike),
        )

    outs = [await floor.send(stuck) for _ in range(9)]
    assert outs == sorted(outs)
    assert outs[-1]
    assert not any(outs[:5])
    assert floor.alarms("venue_stuck") == 1.0
    assert (await floor.standing())["bad"].age_seconds == 0.0


async def test_a_clock_that_runs_ahead_makes_no_other_venue_old(opened: Open) -> None:
    floor = await opened(utc_now() - seconds(2.0))
    vol = await floor.vol()
    for _ in range(3):
        assert await floor.send(clock_off(1200.0))
        assert await floor.vol() == pytest.approx(vol, abs=2e-3)
    standing = await floor.standing()
    assert Reason(int(standing["bad"].left_out)) is Reason.VENUE_AHEAD
    assert standing["bad"].offset_seconds < -1100.0
    assert abs(standing["good"].offset_seconds) < 100.0
    surface = await floor.client.get("BTC")
    assert surface.quote_time == floor.start + seconds(floor.now)
    assert floor.alarms("venue_ahead") == 1.0
    # Set right, its quotes are older than those that it has sent; a count that begins again heals.
    async with floor.client.publisher() as publisher:
        floor.client._counts["bad", "BTC"] = 6
        late = floor.quotes()
        late = late.take(late.venue.equal("bad"))
        assert (await publisher.send(late)).reasons == {Reason.OUT_OF_ORDER: ROWS}
        floor.client._counts["bad", "BTC"] = 0
        assert (await publisher.send(late)).accepted == ROWS
    await comes_back(floor)


async def test_a_silent_venue_is_left_out_until_it_is_heard_again(opened: Open) -> None:
    floor = await opened(behind_seconds=1e6, stuck_seconds=1e6, silent_seconds=0.4)
    async with asyncio.timeout(30.0):
        while floor.alarms("venue_silent") == 0.0:
            await floor.send(bad=False)
    standing = await floor.shows(lambda standing: standing["bad"].quotes_used == 0)
    assert standing["bad"].confirmed
    assert Reason(int(standing["bad"].left_out)) is Reason.VENUE_SILENT
    assert standing["bad"].silent_seconds > 0.4
    async with floor.client.publisher() as publisher:
        said = await publisher.send_heartbeat("bad", time=START + seconds(floor.now))
        assert (said.accepted, said.left_out) == (1, None)
    standing = await floor.shows(lambda standing: standing["bad"].quotes_used == ROWS)
    assert not standing["bad"].left_out


async def test_heartbeats_keep_a_quiet_venue_from_falling_behind(opened: Open) -> None:
    floor = await opened(stuck_seconds=1e6)
    async with floor.client.publisher() as publisher:
        for _ in range(8):
            assert not await floor.send(bad=False)
            time = START + seconds(floor.now)
            await publisher.send_heartbeat("bad", time=time, underlying="BTC")
    outs = [await floor.send(bad=False) for _ in range(6)]
    assert outs == sorted(outs)
    assert outs[-1]
    assert floor.alarms("venue_behind") == 1.0


async def test_a_wild_tick_of_one_venue_moves_nothing(opened: Open) -> None:
    floor = await opened()
    before = await floor.client.get("BTC")

    async def tick(venue: str, factor: float) -> None:
        forwards = {one.expiry: factor * one.forward for one in before.surface.expiries}
        await floor.client.publish_levels(
            "BTC", venue=venue, quote_time=START + seconds(floor.now + 0.5), forwards=forwards
        )

    await tick("bad", 1.10)
    await tick("good", 1.001)
    async for update in floor.client.watch(["BTC"]):
        moved = update.surface.expiries[0].forward / before.surface.expiries[0].forward
        assert moved < 1.002
        if moved == pytest.approx(1.001, abs=1e-9):
            break


async def test_a_gap_in_one_venue_s_count_leaves_the_other_in_force(
    opened: Open,
) -> None:
    floor = await opened()
    async with floor.client.publisher() as publisher:
        floor.client._counts["bad", "BTC"] = 4  # four messages that never reach the server
        quotes = floor.quotes()
        bad = quotes.take(quotes.venue.equal("bad"))
        assert not (await publisher.send(bad)).snapshot_needed  # the first number that is heard
        floor.client._counts["bad", "BTC"] += 2
        answer = await publisher.send(bad.take(np.arange(5)), snapshot_complete=False)
        assert (answer.missed, answer.snapshot_needed) == (2, True)
        standing = await floor.shows(lambda standing: bool(standing["bad"].left_out))
        assert Reason(int(standing["bad"].left_out)) is Reason.VENUE_INCOMPLETE
        assert (standing["bad"].quotes_used, standing["good"].quotes_used) == (0, ROWS)
        assert floor.alarms("venue_incomplete") == 1.0
        # Alone, the other is held against nothing.
        standing = await floor.shows(lambda standing: isnan(standing["good"].gap))
        assert isnan(standing["good"].basis)
        assert isnan(standing["good"].gap_half_spreads)
        assert standing["good"].quotes_used == ROWS
        healed = await publisher.send(bad)
        assert (healed.missed, healed.snapshot_needed) == (0, False)
    standing = await floor.shows(lambda standing: standing["bad"].quotes_used == ROWS)
    assert not standing["bad"].left_out
    assert standing["bad"].missed_count == 2
    assert abs(standing["good"].basis) < 1e-3


async def test_a_large_chain_that_heals_a_gap_raises_no_alarm(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calib.service.quote_service._ROWS_A_TURN", 10)
    floor = await opened()
    async with floor.client.publisher() as publisher:
        quotes = floor.quotes()
        bad = quotes.take(quotes.venue.equal("bad"))
        await publisher.send(bad)
        floor.client._counts["bad", "BTC"] += 2
        answer = await publisher.send(bad)
        assert (answer.missed, answer.snapshot_needed) == (2, False)
        assert floor.alarms("venue_incomplete") == 0.0
        floor.client._counts["bad", "BTC"] += 3
        answer = await publisher.send(bad, snapshot_complete=False)
        assert (answer.missed, answer.snapshot_needed) == (3, True)
        assert floor.alarms("venue_incomplete") == 1.0
        await floor.shows(lambda standing: "(3, limit 0)" in standing["bad"].cause)


async def test_a_silent_venue_that_comes_back_with_a_large_chain_is_fitted_when_it_is_whole(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calib.service.quote_service._ROWS_A_TURN", 1)
    fitted: list[Chain] = []

    def fitter(jobs: Sequence[FitJob]) -> list[Fit]:
        fitted.extend(job.chain for job in jobs)
        return fit_batch(jobs)

    limits = LIMITS | {"behind_seconds": 1e6, "stuck_seconds": 1e6, "silent_seconds": 0.4}
    server, client = await start(fitter=fitter, model_risk={**QUIET, "venues": limits})
    floor = Floor(server, client)
    await floor.send()
    async with asyncio.timeout(30.0):
        while floor.alarms("venue_silent") == 0.0:
            await floor.send(bad=False)
    await floor.send(good=False)
    await floor.send()
    for chain in fitted:
        bad = chain.quotes.venue.equal("bad")
        assert len(np.unique(chain.quotes.quote_time[bad])) <= 1


@pytest.mark.parametrize("silent", [False, True])
async def test_neither_a_gap_nor_silence_brings_a_wrong_venue_back(
    opened: Open, silent: bool
) -> None:
    limits = {"silent_seconds": 0.4} if silent else {}
    floor = await opened(behind_seconds=1e6, stuck_seconds=1e6, **limits)
    for _ in range(3):
        await floor.send(tenfold)
    assert (await floor.standing())["bad"].confirmed
    if silent:
        async with asyncio.timeout(30.0):
            while floor.alarms("venue_silent") == 0.0:
                await floor.send(bad=False)
    else:
        quotes = tenfold(floor.quotes())
        bad = quotes.take(quotes.venue.equal("bad"))
        async with floor.client.publisher() as publisher:
            await publisher.send(bad)
            floor.client._counts["bad", "BTC"] += 2
            answer = await publisher.send(bad.take(np.arange(5)), snapshot_complete=False)
            assert (answer.missed, answer.snapshot_needed) == (2, True)
        assert floor.alarms("venue_incomplete") == 1.0
    await comes_back(floor)


async def test_prices_under_a_clock_that_stands_still_grow_old(start: Start) -> None:
    _, client = await start(quote_max_age="1s")
    updates = client.watch(["BTC"])
    states: list[SurfaceState] = []
    for number in range(200):
        await client.publish(smile_quotes(vol=0.5 + 0.001 * number))
        states.append((await anext(updates)).reported_state)
        if states[-5:] == [SurfaceState.STALE] * 5:
            break
    # No new price has made it live again.
    assert states == sorted(states)
    assert states[-5:] == [SurfaceState.STALE] * 5
    for number in range(1, 200):
        await client.publish(smile_quotes(vol=0.5, at=START + seconds(number)))
        if (await anext(updates)).reported_state is SurfaceState.LIVE:
            break
    assert (await client.get("BTC")).quote_time > START


async def test_a_venue_alone_is_believed(start: Start) -> None:
    _, client = await start(model_risk={**QUIET, "venues": LIMITS})
    updates = client.watch(["BTC"])
    for i, vol in enumerate((0.5, 0.7)):
        await client.publish(smile_quotes(vol=vol, at=START + seconds(i)))
        one = (await anext(updates)).surface.expiries[0]
        surface = await client.get("BTC")
        assert surface.implied_vol(one.forward, one.expiry) == pytest.approx(vol, abs=5e-3)
