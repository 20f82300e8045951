"""A reader in another language, written from the protocol alone, gets the same values.

The scripts beside this file need Node and the packages of package-lock.json: `make test` installs
them where there is npm, and these tests skip where there is no Node, or they are not installed.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from asyncio.subprocess import PIPE
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import calib
from calib.conventions import utc_now
from calib.service.server import running
from calib.service.settings import ServiceSettings
from calib.store import Entry, open_store
from calib.surface.surface import Surface
from tests.service.processes import serving
from tests.service.samples import START, smile_quotes

FOLDER = Path(__file__).parent
CONFORMANCE = sorted((FOLDER.parent / "conformance").glob("*.json"))
TOLERANCE = 1e-12
OLDEST = 18  # the first version that has everything that the scripts use

Json = dict[str, Any]


@pytest.fixture(scope="module")
def node() -> str:
    """The path of Node, new enough."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("there is no node on the path")
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.match(r"v(\d+)", said)
    if version is None or int(version[1]) < OLDEST:
        pytest.skip(f"node {said.strip()} is older than {OLDEST}")
    return found


@pytest.fixture(scope="module")
def node_with_packages(node: str) -> str:
    """Node where the packages of the protocol are installed as well."""
    if not (FOLDER / "node_modules" / "@grpc" / "grpc-js").is_dir():
        pytest.skip("the packages of tests/node_client are not installed: run npm ci there")
    return node


def test_it_passes_every_conformance_case(node: str) -> None:
    command = [node, str(FOLDER / "conformance.js"), *map(str, CONFORMANCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["wrong"] for one in found] == [[] for _ in CONFORMANCE], done.stderr
    assert all(one["compared"] > 0 for one in found)
    assert done.returncode == 0


async def test_it_subscribes_to_a_server_and_evaluates_what_that_sends(
    node_with_packages: str, tmp_path: Path
) -> None:
    store = tmp_path / "calib.db"
    kept = _keep_conformance_surfaces(store)
    async with serving(store, MODELS='{"essvi": "essvi", "sabr": "sabr"}') as (_, client):
        names = [*kept, "LIVE"]
        reader = await asyncio.create_subprocess_exec(
            node_with_packages,
            str(FOLDER / "watch.js"),
            client.target,
            "1",
            *names,
            stdout=PIPE,
            stderr=PIPE,
        )
        try:
            assert reader.stdout is not None
            heard: list[Json] = []
            async with asyncio.timeout(120.0):
                while not heard or heard[-1]["event"] != "snapshotEnd":
                    heard.append(json.loads(await reader.stdout.readline()))
                await client.publish(smile_quotes("LIVE", at=utc_now()))
                rest, errors = await reader.communicate()
        finally:
            if reader.returncode is None:
                reader.kill()
                await reader.wait()
        assert (errors.decode(), reader.returncode) == ("", 0)
        snapshot = heard.pop()
        assert snapshot["surfaceCount"] == len(heard) == len(kept)
        heard += map(json.loads, rest.splitlines())
        updates = {name: await anext(client.watch([name])) for name in names}

    assert {one["underlying"] for one in heard} == set(names)
    for one in heard:
        update = updates[one["underlying"]]
        assert one["epoch"] == snapshot["epoch"] == update.epoch
        assert one["model"] == f"MODEL_{update.surface.model.name}"
        assert one["revision"] == update.revision
        _assert_same_values(update.surface, one["points"])
        live = one["underlying"] == "LIVE"
        assert one["state"] == ("LIVE" if live else "STALE")
        assert one["level"] == ("NORMAL" if live else update.level.name)
        assert len(one["expiries"]) == len(update.surface.expiries)


@pytest.mark.parametrize("model", ["svi", "essvi"])
async def test_it_makes_moved_surfaces_from_whole_ones(node_with_packages: str, model: str) -> None:
    settings = ServiceSettings(
        listen="127.0.0.1:0", store=None, warm_up=False, models={"LIVE": model}
    )
    async with running(settings) as server, calib.connect(server.address) as client:
        arguments = (str(FOLDER / "watch.js"), server.address, "3", "LIVE")
        reader = await asyncio.create_subprocess_exec(
            node_with_packages, *arguments, stdout=PIPE, stderr=PIPE
        )
        assert reader.stdout is not None
        async with asyncio.timeout(60.0):
            assert json.loads(await reader.stdout.readline())["event"] == "snapshotEnd"
            quotes = smile_quotes("LIVE", at=START)
            slant = 0.1 * np.log(quotes.strike / 70_000.0)
            quotes = replace(quotes, bid=quotes.bid - slant, ask=quotes.ask - slant)
            updates = client.watch(["LIVE"])
            await client.publish(quotes)
            surfaces = [(await anext(updates)).surface]
            for number, forward in ((1, 71_000.0), (2, 69_500.0)):
                forwards = {one.expiry: forward for one in surfaces[0].expiries}
                when = START + np.timedelta64(number, "s")
                await client.publish_levels(
                    "LIVE", venue="test", quote_time=when, forwards=forwards, spot=forward
                )
                surfaces.append((await anext(updates)).surface)
            rest, errors = await reader.communicate()
    assert (errors.decode(), reader.returncode) == ("", 0)
    heard = [json.loads(line) for line in rest.splitlines()]
    assert [one["isMove"] for one in heard] == [False, True, True]
    for one, surface in zip(heard, surfaces, strict=True):
        assert one["revision"] == surface.revision
        _assert_same_values(surface, one["points"])


def _keep_conformance_surfaces(store: Path) -> dict[str, Surface]:
    """The surfaces of the conformance cases in a store, each under the name of its file."""
    surfaces = {}
    for revision, path in enumerate(CONFORMANCE, 1):
        surface = Surface.from_json(json.dumps(json.loads(path.read_text())["surface"]))
        if surface.expiries and path.stem != "states":
            surfaces[path.stem] = surface
            message = surface.to_proto()
            message.underlying, message.epoch, message.revision = path.stem, "before", revision
            with open_store(str(store), create=True) as opened:
                opened.append([Entry(surface=message)])
    return surfaces


def _assert_same_values(surface: Surface, points: list[Json]) -> None:
    assert points
    for point in points:
        strike, t, values = point["strike"], point["years"], point["values"]
        if "notFitted" in values:
            assert t not in {one.years for one in surface.expiries}
            continue
        forward = surface.forward(t)
        expected = {
            "forward": forward,
            "discountFactor": surface.discount_factor(t),
            "logMoneyness": np.log(strike / forward),
            "totalVariance": surface.total_variance(np.log(strike / forward), t),
            "impliedVol": surface.implied_vol(strike, t),
            "volError": surface.vol_error(strike, t),
        }
        for name, value in expected.items():
            told = np.nan if values[name] is None else values[name]
            assert told == pytest.approx(float(value), rel=TOLERANCE, abs=TOLERANCE, nan_ok=True), (
                surface.underlying,
                name,
                strike,
                t,
            )
        assert values["extrapolated"] == surface.is_extrapolated(strike, t)
