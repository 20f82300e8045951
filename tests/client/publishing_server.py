"""A real server in a process of its own, whose surfaces come from the clock instead of a market.

All of the service is there, only nothing is fitted: a surface of each underlying is published every
so many milliseconds, with the present as its quote time and NORMAL as its level. What the tests of
the client need to know of it is that every surface is new, and when.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from calib.conventions import utc_now
from calib.service.logs import configure_logs
from calib.service.server import running
from calib.service.settings import LogFormat, LogLevel, ServiceSettings
from calib.surface.messages import timestamp
from calib.v1 import model_risk_pb2
from tests.service.conftest import USUAL
from tests.service.samples import surface

ROOT = Path(__file__).parent.parent.parent
UNDERLYINGS = ("BTC", "ETH")
EVERY_SECONDS = 0.02
MAX_AGE = timedelta(seconds=1.0)
"""How old quotes may be under this server's settings, unless a test says otherwise."""


async def publish(**settings: Any) -> None:
    """Serve, say where, and publish until told to end."""
    configure_logs(LogLevel.WARNING, LogFormat.AUTO)
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    async with running(ServiceSettings(**(USUAL | settings))) as server:
        print(server.address, flush=True)  # noqa: T201 - whoever started it reads this
        while not asked.is_set():
            for underlying in UNDERLYINGS:
                now = utc_now()
                risk = model_risk_pb2.ModelRisk(
                    level=model_risk_pb2.BREAKER_LEVEL_NORMAL, assess_time=timestamp(now)
                )
                server.hub.publish(surface(underlying, at=now), risk=risk)
            with suppress(TimeoutError):
                await asyncio.wait_for(asked.wait(), EVERY_SECONDS)


@dataclass(frozen=True)
class Publishing:
    """A running server of this kind."""

    address: str
    process: Process

    def stop(self) -> None:
        """Let it stand still where it is, connections open, as a machine that hangs."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run on."""
        self.process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def publishing(**settings: Any) -> AsyncIterator[Publishing]:
    """Such a server; it ends with the block."""
    chosen = {"quote_max_age": MAX_AGE.total_seconds()} | settings
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.client.publishing_server", json.dumps(chosen)),
        cwd=ROOT,
        stdout=PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 60.0)
        yield Publishing(line.decode().strip(), process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


if __name__ == "__main__":
    asyncio.run(publish(**json.loads(sys.argv[1])))
