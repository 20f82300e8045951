"""From the start of `calib serve` to listening and to SERVING, with an empty compilation cache and
with the one that this has filled."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import calib

WARM_STARTS = 3


class Start(NamedTuple):
    listening: float
    serving: float


async def started(folder: Path) -> Start:
    """Seconds until a server says where it listens, and until it is ready for quotes."""
    # Only the server's own cache counts, not the one that tests share.
    environment = {key: one for key, one in os.environ.items() if not key.startswith("JAX_")}
    begin = perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "calib", "serve", "--listen", "127.0.0.1:0", "--store", "none"),
        stdout=PIPE,
        stderr=DEVNULL,
        env=environment | {"CALIB_COMPILATION_CACHE": str(folder / "compiled")},
    )
    try:
        assert process.stdout is not None
        line = await process.stdout.readline()
        listening = perf_counter() - begin
        async with calib.connect(line.decode().strip().removeprefix("listening on ")) as client:
            await client.wait_until_serving(900.0)
        return Start(listening, perf_counter() - begin)
    finally:
        process.terminate()
        await process.wait()


async def test_seconds_to_serving(tmp_path: Path) -> None:
    cold = await started(tmp_path)
    warm = [await started(tmp_path) for _ in range(WARM_STARTS)]
    best = Start(*(min(column) for column in zip(*warm, strict=True)))
    print(f"\n{'compilation cache':<18} {'s to listening':>15} {'s to SERVING':>13}")
    for name, one in (("empty", cold), (f"filled, of {WARM_STARTS}", best)):
        print(f"{name:<18} {one.listening:>15.1f} {one.serving:>13.1f}")
    listening, serving = (one / other for one, other in zip(cold, best, strict=True))
    print(f"{'ratio':<18} {listening:>15.1f} {serving:>13.1f}")
