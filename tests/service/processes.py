"""Servers in processes of their own, to be killed and started again where they were."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from calib.client import Client, connect

# Compiling ahead takes most of a start; what is compiled lies where the run of tests keeps it.
START_SECONDS = 1_500.0  # what compiling ahead may take; tests have a limit of their own
USUAL = {"CALIB_WARM_UP": "false", "CALIB_COMPILATION_CACHE": "none"}


@asynccontextmanager
async def serving(
    store: Path | None, *, listen: str = "127.0.0.1:0", **settings: str
) -> AsyncIterator[tuple[Process, Client]]:
    """A server that serves, and a client of it; killed at the end if it still runs.

    ``settings`` go through its environment, by the names in capitals without ``CALIB_``.
    """
    command = ["-m", "calib", "serve", "--listen", listen, "--store", str(store or "none")]
    chosen = USUAL | {f"CALIB_{name}": text for name, text in settings.items()}
    server = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=PIPE, stderr=PIPE, env=os.environ | chosen
    )
    assert server.stdout is not None
    assert server.stderr is not None
    log = asyncio.create_task(server.stderr.read())
    try:
        line = (await asyncio.wait_for(server.stdout.readline(), 60.0)).decode()
        assert line, "the server ended before it listened"
        async with connect(line.split()[-1]) as client:
            await client.wait_until_serving(START_SECONDS)
            yield server, client
    finally:
        if server.returncode is None:
            server.kill()
        await server.wait()
        # Shown where a test fails; gRPC logs what it was sent, text or not.
        sys.stderr.write((await log).decode(errors="backslashreplace"))


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def metric(address: str, name: str) -> float:
    """What a server says at its page of metrics."""
    with urlopen(f"http://{address}/metrics", timeout=10.0) as page:
        families = text_string_to_metric_families(page.read().decode())
    return next(float(one.samples[0].value) for one in families if one.name == name)


async def eventually(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until ``holds`` does; raises TimeoutError where that takes too long."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - what it looks at knows of no event
            await asyncio.sleep(0.001)


@dataclass(frozen=True)
class Footprint:
    """What a process holds: resident memory in megabytes, open files, threads."""

    megabytes: float
    files: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Footprint:
        """That of a process that runs."""
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )
        return cls(
            int(status["VmRSS"].split()[0]) / 1024,
            sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
            int(status["Threads"]),
        )
