"""Real servers over loopback, in the test's own event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from math import inf
from typing import Any

import pytest_asyncio

from calib.client import Client, connect
from calib.modelrisk.breakers import Trigger
from calib.service.fit_thread import Fitter, fit_batch
from calib.service.server import Running, running
from calib.service.settings import ServiceSettings

QUIET = {
    "breakers": {
        "limits": {
            trigger.name.lower(): {"widened": inf, "held": inf, "halted": inf}
            for trigger in Trigger
        }
    }
}
"""Breakers that never trip: the markets of most tests jump as no market does."""
USUAL = {
    "listen": "127.0.0.1:0",
    "store": None,
    "warm_up": False,
    "model_risk": QUIET,
}

Start = Callable[..., Awaitable[tuple[Running, Client]]]


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Running]:
    """A server that takes work, to be connected to as its settings ask for."""
    async with running(ServiceSettings(**(USUAL | settings))) as server:
        await server.warm
        yield server


@pytest_asyncio.fixture
async def start() -> AsyncIterator[Start]:
    """Starts servers and clients of them; all end with the test."""
    async with AsyncExitStack() as stack:

        async def begin(
            *, fitter: Fitter = fit_batch, warm: bool = True, **settings: Any
        ) -> tuple[Running, Client]:
            chosen = USUAL | settings
            server = await stack.enter_async_context(
                running(ServiceSettings(**chosen), fitter=fitter)
            )
            client = await stack.enter_async_context(connect(server.address))
            if warm:
                await client.wait_until_serving()
            return server, client

        yield begin
