"""A simulated history of a few days, and what a store holds, to be compared."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd

import calib
from calib.feeds.simulated.underlying import default_underlyings
from calib.feeds.simulator import SimulatorSettings, simulate


def history(snapshots: int = 9) -> pd.DataFrame:
    """Two underlyings, four chains a day, as a rule over two days and a bit."""
    settings = SimulatorSettings(
        underlyings=default_underlyings(2),
        expiries=3,
        strikes=9,
        snapshots=snapshots,
        interval=timedelta(hours=6),
    )
    return pd.DataFrame(simulate(settings).quotes)


def contents(database: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, in order of what it says; numbers of rows are the database's own
    business."""
    found = {}
    with closing(sqlite3.connect(database)) as connection:
        names = [
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if not name.startswith("sqlite_")
        ]
        for name in names:
            cursor = connection.execute(f"SELECT * FROM {name}")
            keep = [i for i, column in enumerate(cursor.description) if column[0] != "id"]
            found[name] = sorted((tuple(row[i] for i in keep) for row in cursor), key=repr)
    with calib.open_store(str(database)) as store:
        quotes = store.quotes()
        found["quotes"] = sorted(quotes.astype(str).itertuples(index=False, name=None))
    return found
