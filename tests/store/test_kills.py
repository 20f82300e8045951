"""What a store acknowledged is there, wherever its process was killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.store.kills import kill_and_check


@pytest.mark.parametrize("first", [1, 2, 3, 4, 5])
def test_nothing_acknowledged_is_lost_by_a_kill(tmp_path: Path, first: int) -> None:
    # Each on what the last one left.
    assert kill_and_check(str(tmp_path / "calib.db"), tmp_path / "quotes", first) >= 1
    assert not list(tmp_path.rglob("*.db-journal"))
