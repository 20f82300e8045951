"""History calibrated with ten kills at random points: the same store as in one go, bit for bit."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import pytest

from calib.cli.frames import write_frame
from calib.jobs.quote_source import QuoteSource
from tests.cli.backtest_run import command
from tests.jobs.history import contents, history
from tests.jobs.test_recalibration import started, stored_days
from tests.market.shared_tables import FOLDER

pytestmark = pytest.mark.drill
KILLS = 10
REAL = Path(FOLDER) / "deribit_2026-03.parquet" if FOLDER else None
DAYS = 7


def table_of(folder: Path) -> tuple[Path, list[str]]:
    """A recorded week, or a simulated one where there is none, and the options that choose it."""
    if REAL is not None and REAL.exists():
        first = min(unit.day for unit in QuoteSource([str(REAL)]).units)
        return REAL, ["--to", str(first + np.timedelta64(DAYS, "D"))]
    write_frame(folder / "quotes.parquet", history(snapshots=4 * DAYS))
    return folder / "quotes.parquet", []


def test_ten_kills_at_random_points_come_to_the_same(tmp_path: Path) -> None:
    table, options = table_of(tmp_path)
    whole, store = tmp_path / "whole.db", tmp_path / "calib.db"
    began = time.monotonic()
    ended = command("recalibrate", table, "--store", whole, *options)
    assert ended.code in (0, 1), ended.err
    units = stored_days(whole)
    a_unit = (time.monotonic() - began) / units
    random = np.random.default_rng(8)
    # After so many units, and somewhere within the next; the last are left to the end.
    points = np.sort(random.integers(0, units - 4, KILLS)) + random.uniform(0.0, 1.0, KILLS)
    killed = [killed_at(point, a_unit, table, store, options) for point in points]
    assert len(killed) == KILLS
    left = stored_days(store)
    again = command("recalibrate", table, "--store", store, *options)
    assert again.code == ended.code, again.err
    assert contents(store) == contents(whole)
    done = ", ".join(f"{point:.1f} ({found})" for point, found in zip(points, killed, strict=True))
    print(f"{units} days of underlyings in {table.name}; killed after {done}; {units - left} left")


def killed_at(point: float, a_unit: float, table: Path, store: Path, options: list[str]) -> int:
    """A run that is killed there; how many units it left behind."""
    process = started(table, store, *options)
    deadline = time.monotonic() + 300.0
    while stored_days(store) < int(point):
        assert process.poll() is None, "it was done before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep((point % 1.0) * a_unit)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it was done before it was killed"
    return stored_days(store)
