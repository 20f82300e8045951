"""A look at the server's store every few seconds: no watch tells of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

import grpc

from calib.client.credentials import ChannelOpener
from calib.v1 import model_risk_service_pb2, model_risk_service_pb2_grpc

_LOOK_SECONDS = 2.0


async def look_at_store(
    server: str, open_channel: ChannelOpener, underlying: Callable[[], str]
) -> AsyncGenerator[str, None]:
    """Why it fails, empty where it does not, for as long as that is asked for.

    The answer comes with the judgement of an ``underlying``; empty: there is none to ask for yet.
    """
    while True:
        async with open_channel(server) as channel:
            stub = model_risk_service_pb2_grpc.ModelRiskServiceStub(channel)
            with suppress(grpc.aio.AioRpcError):  # that it does not answer, the watches tell
                while True:
                    if name := underlying():
                        request = model_risk_service_pb2.GetModelRiskRequest(underlying=name)
                        answer = await stub.GetModelRisk(request, timeout=_LOOK_SECONDS)
                        yield answer.store_alarm.cause
                    await asyncio.sleep(_LOOK_SECONDS)
        await asyncio.sleep(_LOOK_SECONDS)
