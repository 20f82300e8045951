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
    """A running server: its address HOST:PORT, process id and log file."""

    address: str
    pid: int
    log: Path


@asynccontextmanager
async def server_process(store: Path, log: Path) -> AsyncIterator[ServerProcess]:
    """Run ``calib serve`` on a free port; it is asked to end, then made to, when the block ends.

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
        )
        try:
            assert process.stdout is not None
            address = await _address(process.stdout, log)
            yield ServerProcess(address, process.pid, log)
        finally:
            await _end(process)


async def serving(
    server: ServerProcess, *, within: float, waiting: Callable[[float], None]
) -> None:
    """Wait until the server takes quotes, by the standard health service.

    ``waiting`` is told the seconds so far, about four times a second.
    Raises Unavailable when the server is gone or takes longer than ``within`` seconds.
    """
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    started = monotonic()
    request = health_pb2.HealthCheckRequest(service="calib.v1.QuoteService")
    async with grpc.aio.insecure_channel(server.address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        while (seconds := monotonic() - started) < within:
            try:
                answer = await check(request, timeout=5.0)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            except grpc.aio.AioRpcError:
                raise Unavailable(f"the server is gone{_last_words(server.log)}") from None
            waiting(seconds)
            await asyncio.sleep(0.25)
    raise Unavailable(f"the server did not get ready in {within:.0f} s{_last_words(server.log)}")


async def _address(stdout: asyncio.StreamReader, log: Path) -> str:
    try:
        line = await asyncio.wait_for(stdout.readline(), SECONDS_TO_LISTEN)
    except TimeoutError:
        line = b""
    said, _, address = line.decode().strip().partition("listening on ")
    if said or not address:
        raise Unavailable(f"the server did not come up{_last_words(log)}")
    return address


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), SECONDS_TO_END)
    except TimeoutError:
        process.kill()
        await process.wait()


def _last_words(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").splitlines()[-3:]
    return "; its log ends with:\n  " + "\n  ".join(lines) if lines else f"; its log {log} is empty"
