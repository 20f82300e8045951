"""The store's writer: never in the way, losing only what there is no room for, and saying so."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from calib.errors import Unavailable
from calib.store import Entry, Retention, StoreWriter, WriterState, open_store
from tests.cli.processes import eventually
from tests.service.samples import surface
from tests.store.samples import chain


def entry(revision: int) -> Entry:
    return Entry(surface=surface(epoch="e", revision=revision).to_proto())


SIZE = entry(1).size


class Gate:
    """A sink that lets nothing through while it is shut, and fails while it is broken."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.broken = threading.Event()
        self.poison = -1
        self.written: list[int] = []
        self.tries = 0
        self.tidied = 0

    def tidy(self, retention: Retention, /) -> bool:
        self.tidied += 1
        return False

    def append(self, entries: Sequence[Entry], /) -> None:
        self.tries += 1
        if self.broken.is_set():
            raise Unavailable("broken")
        self.open.wait(30.0)
        revisions = [one.surface.revision for one in entries if one.surface]
        if self.poison in revisions:
            raise ValueError("cannot be written")
        self.written += revisions


def test_everything_reaches_the_store_in_order(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "calib.db"), create=True) as store:
        writer = StoreWriter(store)
        for revision in range(1, 1_201):
            writer.put(entry(revision))
        assert writer.close(30.0)
        assert [s.revision for s in store.surfaces()] == list(range(1, 1_201))
        assert writer.state.lost == 0


def test_putting_does_not_wait_for_the_store_and_the_newest_are_kept() -> None:
    gate = Gate()
    writer = StoreWriter(gate, capacity_bytes=11 * SIZE)
    writer.put(entry(1))
    while gate.tries == 0:  # the first one is on its way, and holds the writer up
        time.sleep(0.001)
    for revision in range(2, 102):
        writer.put(entry(revision))
    assert writer.state.lost == 90
    gate.open.set()
    assert writer.close(30.0)
    assert gate.written == [1, *range(92, 102)]


def test_a_store_that_comes_back_gets_what_waited() -> None:
    gate = Gate()
    gate.open.set()
    gate.broken.set()
    writer = StoreWriter(gate)
    writer.put(entry(1))
    while gate.tries == 0:
        time.sleep(0.001)
    writer.put(entry(2))
    gate.broken.clear()
    assert writer.close(30.0)
    assert gate.written == [1, 2]
    assert writer.state.lost == 0


def test_a_store_that_stays_away_is_given_up_in_time() -> None:
    gate = Gate()
    gate.broken.set()
    writer = StoreWriter(gate)
    for revision in (1, 2, 3):
        writer.put(entry(revision))
    start = time.monotonic()
    assert not writer.close(0.3)
    assert time.monotonic() - start < 5.0
    assert writer.state.lost == 3


def test_one_surface_that_cannot_be_written_takes_no_other_with_it() -> None:
    gate = Gate()
    gate.poison = 2
    writer = StoreWriter(gate)
    for revision in (1, 2, 3):
        writer.put(entry(revision))
    gate.open.set()
    assert writer.close(30.0)
    assert gate.written == [1, 3]
    assert writer.state.lost == 1


def test_the_state_says_what_waits_and_since_when_the_store_fails() -> None:
    gate = Gate()
    gate.open.set()
    now = datetime(2026, 3, 2, 8, tzinfo=UTC)
    writer = StoreWriter(gate, now=lambda: now)
    assert writer.state == WriterState(0, 0, 0, None, "")
    gate.broken.set()
    for revision in (1, 2, 3):
        writer.put(entry(revision))
    assert eventually(lambda: writer.state.failing_since is not None)
    assert writer.state == WriterState(3, 3 * SIZE, 0, now, "broken")
    gate.broken.clear()
    assert eventually(lambda: writer.state.waiting == 0)
    assert writer.state == WriterState(0, 0, 0, None, "")
    assert writer.close(30.0)


def test_memory_bounds_what_waits_whatever_its_size() -> None:
    gate = Gate()
    large = Entry(chain=chain(strikes=200))
    writer = StoreWriter(gate, capacity_bytes=3 * large.size)
    writer.put(entry(1))
    assert eventually(lambda: gate.tries > 0)
    for _ in range(50):
        writer.put(large)
    assert writer.state.waiting_bytes <= 3 * large.size
    assert writer.state.lost == 48
    for revision in range(2, 12):
        writer.put(entry(revision))
    gate.open.set()
    assert writer.close(30.0)
    assert gate.written == [1, *range(2, 12)]


def test_the_store_is_kept_tidy_while_nothing_waits() -> None:
    gate = Gate()
    gate.open.set()
    writer = StoreWriter(gate)
    assert eventually(lambda: gate.tidied > 0)
    assert writer.close(30.0)


def test_a_store_that_is_tidy_is_left_alone_for_a_while_however_much_is_written() -> None:
    gate = Gate()
    gate.open.set()
    seconds = 0.0
    writer = StoreWriter(gate, clock=lambda: seconds)

    def write(revision: int) -> None:
        writer.put(entry(revision))
        assert eventually(lambda: gate.written[-1:] == [revision])

    for revision in range(1, 21):
        write(revision)
    assert eventually(lambda: gate.tidied > 0)
    assert gate.tidied == 1
    seconds = 60.0
    write(21)
    assert eventually(lambda: gate.tidied > 1)
    write(22)
    assert writer.close(30.0)
    assert gate.tidied == 2


def test_an_entry_larger_than_all_the_room_is_lost_and_no_other_for_it() -> None:
    gate = Gate()
    large = Entry(chain=chain(strikes=200))
    writer = StoreWriter(gate, capacity_bytes=large.size - 1)
    writer.put(entry(1))
    writer.put(large)
    assert writer.state.lost == 1
    assert writer.state.waiting_bytes == SIZE
    gate.open.set()
    assert writer.close(30.0)
    assert gate.written == [1]


def test_during_an_outage_the_oldest_make_room_for_the_newest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("calib.store.writer._FIRST_PAUSE", 1.0)  # all is put within it
    gate = Gate()
    gate.open.set()
    gate.broken.set()
    writer = StoreWriter(gate, capacity_bytes=3 * SIZE)
    writer.put(entry(1))
    assert eventually(lambda: writer.state.failing_since is not None)
    for revision in range(2, 11):
        writer.put(entry(revision))
    assert (writer.state.waiting, writer.state.lost) == (3, 7)
    gate.broken.clear()
    assert writer.close(30.0)
    assert gate.written == [8, 9, 10]


def test_what_waits_is_given_back_when_the_store_goes_in_the_middle_of_a_batch() -> None:
    class Going(Gate):
        """Refuses 2, and goes away for a moment when it is given 3."""

        def append(self, entries: Sequence[Entry], /) -> None:
            if len(entries) == 1 and entries[0].surface and entries[0].surface.revision == 3:
                self.broken.set()
            super().append(entries)

    gate = Going()
    gate.poison = 2
    writer = StoreWriter(gate)
    for revision in (1, 2, 3, 4):
        writer.put(entry(revision))
    gate.open.set()
    assert eventually(lambda: writer.state.failing_since is not None)
    assert writer.state.waiting_bytes == 2 * SIZE
    assert (writer.state.waiting, writer.state.lost) == (2, 1)
    gate.broken.clear()
    assert writer.close(30.0)
    assert gate.written == [1, 3, 4]
    assert writer.state == WriterState(0, 0, 1, None, "")


def test_what_is_put_after_the_end_is_lost_and_counted() -> None:
    gate = Gate()
    gate.open.set()
    writer = StoreWriter(gate)
    writer.put(entry(1))
    assert writer.close(30.0)
    writer.put(entry(2))
    assert writer.state == WriterState(0, 0, 1, None, "")
    assert gate.written == [1]


def test_a_full_database_is_waited_for_and_nothing_of_it_is_lost(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "calib.db"), create=True) as store:
        store.append([entry(1)])

        def pages(count: int) -> None:
            """Let the connection that writes have so many pages."""
            with store._database.writing() as connection:
                connection.exec_driver_sql(f"PRAGMA max_page_count={count}")

        pages(1)  # that is: no more than there are
        writer = StoreWriter(store)
        for revision in range(2, 200):
            writer.put(entry(revision))
        assert eventually(lambda: "full" in writer.state.error)
        assert writer.state.lost == 0
        assert next(store.surfaces()).revision == 1  # it can be read meanwhile
        pages(1_000_000)
        assert writer.close(30.0)
        assert [s.revision for s in store.surfaces()] == list(range(1, 200))
