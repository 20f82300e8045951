"""Events that a watch did not tell, from the server's store, beside the watch itself."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any

import grpc
import numpy as np

from calib.client.credentials import ChannelOpener
from calib.client.failures import RETRIABLE, retry_seconds
from calib.report.live.events import MOST_EVENTS, Event, alarm_event, level_event
from calib.surface.messages import timestamp
from calib.v1 import model_risk_service_pb2, model_risk_service_pb2_grpc

PAUSE_SECONDS = 0.5
"""Before the store is asked. What is missed meanwhile is asked for at once, and has been written by
then."""
_CALL_SECONDS = 10.0
_PAGE = 1_000

_log = logging.getLogger(__name__)


class Recall:
    """Asks for one underlying after the other; what is wanted of it meanwhile is asked for once.

    Where the store cannot be read now it is asked again, where the server keeps none it is not.
    """

    def __init__(self, server: str, open_channel: ChannelOpener) -> None:
        self._server = server
        self._open_channel = open_channel
        self._wanted: dict[str, np.datetime64] = {}
        self._asked = asyncio.Event()

    def want(self, underlying: str, since: np.datetime64) -> None:
        """Ask for its events from ``since`` on, in the market's own time."""
        self._wanted[underlying] = min(since, self._wanted.get(underlying, since))
        self._asked.set()

    async def events(self) -> AsyncGenerator[tuple[Event, ...], None]:
        """What is found, an underlying at a time, for as long as it is asked for."""
        pause = PAUSE_SECONDS
        while True:
            await self._asked.wait()
            await asyncio.sleep(pause)
            pause = PAUSE_SECONDS
            async with self._open_channel(self._server) as channel:
                stub = model_risk_service_pb2_grpc.ModelRiskServiceStub(channel)
                while self._wanted:
                    name = next(iter(self._wanted))
                    since = self._wanted.pop(name)
                    try:
                        found = await events_since(stub, name, since)
                    except grpc.aio.AioRpcError as error:
                        _log.info("events of %s cannot be had: %s", name, error.details())
                        if error.code() in RETRIABLE:
                            self.want(name, since)
                            pause = max(PAUSE_SECONDS, retry_seconds(error))
                            break
                    else:
                        yield found
            if not self._wanted:
                self._asked.clear()


async def events_since(
    stub: model_risk_service_pb2_grpc.ModelRiskServiceAsyncStub,
    underlying: str,
    since: np.datetime64,
) -> tuple[Event, ...]:
    """The newest alarms and the newest changes of level of an underlying, `MOST_EVENTS` of each.

    Raises AioRpcError where they cannot be had.
    """
    alarms: deque[Event] = deque(maxlen=MOST_EVENTS)
    changes: deque[Event] = deque(maxlen=MOST_EVENTS)
    since_then: dict[str, Any] = {
        "underlying": underlying,
        "start_time": timestamp(since),
        "page_size": _PAGE,
    }
    async for page in _pages(
        stub.ListAlarms, model_risk_service_pb2.ListAlarmsRequest(**since_then)
    ):
        alarms.extend(map(alarm_event, page.alarms))
    async for page in _pages(
        stub.ListTransitions, model_risk_service_pb2.ListTransitionsRequest(**since_then)
    ):
        changes.extend(map(level_event, page.transitions))
    return (*alarms, *changes)


async def _pages(call: Callable[..., Any], request: Any) -> AsyncGenerator[Any, None]:
    """All that a listing holds: the store begins with the oldest."""
    while True:
        page = await call(request, timeout=_CALL_SECONDS)
        yield page
        request.page_token = page.next_page_token
        if not request.page_token:
            return
