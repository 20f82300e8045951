"""The one connection that all open pages share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic

from calib.client.client import connect
from calib.client.credentials import ChannelOpener, Credentials
from calib.client.retrying import Backoff
from calib.client.servers import Servers
from calib.report.live.assessments import (
    HEARTBEATS,
    Assessed,
    Missed,
    watch_assessments,
)
from calib.report.live.recall import Recall
from calib.report.live.state import LiveState
from calib.report.live.store_look import look_at_store


class Subscription:
    """Keeps `state` at what the server said last, of some underlyings or (none named) all."""

    def __init__(
        self, server: str, credentials: Credentials | None, underlyings: Sequence[str]
    ) -> None:
        self.state = LiveState(server)
        self._server = server
        self._credentials = credentials
        self._opener = ChannelOpener(credentials, ())
        self._underlyings = tuple(underlyings)

    async def follow(self) -> None:
        """Listen until cancelled, over any number of interruptions.

        Raises InvalidRequest or Forbidden where the server refuses.
        """
        recall = Recall(self._server, self._opener)
        tasks = [
            asyncio.create_task(self._surfaces()),
            asyncio.create_task(self._assessments(recall)),
            asyncio.create_task(self._missed(recall)),
            asyncio.create_task(self._store()),
        ]
        try:
            await asyncio.gather(*tasks)  # which raises the first failure as it is
        finally:
            for one in tasks:
                one.cancel()

    async def _surfaces(self) -> None:
        async with connect(self._server, self._credentials) as client:
            watch = client.watch(self._underlyings, heartbeat_seconds=HEARTBEATS.heartbeat_seconds)
            async for update in watch:
                self.state = self.state.with_update(update)

    async def _assessments(self, recall: Recall) -> None:
        def interrupted(reason: str) -> None:
            self.state = self.state.risk_lost(reason)

        servers = Servers([self._server], self._opener)
        watch = watch_assessments(servers, self._underlyings, Backoff(), interrupted)
        async for told in watch:
            if isinstance(told, Assessed):
                self.state = self.state.with_assessed(told, monotonic())
            if isinstance(told, Missed):
                recall.want(told.underlying, told.since)
            self.state = self.state.risk_heard(monotonic())

    async def _missed(self, recall: Recall) -> None:
        async for events in recall.events():
            self.state = self.state.with_events(events)

    async def _store(self) -> None:
        async for trouble in look_at_store(self._server, self._opener, self._last_assessed):
            self.state = self.state.with_store_trouble(trouble)

    def _last_assessed(self) -> str:
        at = self.state.assessed_at
        return max(at, key=at.__getitem__, default="")
