"""Stored surfaces against cold fits of their quotes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from calib.cli.frames import write_frame
from calib.jobs.drift import drifts
from calib.store import open_store
from calib.surface.transport import with_levels
from tests.cli.backtest_run import command
from tests.jobs.history import history


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drift")
    frame = history()
    write_frame(folder / "quotes.parquet", frame[frame["underlying"] == frame["underlying"][0]])
    assert (
        command("recalibrate", folder / "quotes.parquet", "--store", folder / "calib.db").code == 0
    )
    return folder / "calib.db"


def test_what_was_fitted_cold_has_not_drifted(store: Path) -> None:
    with open_store(str(store)) as opened:
        found = list(drifts(opened))
        first = {s.quote_time for s in opened.surfaces() if s.revision == 1}
    cold = [one for one in found if one.quote_time in first]
    warm = [one for one in found if one.quote_time not in first]
    assert cold
    assert all(one.rms == 0.0 for one in cold)
    assert 0.0 < np.median([one.deviations for one in warm]) < 1.0
    ended = command("drift", "--store", store)
    assert ended.code == 0, ended.err


def test_a_surface_that_lies_elsewhere_is_found(store: Path) -> None:
    with open_store(str(store)) as opened:
        surface = next(iter(opened.surfaces()))
    told = with_levels(surface, [1.0] * len(surface.expiries), None, 1.5)
    with closing(sqlite3.connect(store)) as connection:
        where = (surface.epoch, surface.revision)
        old = connection.execute(
            "SELECT message FROM surfaces WHERE epoch = ? AND revision = ?", where
        ).fetchone()
        put(connection, told.to_proto().SerializeToString(), where)
        ended = command("drift", "--store", store, "--limit", 2.0)
        put(connection, old[0], where)
    assert ended.code == 1
    assert f"{len(surface.expiries)} of " in ended.err
    assert str(surface.expiries[1].expiry)[:16] in ended.err


def test_what_has_no_error_bars_cannot_be_compared(store: Path) -> None:
    with open_store(str(store)) as opened:
        surface = next(iter(opened.surfaces()))
    told = with_levels(surface, [1.0] * len(surface.expiries), None, 1.01).to_proto()
    for one in told.expiries:
        one.ClearField("covariance")
    with closing(sqlite3.connect(store)) as connection:
        where = (surface.epoch, surface.revision)
        old = connection.execute(
            "SELECT message FROM surfaces WHERE epoch = ? AND revision = ?", where
        ).fetchone()
        put(connection, told.SerializeToString(), where)
        ended = command("drift", "--store", store, "--limit", 1000.0)
        put(connection, old[0], where)
    assert ended.code == 1
    assert f"{len(surface.expiries)} could not be compared" in ended.err
    assert "standard error is not known" in ended.err


def put(connection: sqlite3.Connection, message: bytes, where: tuple[str, int]) -> None:
    connection.execute(
        "UPDATE surfaces SET message = ? WHERE epoch = ? AND revision = ?", (message, *where)
    )
    connection.commit()


def test_a_span_goes_without_bounds(store: Path) -> None:
    ended = command("drift", "--store", store, "--last", "1h", "--start", "2026-01-01")
    assert ended.code == 2
    assert "--last goes without" in ended.err
