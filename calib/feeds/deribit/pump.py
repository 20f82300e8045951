"""A feed into a server, for as long as both are there, and again when they are back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import structlog

from calib.client import Acknowledgement, Client, Publisher
from calib.errors import Unavailable
from calib.feeds.deribit.feed import DeribitFeed, Update

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 10.0

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
    pause = _FIRST_PAUSE_SECONDS
    try:
        while True:
            try:
                async with client.publisher() as publisher:
                    for update in feed.standing():
                        await _send(publisher, update, told)
                    async for update in updates:
                        await _send(publisher, update, told)
                        pause = _FIRST_PAUSE_SECONDS
            except Unavailable as error:
                _log.warning("server_lost", reason=str(error), pause=pause)
                await asyncio.sleep(pause * (0.5 + 0.5 * random.random()))
                pause = min(2.0 * pause, _LONGEST_PAUSE_SECONDS)
    finally:
        await updates.aclose()


async def _send(
    publisher: Publisher, update: Update, told: Callable[[Update, Acknowledgement], None]
) -> None:
    acknowledged = await publisher.send(update.quotes, snapshot_complete=update.whole_chain)
    told(update, acknowledged)
