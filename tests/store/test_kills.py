"""What a store acknowledged is there, wherever its process was killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from calib.store import open_store
from tests.store.kills import kill_and_check
from tests.store.samples import chain


@pytest.mark.parametrize("first", [1, 2, 3, 4, 5])
def test_nothing_acknowledged_is_lost_by_a_kill(tmp_path: Path, first: int) -> None:
    # Each on what the last one left.
    assert kill_and_check(str(tmp_path / "calib.db"), tmp_path / "quotes", first) >= 1
    # What the log held is in the database, which nobody has open any more.
    assert {path.name for path in tmp_path.iterdir()} == {"calib.db", "quotes"}
    with open_store(str(tmp_path / "calib.db"), quotes=tmp_path / "quotes") as store:
        rows = store.quotes().groupby("input_hash").size()
    assert set(rows) == {len(chain(strikes=3).quotes)}  # each chain whole, and once
