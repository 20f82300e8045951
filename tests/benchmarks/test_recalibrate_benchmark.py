"""`calib recalibrate` over recorded months: snapshots and quotes a second, memory, and how many
times as fast as a loop over scipy's least squares it is, on as many processes.

`CALIB_RECALIBRATE_DAYS` says how many days of each month, all unless it is set. The loop by hand
fits every fourth snapshot. It fits each smile alone, and that is all that it does; calib's surfaces
are of one piece, proved free of arbitrage, have error bars, and are stored with their quotes.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from calib.jobs.quote_source import QuoteSource, Unit
from calib.jobs.recalibration import RecalibrationSettings, chosen_units
from calib.quotes.chain import chains
from calib.store import open_store
from tests.benchmarks.process_tree import Ran, run
from tests.market.shared_tables import FOLDER, needs_tables

MONTHS = tuple(sorted(Path(FOLDER).glob("deribit_????-??.parquet"))) if FOLDER else ()
DAYS = os.environ.get("CALIB_RECALIBRATE_DAYS", "all")
SAMPLE = 4  # of so many chains one is fitted by hand
PROCESSES = RecalibrationSettings().threads

pytestmark = [pytest.mark.real_data, needs_tables]


def chosen(source: QuoteSource) -> tuple[list[Unit], list[str]]:
    """The units that are calibrated, and the options that choose them."""
    if DAYS == "all":
        return chosen_units(source.units), []
    first = min(unit.day for unit in source.units)
    last = first + np.timedelta64(int(DAYS), "D")
    return chosen_units(source.units, (), first, last), ["--to", str(last)]


@pytest.mark.skipif(not MONTHS, reason="no deribit_YYYY-MM.parquet is in CALIB_QUOTES_DIR")
def test_months_of_deribit(tmp_path: Path) -> None:
    table = Table(
        "month",
        "days",
        "snapshots",
        "quotes",
        "s, whole process",
        "snapshots/s",
        "quotes/s",
        "once started, chains/s",
        "by hand, chains/s",
        "times as fast",
        "processors busy",
        "MB at most",
        title=f"calib recalibrate on {PROCESSES} threads; by hand: scipy on {PROCESSES} processes",
    )
    for month in MONTHS:
        source = QuoteSource([str(month)])
        units, options = chosen(source)
        times, count, rows = set(), 0, 0
        for unit in units:
            quotes = source.quotes(unit)
            rows += len(quotes)
            for chain in chains(quotes):
                count += 1
                times.add(str(chain.quote_time))
        if month == MONTHS[0]:  # what is compiled is kept: only the first run waits for it
            recalibrated(month, tmp_path / "first.db", options)
        store = tmp_path / f"{month.stem}.db"
        ran = recalibrated(month, store, options)
        with open_store(str(store)) as opened:
            stored = sum(1 for _ in opened.surfaces())
        assert stored >= 0.95 * count
        rate = re.search(r"([\d,.]+) chains/s", " ".join(ran.out.split()))
        assert rate is not None, ran.out
        once_started = float(rate[1].replace(",", ""))
        hand = by_hand(month, sorted(times)[::SAMPLE])
        table.add_row(
            month.stem,
            str(len({unit.day for unit in units})),
            f"{count}",
            f"{rows:,}",
            f"{ran.seconds:.1f}",
            f"{count / ran.seconds:.1f}",
            f"{rows / ran.seconds:,.0f}",
            f"{once_started:.1f}",
            f"{hand:.2f}",
            f"{once_started / hand:.1f}",
            f"{ran.busy_seconds / ran.seconds:.2f}",
            f"{ran.peak_bytes / 1e6:,.0f}",
        )
    Console(width=200).print(table)
    Console(width=200).print(f"processors: {os.cpu_count()}; load {os.getloadavg()[0]:.1f}")


def recalibrated(month: Path, store: Path, options: list[str]) -> Ran:
    ran = run("calib", ["recalibrate", month, "--store", store, *options], {})
    assert ran.code in (0, 1), ran.err  # 1: some chain gave no surface, which is counted
    return ran


def by_hand(month: Path, times: list[str]) -> float:
    """Chains a second."""
    ran = run("tests.benchmarks.by_hand", [month, PROCESSES, *times], {"OMP_NUM_THREADS": "1"})
    assert ran.code == 0, ran.err
    told = json.loads(ran.out)
    assert told["slices"] > 5 * told["chains"]  # it does fit
    return float(told["chains"] / told["seconds"])
