"""``calib record``: a live market, or what a server takes of it, onto the disk."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calib.cli.connection import Ca, Certificate, Key, TokenFile, credentials
from calib.cli.console import out, writing
from calib.cli.feed import Currency, Rest, Seconds, Url, deribit_line, deribit_settings, ended_after
from calib.cli.server_address import check_answers, host_and_port

if TYPE_CHECKING:
    from rich.console import Console

    from calib.client import Credentials
    from calib.feeds.deribit import DeribitSettings
    from calib.jobs.recorder import Recorder
    from calib.quotes.table import QuoteTable

_FLUSH_SECONDS = 60.0

record = typer.Typer(help="Write live quotes to partitioned Parquet.", no_args_is_help=True)

Folder = Annotated[
    Path, typer.Option("--out", metavar="FOLDER", help="Write underlying=…/day=…/ here.")
]


@record.command("deribit")
def record_deribit(
    folder: Folder,
    currency: Currency = "BTC,ETH",
    url: Url = None,
    rest: Rest = None,
    seconds: Seconds = None,
) -> None:
    """Options of Deribit as a quote table that every command here reads, until Ctrl-C or
    SIGTERM."""
    settings = deribit_settings(currency, url, rest)
    _until_ended(_record_deribit(settings, folder, seconds, out()))


@record.command("server")
def record_server(
    server: Annotated[
        str,
        typer.Option("--from", metavar="HOST:PORT", callback=host_and_port, help="The server."),
    ],
    folder: Folder,
    underlyings: Annotated[
        list[str] | None, typer.Argument(metavar="UNDERLYING", help="All, if none is named.")
    ] = None,
    venue: Annotated[
        list[str] | None, typer.Option(help="Record this venue only; may be repeated.")
    ] = None,
    seconds: Seconds = None,
    ca: Ca = None,
    certificate: Certificate = None,
    key: Key = None,
    token_file: TokenFile = None,
) -> None:
    """What a server takes, of all its venues, as a quote table, until Ctrl-C or SIGTERM.

    First come the quotes that stand, then every row that is accepted. Interruptions are noted on
    stderr and counted; the recording goes on when the server is back, and when the command is
    started again, and what stands then and is written already is not written twice.
    """
    given = credentials(ca, certificate, key, token_file)
    of = (underlyings or [], venue or [])
    _until_ended(_record_server(server, given, *of, folder, seconds, out()))


def _until_ended(work: Coroutine[Any, Any, None]) -> None:
    """Run until it ends, or is told to by Ctrl-C or SIGTERM, which is no failure."""
    from calib.service.logs import configure_logs
    from calib.service.settings import LogFormat, LogLevel

    configure_logs(LogLevel.INFO, LogFormat.AUTO)

    async def ended() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await work

    with suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(ended())


def _recorder(folder: Path) -> Recorder:
    from calib.jobs.recorder import Recorder

    with writing(folder):
        return Recorder(folder)


async def _record_deribit(
    settings: DeribitSettings, folder: Path, seconds: float | None, console: Console
) -> None:
    from calib.feeds.deribit import DeribitFeed

    recorder = _recorder(folder)
    live = DeribitFeed(settings)

    async def tables() -> AsyncGenerator[QuoteTable]:
        async for update in live.updates():
            yield update.quotes

    await _record(tables(), recorder, seconds, console, lambda done: deribit_line(live, done))


async def _record_server(
    server: str,
    given: Credentials | None,
    underlyings: list[str],
    venues: list[str],
    folder: Path,
    seconds: float | None,
    console: Console,
) -> None:
    import calib

    recorder = _recorder(folder)
    await check_answers(server, given)
    interruptions = 0

    async def tables() -> AsyncGenerator[QuoteTable]:
        nonlocal interruptions
        async with calib.connect(server, given) as client:
            async for update in client.watch_quotes(underlyings, venues=venues):
                interruptions = update.interruptions
                yield update.quotes

    def line(done: str) -> str:
        times = "once" if interruptions == 1 else f"{interruptions:,} times"
        return done if not interruptions else f"{done}; interrupted {times}"

    await _record(tables(), recorder, seconds, console, line)


async def _record(
    tables: AsyncGenerator[QuoteTable],
    recorder: Recorder,
    seconds: float | None,
    console: Console,
    line: Callable[[str], str],
) -> None:
    """Write tables as they come; what came is on disk a minute later, and when this ends."""

    def tell() -> None:
        repeats = f", {recorder.repeats:,} told again" if recorder.repeats else ""
        console.print(line(f"{recorder.rows:,} rows written{repeats}"), markup=False)

    async def take() -> None:
        async with ended_after(seconds), aclosing(tables):
            async for table in tables:
                with writing(recorder.folder):
                    recorder.take(table)

    async def flush() -> None:
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            with writing(recorder.folder):
                await asyncio.to_thread(recorder.flush)
            tell()

    tasks = [asyncio.create_task(take()), asyncio.create_task(flush())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for one in done:
            one.result()
    finally:
        for one in tasks:
            one.cancel()
        with writing(recorder.folder):
            recorder.flush()
        tell()
