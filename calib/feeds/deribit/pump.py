"""A feed into a server, for as long as both are there, and again when they are back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from calib.client import Acknowledgement, Client, Publisher
from calib.client.retrying import Backoff
from calib.errors import Forbidden, Unavailable
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
    it refuses what it is sent as a whole, Forbidden where it does not let this client.
    """
    updates = feed.updates()
    pauses, heard = _BACKOFF.pauses(), False
    try:
        while True:
            try:
                async with client.publisher() as publisher:
                    for update in feed.standing():
                        await _send(publisher, update, told)
                    async for update in updates:
                        await _send(publisher, update, told)
                        pauses, heard = _BACKOFF.pauses(), True
            except (Unavailable, Forbidden) as error:
                # What was let in and no longer is may have been exchanged: a new stream tells.
                if isinstance(error, Forbidden) and not heard:
                    raise
                heard = False
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
