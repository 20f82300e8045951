"""History calibrated with ten kills at random points: the same store as in one go, bit for bit."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import pytest

from calib.cli.frames import write_frame
from tests.cli.backtest_run import command
from tests.jobs.history import contents, history
from tests.jobs.test_recalibration import started, stored_days
from tests.market.shared_tables import FOLDER

pytestmark = pytest.mark.drill
KILLS = 10
REAL = Path(FOLDER) / "deribit_2026-03.parquet" if FOLDER else None


def table_of(folder: Path) -> Path:
    """A recorded month, or a simulated one where there is none."""
    if REAL is not None and REAL.exists():
        return REAL
    write_frame(folder / "quotes.parquet", history(snapshots=4 * 31))
    return folder / "quotes.parquet"


def test_ten_kills_at_random_points_come_to_the_same(tmp_path: Path) -> None:
    table = table_of(tmp_path)
    whole, store = tmp_path / "whole.db", tmp_path / "calib.db"
    began = time.monotonic()
    ended = command("recalibrate", table, "--store", whole)
    assert ended.code in (0, 1), ended.err
    units = stored_days(whole)
    a_unit = (time.monotonic() - began) / units
    random = np.random.default_rng(8)
    left_behind = [
        killed(table, store, more=int(more), later=a_unit * within)
        for more, within in zip(
            random.integers(1, 5, KILLS), random.uniform(0.0, 1.0, KILLS), strict=True
        )
    ]
    assert left_behind[-1] < units
    again = command("recalibrate", table, "--store", store)
    assert again.code == ended.code, again.err
    assert contents(store) == contents(whole)
    print(
        f"{units} days of underlyings in {table.name}; killed {len(left_behind)} times, "
        f"with {', '.join(map(str, left_behind))} of them stored"
    )


def killed(table: Path, store: Path, *, more: int, later: float) -> int:
    """A run that is killed when it has stored so many ``more`` days of underlyings, and so many
    seconds ``later``; how many are stored then."""
    before, process = stored_days(store), started(table, store)
    deadline = time.monotonic() + 300.0
    while stored_days(store) < before + more:
        assert process.poll() is None, "it was done before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(later)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it was done before it was killed"
    return stored_days(store)
