"""``calib record``: a live market, or what a server takes of it, onto the disk."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calib.cli.connection import Ca, Certificate, Key, TokenFile, credentials
from calib.cli.console import out, writing
from calib.cli.feed import Currency, Rest, Seconds, Url, deribit_line, deribit_settings, ended_after
from calib.cli.server_address import From, Underlyings, check_answers

if TYPE_CHECKING:
    from rich.console import Console

    from calib.client import Credentials
    from calib.feeds.deribit import DeribitSettings
    from calib.jobs.recorder import Recorder
    from calib.quotes.table import QuoteTable

    _Rows = Callable[[], QuoteTable]

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
    server: From,
    folder: Folder,
    underlyings: Underlyings = None,
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

    configure_logs()

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
    from calib.feeds.deribit.quote import VENUE
    from calib.jobs.live_options import LiveOptions

    recorder = _recorder(folder)
    live, options = DeribitFeed(settings), LiveOptions(recorder)

    async def tables() -> AsyncGenerator[_Rows]:
        async for update in live.updates():
            whole = update.whole_chain
            told = update.quotes, VENUE, update.underlying
            yield partial(options.take, *told, begins=whole, ends=whole)

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
    from calib.jobs.live_options import LiveOptions

    recorder = _recorder(folder)
    await check_answers(server, given)
    options, interruptions = LiveOptions(recorder), 0

    async def tables() -> AsyncGenerator[_Rows]:
        nonlocal interruptions
        epoch, same = "", False
        async with calib.connect(server, given) as client:
            async for update in client.watch_quotes(underlyings, venues=venues):
                if not epoch or update.interruptions > interruptions:
                    same = update.epoch == epoch
                    interruptions, epoch = update.interruptions, update.epoch
                told = update.quotes, update.venue, update.underlying
                if update.standing:
                    # A server that has begun anew may be in the midst of its first chains.
                    yield partial(options.take_standing, *told, whole=same)
                else:
                    begins, ends = update.snapshot_begin, update.snapshot_complete
                    yield partial(options.take, *told, begins=begins, ends=ends)

    def line(done: str) -> str:
        times = "once" if interruptions == 1 else f"{interruptions:,} times"
        return done if not interruptions else f"{done}; interrupted {times}"

    await _record(tables(), recorder, seconds, console, line)


async def _record(
    tables: AsyncGenerator[_Rows],
    recorder: Recorder,
    seconds: float | None,
    console: Console,
    line: Callable[[str], str],
) -> None:
    """Write tables as they come; what came is on disk a minute later, and when this ends.

    They are made and taken off the loop: the first rows of a day let all of it be read.
    """

    def tell() -> None:
        repeats = f", {recorder.repeats:,} told again" if recorder.repeats else ""
        console.print(line(f"{recorder.rows:,} rows written{repeats}"), markup=False)

    loop = asyncio.get_running_loop()

    def write(rows: _Rows) -> None:
        recorder.take(rows())

    async def take(thread: Executor) -> None:
        async with ended_after(seconds), aclosing(tables):
            async for rows in tables:
                with writing(recorder.folder):
                    await loop.run_in_executor(thread, write, rows)

    async def flush() -> None:
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            with writing(recorder.folder):
                await asyncio.to_thread(recorder.flush)
            tell()

    with ThreadPoolExecutor(1) as thread:  # what was begun to be taken is, before it is closed
        tasks = [asyncio.create_task(take(thread)), asyncio.create_task(flush())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()
        finally:
            for one in tasks:
                one.cancel()
            with writing(recorder.folder):
                await loop.run_in_executor(thread, recorder.close)
            tell()
