"""A client that this project did not write gets by with what the server says of itself."""

from __future__ import annotations

import ast
import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.conftest import Start

SCRIPT = Path(__file__).with_name("foreign_client.py")


async def test_publish_and_read_by_reflection_alone(start: Start, tmp_path: Path) -> None:
    server, client = await start()
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(SCRIPT), server.address],
        cwd=tmp_path,  # where nothing of the project is importable by accident of the path
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert {
        "calib.v1.QuoteService",
        "calib.v1.SurfaceService",
        "calib.v1.CalibrationService",
        "grpc.health.v1.Health",
    } <= set(said["services"])
    assert said["accepted"] == 26
    assert said["rejected"] == [[26, "strike", "-7"]]
    assert said["sequence"] == 11
    assert said["events"] == ["snapshot_end", "surface"]
    assert said["same"]
    assert said["epoch_matches"]
    assert said["model"] == "svi"
    assert said["expiries"] == 2
    assert said["vol"] == pytest.approx(0.35, abs=2e-3)
    surface = await client.get("COFFEE")
    assert surface.revision == said["revision"]
    assert surface.implied_vol(200.0, surface.expiries[0].expiry) == pytest.approx(
        said["vol"], rel=1e-12
    )


def test_the_script_imports_nothing_of_the_project() -> None:
    names = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(SCRIPT.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert "grpc" in names
    assert not names & {"calib", "tests"}
