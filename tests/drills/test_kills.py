"""A hundred kills in a row of a store, of one on PostgreSQL, and of a server under load."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.restarts import killed_under_load
from tests.store import postgresql
from tests.store.kills import kill_and_check

pytestmark = pytest.mark.drill
KILLS = 100


def test_a_hundred_kills_lose_nothing_acknowledged(tmp_path: Path) -> None:
    url = str(tmp_path / "calib.db")
    said = [kill_and_check(url, tmp_path / "quotes", seed) for seed in range(KILLS)]
    print(f"{KILLS} kills, {sum(said)} acknowledged revisions, all of them there")


def test_a_hundred_kills_of_a_writer_to_postgresql_lose_nothing(tmp_path: Path) -> None:
    with postgresql.server() as server:
        said = [kill_and_check(server.url, tmp_path / "quotes", seed) for seed in range(KILLS)]
    print(f"{KILLS} kills, {sum(said)} acknowledged revisions, all of them there")


async def test_a_hundred_kills_of_a_server_show_no_watcher_anything_twice_or_older(
    tmp_path: Path,
) -> None:
    report = await killed_under_load(tmp_path, kills=KILLS, watchers=20, seed=2, fits_every=4)
    print(report)
    assert report.wrong == []
