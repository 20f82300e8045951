"""`calib recalibrate` over recorded months: snapshots and quotes a second, memory, and how many
times as fast as a loop over scipy's least squares it is, on as many processes. A snapshot is the
chain of one underlying.

`CALIB_RECALIBRATE_DAYS` says how many days of each month, all unless it is set. The loop by hand
fits every fourth snapshot. It fits each smile alone, and that is all that it does; calib's surfaces
are of one piece, proved free of arbitrage, have error bars, and are stored with their quotes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from calib.jobs.quote_source import QuoteSource
from calib.quotes.chain import chains
from calib.store import open_store
from tests.benchmarks.process_tree import Ran, run
from tests.market.shared_tables import FOLDER, needs_tables

MONTHS = tuple(sorted(Path(FOLDER).glob("deribit_????-??.parquet"))) if FOLDER else ()
DAYS = os.environ.get("CALIB_RECALIBRATE_DAYS", "all")
SAMPLE = 4  # of so many chains one is fitted by hand
PROCESSES = len(os.sched_getaffinity(0))

pytestmark = [pytest.mark.real_data, needs_tables]


@dataclass(frozen=True)
class Month:
    """What there is to calibrate of a table, the option that chooses it, and the loop by hand over
    its sample."""

    path: Path
    days: int
    snapshots: int
    quotes: int
    end: np.datetime64
    hand_chains: int
    hand_seconds: float


@pytest.mark.skipif(not MONTHS, reason="no deribit_YYYY-MM.parquet is in CALIB_QUOTES_DIR")
def test_months_of_deribit(tmp_path: Path) -> None:
    months = [month_of(path) for path in MONTHS]
    table = Table(
        "months",
        "days",
        "snapshots",
        "quotes",
        "s, whole process",
        "snapshots/s",
        "quotes/s",
        "by hand, snapshots/s",
        "times as fast",
        "processors busy",
        "MB at most",
        title=f"calib recalibrate beside scipy by hand, {PROCESSES} processes each",
    )
    recalibrated(months[:1], tmp_path / "first.db")  # what is compiled is kept for all later runs
    parts = [[one] for one in months] + ([months] if DAYS == "all" else [])
    for part in parts:
        name = " ".join(one.path.stem for one in part)
        store = tmp_path / f"{name}.db"
        ran = recalibrated(part, store)
        snapshots = sum(one.snapshots for one in part)
        with open_store(str(store)) as opened:
            assert sum(1 for _ in opened.surfaces()) >= 0.95 * snapshots
        rate, rows = snapshots / ran.seconds, sum(one.quotes for one in part)
        hand = sum(one.hand_chains for one in part) / sum(one.hand_seconds for one in part)
        table.add_row(
            name,
            f"{sum(one.days for one in part)}",
            f"{snapshots}",
            f"{rows:,}",
            f"{ran.seconds:.1f}",
            f"{rate:.1f}",
            f"{rows / ran.seconds:,.0f}",
            f"{hand:.2f}",
            f"{rate / hand:.1f}",
            f"{ran.busy_seconds / ran.seconds:.2f}",
            f"{ran.peak_bytes / 1e6:,.0f}",
        )
    Console(width=200).print(table)
    Console(width=200).print(
        "some seconds of each run are its start, however much is calibrated; "
        f"processors: {os.cpu_count()}; load {os.getloadavg()[0]:.1f}"
    )


def recalibrated(months: Sequence[Month], store: Path) -> Ran:
    end = str(max(one.end for one in months))
    paths = [one.path for one in months]
    ran = run("calib", ["recalibrate", *paths, "--store", store, "--to", end], {})
    assert ran.code in (0, 1), ran.err  # 1: some chain gave no surface, which is counted
    return ran


def month_of(path: Path) -> Month:
    source = QuoteSource([str(path)])
    end = source.units[-1].day + np.timedelta64(1, "D")
    if DAYS != "all":
        end = source.units[0].day + np.timedelta64(int(DAYS), "D")
    units = [unit for unit in source.units if unit.day < end]
    tables = [source.quotes(unit) for unit in units]
    times = [chain.quote_time for table in tables for chain in chains(table)]
    sample = [str(one) for one in np.unique(times)[::SAMPLE]]
    ran = run("tests.benchmarks.by_hand", [path, PROCESSES, *sample], {"OMP_NUM_THREADS": "1"})
    assert ran.code == 0, ran.err
    told = json.loads(ran.out)
    assert told["slices"] > 5 * told["chains"]  # it does fit
    return Month(
        path,
        len({unit.day for unit in units}),
        len(times),
        sum(map(len, tables)),
        end,
        told["chains"],
        told["seconds"],
    )
