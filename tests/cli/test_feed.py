"""`calib feed` and `calib record` as processes, against a loopback exchange."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import calib
from calib.service.server import running
from calib.service.settings import ServiceSettings
from tests.cli.backtest_run import command
from tests.feeds.exchange import exchange, listed


async def process(*arguments: object) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "calib", *map(str, arguments),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def test_a_market_is_fed_to_a_server_until_ctrl_c() -> None:
    settings = ServiceSettings(listen="127.0.0.1:0", store=None, warm_up=False)
    async with exchange(listed()) as one, running(settings) as server:
        fed = await process(
            "feed", "deribit", "--currency", "btc", "--to", server.address, "--url", one.url
        )
        async with calib.connect(server.address) as client:
            update = await anext(client.watch(["BTC"]))
            assert update.surface.expiries
        fed.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(fed.communicate(), 20.0)
    assert fed.returncode == 0, err.decode()
    assert f"{len(one.options)} accepted, 0 rejected" in " ".join(out.decode().split())


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


def test_an_address_that_is_none_is_named() -> None:
    ended = command("feed", "deribit", "--to", "127.0.0.1:1", "--url", "http://x")
    assert ended.code == 2
    assert "is no WebSocket address" in ended.err
