"""One backtest through the command line, of a simulated market and of one whose vol climbs."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from calib.cli import main
from calib.cli.frames import write_frame
from calib.feeds.simulated.underlying import default_underlyings
from calib.feeds.simulator import SimulatorSettings, simulate
from tests.cli.samples import Ended, quotes

SIMULATED = "BTC"
CLIMBING = '<b>A&B"'
"""A name that is markup unless it is escaped; its vols rise by a point an hour, which is seen."""
HOURS = 8


@dataclass(frozen=True)
class Run:
    """A folder with a table, a store and a page, and how the command that made them ended."""

    folder: Path
    ended: Ended

    @property
    def table(self) -> Path:
        return self.folder / "quotes.parquet"

    @property
    def store(self) -> Path:
        return self.folder / "calib.db"

    @property
    def page(self) -> Path:
        return self.folder / "page.html"


def simulated_run(folder: Path) -> Run:
    """A simulated market, six hours between its chains; nothing is kept."""
    settings = SimulatorSettings(
        underlyings=default_underlyings(1),
        expiries=3,
        strikes=9,
        snapshots=6,
        interval=timedelta(hours=6),
    )
    write_frame(folder / "quotes.parquet", pd.DataFrame(simulate(settings).quotes))
    return Run(folder, command("backtest", folder / "quotes.parquet"))


def climbing_run(folder: Path) -> Run:
    """A market whose vol climbs, kept in a store and told on a page."""
    run = Run(folder, Ended(0, "", ""))
    write_frame(run.table, quotes((CLIMBING,), times=HOURS))
    return Run(folder, command("backtest", run.table, "--store", run.store, "--out", run.page))


def command(*arguments: object) -> Ended:
    """``calib ARGUMENTS`` in this process, for fixtures that outlive a test."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["calib", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    code = ended.value.code
    assert code is None or isinstance(code, int)
    return Ended(code or 0, out.getvalue(), err.getvalue())
