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
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calib.client.update import utc_now
from calib.store import Entry, open_store
from calib.surface.surface import Surface
from tests.service.processes import serving
from tests.service.samples import smile_quotes

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
