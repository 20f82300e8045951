"""The course of the demo: a server in its own process, a market sent to it, a subscriber here."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import typer
from rich.console import Console

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
    console.print(f"1. A server: calib serve --store {store}")
    async with server_process(store, log) as server:
        rehearsal = asyncio.to_thread(simulate, _settings(1, seed, datetime.now(UTC)))
        await asyncio.gather(_ready(console, server), rehearsal)

        start = datetime.now(UTC) + timedelta(seconds=SECONDS_TO_SIMULATE)
        market = await asyncio.to_thread(simulate, _settings(seconds, seed, start))
        write_frame(folder / "quotes.parquet", market.quotes)
        quotes = calib.quotes_from_frame(market.quotes)
        console.print(
            f"\n2. A market: {', '.join(quotes.underlyings)} under stochastic volatility with "
            f"jumps, {len(quotes):,} quotes, in {folder / 'quotes.parquet'}"
        )
        console.print(
            f"\n3. The market is sent to the server, a chain of each underlying a second for "
            f"{seconds} s.\n   A subscriber prints each surface as it arrives; its age is the time "
            "since its quotes were made,\n   and the vols are those at the money, by expiry:\n"
        )
        async with calib.connect(server.address) as client:
            missing = await _replay_and_watch(console, client, quotes, start)
        console.print("\n4. The server is asked to end.")
    console.print("   It has ended.")
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
    console.print(
        f"   It listens on {server.address} and has compiled its fitting code "
        f"in {monotonic() - started:.0f} s; its log is {server.log}"
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
    console.print(
        f"\n5. {len(stored)} surfaces are in {folder / 'surfaces.db'}. A page shows the last"
    )
    console.print(f"   of each underlying, smiles against bid and ask: {page.resolve()}")
    console.print(f"\nTry next: calib fit {folder / 'quotes.parquet'}   and: calib --help")
