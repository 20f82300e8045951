"""A hundred faults in a row, at random, between a quoter and two servers: networks that delay,
hold, throttle, halve, cut and forget, processes that hang, and those that are killed.

Every look of the quoter is held against its own clock (`tests.client.quoter`); after every fault it
has to be current again, and no revision may have gone back.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from random import Random

import pytest

from calib.client import connect
from calib.client.retrying import Backoff
from calib.conventions import utc_now
from tests.client.fault_proxy import FaultProxy, fault_proxy
from tests.client.publishing_server import publishing
from tests.client.quoter import quoting

FAULTS = 100
LONGEST_SECONDS = 2.5
KINDS = ("delay", "hold", "throttle", "halve", "cut", "bury", "refuse", "hang", "kill")
EAGER = Backoff(first_seconds=0.01, longest_seconds=0.05)


@pytest.mark.drill
@pytest.mark.timeout(1_800)
async def test_random_faults() -> None:
    random, done = Random(2029), Counter[str]()
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(publishing()) for _ in range(2)]
        proxies = [
            await stack.enter_async_context(fault_proxy(server.address)) for server in servers
        ]
        client = await stack.enter_async_context(
            connect([proxy.address for proxy in proxies], backoff=EAGER)
        )
        quoter = await stack.enter_async_context(quoting(client))
        await quoter.until(quoter.is_live)
        for _ in range(FAULTS):
            # One or both at once.
            for place in random.sample(range(2), random.choice((1, 1, 2))):
                kind = random.choice(KINDS)
                done[kind] += 1
                if kind == "hang":
                    servers[place].stop()
                elif kind == "kill":
                    servers[place].process.kill()
                    await servers[place].process.wait()
                else:
                    getattr(FaultProxy, kind)(proxies[place])
            end = asyncio.get_running_loop().time() + random.uniform(0.0, LONGEST_SECONDS)
            await quoter.until(lambda: asyncio.get_running_loop().time() > end)  # noqa: B023
            for place, proxy in enumerate(proxies):
                if servers[place].process.returncode is not None:
                    servers[place] = await stack.enter_async_context(publishing())
                    proxy.target = servers[place].address
                servers[place].go_on()
                proxy.heal()
            over = utc_now()
            await quoter.until(lambda: quoter.is_current(over))  # noqa: B023
        print(f"\n{FAULTS} faults: {dict(sorted(done.items()))}")
        stale = sorted(cause.name for cause in quoter.causes if cause)
        runs = len(set(quoter.epochs()))
        print(f"{len(quoter.seen)} updates of {runs} runs, {quoter.looks} looks, stale: {stale}")
