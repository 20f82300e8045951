"""A server of one's own in another process, that never outlives whoever started it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from calib.client import connect
from calib.errors import Unavailable

# The kernel ends the server when its parent dies, however that dies (Linux, prctl(2)).
_BOUND_TO_PARENT = """
import ctypes, os, signal, sys
try:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
except (OSError, AttributeError):
    pass
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.executable, [sys.executable, "-m", "calib", "serve", *sys.argv[2:]])
"""

SECONDS_TO_LISTEN = 60.0
SECONDS_TO_END = 15.0


@dataclass(frozen=True)
class ServerProcess:
    """A running server: its address HOST:PORT, its log file, and a task that ends when it does."""

    address: str
    log: Path
    ended: asyncio.Task[int]


@asynccontextmanager
async def server_process(store: Path, log: Path, *, expiries: int) -> AsyncIterator[ServerProcess]:
    """Run ``calib serve`` on a free port; it is asked to end, then made to, when the block ends.

    It compiles ahead for chains of so many ``expiries``.
    Raises Unavailable, with the end of its log, where it does not come up.
    """
    arguments = ["--listen", "127.0.0.1:0", "--store", str(store)]
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", _BOUND_TO_PARENT, str(os.getpid()), *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=os.environ | {"CALIB_WARM_UP_EXPIRIES": f"[{expiries}]"},
        )
        ended = asyncio.create_task(process.wait())
        try:
            assert process.stdout is not None
            address = await _address(process.stdout, log)
            yield ServerProcess(address, log, ended)
        finally:
            await _end(process, ended)


async def serving(
    server: ServerProcess, *, within: float, waiting: Callable[[float], None]
) -> None:
    """Wait until the server takes quotes; ``waiting`` is told the seconds so far, now and then.

    Raises Unavailable when the server is gone or takes longer than ``within`` seconds.
    """
    started = monotonic()
    async with connect(server.address) as client:
        ready = asyncio.create_task(client.wait_until_serving(within))
        try:
            while not ready.done() and not server.ended.done():
                waiting(monotonic() - started)
                await asyncio.wait({ready, server.ended}, timeout=0.25)
            if server.ended.done():
                raise Unavailable(f"the server is gone{_last_words(server.log)}")
            await ready
        finally:
            ready.cancel()


async def _address(stdout: asyncio.StreamReader, log: Path) -> str:
    try:
        line = await asyncio.wait_for(stdout.readline(), SECONDS_TO_LISTEN)
    except TimeoutError:
        line = b""
    said, _, address = line.decode().strip().partition("listening on ")
    if said or not address:
        raise Unavailable(f"the server did not come up{_last_words(log)}")
    return address


async def _end(process: asyncio.subprocess.Process, ended: asyncio.Task[int]) -> None:
    if not ended.done():
        process.terminate()
    done, _ = await asyncio.wait({ended}, timeout=SECONDS_TO_END)
    if not done:
        process.kill()
        await ended


def _last_words(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").splitlines()[-3:]
    return "; its log ends with:\n  " + "\n  ".join(lines) if lines else f"; its log {log} is empty"
