"""`calib dashboard` as a process, beside a real server, in a headless browser."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import grpc
import numpy as np
import pytest
from playwright.async_api import Page, expect

from calib.conventions import utc_now
from calib.quotes.table import QuoteTable
from calib.service.server import running
from calib.service.settings import ServiceSettings
from calib.v1 import model_risk_pb2
from calib.v1 import model_risk_service_pb2 as rpc
from tests.cli.browser import needs_browser, opened
from tests.cli.samples import CommandLine
from tests.service.calls import Stubs
from tests.service.conftest import QUIET
from tests.service.processes import serving
from tests.service.samples import smile_quotes

ATM_VOL = 3  # the column of the table of expiries
CHART = "getElement(+document.querySelector('.chart').id.slice(1)).chart"


@asynccontextmanager
async def dashboard(server: str, *arguments: str) -> AsyncIterator[tuple[Process, str]]:
    """A dashboard of a server on a free port, with the address of its page; killed at the end if it
    still runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "calib", "dashboard", "--from", server),
        *("--listen", "127.0.0.1:0", *arguments),
        stdout=PIPE,
        stderr=PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    log = asyncio.create_task(process.stderr.read())
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), 60.0)).decode()
        assert line.startswith("listening on http://"), (await log).decode()
        yield process, line.split()[-1]
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        sys.stderr.write((await log).decode())


def moved(quotes: QuoteTable, by: float) -> QuoteTable:
    """The same quotes now, at vols that are higher by so much."""
    return replace(
        quotes,
        quote_time=np.full(len(quotes), utc_now()),
        bid=quotes.bid + by,
        ask=quotes.ask + by,
    )


async def smile(page: Page, row: int) -> list[float]:
    """The vols of one line of the chart, in percent; two series before it are the error band."""
    options = await page.evaluate(
        f"row => {CHART}.getOption().series[row + 2].data.map(pair => pair[1])",
        row,
    )
    return [float(vol) for vol in options]


@needs_browser
async def test_a_page_follows_a_server_and_says_when_it_is_gone() -> None:
    bitcoin = smile_quotes("BTC", at=utc_now(), vol=0.6)
    ether = smile_quotes("ETH", at=utc_now(), vol=0.8, forward=3_000.0)
    async with serving(None, MODEL_RISK=json.dumps(QUIET)) as (server, client):
        for quotes in (bitcoin, ether):
            await client.publish(quotes)
            await anext(client.watch([quotes.underlying.names[0]]))  # the first fit compiles
        async with dashboard(client.target) as (process, url), opened(url) as page:
            await expect(page).to_have_title(f"calib · {client.target}")
            tile = {name: page.get_by_role("button", name=name) for name in ("BTC", "ETH")}
            rows = page.locator("tr.pick")
            atm = rows.nth(1).locator("td").nth(ATM_VOL)
            for one in tile.values():
                await expect(one).to_contain_text("NORMAL")
                await expect(one).to_contain_text("LIVE")
            await expect(page.get_by_text("CONNECTED")).to_be_visible()
            await expect(page.get_by_text("Smiles of BTC")).to_be_visible()
            await expect(rows).to_have_count(3)
            await expect(atm).to_have_text(re.compile(r"^(59\.[5-9]|60\.[0-4])\d%$"))

            await tile["ETH"].click()
            await expect(page.get_by_text("Smiles of ETH")).to_be_visible()
            await expect(tile["ETH"]).to_have_attribute("aria-pressed", "true")
            await expect(atm).to_have_text(re.compile(r"^(79\.[5-9]|80\.[0-4])\d%$"))
            await rows.nth(1).click()
            await expect(rows.nth(1)).to_have_class(re.compile("chosen"))
            chosen = await rows.nth(1).locator("td").first.inner_text()
            band = page.get_by_text(f"{chosen} ± one standard error")
            await expect(band).to_be_visible()

            before = await smile(page, 1)
            await client.publish(moved(ether, 0.02))
            await expect(atm).to_have_text(re.compile(r"^(81\.[5-9]|82\.[0-4])\d%$"))
            after = await smile(page, 1)
            assert np.subtract(after, before) == pytest.approx(2.0, abs=0.5)
            surface = (await client.get("ETH")).surface
            each = surface.expiries[1]
            k = np.linspace(each.log_moneyness_min, each.log_moneyness_max, len(after))
            vols = surface.implied_vol(each.forward * np.exp(k), each.expiry)
            assert after == pytest.approx(list(100.0 * vols), abs=1e-3)
            await expect(band).to_be_visible()  # what was chosen stays chosen
            await expect(rows.nth(1)).to_have_class(re.compile("chosen"))

            # The axis is that of strikes near the forward, and back again.
            for name, low, high in (("strike", 1_000.0, 3_000.0), ("log-moneyness", -2.0, 0.0)):
                await page.get_by_role("button", name=name).click()
                await page.wait_for_function(
                    f"([low, high]) => {{ const at = {CHART}.getModel().getComponent('xAxis')"
                    ".axis.scale.getExtent()[0]; return low < at && at < high; }",
                    arg=[low, high],
                )

            async with grpc.aio.insecure_channel(client.target) as channel:
                halted = rpc.ForceBreakerRequest(
                    underlying="ETH",
                    level=model_risk_pb2.BREAKER_LEVEL_HALTED,
                    operator="ann",
                    reason="the desk wants it",
                )
                await Stubs(channel).risks.ForceBreaker(halted)
            await expect(tile["ETH"]).to_contain_text("HALTED")
            await expect(tile["ETH"]).to_contain_text("the desk wants it")
            # What is longer than its line can be read in full.
            await expect(tile["ETH"]).to_have_attribute("title", re.compile("the desk wants it"))
            await expect(tile["BTC"]).to_contain_text("NORMAL")
            await expect(page.get_by_role("cell", name="NORMAL → HALTED")).to_be_visible()

            server.kill()
            await expect(page.get_by_text("SILENT", exact=True)).to_be_visible()
            await expect(page.get_by_text("has said nothing for")).to_be_visible()
            for one in tile.values():
                await expect(one).to_contain_text("STALE · SILENT")
                await expect(one).to_contain_text("HALTED")

            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 20.0) == 0


async def test_a_port_that_is_taken_is_named_and_ctrl_c_ends_it() -> None:
    settings = ServiceSettings(listen="127.0.0.1:0", store=None, warm_up=False)
    async with running(settings) as server, dashboard(server.address) as (process, url):
        taken = url.removeprefix("http://")
        second = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "calib", "dashboard", "--from", server.address),
            *("--listen", taken),
            stderr=PIPE,
        )
        _, said = await asyncio.wait_for(second.communicate(), 60.0)
        assert second.returncode == 2
        assert f"cannot listen on {taken}" in said.decode()
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 20.0) == 0


async def test_pages_of_other_sites_are_told_nothing() -> None:
    settings = ServiceSettings(listen="127.0.0.1:0", store=None, warm_up=False)
    async with running(settings) as server, dashboard(server.address) as (_, url):

        def status(origin: str) -> int:
            address = f"{url}/_nicegui_ws/socket.io/?EIO=4&transport=polling"
            try:
                with urlopen(Request(address, headers={"Origin": origin})) as answer:
                    return int(answer.status)
            except HTTPError as refused:
                refused.close()
                return refused.code

        assert await asyncio.to_thread(status, url) == 200
        assert await asyncio.to_thread(status, "http://another.example") == 400


def test_beyond_loopback_it_has_to_be_asked_for(calib_command: CommandLine) -> None:
    ended = calib_command("dashboard", "--from", "127.0.0.1:1", "--listen", "0.0.0.0:8050")
    assert ended.code == 2
    assert "listen = '0.0.0.0:8050' is beyond loopback" in ended.err
    assert "--insecure" in ended.err


def test_without_its_library_it_says_what_to_install(
    calib_command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nicegui", None)
    monkeypatch.delitem(sys.modules, "calib.report.live.serving", raising=False)
    ended = calib_command("dashboard", "--from", "127.0.0.1:1")
    assert ended.code == 2
    assert "pip install 'calib[dashboard]'" in ended.err


def test_a_server_that_is_not_there_is_named(calib_command: CommandLine) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        ended = calib_command("dashboard", "--from", address)
    assert ended.code == 2
    assert f"no calib server answers at {address}" in ended.err
