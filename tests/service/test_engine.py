"""The engine: batches that grow under load, failures that stay alone, a free event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from calib.conventions import ExpiryCalendar
from calib.errors import NotFitted, Unavailable
from calib.fitting.fit_value import Fit
from calib.fitting.settings import FitSettings
from calib.market.slicing import slices_of
from calib.quotes.chain import chain_at
from calib.service.fit_thread import FitJob, FitThread, fit_batch
from calib.service.readiness import Readiness
from calib.service.server import running
from calib.service.settings import ServiceSettings
from calib.service.warm_up import usual_shapes
from calib.states import ModelName, SurfaceState
from calib.store import open_store
from calib.v1 import calibration_service_pb2
from tests.service.calls import Stubs, refused
from tests.service.conftest import Start
from tests.service.samples import START, at_time, smile_quotes, surface
from tests.service.test_doors import good_batch
from tests.store.samples import published


def nothing_of(job: FitJob) -> Fit:
    """A fit that fitted nothing, at no cost."""
    slices = slices_of(job.chain)
    vols = np.full(len(job.chain.quotes), np.nan)
    none = replace(surface(), model=job.model, expiries=())
    return Fit(none, slices, (), vols, slices.reason, (), FitSettings())


class Watched:
    """The project's fitter, with a gate in front and a poisoned underlying."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()
        self._begun = threading.Semaphore(0)

    async def begins(self) -> None:
        """Wait until the next batch is there."""
        assert await asyncio.to_thread(self._begun.acquire, timeout=30.0)

    def __call__(self, jobs: Sequence[FitJob], /) -> list[Fit]:
        self.threads.add(threading.get_ident())
        self.batches.append([job.chain.underlying for job in jobs])
        self._begun.release()
        self.gate.wait(30.0)
        if any(job.chain.underlying == "POISON" for job in jobs):
            raise ZeroDivisionError("secret of the fitter")
        return fit_batch(jobs)


async def test_a_fit_that_fails_stops_no_other(start: Start) -> None:
    fitter = Watched()
    _, client = await start(fitter=fitter)
    fitter.gate.clear()
    await client.publish(smile_quotes("FIRST"))
    for name in ("A", "POISON", "B"):
        await client.publish(smile_quotes(name))
    fitter.gate.set()
    found = set()
    async for update in client.watch():
        found.add(update.underlying)
        if len(found) == 3:
            break
    assert found == {"FIRST", "A", "B"}
    with pytest.raises(NotFitted):
        await client.get("POISON")
    # Together first; then each alone, so that the one at fault is known.
    assert fitter.batches[1:] == [["A", "POISON", "B"], ["A"], ["POISON"], ["B"]]


async def test_what_comes_while_a_fit_runs_is_fitted_as_one_batch_and_once(start: Start) -> None:
    fitter = Watched()
    _, client = await start(fitter=fitter)
    await client.publish(smile_quotes("A"))
    await anext(client.watch(["A"]))
    await fitter.begins()
    fitter.gate.clear()
    await client.publish(smile_quotes("A", at=START + np.timedelta64(1, "s")))
    await fitter.begins()
    async with client.publisher() as publisher:  # answers although the fit is stuck
        for i in range(2, 20):
            for name in ("A", "B", "C"):
                await publisher.send(smile_quotes(name, at=START + np.timedelta64(i, "s")))
    fitter.gate.set()
    last = START + np.timedelta64(19, "s")
    async for update in client.watch(["C"]):
        if update.quote_time == last:
            break
    assert fitter.batches == [["A"], ["A"], ["A", "B", "C"]]
    assert (await client.get("A")).quote_time == last
    assert len(fitter.threads) == 1
    assert threading.get_ident() not in fitter.threads


async def test_levels_are_followed_while_a_fit_runs_and_by_what_it_comes_to(start: Start) -> None:
    fitter = Watched()
    _, client = await start(fitter=fitter, level_stickiness=0.0)
    quotes = smile_quotes("BTC", forward=70_000.0)
    await client.publish(quotes)
    updates = client.watch(["BTC"])
    first = await anext(updates)
    await fitter.begins()
    fitter.gate.clear()
    later = START + np.timedelta64(1, "s")
    await client.publish(at_time(quotes, later))
    await fitter.begins()
    forwards = {one.expiry: 71_000.0 for one in first.surface.expiries}
    tick = later + np.timedelta64(1, "s")
    await client.publish_levels("BTC", venue="test", quote_time=tick, forwards=forwards)
    moved = await asyncio.wait_for(anext(updates), 10.0)
    assert moved.quote_time == first.quote_time
    assert [one.forward for one in moved.surface.expiries] == pytest.approx([71_000.0] * 3)
    fitter.gate.set()
    while moved.quote_time == first.quote_time:
        moved = await asyncio.wait_for(anext(updates), 10.0)
    if moved.surface.expiries[0].forward == 70_000.0:  # the fit, and at once what has become of it
        moved = await asyncio.wait_for(anext(updates), 10.0)
    assert moved.quote_time == later
    assert [one.forward for one in moved.surface.expiries] == pytest.approx([71_000.0] * 3)


async def test_a_warm_fit_starts_from_the_last_surface(start: Start) -> None:
    previous = []

    def fitter(jobs: Sequence[FitJob]) -> list[Fit]:
        previous.append(jobs[0].previous)
        return fit_batch(jobs)

    _, client = await start(fitter=fitter)
    updates = client.watch(["A"])
    await client.publish(smile_quotes("A"))
    first = await anext(updates)
    await client.publish(smile_quotes("A", at=START + np.timedelta64(1, "s")))
    await anext(updates)
    assert previous[0] is None
    assert previous[1] is not None
    assert previous[1].expiries == first.surface.expiries


async def test_an_unexpected_error_gives_a_number_and_no_text(start: Start) -> None:
    server, _ = await start(fitter=Watched())
    async with grpc.aio.insecure_channel(server.address) as channel:
        request = calibration_service_pb2.CalibrateRequest(batches=[good_batch("POISON")])
        with refused() as refusal:
            await Stubs(channel).calibration.Calibrate(request)
    assert refusal.code is grpc.StatusCode.INTERNAL
    assert "secret" not in refusal.message
    assert "ZeroDivision" not in refusal.message
    correlation = refusal.metadata["correlation_id"]
    assert len(correlation) == 32
    assert correlation in refusal.message


async def test_calibrations_are_bounded(start: Start) -> None:
    fitter = Watched()
    server, _ = await start(fitter=fitter, max_calibrations=2)
    fitter.gate.clear()
    async with grpc.aio.insecure_channel(server.address) as channel:
        stubs = Stubs(channel)
        request = calibration_service_pb2.CalibrateRequest(batches=[good_batch()])
        waiting = [asyncio.ensure_future(_calibrate(stubs, request)) for _ in range(2)]
        await fitter.begins()
        await asyncio.sleep(0.1)
        with refused() as refusal:
            await stubs.calibration.Calibrate(request)
        assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refusal.retry_seconds == 0.5
        fitter.gate.set()
        answers = await asyncio.gather(*waiting)
        assert all(answer.HasField("surface") for answer in answers)
        await stubs.calibration.Calibrate(request)


async def _calibrate(
    stubs: Stubs, request: calibration_service_pb2.CalibrateRequest
) -> calibration_service_pb2.CalibrateResponse:
    return await stubs.calibration.Calibrate(request)


async def test_until_it_is_warm_the_server_hands_out_but_takes_nothing_in(
    start: Start, tmp_path: Path
) -> None:
    with open_store(str(tmp_path / "calib.db"), create=True) as store:
        store.append(published([surface("BTC", epoch="before", revision=7)]))
    gate, met = threading.Event(), []

    def fitter(jobs: Sequence[FitJob]) -> list[Fit]:
        met.append(jobs[0].chain.underlying)
        gate.wait(30.0)
        return [nothing_of(job) for job in jobs]

    server, client = await start(
        fitter=fitter, warm=False, warm_up=True, store=str(tmp_path / "calib.db")
    )
    assert (await client.get("BTC")).reported_state is SurfaceState.STALE
    for call in (client.publish(smile_quotes()), client.calibrate(smile_quotes())):
        with pytest.raises(Unavailable, match="starting up"):
            await call
    with pytest.raises(Unavailable, match="starting up"):
        await client.wait_until_serving(0.2)
    async with grpc.aio.insecure_channel(server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)

        async def status(service: str) -> int:
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
            return int(answer.status)

        serving, not_serving = 1, 2
        assert await status("") == not_serving
        assert await status("calib.v1.QuoteService") == not_serving
        assert await status("calib.v1.SurfaceService") == serving
        gate.set()
        await client.wait_until_serving()
        assert await status("") == serving
        assert await status("calib.v1.QuoteService") == serving
    assert set(met) == {"warm-up"}
    assert (await client.publish(smile_quotes())).accepted == 45


async def test_what_a_call_is_refused_with_holds_nothing_of_other_calls() -> None:
    readiness = Readiness(readers=(), workers=())
    for _ in range(2):
        with pytest.raises(Unavailable, match="starting up") as starting:
            readiness.require_warm()
        assert len(starting.traceback) == 2
    await readiness.ending()
    for _ in range(2):
        with pytest.raises(Unavailable, match="going down") as ending:
            readiness.require_open()
        assert len(ending.traceback) == 2


async def test_a_server_that_ends_while_it_warms_up_does_not_compile_the_rest() -> None:
    begun = threading.Semaphore(0)
    met = []

    def fitter(jobs: Sequence[FitJob]) -> list[Fit]:
        met.append(jobs)
        begun.release()
        time.sleep(0.2)
        return [nothing_of(job) for job in jobs]

    async with running(
        ServiceSettings(listen="127.0.0.1:0", store=None, warm_up=True), fitter=fitter
    ):
        assert await asyncio.to_thread(begun.acquire, timeout=30.0)
    assert len(met) < 2 * len(usual_shapes([ModelName.SVI], [12, 16]))


async def test_jobs_of_other_models_are_batches_of_their_own() -> None:
    seen = []

    def fitter(jobs: Sequence[FitJob]) -> list[Fit]:
        seen.append([job.model for job in jobs])
        return fit_batch(jobs)

    thread = FitThread(fitter)
    chains = [smile_quotes(name) for name in ("A", "B", "C")]
    models = [ModelName.SVI, ModelName.ESSVI, ModelName.SVI]
    jobs = [
        FitJob(chain_at(q, n, START), m, ExpiryCalendar.SAME_ASSET)
        for q, n, m in zip(chains, "ABC", models, strict=True)
    ]
    outcomes = await thread.fit(jobs)
    thread.close()
    assert seen == [[ModelName.SVI, ModelName.SVI], [ModelName.ESSVI]]
    assert [o.fit.surface.underlying for o in outcomes if o.fit] == ["A", "B", "C"]
    assert [o.fit.surface.model for o in outcomes if o.fit] == models
    assert len({o.input_hash for o in outcomes}) == 3


async def test_the_event_loop_stays_free_while_a_fit_runs(start: Start) -> None:
    fitter = Watched()
    _, client = await start(fitter=fitter)
    fitter.gate.clear()
    await client.publish(smile_quotes("A"))
    await fitter.begins()
    for _ in range(20):
        with pytest.raises(NotFitted):
            await client.get("A")
    fitter.gate.set()
    assert (await anext(client.watch(["A"]))).surface.expiries
