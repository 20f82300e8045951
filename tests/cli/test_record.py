"""`calib record` as a process: a market, or what a server takes, on the disk to the last bit."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import threading
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import calib
from calib.cli.record import _record
from calib.client import Client
from calib.errors import InvalidRequest
from calib.feeds.simulated.underlying import default_underlyings
from calib.feeds.simulator import SimulatorSettings, simulate
from calib.jobs.quote_source import QuoteSource
from calib.jobs.recorder import Recorder
from calib.quotes.chain import chains
from calib.quotes.table import QuoteTable, joined
from tests.cli.backtest_run import command
from tests.cli.processes import process
from tests.feeds.exchange import exchange, listed
from tests.jobs.recorded import accepted, said, withdrawn
from tests.service.processes import free_port, metric, serving
from tests.service.samples import START, at_time, smile_quotes


async def test_a_market_is_recorded_and_calibrated(tmp_path: Path) -> None:
    folder = tmp_path / "quotes"
    async with exchange(listed()) as one:
        recorded = await process(
            "record", "deribit", "--currency", "BTC", "--out", folder, "--url", one.url,
            "--seconds", 3,
        )  # fmt: skip
        out, err = await asyncio.wait_for(recorded.communicate(), 60.0)
    assert recorded.returncode == 0, err.decode()
    assert "rows written" in out.decode()
    ended = command("recalibrate", folder, "--store", tmp_path / "calib.db", "--every", "10min")
    assert ended.code == 0, ended.err


def market() -> list[QuoteTable]:
    """Two underlyings on two venues, moment after moment; some rows are refused."""
    settings = SimulatorSettings(
        underlyings=default_underlyings(2), expiries=3, strikes=9, snapshots=5
    )
    frame = simulate(settings).quotes
    other = frame.assign(venue="other", bid=0.5 * frame["bid"], ask=1.5 * frame["ask"])
    frame.loc[frame.index[::50], "bid"] = frame["ask"] * 2.0  # crossed
    frame.loc[frame.index[7::50], ["bid", "ask"]] = np.nan  # withdrawn
    tables = [calib.quotes_from_frame(one) for one in (frame, other)]
    times = np.unique(tables[0].quote_time)
    return [one.take(one.quote_time == time) for time in times for one in tables]


async def publish(client: Client, tables: list[QuoteTable]) -> None:
    async with client.publisher() as publisher:
        for table in tables:
            await publisher.send(table, snapshot_complete=False)  # nothing has to be fitted


async def watched(metrics: str, by: int = 1) -> None:
    async with asyncio.timeout(30.0):
        while await asyncio.to_thread(metric, metrics, "calib_quote_watches") != by:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def ended(server: Process, recorder: Process) -> None:
    """Let the server end, and the recorder have all that it was told before."""
    server.terminate()
    assert recorder.stderr is not None
    async with asyncio.timeout(30.0):
        while b"is going down" not in (line := await recorder.stderr.readline()):
            assert line, "the recorder has ended"
    await server.wait()


async def finished(recorder: Process, number: signal.Signals) -> str:
    recorder.send_signal(number)
    out, err = await asyncio.wait_for(recorder.communicate(), 20.0)
    assert recorder.returncode == 0, err.decode()
    return " ".join(out.decode().split())


async def test_what_a_server_takes_is_recorded_over_restarts_of_both(tmp_path: Path) -> None:
    listen, metrics = (f"127.0.0.1:{free_port()}" for _ in range(2))
    tables, folder = market(), tmp_path / "quotes"
    record = ("record", "server", "--from", listen, "--out", folder)

    async with serving(None, listen=listen, METRICS=metrics) as (server, client):
        await publish(client, tables[:2])
        first = await process(*record)
        await watched(metrics)
        await publish(client, tables[2:6])
        await ended(server, first)
    async with serving(None, listen=listen, METRICS=metrics) as (server, client):
        await publish(client, tables[4:8])  # a feed begins with what stands at the venue
        await watched(metrics)
        said_first = await finished(first, signal.SIGTERM)
        await watched(metrics, by=0)
        second = await process(*record)
        await watched(metrics)
        await publish(client, tables[8:])
        await ended(server, second)
        said_second = await finished(second, signal.SIGINT)

    taken = [accepted(one) for one in tables]
    assert 0 < sum(map(len, taken)) < sum(map(len, tables))
    found = calib.read_quotes(folder)
    ends = np.isnan(found.spot)
    assert said(found.take(~ends)) == said(joined(taken))
    # What a row that was refused has ended is withdrawn, unless nobody was told then.
    one, other = withdrawn(tables[:6]), withdrawn(tables[4:])
    last = set().union(*other[4:])
    assert set().union(*one, *other) >= set(said(found.take(ends))) >= last.union(*one[2:])
    assert last
    assert "interrupted once" in said_first
    assert f"{len(taken[8]) + len(taken[9]) + len(last)} rows written" in said_second
    ended_well = command("recalibrate", folder, "--store", tmp_path / "calib.db")
    assert ended_well.code == 0, ended_well.err


async def test_what_is_withdrawn_in_a_chain_is_withdrawn_in_its_recording(tmp_path: Path) -> None:
    listen, metrics = (f"127.0.0.1:{free_port()}" for _ in range(2))
    folder, chain = tmp_path / "quotes", smile_quotes()
    bid = chain.bid.copy()
    bid[4] = 2.0  # crossed
    later = [at_time(one, START + np.timedelta64(60 * i, "s")) for i, one in enumerate(
        (chain, replace(chain, bid=bid).take(np.arange(40)), chain.take(np.arange(8, 40)))
    )]  # fmt: skip
    async with serving(None, listen=listen, METRICS=metrics) as (server, client):
        recorder = await process("record", "server", "--from", listen, "--out", folder)
        await watched(metrics)
        async with client.publisher() as publisher:
            for one in later:
                await publisher.send(one, snapshot_complete=True)
        await ended(server, recorder)
        await finished(recorder, signal.SIGTERM)
    for found in (calib.read_quotes(folder), quotes_of_days(folder)):
        *_, first, second, third = chains(found, every=timedelta(minutes=1))
        assert [int(one.quotes.usable.sum()) for one in (first, second, third)] == [45, 39, 32]


def quotes_of_days(folder: Path) -> QuoteTable:
    source = QuoteSource([str(folder)])
    return joined([source.quotes(unit) for unit in source.units])


async def test_a_disk_that_fails_in_a_quiet_market_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def once() -> AsyncGenerator[Callable[[], QuoteTable]]:
        yield smile_quotes
        await asyncio.Event().wait()

    monkeypatch.setattr("calib.cli.record._FLUSH_SECONDS", 0.05)
    recorder = Recorder(tmp_path / "quotes")
    shutil.rmtree(recorder.folder)
    recorder.folder.touch()
    async with asyncio.timeout(20.0):
        with pytest.raises(InvalidRequest, match="quotes cannot be written"):
            await _record(once(), recorder, None, Console(), str)


async def test_a_missing_right_and_a_folder_that_is_none_are_named(tmp_path: Path) -> None:
    rights = json.dumps({"anonymous": {"read": ["BTC"], "publish": ["BTC"]}})
    (tmp_path / "file").touch()
    async with serving(None, IDENTITIES=rights) as (_, client):
        await client.publish(smile_quotes(), snapshot_complete=False)
        for name, out, message in (
            ("ETH", "quotes", "'anonymous' may not read 'ETH'"),
            ("BTC", "file", "file cannot be written:"),
        ):
            recorder = await process(
                *("record", "server", name, "--from", client.target),
                *("--out", tmp_path / out, "--seconds", 2),
            )
            _, err = await asyncio.wait_for(recorder.communicate(), 30.0)
            assert recorder.returncode == 2
            assert message in " ".join(err.decode().split())


async def test_another_recording_into_the_same_folder_is_refused(tmp_path: Path) -> None:
    async with exchange(listed()) as one:
        with Recorder(tmp_path):
            recorder = await process(
                *("record", "deribit", "--currency", "BTC", "--url", one.url, "--out", tmp_path),
            )
            _, err = await asyncio.wait_for(recorder.communicate(), 30.0)
    assert recorder.returncode == 2
    assert "another recorder writes there" in " ".join(err.decode().split())


async def test_the_loop_goes_on_while_rows_are_taken(tmp_path: Path) -> None:
    began, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    class Slow(Recorder):
        def take(self, quotes: QuoteTable) -> None:
            loop.call_soon_threadsafe(began.set)
            assert go.wait(20.0)  # until the loop has seen to something else
            super().take(quotes)

    async def once() -> AsyncGenerator[Callable[[], QuoteTable]]:
        yield smile_quotes

    async def elsewhere() -> None:
        await began.wait()
        go.set()

    recorder = Slow(tmp_path)
    async with asyncio.timeout(30.0):
        await asyncio.gather(_record(once(), recorder, None, Console(), str), elsewhere())
    assert len(calib.read_quotes(tmp_path)) == recorder.rows == 45


async def test_rows_that_are_being_taken_when_it_ends_are_written(tmp_path: Path) -> None:
    began, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    class Slow(Recorder):
        def take(self, quotes: QuoteTable) -> None:
            loop.call_soon_threadsafe(began.set)
            assert go.wait(20.0)
            super().take(quotes)

    async def once() -> AsyncGenerator[Callable[[], QuoteTable]]:
        yield smile_quotes

    recorder = Slow(tmp_path)
    recording = asyncio.create_task(_record(once(), recorder, None, Console(), str))
    async with asyncio.timeout(30.0):
        await began.wait()
        recording.cancel()
        loop.call_later(0.1, go.set)
        with pytest.raises(asyncio.CancelledError):
            await recording
    assert len(calib.read_quotes(tmp_path)) == 45


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    ended = command("record", "server", "--from", "127.0.0.1:1", "--out", tmp_path / "quotes")
    assert ended.code == 2
    assert "no calib server answers at 127.0.0.1:1" in ended.err
