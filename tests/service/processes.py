"""Servers in processes of their own, to be killed and started again where they were."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

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
        sys.stderr.write((await log).decode())  # shown where a test fails


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
