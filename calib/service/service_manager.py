"""What a service manager (systemd) is told: that the server is ready, alive, ending.

The protocol is a datagram to the socket that the environment names, see sd_notify(3).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def announced(warm: asyncio.Task[None]) -> AsyncIterator[None]:
    """Tell that the server is ready when ``warm`` has ended well, that its event loop turns for as
    long as that is asked for, and that it is ending when the block ends. Silent without systemd."""
    telling = asyncio.create_task(_tell(warm))
    try:
        yield
    finally:
        telling.cancel()
        notify("STOPPING=1")


async def _tell(warm: asyncio.Task[None]) -> None:
    await asyncio.wait({warm})
    if warm.cancelled() or warm.exception() is not None:
        return
    notify("READY=1")
    pause = _watchdog_seconds()
    while pause is not None:
        notify("WATCHDOG=1")
        await asyncio.sleep(pause / 3.0)


def notify(state: str) -> None:
    """Send a state to the service manager that started this process, if one did."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # a name in the abstract namespace
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(state.encode(), address)
    except OSError as error:
        _log.warning("service_manager_not_told", state=state, error=str(error))


def _watchdog_seconds() -> float | None:
    """The longest silence that the service manager takes; None: any."""
    span, process = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID")
    if not span.isdigit() or process not in (None, str(os.getpid())):
        return None
    return int(span) * 1e-6
