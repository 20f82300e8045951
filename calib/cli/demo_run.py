"""The course of the demo: a server in its own process, a market sent to it, a subscriber here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

import calib
from calib.cli.console import err, out
from calib.cli.frames import write_frame
from calib.cli.replay import print_acknowledged, stream
from calib.cli.server_process import ServerProcess, server_process, serving
from calib.cli.watch import print_update
from calib.client import Client
from calib.feeds.replay import timed_quotes
from calib.feeds.simulated.underlying import default_underlyings
from calib.feeds.simulator import SimulatorSettings, simulate
from calib.quotes.chain import chains
from calib.quotes.table import QuoteTable

UNDERLYINGS, EXPIRIES, STRIKES = 3, 8, 24
SECONDS_TO_WARM_UP = 300.0
SECONDS_TO_SIMULATE = 4.0
SECONDS_FOR_LAST_SURFACES = 60.0


def run_demo(folder: Path, seconds: int, seed: int) -> list[str]:
    """Run the demo; returns the underlyings whose last quotes led to no surface."""
    console = out()
    for name in ("quotes.parquet", "surfaces.db", "server.log", "page.html"):
        for leftover in folder.glob(f"{name}*"):
            leftover.unlink()
    try:
        quotes, missing = asyncio.run(_live(console, folder, seconds, seed))
    except asyncio.CancelledError:  # asked to end by SIGTERM
        raise typer.Exit(128 + signal.SIGTERM) from None
    _write_page(console, folder, quotes)
    return missing


async def _live(
    console: Console, folder: Path, seconds: int, seed: int
) -> tuple[QuoteTable, list[str]]:
    _cancel_on(signal.SIGTERM)
    store, log = folder / "surfaces.db", folder / "server.log"
    _head(console, f"1. A server: calib serve --store {store}")
    async with server_process(store, log, expiries=EXPIRIES) as server:
        rehearsal = asyncio.to_thread(simulate, _settings(1, seed, datetime.now(UTC)))
        await asyncio.gather(_ready(console, server), rehearsal)

        start = datetime.now(UTC) + timedelta(seconds=SECONDS_TO_SIMULATE)
        market = await asyncio.to_thread(simulate, _settings(seconds, seed, start))
        write_frame(folder / "quotes.parquet", market.quotes)
        quotes = calib.quotes_from_frame(market.quotes)
        _head(console, f"2. A market, in {folder / 'quotes.parquet'}")
        _say(
            console,
            f"{', '.join(quotes.underlyings)} under stochastic volatility with jumps, "
            f"{len(quotes):,} quotes.",
        )
        _head(console, "3. Live calibration")
        _say(
            console,
            f"The market is sent to the server, a chain of each underlying a second for {seconds} "
            "s. A subscriber prints each surface as it arrives: its age is the time since its "
            "quotes were made, and the vols are those at the money, by expiry.",
        )
        console.print()
        async with calib.connect(server.address) as client:
            missing = await _replay_and_watch(console, client, quotes, start)
        _head(console, "4. The server is asked to end")
    _say(console, "It has ended.")
    return quotes, missing


async def _replay_and_watch(
    console: Console, client: Client, quotes: QuoteTable, start: datetime
) -> list[str]:
    timed = list(timed_quotes(quotes))
    last = quotes.quote_time.max()
    awaited = set(quotes.underlyings)
    done = asyncio.Event()

    async def watch() -> None:
        async for update in client.watch():
            print_update(console, update)
            if update.quote_time == last:
                awaited.discard(update.underlying)
            if not awaited:
                done.set()

    subscriber = asyncio.create_task(watch())
    try:
        await asyncio.sleep((start - datetime.now(UTC)).total_seconds())
        acknowledged = await stream(client, timed, 1.0, lambda sent: None)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), SECONDS_FOR_LAST_SURFACES)
    finally:
        subscriber.cancel()
        await asyncio.gather(subscriber, return_exceptions=True)
    console.print()
    print_acknowledged(console, len(timed), acknowledged)
    return sorted(awaited)


async def _ready(console: Console, server: ServerProcess) -> None:
    started = monotonic()
    status = err().status("")
    with status:
        await serving(
            server,
            within=SECONDS_TO_WARM_UP,
            waiting=lambda s: status.update(f"it compiles its fitting code ahead: {s:.0f} s"),
        )
    _say(
        console,
        f"It listens on {server.address}, and has compiled its fitting code in "
        f"{monotonic() - started:.0f} s. Its log is {server.log}",
    )


def _settings(snapshots: int, seed: int, start: datetime) -> SimulatorSettings:
    return SimulatorSettings(
        seed=seed,
        underlyings=default_underlyings(UNDERLYINGS),
        expiries=EXPIRIES,
        strikes=STRIKES,
        snapshots=snapshots,
        start=start,
    )


def _cancel_on(number: signal.Signals) -> None:
    """Let a signal end the running task as Ctrl-C does, so that the server is ended too."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(number, task.cancel)


def _write_page(console: Console, folder: Path, quotes: QuoteTable) -> None:
    """The last surfaces, read back from the store, against the quotes they were fitted to."""
    from calib.market.slicing import slices_of
    from calib.report.page import page_html
    from calib.report.smiles import QuotedSurface

    with calib.open_store(str(folder / "surfaces.db")) as store:
        stored = list(store.surfaces())
    by_chain = {(each.underlying, each.quote_time): each for each in chains(quotes)}
    last = {each.underlying: each for each in stored}
    shown = [
        QuotedSurface(each, slices_of(by_chain[name, each.quote_time], each.calendar))
        for name, each in sorted(last.items())
    ]
    text = page_html(
        "Live calibration of a simulated market",
        shown,
        f"The last of {len(stored)} surfaces that the demo's server published, against the quotes "
        "that they were fitted to. The market is a stochastic-volatility model with jumps.",
    )
    page = folder / "page.html"
    page.write_text(text, encoding="utf-8")
    _head(console, f"5. The page: {page.resolve()}")
    _say(
        console,
        "It shows the last surface of each underlying, its smiles against bid and ask. All "
        f"{len(stored)} surfaces are in {folder / 'surfaces.db'}",
    )
    _say(
        console, f"Try next: {_command()} fit {folder / 'quotes.parquet'}, and {_command()} --help"
    )


def _command() -> str:
    """How this command is called from here: by its name where the shell finds it."""
    if shutil.which("calib"):
        return "calib"
    script = Path(sys.executable).with_name("calib")
    return os.path.relpath(script) if script.is_relative_to(Path.cwd()) else str(script)


def _head(console: Console, text: str) -> None:
    console.print(f"\n{text}", style="bold", markup=False, soft_wrap=True)


def _say(console: Console, text: str) -> None:
    console.print(Padding(Text(text), (0, 0, 0, 3), expand=False))
