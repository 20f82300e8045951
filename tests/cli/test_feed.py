"""`calib feed` as a process, against a loopback exchange."""

from __future__ import annotations

import asyncio
import signal

import pytest

import calib
from calib.cli.feed import deribit_settings, ended_after
from calib.errors import InvalidRequest
from calib.feeds.deribit import DeribitSettings
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


def test_each_address_may_be_given_alone() -> None:
    given, usual = "http://127.0.0.1:1/api/v2", DeribitSettings(("BTC",))
    for url, rest, expected in (
        (None, None, (usual.websocket, usual.rest)),
        (None, given + "/", (usual.websocket, given)),
        ("ws://127.0.0.1:1/ws/api/v2", None, ("ws://127.0.0.1:1/ws/api/v2", given)),
        ("ws://h/x", given, ("ws://h/x", given)),
    ):
        found = deribit_settings("btc", url, rest)
        assert (found.websocket, found.rest) == expected
    with pytest.raises(InvalidRequest, match="'ftp://x' is no REST address"):
        deribit_settings("BTC", None, "ftp://x")


async def test_only_its_own_time_ends_a_command_quietly() -> None:
    async with ended_after(0.01):
        await asyncio.sleep(60.0)
    with pytest.raises(TimeoutError, match="by a peer"):
        async with ended_after(60.0):
            raise TimeoutError("by a peer")


async def test_a_currency_that_the_venue_refuses_ends_it() -> None:
    settings = ServiceSettings(listen="127.0.0.1:0", store=None, warm_up=False)
    async with exchange(listed()) as one, running(settings) as server:
        fed = await process(
            "feed", "deribit", "--currency", "XYZ", "--to", server.address, "--url", one.url
        )
        _, err = await asyncio.wait_for(fed.communicate(), 60.0)
    assert fed.returncode == 2
    assert "of XYZ: refused:" in err.decode()


def test_an_address_that_is_none_is_named() -> None:
    ended = command("feed", "deribit", "--to", "127.0.0.1:1", "--url", "http://x")
    assert ended.code == 2
    assert "is no WebSocket address" in ended.err
