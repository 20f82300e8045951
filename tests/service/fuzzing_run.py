"""A server under broken messages and streams, and what is left of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from random import Random

import grpc

from calib.client import Client
from tests.service.fuzzing import (
    TELLTALES,
    ask,
    at_once,
    conversation,
    mutated,
    random_message,
    rpcs,
    say,
)
from tests.service.processes import Footprint, serving

# What names bring about is bounded; a low bound is reached soon.
SETTINGS = {"MAX_UNDERLYINGS": "8", "LOG_LEVEL": "error"}
SETTLE_SECONDS = 1.0


@dataclass(frozen=True)
class Report:
    """What came of it: answers by status, those that were not proper (the first of them), whether
    the server still serves, and what it held after a first part and at the end."""

    answers: Counter[str]
    improper: list[str]
    serving: bool
    before: Footprint
    after: Footprint

    def __str__(self) -> str:
        told = ", ".join(f"{count:,} {name}" for name, count in self.answers.most_common())
        return f"{told}; {self.before} after a fifth of it, {self.after} at the end"


async def fuzzed(*, messages: int, streams: int, seed: int) -> Report:
    """Send so many broken messages and byte streams to a server of its own."""
    draw, answers, improper = Random(seed), Counter[str](), list[str]()
    methods = rpcs()
    async with serving(None, **SETTINGS) as (process, client):
        async with grpc.aio.insecure_channel(client.target) as channel:

            async def send_message() -> None:
                rpc = draw.choice(methods)
                whole = random_message(rpc.request.DESCRIPTOR, draw).SerializeToString()
                payload = whole if draw.random() < 0.2 else mutated(whole, draw)
                answer = await ask(channel, rpc, [payload])
                answers[answer.code.name] += 1
                if not answer.proper and len(improper) < 10:
                    improper.append(f"{rpc.path}: {answer}")

            async def send_stream() -> None:
                rpc = draw.choice(methods)
                payload = random_message(rpc.request.DESCRIPTOR, draw).SerializeToString()
                heard = await say(client.target, conversation(rpc, payload, draw))
                answers["streams"] += 1
                told = heard.decode(errors="replace")
                if any(word in told for word in TELLTALES) and len(improper) < 10:
                    improper.append(f"{rpc.path}: {told!r}")

            def work(share: float) -> Iterator[Callable[[], Awaitable[None]]]:
                left = {send_message: round(share * messages), send_stream: round(share * streams)}
                while total := sum(left.values()):
                    kind = (
                        send_message if draw.randrange(total) < left[send_message] else send_stream
                    )
                    left[kind] -= 1
                    yield kind

            await at_once(work(0.2))
            before = await _settled(process.pid)
            await at_once(work(0.8))
            after = await _settled(process.pid)
        return Report(answers, improper, await _serves(client), before, after)


async def _settled(pid: int) -> Footprint:
    """What the server holds when it has seen to all that came."""
    await asyncio.sleep(SETTLE_SECONDS)
    return Footprint.of(pid)


async def _serves(client: Client) -> bool:
    await client.wait_until_serving(timeout_seconds=30.0)
    return True
