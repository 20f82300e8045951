"""Commands as processes of their own: servers to talk to, and what is left when they end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from time import monotonic, sleep

# Compiling ahead takes most of a server's start; these tests can wait for their first surface.
COLD = os.environ | {"CALIB_WARM_UP": "false"}


def started(*arguments: object) -> subprocess.Popen[str]:
    """``calib ARGUMENTS`` with its output piped."""
    return subprocess.Popen(
        [sys.executable, "-m", "calib", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=COLD,
    )


async def process(*arguments: object) -> asyncio.subprocess.Process:
    """The same in an event loop."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "calib", *map(str, arguments),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=COLD,
    )  # fmt: skip


@contextmanager
def server(*arguments: object) -> Iterator[str]:
    """``calib serve ARGUMENTS``; gives its address, and shows its log at the end."""
    with started("serve", *arguments) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip().removeprefix("listening on ")
        finally:
            process.terminate()
            print(process.communicate(timeout=60)[1])  # noqa: T201 - pytest shows it on failure


def server_with_store(folder: Path) -> AbstractContextManager[str]:
    """A server on a port of its own with its store in ``folder``."""
    return server("--listen", "127.0.0.1:0", "--store", folder / "s.db")


def eventually(holds: Callable[[], bool], within: float = 60.0) -> bool:
    """Whether ``holds`` becomes true in time."""
    end = monotonic() + within
    while monotonic() < end:
        if holds():
            return True
        sleep(0.05)
    return holds()
