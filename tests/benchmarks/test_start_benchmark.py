"""From the start of a server's process until it serves: with nothing compiled yet, and again.

The shapes that are compiled ahead are those of the server's own settings, or, of one that goes on,
those of the two underlyings that it had; CALIB_START_EXPIRIES, like [4], names others.
"""

from __future__ import annotations

import os
from pathlib import Path
from time import monotonic

import pytest

from calib.conventions import utc_now
from tests.service.processes import serving
from tests.service.samples import smile_quotes

DAYS = (1, 2, 3, 7, 14, 21, 30, 60, 90, 180, 270, 365)


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
    for start in ("cold", "warm", "going on"):
        began = monotonic()
        async with serving(tmp_path / "calib.db", **settings) as (server, client):
            seconds[start] = monotonic() - began
            if start == "warm":
                for name in ("BTC", "ETH"):
                    await client.publish(smile_quotes(name, at=utc_now(), days=DAYS, strikes=40))
                    await anext(client.watch([name]))
                server.terminate()
                await server.wait()
    began = monotonic()
    async with serving(None):
        bare = monotonic() - began
    print(
        f"\nseconds to SERVING: cold cache {seconds['cold']:.1f}, warm {seconds['warm']:.1f} "
        f"(ratio {seconds['cold'] / seconds['warm']:.1f}), warm and going on with two underlyings "
        f"of twelve expiries {seconds['going on']:.1f}; without warm-up {bare:.1f}"
    )
