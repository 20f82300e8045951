"""From a batch that one process sends to the surface that another one holds, over loopback.

Three processes: the server as `calib serve` runs it, a subscriber, and this one, which publishes a
chain, waits until the subscriber has its surface, and publishes the next. All stamps are of the
machine's monotonic clock, which processes share.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import replace
from pathlib import Path
from time import monotonic, perf_counter

import grpc
import numpy as np

from calib.client import connect
from calib.conventions import Floats
from calib.feeds.simulated.underlying import default_underlyings
from calib.feeds.simulator import SimulatorSettings, snapshots
from calib.market.slicing import slices_of
from calib.quotes.chain import chain_at
from calib.quotes.table import QuoteTable
from calib.service.conversion import batches_of
from calib.v1 import quote_service_pb2, quote_service_pb2_grpc
from tests.store.postgresql import Server, server

CHAINS = 60
ROUNDS = 400
REHEARSALS = 60
PAUSE_SECONDS = 0.02

SERVER = """
import asyncio, math, sys
from calib.modelrisk.breakers import Trigger
from calib.service.server import serve
from calib.service.settings import ServiceSettings

# Everything is judged, as always, and nothing is held back: each chain is to be a surface.
never = dict.fromkeys(("widened", "held", "halted"), math.inf)
limits = {trigger.name.lower(): never for trigger in Trigger}
settings = ServiceSettings(
    listen="127.0.0.1:0",
    store=sys.argv[1],
    quotes_folder=sys.argv[2],
    model_risk={"breakers": {"limits": limits}},
    log_level="debug",
    log_format="json",
)
asyncio.run(serve(settings, listening=lambda address: print(address, flush=True)))
"""

SUBSCRIBER = """
import asyncio, sys
from time import monotonic
import calib

async def main(address):
    async with calib.connect(address) as client:
        async for update in client.watch():
            print(monotonic(), update.revision, len(update.surface.expiries), flush=True)

asyncio.run(main(sys.argv[1]))
"""

STAGES = ("to the server", "decode", "book", "to the fit thread", "fit", "publish", "deliver")


def test_latency_from_batch_to_surface(tmp_path: Path) -> None:
    chains = simulated_chains()
    ends, expiries = asyncio.run(measure(chains, tmp_path, str(tmp_path / "calib.db")))
    inside = server_stamps((tmp_path / "server.log").read_text())[REHEARSALS:]
    stamps = np.column_stack([ends[:, 0], inside, ends[:, 1]])
    stages = np.diff(stamps, axis=1) * 1e3
    total = (stamps[:, -1] - stamps[:, 0]) * 1e3
    usable = [int(slices_of(chain_at(c, "BTC", c.quote_time[0])).used.sum()) for c in chains[:5]]
    print(
        f"\n{len(chains[0])} rows, {np.median(usable):.0f} of them used, {expiries} expiries, "
        f"{len(total)} chains, {os.cpu_count()} cores; milliseconds"
    )
    print(f"{'stage':<20}{'median':>9}{'p99':>9}")
    for name, column in zip(STAGES, stages.T, strict=True):
        print(f"{name:<20}{np.median(column):9.3f}{np.quantile(column, 0.99):9.3f}")
        if name == "fit":
            print(f"{'  of it slices':<20}{1e3 * time_alone(chains):9.3f}{'(alone)':>9}")
    print(f"{'batch to surface':<20}{np.median(total):9.3f}{np.quantile(total, 0.99):9.3f}")
    assert len(total) == ROUNDS
    assert (stages > -0.001).all()  # stamps of one clock stand in the order of what happened


def test_a_store_is_in_nobodys_way(tmp_path: Path) -> None:
    chains = simulated_chains()
    folders = [tmp_path / str(number) for number in range(4)]
    for folder in folders:
        folder.mkdir()
    found: dict[str, Floats] = {}

    def measured(name: str, folder: Path, store: str, *, stop: Server | None = None) -> None:
        stamps, _ = asyncio.run(measure(chains, folder, store, stop))
        found[name] = (stamps[:, -1] - stamps[:, 0]) * 1e3

    measured("no store", folders[0], "none")
    measured("SQLite and quotes", folders[1], str(folders[1] / "calib.db"))
    with server() as database:
        measured("PostgreSQL and quotes", folders[2], database.url)
        measured("PostgreSQL that is stopped", folders[3], database.url, stop=database)
        database.start()
    alone = found["no store"]
    print("\nbatch to surface, milliseconds, and as a ratio to no store")
    print(f"{'':<28}{'median':>9}{'p99':>9}{'ratio':>8}")
    for name, total in found.items():
        ratio = np.median(total) / np.median(alone)
        print(f"{name:<28}{np.median(total):9.3f}{np.quantile(total, 0.99):9.3f}{ratio:8.2f}")


def simulated_chains() -> list[QuoteTable]:
    """Snapshots of an options venue a second apart, in the order in which they are sent."""
    settings = SimulatorSettings(
        underlyings=default_underlyings(1), expiries=12, strikes=38, snapshots=CHAINS
    )
    return [snapshot.quotes for snapshot in snapshots(settings)]


async def measure(
    chains: list[QuoteTable], folder: Path, store: str, stop: Server | None = None
) -> tuple[Floats, int]:
    """When every round was sent and received, (rounds, 2), and the expiries of the last surface.

    ``stop``: a database to stop after the rehearsals.
    """
    log = (folder / "server.log").open("wb")
    process = await _python(SERVER, store, str(folder / "quotes"), stderr=log.fileno())
    address = await _line(process)
    async with connect(address) as client:
        await client.wait_until_serving(300.0)
    subscriber = await _python(SUBSCRIBER, address)
    sent, received, expiries = [], [], 0
    async with grpc.aio.insecure_channel(address) as channel:
        call = quote_service_pb2_grpc.QuoteServiceStub(channel).PublishQuotes()
        for number in range(REHEARSALS + ROUNDS):
            if number == REHEARSALS and stop is not None:
                await asyncio.to_thread(stop.stop)
            request = request_of(chains[number % CHAINS], number // CHAINS)
            await asyncio.sleep(PAUSE_SECONDS)
            sent.append(monotonic())
            await call.write(request)
            stamp, _, count = (await _line(subscriber)).split()
            received.append(float(stamp))
            expiries = int(count)
            await call.read()
        call.cancel()
    for one in (subscriber, process):
        one.terminate()
        await one.wait()
    log.close()
    return np.column_stack([sent, received])[REHEARSALS:], expiries


def request_of(quotes: QuoteTable, lap: int) -> quote_service_pb2.PublishQuotesRequest:
    """The chain as a message, each lap through the chains later than the one before."""
    later = np.timedelta64(lap * CHAINS * 1_000_000, "us")
    moved = replace(quotes, quote_time=quotes.quote_time + later)
    ((batch, _),) = batches_of(moved, snapshot_complete=True)
    return quote_service_pb2.PublishQuotesRequest(quotes=batch)


def server_stamps(log: str) -> Floats:
    """received, read, taken, started, ended, published of every chain, from the server's log."""
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    taken = [line for line in lines if line["event"] == "quotes_taken"]
    fitted = [line for line in lines if line["event"] == "fitted"]
    assert len(taken) == len(fitted)
    return np.array(
        [
            (t["received"], t["read"], t["taken"], f["started"], f["ended"], f["published"])
            for t, f in zip(taken, fitted, strict=True)
        ]
    )


def time_alone(chains: list[QuoteTable]) -> float:
    """Median seconds from a chain to its slices, in this process and with nothing beside it."""
    made = [chain_at(quotes, "BTC", quotes.quote_time[0]) for quotes in chains]
    seconds = []
    for chain in [*made, *made]:
        start = perf_counter()
        slices_of(chain)
        seconds.append(perf_counter() - start)
    return float(np.median(seconds[len(made) :]))


async def _python(script: str, *arguments: str, stderr: int | None = None) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, *arguments, stdout=PIPE, stderr=stderr
    )


async def _line(process: Process) -> str:
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 120.0)
    assert line, "the process ended"
    return line.decode().strip()
