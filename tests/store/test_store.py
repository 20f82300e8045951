"""The store: what is written comes back in order, exactly, and survives whoever wrote it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from calib.errors import InvalidRequest, Unavailable
from calib.states import ModelName
from calib.store import Store, open_store
from tests.service.samples import START, micros, surface
from tests.store.samples import published


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "calib.db"), create=True)


def at(minutes: float) -> np.datetime64:
    return START + micros(timedelta(minutes=minutes))


def test_surfaces_come_back_exactly_and_in_order_of_quote_time(store: Store) -> None:
    written = [
        surface("BTC", at=at(2), epoch="b", revision=1),
        surface("ETH", at=at(1), epoch="a", revision=7, level=0.05),
        surface("BTC", at=at(1), epoch="a", revision=6),
        surface("BTC", at=at(1), epoch="a", revision=4, level=1 / 3),
    ]
    store.append(published(written))
    read = list(store.surfaces())
    assert [(one.epoch, one.revision) for one in read] == [("a", 4), ("a", 6), ("a", 7), ("b", 1)]
    assert sorted(read, key=lambda s: s.revision) == sorted(written, key=lambda s: s.revision)


def test_underlying_model_and_times_select(store: Store) -> None:
    store.append(
        published(
            [
                *(surface("BTC", at=at(i), epoch="e", revision=i) for i in range(1, 6)),
                surface("ETH", at=at(3), epoch="e", revision=9),
                surface("BTC", at=at(3), epoch="e", revision=10, model=ModelName.ESSVI),
            ]
        )
    )
    assert [s.revision for s in store.surfaces("ETH")] == [9]
    assert [s.revision for s in store.surfaces("BTC", model=ModelName.ESSVI)] == [10]
    inside = store.surfaces("BTC", start=at(2), end=at(4), model=ModelName.SVI)
    assert [s.revision for s in inside] == [2, 3]  # the start belongs to it, the end does not
    start = datetime(2026, 3, 2, 8, 5, tzinfo=UTC)
    assert [s.revision for s in store.surfaces(start=start)] == [5]
    assert [s.revision for s in store.surfaces(start="2026-03-02T09:05+01:00")] == [5]
    assert list(store.surfaces("SPX")) == []


def test_pages_join_to_the_whole(store: Store) -> None:
    # Many share a quote time, so that the place in the order needs all that it is made of.
    store.append(published(surface(at=at(i % 2), epoch="e", revision=i) for i in range(1, 24)))
    pages, cursor = [], None
    while True:
        page, cursor = store.page(after=cursor, limit=5)
        pages.append([message.revision for message in page])
        if cursor is None:
            break
    assert [len(page) for page in pages] == [5, 5, 5, 5, 3]
    joined = [revision for page in pages for revision in page]
    assert joined == [s.revision for s in store.surfaces()]
    assert sorted(joined) == list(range(1, 24))
    whole, behind = store.page(limit=23)
    assert len(whole) == 23
    assert behind is None


def test_a_page_holds_no_more_bytes_than_asked_for(store: Store) -> None:
    written = [surface(at=at(i), epoch="e", revision=i) for i in range(1, 8)]
    store.append(published(written))
    size = written[0].to_proto().ByteSize()
    for most_bytes, expected in ((3 * size + 20, 3), (1, 1)):
        seen, cursor = [], None
        while True:
            page, cursor = store.page(after=cursor, limit=5, most_bytes=most_bytes)
            assert len(page) <= expected
            seen += [message.revision for message in page]
            if cursor is None:
                break
        assert seen == list(range(1, 8))


def test_writing_twice_leaves_one(store: Store) -> None:
    first = [surface(epoch="e", revision=i) for i in (1, 2)]
    store.append(published(first))
    store.append(published([*first, surface(epoch="e", revision=3)]))
    assert [s.revision for s in store.surfaces()] == [1, 2, 3]


def test_latest_is_what_a_server_wrote_last_or_else_the_latest_of_history(store: Store) -> None:
    store.append(
        published(
            [
                surface("BTC", at=at(5), epoch="a", revision=9),
                surface("ETH", epoch="a", revision=10),
                surface("ETH", epoch="a", revision=11),  # the same quotes, moved or marked
                surface("BTC", at=at(1), epoch="recalibration-b", revision=1),  # older times
                surface("BTC", at=at(9), epoch="backtest-b", revision=1),  # newer ones
                surface("BTC", at=at(2), epoch="backtest-b", revision=3, model=ModelName.ESSVI),
                surface("BTC", at=at(1), epoch="backtest-b", revision=2, model=ModelName.ESSVI),
                surface("SOL", at=at(9), epoch="a", revision=12),
                surface("SOL", at=at(3), epoch="a", revision=13),  # a clock was set right
            ]
        )
    )
    latest = {(m.underlying, m.model): (m.epoch, m.revision) for m in store.latest()}
    assert latest == {
        ("BTC", 1): ("a", 9),
        ("ETH", 1): ("a", 11),
        ("BTC", 2): ("backtest-b", 3),
        ("SOL", 1): ("a", 13),
    }


def test_times_before_1970_and_microseconds_keep_their_place(store: Store) -> None:
    times = [np.datetime64(t, "us") for t in ("1969-12-31T23:59:59.999999", "1970-01-01T00:00:00")]
    store.append(published(surface(at=t, epoch="e", revision=i) for i, t in enumerate(times, 1)))
    assert [s.quote_time for s in store.surfaces()] == times
    assert [s.revision for s in store.surfaces(end=times[1])] == [1]


def test_what_a_killed_process_wrote_is_there(tmp_path: Path) -> None:
    path = tmp_path / "calib.db"
    script = f"""
import os
from calib.store import open_store
from tests.service.samples import surface
from tests.store.samples import published
store = open_store({str(path)!r}, create=True)
store.append(published([surface(epoch="e", revision=1)]))
os.kill(os.getpid(), 9)
"""
    killed = subprocess.run([sys.executable, "-c", script], check=False, timeout=60)
    assert killed.returncode == -9
    with open_store(f"sqlite:///{path}") as store:
        assert list(store.surfaces()) == [surface(epoch="e", revision=1)]


def test_readers_do_not_wait_for_a_writer(tmp_path: Path, store: Store) -> None:
    store.append(published([surface(epoch="e", revision=1)]))
    with sqlite3.connect(tmp_path / "calib.db") as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert len(list(store.surfaces())) == 1
        writer.rollback()


def test_who_does_a_job_alone_is_told_what_keeps_it_from_that(tmp_path: Path, store: Store) -> None:
    with (
        store.alone("drift"),
        store.alone("recalibrate"),
        pytest.raises(Unavailable, match="another drift is at work"),
        store.alone("drift"),
    ):
        pass
    with pytest.raises(FileNotFoundError, match=r"^its own$"), store.alone("drift"):
        raise FileNotFoundError("its own")
    (tmp_path / "calib.db.audit.lock").mkdir()
    with pytest.raises(Unavailable, match="Is a directory"), store.alone("audit"):
        pass


def test_a_missing_store_is_named_and_not_made(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.db"
    with pytest.raises(Unavailable, match=r"no store at .*nowhere\.db"):
        open_store(str(path))
    assert not path.exists()


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text("this is no database, and long enough to be read as a header " * 40)
    with pytest.raises(Unavailable, match=r"notes\.db"):
        open_store(str(path), create=True)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE notes (text)")
    connection.close()
    with pytest.raises(Unavailable, match="no store of this version"):
        open_store(str(other))


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "://", "nosuchdb://host/name"])
def test_an_address_that_cannot_hold_a_store_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        open_store(url, create=True)


def test_a_folder_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="unable to open"):
        open_store(str(tmp_path / "no" / "such" / "calib.db"), create=True)


def test_reading_a_store_imports_neither_jax_nor_pandas(tmp_path: Path, store: Store) -> None:
    store.append(published([surface(epoch="e", revision=1)]))
    script = f"""
import sys, calib
assert [s.revision for s in calib.open_store({str(tmp_path / "calib.db")!r}).surfaces()] == [1]
assert not {{"jax", "pandas", "grpc"}} & set(sys.modules), sorted(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
