"""Whatever arrives at the port, the server answers properly and goes on as before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from random import Random
from time import time

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.client import connect
from calib.v1 import surface_service_pb2, surface_service_pb2_grpc
from tests.service.fuzzing import (
    PREFACE,
    Answer,
    Rpc,
    ask,
    frame,
    headers,
    mutated,
    random_message,
    rpcs,
    say,
)
from tests.service.fuzzing_run import SETTINGS, fuzzed
from tests.service.processes import serving

Asked = Callable[[Rpc, Sequence[bytes]], Answer]


@pytest.fixture(scope="module")
def asked() -> Iterator[Asked]:
    """Asks a server, from outside of any event loop."""
    with asyncio.Runner() as runner:
        server = serving(None, **SETTINGS)
        _, client = runner.run(server.__aenter__())
        try:
            channel = runner.run(_channel(client.target))
            yield lambda rpc, payloads: runner.run(ask(channel, rpc, payloads))
            runner.run(channel.close())
        finally:
            runner.run(server.__aexit__(None, None, None))


async def _channel(target: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(target)


@pytest.mark.parametrize("rpc", rpcs(), ids=lambda rpc: rpc.path.rpartition(".")[2])
@settings(max_examples=40)
@given(draw=st.randoms(use_true_random=False), broken=st.booleans())
def test_every_method_answers_properly(asked: Asked, rpc: Rpc, draw: Random, broken: bool) -> None:
    payloads = [random_message(rpc.request.DESCRIPTOR, draw).SerializeToString() for _ in range(2)]
    if broken:
        payloads = [mutated(one, draw) for one in payloads]
    answer = asked(rpc, payloads)
    assert answer.proper, answer


async def test_a_call_by_hand_is_understood() -> None:
    """Else what is broken in it would test nothing."""
    async with serving(None) as (_, client):
        call = frame(1, 4, 1, headers("/grpc.health.v1.Health/Check")) + frame(0, 1, 1, b"\0" * 5)
        heard = await say(client.target, PREFACE + frame(4, 0, 0, b"") + call, listen_seconds=2.0)
    assert b"\0\0\0\0\2\x08\1" in heard  # a message of two bytes, SERVING


async def test_a_path_that_is_no_text_does_not_end_the_server() -> None:
    """It ends gRPC's own loop, before any handler; watches that are open notice nothing."""
    async with serving(None) as (server, client):
        async with grpc.aio.insecure_channel(client.target) as channel:
            stub = surface_service_pb2_grpc.SurfaceServiceStub(channel)
            request = surface_service_pb2.WatchSurfacesRequest()
            request.heartbeat_interval.FromMilliseconds(100)
            watch = stub.WatchSurfaces(request)
            first = await watch.read()
            for _ in range(3):
                call = frame(1, 4, 1, headers(b"/\xff")) + frame(0, 1, 1, b"\0" * 5)
                await say(client.target, PREFACE + frame(4, 0, 0, b"") + call)
                async with connect(client.target) as another:
                    await another.wait_until_serving()
            assert isinstance(first, surface_service_pb2.WatchSurfacesResponse)
            now, beat = time(), first
            while beat.heartbeat.server_time.seconds < now:  # it goes on, and not from a buffer
                response = await asyncio.wait_for(watch.read(), 10.0)
                assert isinstance(response, surface_service_pb2.WatchSurfacesResponse)
                beat = response
            assert beat.epoch == first.epoch
        server.terminate()
        assert await asyncio.wait_for(server.wait(), 30.0) == 0


async def test_thousands_of_broken_messages_and_streams_leave_no_trace() -> None:
    report = await fuzzed(messages=3_000, streams=500, seed=5)
    print(report)  # noqa: T201 - figures for people
    assert report.improper == []
    assert report.serving
    assert report.after.files <= report.before.files + 8
    assert report.after.megabytes < report.before.megabytes + 64.0
