"""``calib feed``: a live market into a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from calib.cli.connection import Ca, Certificate, Key, TokenFile, credentials
from calib.cli.console import out
from calib.cli.server_address import To, check_answers
from calib.errors import InvalidRequest

if TYPE_CHECKING:
    from rich.console import Console

    from calib.client import Acknowledgement, Credentials
    from calib.feeds.deribit import DeribitFeed, DeribitSettings
    from calib.feeds.deribit.feed import Update

_TOLD_EVERY_SECONDS = 10.0

feed = typer.Typer(help="Stream a live market to a server.", no_args_is_help=True)

Currency = Annotated[
    str, typer.Option(metavar="NAME,…", help="Currencies of the options, like BTC,ETH.")
]
Url = Annotated[
    str | None,
    typer.Option(metavar="WS-URL", help="Another WebSocket address, wss://test.deribit.com/…"),
]
Rest = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="Another REST address.  [default: beside --url, or Deribit's]"
    ),
]
Seconds = Annotated[float | None, typer.Option(min=0.1, help="End after so many seconds.")]


@feed.command("deribit")
def feed_deribit(
    to: To,
    currency: Currency = "BTC,ETH",
    url: Url = None,
    rest: Rest = None,
    seconds: Seconds = None,
    ca: Ca = None,
    certificate: Certificate = None,
    key: Key = None,
    token_file: TokenFile = None,
) -> None:
    """Options of Deribit: the whole chain, then every change of best bid and ask, until Ctrl-C.

    Connections that are lost are made again, on either side, and the whole chain is sent anew.
    """
    from calib.service.logs import configure_logs

    configure_logs()
    settings = deribit_settings(currency, url, rest)
    given = credentials(ca, certificate, key, token_file)
    with suppress(KeyboardInterrupt):
        asyncio.run(_feed(settings, to, given, seconds, out()))


@asynccontextmanager
async def ended_after(seconds: float | None) -> AsyncIterator[None]:
    """End what is inside after so many seconds; what times out by itself still raises."""
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise


def deribit_settings(currency: str, url: str | None, rest: str | None) -> DeribitSettings:
    """The settings that these options describe."""
    try:
        from calib.feeds.deribit import DeribitSettings
    except ImportError as error:
        raise InvalidRequest(f"a live feed needs {error.name}: pip install 'calib[feed]'") from None

    names = tuple(one.strip().upper() for one in currency.split(",") if one.strip())
    if url is not None and not url.startswith(("ws://", "wss://")):
        raise InvalidRequest(f"--url {url!r} is no WebSocket address; it begins with wss://")
    if rest is not None and not rest.startswith(("http://", "https://")):
        raise InvalidRequest(f"--rest {rest!r} is no REST address; it begins with https://")
    settings = DeribitSettings(names)
    if url is not None:
        beside = "http" + url.removeprefix("ws").replace("/ws/api/v2", "/api/v2")
        settings = replace(settings, websocket=url, rest=beside.rstrip("/"))
    return settings if rest is None else replace(settings, rest=rest.rstrip("/"))


async def _feed(
    settings: DeribitSettings,
    to: str,
    given: Credentials | None,
    seconds: float | None,
    console: Console,
) -> None:
    import calib
    from calib.client import Acknowledgement
    from calib.feeds.deribit import DeribitFeed
    from calib.feeds.deribit.pump import pump

    await check_answers(to, given)
    live = DeribitFeed(settings)
    total = Acknowledgement(reasons={})

    def told(update: Update, acknowledged: Acknowledgement) -> None:
        nonlocal total
        total += acknowledged

    async def tell() -> None:
        while True:
            await asyncio.sleep(_TOLD_EVERY_SECONDS)
            console.print(
                deribit_line(live, f"{total.accepted:,} accepted, {total.rejected:,} rejected")
            )

    telling = asyncio.create_task(tell())
    try:
        async with calib.connect(to, given) as client, ended_after(seconds):
            await pump(live, client, told)
    finally:
        telling.cancel()
        console.print(
            deribit_line(live, f"{total.accepted:,} accepted, {total.rejected:,} rejected")
        )


def deribit_line(live: DeribitFeed, done: str) -> str:
    """How a feed goes, and what was ``done`` with it."""
    counts = live.counts
    parts = [f"{counts.chains:,} chains, {counts.tickers:,} changes", done]
    for name in ("reconnects", "unanswered", "older", "unknown", "garbage", "refused"):
        count = getattr(counts, name)
        if count:
            parts.append(f"{count:,} {name}")
    if counts.ahead_seconds > 1.0:
        parts.append(f"the venue's clock is {counts.ahead_seconds:.1f} s ahead")
    return "; ".join(parts)
