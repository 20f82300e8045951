"""ModelRiskService: judgements, histories and watches out; forces and marks in, and on record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from calib.client import connect
from calib.errors import NotFitted
from calib.fitting.fit_value import Fit
from calib.jobs.backtest import replayed
from calib.jobs.recording import step_entry
from calib.modelrisk.breakers import BreakerLevel, BreakerState
from calib.modelrisk.monitor import Assessment
from calib.quotes.chain import chain_at
from calib.service.board import Board, Notice
from calib.service.fit_thread import FitJob, Fitter, fit_batch
from calib.service.journal import Place
from calib.service.server import running
from calib.service.settings import ServiceSettings
from calib.service.store_watch import StoreWatch
from calib.states import ModelName, SurfaceState
from calib.store import WriterState, open_store
from calib.store.audit import Verdict, audit
from calib.surface.hold import Hold
from calib.surface.marks import MarkHandle
from calib.surface.messages import instant, timestamp
from calib.surface.surface import Surface
from calib.v1 import model_risk_pb2, surface_pb2, surface_service_pb2
from calib.v1 import model_risk_service_pb2 as rpc
from tests.cli.backtest_run import command
from tests.report.test_page import Reader
from tests.service.calls import Stubs, refused
from tests.service.conftest import USUAL, Start
from tests.service.faults import DAYS, STRIKES, Breakable, Seat, shifted
from tests.service.samples import START, micros, smile_quotes

SIGNED: dict[str, Any] = {"operator": "ann", "reason": "the desk wants it"}
FIRST = START + np.timedelta64(7 * 86_400_000_000, "us")


def after(seconds: float) -> Timestamp:
    return timestamp(START + micros(timedelta(seconds=seconds)))


@asynccontextmanager
async def seated(
    fitter: Fitter = fit_batch, **changes: object
) -> AsyncIterator[tuple[Seat, Stubs]]:
    """A server, a quoter, and an operator's stubs."""
    settings = ServiceSettings(**(USUAL | changes))
    async with (
        running(settings, fitter=fitter) as server,
        connect(server.address) as client,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        await client.wait_until_serving()
        yield Seat(server, client), Stubs(channel)


async def eventually(found: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what a thread writes, or a clock brings."""
    async with asyncio.timeout(20.0):
        while not await found():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)


async def event(watch: Any) -> rpc.WatchModelRiskResponse:
    """The next event of a watch."""
    response = await asyncio.wait_for(watch.read(), 10.0)
    assert isinstance(response, rpc.WatchModelRiskResponse)
    return response


def atm_vol(surface: Surface) -> float:
    one = surface.expiries[0]
    return float(surface.implied_vol(one.forward, one.expiry))


def mark_request(**changes: object) -> rpc.SetMarkRequest:
    usual: dict[str, object] = {
        "underlying": "BTC",
        "expiry": timestamp(FIRST),
        "handle": surface_pb2.MARK_HANDLE_ATM_VOL,
        "pinned": True,
        "value": 0.61,
        "until": after(3600.0),
    }
    return rpc.SetMarkRequest(**(usual | SIGNED | changes))  # type: ignore[arg-type]


async def test_the_judgement_goes_out_with_the_surface_and_by_itself() -> None:
    async with seated() as (seat, stubs):
        update = await seat.send()
        assert update.level is BreakerLevel.NORMAL
        assert update.risk is not None
        first = update.risk.of(update.surface.expiries[0].expiry)
        assert first is not None
        assert (first.level, first.multiplier) == (BreakerLevel.NORMAL, 1.0)
        assert 0.0 < first.min_half_spread < 0.01
        told = await stubs.risks.GetModelRisk(rpc.GetModelRiskRequest(underlying="BTC"))
        assert not told.HasField("store_alarm")
        whole, *slices = told.assessment.metrics
        assert len(slices) == 5
        assert whole.revision == update.revision
        values = {one.name: one for one in whole.values}
        assert values["fitted"].count == 5
        assert values["arbitrage_free"].flag
        assert 0.0 < values["rms_vol_error"].number < 0.01
        with refused() as refusal:
            await stubs.risks.GetModelRisk(rpc.GetModelRiskRequest(underlying="ETH"))
        assert refusal.code is grpc.StatusCode.NOT_FOUND


async def test_a_watch_gives_what_is_judged_and_counts_what_it_skips() -> None:
    async with seated() as (seat, stubs):
        await seat.send()
        watch = stubs.risks.WatchModelRisk(rpc.WatchModelRiskRequest(underlyings=["BTC"]))
        events = [await event(watch), await event(watch)]
        assert events[0].assessment.underlying == "BTC"
        assert events[1].snapshot_end.assessment_count == 1
        await seat.send()
        change = await event(watch)
        while instant(change.assessment.metrics[0].quote_time, "t") != seat.time:
            change = await event(watch)
        assert change.conflated_count == 0
        with refused() as refusal:
            await stubs.risks.WatchModelRisk(rpc.WatchModelRiskRequest(underlyings=[""])).read()
        assert refusal.fields == ["underlyings"]


async def test_a_slow_reader_gets_the_latest_of_each_underlying_and_the_number_skipped() -> None:
    board = Board()
    with board.reading(frozenset()) as reader, board.reading(frozenset({"B"})) as other:
        for number, name in enumerate("ABAA"):
            at = START + np.timedelta64(number, "s")
            judged = Assessment(name, at, None, (), (), (), BreakerState(name), (), ())
            board.put(Notice(judged, Place(ModelName.SVI, "e", 1)))
        taken = await reader.take(0.0)
        assert [(one.assessment.underlying, missed) for one, missed in taken] == [
            ("B", 0),
            ("A", 2),
        ]
        assert taken[1][0].assessment.at == START + np.timedelta64(3, "s")
        assert await reader.take(0.0) == []
        assert [one.assessment.underlying for one, _ in await other.take(0.0)] == ["B"]
    with board.reading(frozenset({"A"})) as late:
        assert late.snapshot == [taken[1][0]]


async def test_levels_do_not_move_what_is_held() -> None:
    async with seated() as (seat, stubs):
        good = await seat.send()
        force = rpc.ForceBreakerRequest(
            underlying="BTC", level=model_risk_pb2.BREAKER_LEVEL_HELD, **SIGNED
        )
        await stubs.risks.ForceBreaker(force)
        forwards = {one.expiry: 1.01 * one.forward for one in good.surface.expiries}
        await seat.client.publish_levels(
            "BTC", venue="test", quote_time=seat.time, forwards=forwards
        )
        await seat.send()  # judged behind the levels
        assert (await seat.client.get("BTC")).expiries == good.surface.expiries
        await stubs.risks.ReleaseBreaker(rpc.ReleaseBreakerRequest(underlying="BTC", **SIGNED))
        assert (await seat.client.get("BTC")).quote_time == seat.time


async def test_an_operator_holds_halts_and_lets_go() -> None:
    async with seated() as (seat, stubs):
        good = await seat.send()
        updates = seat.client.watch(["BTC"])
        await anext(updates)
        force = rpc.ForceBreakerRequest(
            underlying="BTC", level=model_risk_pb2.BREAKER_LEVEL_HELD, **SIGNED
        )
        answer = await stubs.risks.ForceBreaker(force)
        assert answer.model_risk.level == model_risk_pb2.BREAKER_LEVEL_HELD
        assert answer.model_risk.forced
        told = await anext(updates)
        assert (told.level, told.revision) == (BreakerLevel.HELD, good.revision)
        assert told.risk is not None
        assert told.risk.cause == "by hand: the desk wants it"
        evaluate = surface_service_pb2.EvaluateSurfaceRequest(underlying="BTC")
        values = await stubs.surfaces.EvaluateSurface(evaluate)
        assert values.level == model_risk_pb2.BREAKER_LEVEL_HELD
        assert (await seat.send()).surface == good.surface
        # What was fitted meanwhile is in force as soon as nothing holds it back.
        release = rpc.ReleaseBreakerRequest(underlying="BTC", **SIGNED)
        await stubs.risks.ReleaseBreaker(release)
        update = await seat.client.get("BTC")
        assert (update.level, update.quote_time) == (BreakerLevel.NORMAL, seat.time)
        force.expiry.CopyFrom(timestamp(FIRST))
        force.level = model_risk_pb2.BREAKER_LEVEL_HALTED
        await stubs.risks.ForceBreaker(force)
        update = await seat.send()
        assert update.risk is not None
        assert [one.level.name for one in update.risk.expiries] == ["HALTED"] + ["NORMAL"] * 4
        assert update.level is BreakerLevel.NORMAL
        assert update.quote_time == seat.time


async def test_a_force_ends_by_itself() -> None:
    async with seated() as (seat, stubs):
        await seat.send()
        force = rpc.ForceBreakerRequest(
            underlying="BTC", level=model_risk_pb2.BREAKER_LEVEL_HALTED, until=after(20.0), **SIGNED
        )
        await stubs.risks.ForceBreaker(force)
        assert (await seat.send()).level is BreakerLevel.HALTED
        seat.seconds = 20.0
        update = await seat.send()
        assert (update.level, update.quote_time) == (BreakerLevel.NORMAL, seat.time)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("underlying", {"underlying": " "}),
        ("level", {"level": 0}),
        ("operator", {"operator": ""}),
        ("reason", {"reason": " "}),
        ("expiry", {"expiry": after(1.0)}),
        ("until", {"until": after(0.0)}),
    ],
)
async def test_a_force_that_says_too_little_names_the_field(
    start: Start, field: str, changes: dict[str, object]
) -> None:
    server, client = await start()
    await Seat(server, client).send()
    usual: dict[str, object] = {"underlying": "BTC", "level": model_risk_pb2.BREAKER_LEVEL_HELD}
    async with grpc.aio.insecure_channel(server.address) as channel:
        with refused() as refusal:
            request = rpc.ForceBreakerRequest(**(usual | SIGNED | changes))  # type: ignore[arg-type]
            await Stubs(channel).risks.ForceBreaker(request)
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refusal.fields == [field]
        assert (await client.get("BTC")).level is BreakerLevel.NORMAL


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("underlying", {"underlying": ""}),
        ("expiry", {"expiry": None}),
        ("expiry", {"expiry": after(5.0)}),
        ("handle", {"handle": 0}),
        ("value", {"value": float("nan")}),
        ("operator", {"operator": ""}),
        ("reason", {"reason": ""}),
        ("until", {"until": None}),
        ("until", {"until": after(-5.0)}),
    ],
)
async def test_a_mark_that_says_too_little_names_the_field(
    start: Start, field: str, changes: dict[str, object]
) -> None:
    server, client = await start()
    await Seat(server, client).send()
    async with grpc.aio.insecure_channel(server.address) as channel:
        with refused() as refusal:
            await Stubs(channel).risks.SetMark(mark_request(**changes))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.fields == [field]


async def test_marks_are_published_proved_kept_up_and_cleared(tmp_path: Path) -> None:
    store = str(tmp_path / "calib.db")
    async with seated(store=store) as (seat, stubs):
        plain = await seat.send()
        answer = await stubs.risks.SetMark(mark_request())
        marked = await seat.client.get("BTC")
        assert marked.revision == answer.revision > plain.revision
        assert atm_vol(marked.surface) == pytest.approx(0.61, abs=1e-12)
        assert marked.surface.certificate.arbitrage_free
        (mark,) = marked.surface.marks
        assert (mark.author, mark.handle) == ("ann", MarkHandle.ATM_VOL)
        again = await seat.send()  # the next fit carries it too
        assert atm_vol(again.surface) == pytest.approx(0.61, abs=1e-12)
        assert again.surface.marks == (mark,)
        with refused() as refusal:
            await stubs.risks.SetMark(mark_request(handle=3, value=2.5))
        assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
        assert "left wing" in refusal.message
        (listed,) = (await stubs.risks.ListMarks(rpc.ListMarksRequest())).marks
        assert (listed.underlying, listed.refusal) == ("BTC", "")
        assert listed.mark == answer.mark
    async with seated(store=store) as (seat, stubs):  # a restart
        (listed,) = (await stubs.risks.ListMarks(rpc.ListMarksRequest(underlying="BTC"))).marks
        assert listed.mark == answer.mark
        seat.seconds = 60.0
        update = await seat.send()
        assert atm_vol(update.surface) == pytest.approx(0.61, abs=1e-12)
        clear = rpc.ClearMarkRequest(
            underlying="BTC",
            expiry=timestamp(FIRST),
            handle=surface_pb2.MARK_HANDLE_ATM_VOL,
            **SIGNED,
        )
        await stubs.risks.ClearMark(clear)
        update = await seat.client.get("BTC")
        assert update.surface.marks == ()
        assert atm_vol(update.surface) == pytest.approx(0.6, abs=2e-3)
        await seat.send()
        with refused() as refusal:
            await stubs.risks.ClearMark(clear)
        assert refusal.code is grpc.StatusCode.NOT_FOUND
    with open_store(store) as kept:
        actions = kept.actions("BTC")
        assert actions.action.tolist() == ["set mark", "clear mark"]
        assert set(actions.operator) == {"ann"}
        found = list(audit(kept))
    assert [one.verdict for one in found] == [Verdict.IDENTICAL] * 6


async def test_an_expiry_that_is_held_alone_stands_while_the_others_go_on(tmp_path: Path) -> None:
    """Under levels, marks and a restart; and an audit builds all of it again."""
    store, expiry = str(tmp_path / "calib.db"), timestamp(FIRST)
    async with seated(store=store) as (seat, stubs):
        seat.step = 30.0  # more than a first fit takes, by which the market's clock runs on
        await seat.send()
        await stubs.risks.SetMark(mark_request())
        marked = await seat.send()  # the last good one, under a mark
        force = rpc.ForceBreakerRequest(
            underlying="BTC", expiry=expiry, level=model_risk_pb2.BREAKER_LEVEL_HELD, **SIGNED
        )
        await stubs.risks.ForceBreaker(force)
        held = await seat.client.get("BTC")
        assert held.level is BreakerLevel.NORMAL
        assert held.revision > marked.revision
        hold = Hold(marked.quote_time, marked.surface.epoch, marked.revision, 1.0)
        assert [one.hold for one in held.surface.expiries] == [hold] + [None] * 4
        assert atm_vol(held.surface) == pytest.approx(0.61, abs=1e-12)
        await seat.client.publish_levels(
            "BTC",
            venue="test",
            quote_time=seat.time,
            forwards={one.expiry: 1.001 * one.forward for one in held.surface.expiries},
        )
        along = await seat.client.get("BTC")
        assert [one.forward for one in along.surface.expiries] == pytest.approx([70_070.0] * 5)
        clear = rpc.ClearMarkRequest(
            underlying="BTC", expiry=expiry, handle=surface_pb2.MARK_HANDLE_ATM_VOL, **SIGNED
        )
        moved = await seat.send(shifted(0.001))
        assert moved.surface.expiries[0].hold == hold
        assert moved.surface.expiries[0].forward == held.surface.expiries[0].forward
        await stubs.risks.ClearMark(clear)
        bare = await seat.client.get("BTC")
        assert bare.surface.expiries[0].hold == hold
        assert atm_vol(bare.surface) == pytest.approx(0.6, abs=2e-3)
        assert bare.surface.expiries[1:] == moved.surface.expiries[1:]
    async with seated(store=store) as (seat, stubs):  # a restart
        seat.seconds = 600.0
        again = await seat.send()
        stands = again.surface.expiries[0].hold
        assert stands is not None
        assert stands.quote_time == hold.quote_time
        assert atm_vol(again.surface) == pytest.approx(atm_vol(bare.surface), rel=1e-12)
        await stubs.risks.ReleaseBreaker(
            rpc.ReleaseBreakerRequest(underlying="BTC", expiry=expiry, **SIGNED)
        )
        free = await seat.client.get("BTC")  # at once, no new quotes needed
        assert free.revision > again.revision
        assert free.quote_time == again.quote_time
        assert all(one.hold is None for one in free.surface.expiries)
    with open_store(store) as kept:
        found = list(audit(kept))
    assert len(found) > 6
    assert [one.detail for one in found if one.verdict is not Verdict.IDENTICAL] == []


async def test_what_was_held_is_never_taken_for_good(tmp_path: Path) -> None:
    """Though the underlying is held meanwhile, marks change, and the server starts again."""
    store, second = str(tmp_path / "calib.db"), timestamp(FIRST + np.timedelta64(7, "D"))
    held = model_risk_pb2.BREAKER_LEVEL_HELD
    whole = rpc.ForceBreakerRequest(underlying="BTC", level=held, **SIGNED)
    one = rpc.ForceBreakerRequest(underlying="BTC", expiry=timestamp(FIRST), level=held, **SIGNED)
    release = rpc.ReleaseBreakerRequest(underlying="BTC", **SIGNED)
    release_one = rpc.ReleaseBreakerRequest(underlying="BTC", expiry=timestamp(FIRST), **SIGNED)
    async with seated(store=store) as (seat, stubs):
        seat.step = 30.0
        good = await seat.send()
        await stubs.risks.ForceBreaker(one)
        stands = (await seat.send(shifted(0.02))).surface.expiries[0]
        assert atm_vol(seat.seen[-1].surface) == pytest.approx(atm_vol(good.surface), rel=1e-12)
        await seat.client.publish_levels(
            "BTC",
            venue="test",
            quote_time=seat.time,
            forwards={each.expiry: 1.001 * each.forward for each in good.surface.expiries},
        )
        moved = (await seat.client.get("BTC")).surface
        assert moved.expiries[0].hold == stands.hold
        assert moved.expiries[0].forward == pytest.approx(1.001 * stands.forward)
        await stubs.risks.ForceBreaker(whole)
        await stubs.risks.ReleaseBreaker(release_one)
        await stubs.risks.SetMark(mark_request(expiry=second, pinned=False, value=0.001))
        marked = await seat.client.get("BTC")
        assert len(marked.surface.marks) == 1
        # All else is as it stood, and as the levels had moved it.
        assert marked.surface.expiries[0] == moved.expiries[0]
        assert marked.surface.expiries[2:] == moved.expiries[2:]
        await stubs.risks.ForceBreaker(one)
    async with seated(store=store) as (seat, stubs):  # a restart, all of it held
        seat.seconds = 600.0
        await seat.send(shifted(0.02))
        await stubs.risks.ReleaseBreaker(release)
        again = await seat.send(shifted(0.02))
        hold = again.surface.expiries[0].hold
        assert hold is not None
        assert (hold.quote_time, hold.share) == (good.quote_time, 1.0)
        assert atm_vol(again.surface) == pytest.approx(atm_vol(marked.surface), rel=1e-12)
    with open_store(store) as kept:
        found = list(audit(kept))
    assert [one.detail for one in found if one.verdict is not Verdict.IDENTICAL] == []


async def test_a_good_smile_is_known_after_a_restart_amid_a_jump(tmp_path: Path) -> None:
    """The surface in force is from before the jump, which held all of it."""
    store, held = str(tmp_path / "calib.db"), model_risk_pb2.BREAKER_LEVEL_HELD
    whole = rpc.ForceBreakerRequest(underlying="BTC", level=held, **SIGNED)
    one = rpc.ForceBreakerRequest(underlying="BTC", expiry=timestamp(FIRST), level=held, **SIGNED)
    async with seated(store=store) as (seat, stubs):
        good = await seat.send()
        await stubs.risks.ForceBreaker(whole)
        await stubs.risks.ForceBreaker(one)
    async with seated(store=store) as (seat, stubs):
        seat.seconds = 600.0
        await stubs.risks.ReleaseBreaker(rpc.ReleaseBreakerRequest(underlying="BTC", **SIGNED))
        again = await seat.send(shifted(0.02))
        hold = again.surface.expiries[0].hold
        assert hold == Hold(good.quote_time, good.surface.epoch, good.revision, 1.0)
        assert atm_vol(again.surface) == pytest.approx(atm_vol(good.surface), rel=1e-12)


async def test_a_mark_ends_at_its_end(start: Start) -> None:
    server, client = await start(quote_max_age="1s")
    seat = Seat(server, client)
    await seat.send()
    async with grpc.aio.insecure_channel(server.address) as channel:
        await Stubs(channel).risks.SetMark(mark_request(until=after(seat.seconds + 1.0)))
    assert (await client.get("BTC")).surface.marks

    async def unmarked() -> bool:
        return not (await client.get("BTC")).surface.marks

    await eventually(unmarked)  # by the clock alone, no quotes coming
    assert atm_vol((await client.get("BTC")).surface) == pytest.approx(0.6, abs=2e-3)


async def test_a_restart_begins_where_the_breakers_stood(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"store": str(tmp_path / "calib.db"), "model_risk": {}}
    async with seated(**changes) as (seat, stubs):
        for _ in range(3):
            good = await seat.send()
        assert (await seat.send(shifted(0.05))).level is BreakerLevel.HELD
        force = rpc.ForceBreakerRequest(
            underlying="BTC",
            expiry=timestamp(FIRST),
            level=model_risk_pb2.BREAKER_LEVEL_HALTED,
            **SIGNED,
        )
        await stubs.risks.ForceBreaker(force)
    async with seated(**changes) as (seat, stubs):
        update = await seat.client.get("BTC")
        assert update.surface.expiries == good.surface.expiries
        assert update.reported_state is SurfaceState.STALE
        assert update.risk is not None
        assert update.level is BreakerLevel.HELD
        assert [one.level.name for one in update.risk.expiries] == ["HALTED"] + ["HELD"] * 4
        assert [one.forced for one in update.risk.expiries] == [True] + [False] * 4
        seat.seconds = 10.0
        assert (await seat.send()).level is BreakerLevel.HELD
        assert await seat.until(BreakerLevel.WIDENED) > 30
        assert seat.seen[-1].risk is not None
        assert seat.seen[-1].risk.expiries[0].level is BreakerLevel.HALTED


async def test_what_evidence_came_to_under_a_force_stands_after_a_restart(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"store": str(tmp_path / "calib.db"), "model_risk": {}}
    async with seated(**changes) as (seat, stubs):
        for _ in range(3):
            await seat.send()
        force = rpc.ForceBreakerRequest(
            underlying="BTC", level=model_risk_pb2.BREAKER_LEVEL_NORMAL, **SIGNED
        )
        await stubs.risks.ForceBreaker(force)
        assert (await seat.send(shifted(0.05))).level is BreakerLevel.NORMAL
    async with seated(**changes) as (seat, stubs):
        assert (await seat.client.get("BTC")).level is BreakerLevel.NORMAL
        release = rpc.ReleaseBreakerRequest(underlying="BTC", **SIGNED)
        answer = await stubs.risks.ReleaseBreaker(release)
        assert answer.model_risk.level == model_risk_pb2.BREAKER_LEVEL_HELD


async def test_a_halt_stands_after_a_restart_that_finds_no_surface(tmp_path: Path) -> None:
    fitter = Breakable()
    changes: dict[str, Any] = {"store": str(tmp_path / "calib.db"), "model_risk": {}}
    async with seated(fitter, **changes) as (seat, stubs):
        fitter.broken = True
        await seat.client.publish(seat.quotes())

        async def judged() -> bool:
            return seat.judged == 1

        await eventually(judged)
        force = rpc.ForceBreakerRequest(
            underlying="BTC", level=model_risk_pb2.BREAKER_LEVEL_HALTED, **SIGNED
        )
        await stubs.risks.ForceBreaker(force)
    fitter.broken = False
    async with seated(fitter, **changes) as (seat, stubs):
        seat.seconds = 10.0
        await seat.client.publish(seat.quotes())
        await eventually(judged)
        with pytest.raises(NotFitted):
            await seat.client.get("BTC")
        told = await stubs.risks.GetModelRisk(rpc.GetModelRiskRequest(underlying="BTC"))
        assert told.assessment.model_risk.level == model_risk_pb2.BREAKER_LEVEL_HALTED
        await stubs.risks.ReleaseBreaker(rpc.ReleaseBreakerRequest(underlying="BTC", **SIGNED))
        told = await stubs.risks.GetModelRisk(rpc.GetModelRiskRequest(underlying="BTC"))
        # What the evidence had come to before: the failure is served a probation for.
        assert told.assessment.model_risk.level == model_risk_pb2.BREAKER_LEVEL_HELD


def backtested(path: str, start: np.datetime64) -> None:
    """Two chains six hours apart into a store, the second half as high again."""
    history = []
    for hours, vol in ((0, 0.6), (6, 0.9)):
        at = start + np.timedelta64(hours, "h")
        history.append(chain_at(smile_quotes(at=at, vol=vol), "BTC", at))
    with open_store(path, create=True) as store:
        for step in replayed(history):
            store.append([step_entry(step, ModelName.SVI)])
        assert "HELD" in set(store.transitions().after)


async def test_a_server_begins_where_its_own_last_run_ended_whatever_history_came_after(
    tmp_path: Path,
) -> None:
    changes: dict[str, Any] = {"store": str(tmp_path / "calib.db"), "model_risk": {}}
    async with seated(**changes) as (seat, stubs):
        await seat.send()
        force = rpc.ForceBreakerRequest(
            underlying="BTC", level=model_risk_pb2.BREAKER_LEVEL_WIDENED, **SIGNED
        )
        await stubs.risks.ForceBreaker(force)
        await stubs.risks.ReleaseBreaker(rpc.ReleaseBreakerRequest(underlying="BTC", **SIGNED))
        good = await seat.client.get("BTC")
    await asyncio.to_thread(backtested, changes["store"], START - np.timedelta64(30, "D"))
    async with seated(**changes) as (seat, _):
        update = await seat.client.get("BTC")
        assert update.surface.expiries == good.surface.expiries
        assert update.level is BreakerLevel.NORMAL


async def test_a_server_begins_where_a_backtest_in_its_store_left_the_breakers(
    tmp_path: Path,
) -> None:
    path = str(tmp_path / "calib.db")
    await asyncio.to_thread(backtested, path, START)
    async with seated(store=path) as (seat, _):
        update = await seat.client.get("BTC")
        assert update.reported_state is SurfaceState.STALE
        assert update.level is BreakerLevel.HELD


async def test_a_report_of_a_live_store_tells_forecasts_and_failures(tmp_path: Path) -> None:
    fitter, path = Breakable(), str(tmp_path / "calib.db")
    async with seated(fitter, store=path, store_metrics_every="2s") as (seat, _):
        for _ in range(5):
            await seat.send()
        fitter.broken = True
        for _ in range(2):
            await seat.send()
    page = tmp_path / "report.html"
    assert command("report", "--store", path, "--out", page).code == 0
    reader = Reader(page.read_text("utf-8"))
    # Of the chains after 1, 3, 5 and 7 seconds, the second and third were foretold.
    assert "1 of 4 chains gave no surface." in reader.text
    covered = next(i for i, row in enumerate(reader.rows) if row[:2] == ["tenor", "next quotes"])
    tenors = {row[0]: row for row in reader.rows[covered + 1 :]}
    foretold = [row[1] for row in reader.rows[covered + 1 : covered + 1 + len(tenors)]]
    assert str(2 * len(DAYS) * STRIKES) in foretold


async def test_histories_are_paged(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "store": str(tmp_path / "calib.db"),
        "model_risk": {},
        "store_metrics_every": "2s",
    }
    async with seated(**changes) as (seat, stubs):
        for _ in range(5):
            await seat.send()
        await seat.send(shifted(0.05))

        async def stored() -> bool:
            page = await stubs.risks.ListTransitions(rpc.ListTransitionsRequest(underlying="BTC"))
            return len(page.transitions) == 6

        await eventually(stored)
        found: list[model_risk_pb2.Transition] = []
        token = ""
        while True:
            request = rpc.ListTransitionsRequest(page_size=4, page_token=token)
            page = await stubs.risks.ListTransitions(request)
            found += page.transitions
            token = page.next_page_token
            if not token:
                break
        assert len(found) == 6
        assert {one.after for one in found} == {model_risk_pb2.BREAKER_LEVEL_HELD}
        assert {one.trigger for one in found} == {"innovation", "expiries held"}
        assert all(one.value >= one.limit for one in found)
        alarms = (await stubs.risks.ListAlarms(rpc.ListAlarmsRequest())).alarms
        assert {one.metric for one in alarms} == {"level"}
        metrics = (await stubs.risks.ListMetrics(rpc.ListMetricsRequest())).metrics
        whole = [
            instant(one.quote_time, "t")
            for one in metrics
            if any(value.name == "subject" and value.text == "surface" for value in one.values)
        ]
        # At most every two seconds, and with all that changes anything.
        assert whole == [START + micros(timedelta(seconds=s)) for s in (1, 3, 5, 6)]
        with refused() as refusal:
            await stubs.risks.ListAlarms(rpc.ListAlarmsRequest(page_token="x"))
        assert refusal.fields == ["page_token"]


async def test_meters_are_read_over_http() -> None:
    async with seated(metrics="127.0.0.1:0", model_risk={}) as (seat, _):
        for _ in range(3):
            await seat.send()
        await seat.send(shifted(0.05))
        address = seat.server.metrics_address
        text = await asyncio.to_thread(lambda: urlopen(f"http://{address}").read().decode())
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert lines['calib_fits_total{underlying="BTC"}'] == "4.0"
    assert lines['calib_breaker_level{underlying="BTC"}'] == "2.0"
    assert lines['calib_breaker_expiries{level="HELD",underlying="BTC"}'] == "5.0"
    assert float(lines['calib_fit_seconds_count{underlying="BTC"}']) == 4.0
    assert any(name.startswith("calib_alarms_total{chart=") for name in lines)


def another_view(jobs: Sequence[FitJob]) -> list[Fit]:
    """A fitter whose other models, which take long to compile, see all vols 0.2 higher."""
    return fit_batch([job if job.model is ModelName.SVI else _raised(job) for job in jobs])


def _raised(job: FitJob) -> FitJob:
    quotes = shifted(0.002)(job.chain.quotes)
    return replace(job, model=ModelName.SVI, chain=replace(job.chain, quotes=quotes))


async def test_other_models_are_weighed_beside_the_one_in_force() -> None:
    limits = {"models_disagree": {"widened": 0.3, "held": 2.0}}  # the half-spread is 5e-3
    close = {"breakers": {"limits": limits}}
    async with seated(another_view, compare_every="200ms", model_risk=close) as (seat, _):

        async def widened() -> bool:
            update = await seat.send()
            assert update.risk is not None
            return any(one.cause.startswith("models disagree") for one in update.risk.expiries)

        assert not await widened()  # nothing was compared yet
        await eventually(widened)
        assert seat.seen[-1].surface.model is ModelName.SVI


def test_a_store_that_fails_raises_one_alarm_and_one_more_for_what_is_lost() -> None:
    well = WriterState(0, 0, 0, None, "")
    fails = WriterState(7, 9_000, 0, datetime(2026, 3, 2, 8, tzinfo=UTC), "disk full")
    loses = replace(fails, lost=3)
    state = [well]
    watch = StoreWatch(lambda: state[-1], now=lambda: START + np.timedelta64(5, "s"))
    assert watch.look() == ()
    state.append(fails)
    (alarm,) = watch.look()
    assert (alarm.underlying, alarm.chart, alarm.metric) == ("", "store", "failing")
    assert "disk full" in alarm.cause
    assert "7 entries wait" in alarm.cause
    assert alarm.value == 5.0
    assert (watch.look(), watch.standing) == ((), alarm)
    state.append(loses)
    (alarm,) = watch.look()
    assert (alarm.metric, alarm.value, alarm.limit) == ("lost", 3.0, 0.0)
    state.append(replace(well, lost=3))
    assert (watch.look(), watch.standing) == ((), None)
    state.append(loses)
    assert [alarm.metric for alarm in watch.look()] == ["failing"]
