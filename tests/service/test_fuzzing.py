"""Whatever arrives at the port, the server answers properly and goes on as before."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.service.fuzzing import Rpc, ask, mutated, random_message, rpcs
from tests.service.fuzzing_run import fuzzed
from tests.service.processes import serving_for_others

METHODS = rpcs()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving_for_others() as found:
        yield found


@pytest.mark.parametrize("rpc", METHODS, ids=lambda rpc: rpc.path.rpartition(".")[2])
@settings(max_examples=60)
@given(draw=st.randoms(use_true_random=False), broken=st.booleans())
def test_every_method_answers_properly(address: str, rpc: Rpc, draw: Random, broken: bool) -> None:
    payloads = [random_message(rpc.request.DESCRIPTOR, draw).SerializeToString() for _ in range(2)]
    if broken:
        payloads = [mutated(one, draw) for one in payloads]

    async def answered() -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            answer = await ask(channel, rpc, payloads)
        assert answer.proper, answer

    asyncio.run(answered())


async def test_thousands_of_broken_messages_and_streams_leave_no_trace() -> None:
    report = await fuzzed(messages=3_000, streams=500, seed=5)
    print(report)  # noqa: T201 - figures for people
    assert report.improper == []
    assert report.serving
    assert report.after.files <= report.before.files + 8
    assert report.after.megabytes < report.before.megabytes + 64.0
