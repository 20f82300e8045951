"""`calib feed` as a process, against a loopback exchange."""

from __future__ import annotations

import asyncio
import signal

import calib
from calib.service.server import running
from calib.service.settings import ServiceSettings
from tests.cli.backtest_run import command
from tests.cli.processes import process
from tests.feeds.exchange import exchange, listed


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


def test_an_address_that_is_none_is_named() -> None:
    ended = command("feed", "deribit", "--to", "127.0.0.1:1", "--url", "http://x")
    assert ended.code == 2
    assert "is no WebSocket address" in ended.err
