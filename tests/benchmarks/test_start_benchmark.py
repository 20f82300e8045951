"""From the start of a server's process until it serves: with nothing compiled yet, and again.

The shapes that are compiled ahead are those of the server's own settings; CALIB_START_EXPIRIES,
like [4], names fewer.
"""

from __future__ import annotations

import os
from pathlib import Path
from time import monotonic

import pytest

from tests.service.processes import serving


async def test_seconds_to_serving_with_a_cold_and_a_warm_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the run of tests keeps compiled would make every start a warm one.
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", raising=False)
    settings = {"COMPILATION_CACHE": str(tmp_path / "compiled"), "WARM_UP": "true"}
    if "CALIB_START_EXPIRIES" in os.environ:
        settings["WARM_UP_EXPIRIES"] = os.environ["CALIB_START_EXPIRIES"]
    seconds = {}
    for cache in ("cold", "warm"):
        began = monotonic()
        async with serving(tmp_path / "calib.db", **settings):
            seconds[cache] = monotonic() - began
    began = monotonic()
    async with serving(tmp_path / "calib.db"):
        bare = monotonic() - began
    print(
        f"\nseconds to SERVING: cold cache {seconds['cold']:.1f}, warm {seconds['warm']:.1f} "
        f"(ratio {seconds['cold'] / seconds['warm']:.1f}); without warm-up {bare:.1f}"
    )
