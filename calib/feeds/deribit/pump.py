"""A feed into a server, for as long as both are there, and again when they are back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from calib.client import Acknowledgement, Client, Publisher
from calib.client.retrying import Backoff
from calib.errors import Unavailable
from calib.feeds.deribit.feed import DeribitFeed, Update

_BACKOFF = Backoff(0.2, 10.0)

_log = structlog.get_logger(__name__)


async def pump(
    feed: DeribitFeed,
    client: Client,
    told: Callable[[Update, Acknowledgement], None] = lambda update, ack: None,
) -> None:
    """Send what a feed tells, until cancelled; ``told`` hears of each acknowledgement.

    A server that was away has the whole chains first when it is back. Raises InvalidRequest where
    it refuses what it is sent as a whole.
    """
    updates = feed.updates()
    pauses = _BACKOFF.pauses()
    try:
        while True:
            try:
                async with client.publisher() as publisher:
                    for update in feed.standing():
                        await _send(publisher, update, told)
                    async for update in updates:
                        await _send(publisher, update, told)
                        pauses = _BACKOFF.pauses()
            except Unavailable as error:
                pause = next(pauses)
                _log.warning("server_lost", reason=str(error), pause=round(pause, 3))
                await asyncio.sleep(pause)
    finally:
        await updates.aclose()


async def _send(
    publisher: Publisher, update: Update, told: Callable[[Update, Acknowledgement], None]
) -> None:
    acknowledged = await publisher.send(update.quotes, snapshot_complete=update.whole_chain)
    told(update, acknowledged)
