"""Recordings: what is taken is read back to the last bit, once, whatever is told again."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

import calib
from calib.errors import InvalidQuoteTable, Unavailable
from calib.jobs.day_folder import DayFolder
from calib.jobs.quote_source import QuoteSource
from calib.jobs.recorder import Recorder
from calib.quotes.chain import chain_at
from calib.quotes.table import QuoteTable, joined
from tests.jobs.recorded import said
from tests.service.samples import START, at_time, smile_quotes

SECOND = np.timedelta64(1_000_000, "us")
HOUR = 3_600 * SECOND


def chain(seconds: int = 0, underlying: str = "BTC", venue: str = "test") -> QuoteTable:
    return at_time(smile_quotes(underlying, venue=venue), START + seconds * SECOND)


def test_it_is_read_back_to_the_last_bit(tmp_path: Path) -> None:
    odd = chain(1)
    bid, size = odd.bid.copy(), odd.bid_size.copy()
    bid[:3], size[3] = (np.nan, 0.1 + 0.2, 5e-324), 0.0
    odd = replace(odd, bid=bid, bid_size=size, spot=np.full(45, np.nan))
    tables = [chain(0), odd, chain(0, "ETH"), chain(0, "S&P 500/x"), chain(0, "600519", "sse")]
    with Recorder(tmp_path) as recorder:
        for table in tables:
            recorder.take(table)
    assert recorder.rows == 5 * 45
    assert said(calib.read_quotes(tmp_path)) == said(joined(tables))
    source = QuoteSource([str(tmp_path)])
    assert said(joined([source.quotes(unit) for unit in source.units])) == said(joined(tables))


def test_rows_keep_their_order_and_a_day_its_folder(tmp_path: Path) -> None:
    night = at_time(smile_quotes(), START + 16 * HOUR - SECOND)
    tables = [night, at_time(night, START + 16 * HOUR)]
    with Recorder(tmp_path) as recorder:
        recorder.take(joined(tables))
    found = calib.read_quotes(tmp_path)
    np.testing.assert_array_equal(found.quote_time, joined(tables).quote_time)
    np.testing.assert_array_equal(found.strike, joined(tables).strike)
    days = sorted(path.parent.name for path in tmp_path.rglob("*.parquet"))
    assert days == ["day=2026-03-02", "day=2026-03-03"]
    (day,) = (path.parent for path in tmp_path.rglob("day=2026-03-03/*.parquet"))
    assert said(calib.read_quotes(day)) == said(tables[1])


def test_what_is_told_again_is_not_written_again(tmp_path: Path) -> None:
    first, second = chain(0), chain(1)
    some = second.take(np.arange(7))
    with Recorder(tmp_path) as recorder:
        recorder.take(first)
        recorder.flush()
        recorder.take(some)
        recorder.take(joined([first.take(np.arange(7, 45)), some]))  # what stands
        recorder.take(replace(some, ask=some.ask + 0.01))  # news under the same time
        recorder.take(some)  # news again
    assert recorder.repeats == 45
    assert recorder.rows == 45 + 3 * 7


def test_another_run_goes_on_where_the_last_one_was(tmp_path: Path) -> None:
    with Recorder(tmp_path, rows_a_file=50) as first:
        for seconds in range(4):
            first.take(chain(seconds))
            first.take(chain(seconds, venue="other"))
    with Recorder(tmp_path) as again:
        again.take(joined([chain(3), chain(3, venue="other"), chain(4)]))
    assert (again.rows, again.repeats) == (45, 90)
    told = [chain(one, venue=venue) for one in range(4) for venue in ("test", "other")]
    assert said(calib.read_quotes(tmp_path)) == said(joined([*told, chain(4)]))


def test_rows_without_a_place_are_left_out(tmp_path: Path) -> None:
    quotes = chain()
    times = quotes.quote_time.copy()
    times[0] = np.datetime64("NaT")
    with Recorder(tmp_path) as recorder:
        recorder.take(replace(quotes, quote_time=times))
    assert said(calib.read_quotes(tmp_path)) == said(quotes.take(np.arange(1, 45)))


def recorded_days(folder: Path, days: int = 3, files: int = 4) -> list[QuoteTable]:
    """Days of files in the folder, of two underlyings, by a run that ended with a file of each
    day."""
    told = []
    with Recorder(folder, rows_a_file=45) as recorder:
        for day in range(days):
            for seconds in range(files):
                for name in ("BTC", "ETH"):
                    told.append(chain(seconds + day * 24 * 3600, name))
                    recorder.take(told[-1])
    return told


def names(folder: Path, day: str, underlying: str = "BTC") -> list[str]:
    place = folder / f"underlying={underlying}" / f"day={day}"
    return sorted(one.name for one in place.iterdir())


def exactly(quotes: QuoteTable) -> list[tuple[str, ...]]:
    """What `said` says, in order."""
    return [said(quotes.take(np.array([i])))[0] for i in range(len(quotes))]


def test_the_files_of_a_day_are_merged_when_it_is_past(tmp_path: Path) -> None:
    told = recorded_days(tmp_path)
    before = exactly(calib.read_quotes(tmp_path))
    assert names(tmp_path, "2026-03-02") == [f"00000{i}.parquet" for i in range(1, 5)]
    with Recorder(tmp_path) as recorder:
        late = chain(100, "ETH")  # of the first day, which is over
        for table in (chain(9 + 2 * 24 * 3600), late):
            recorder.take(table)
            recorder.flush()
        # The parts stay for a day, for those who have listed them.
        assert names(tmp_path, "2026-03-02") == [
            "000001-000004.parquet",
            *(f"00000{i}.parquet" for i in range(1, 5)),
        ]
        for day in (3, 4):
            recorder.take(chain(day * 24 * 3600))
            recorder.flush()
    assert names(tmp_path, "2026-03-02") == ["000001-000004.parquet"]
    assert names(tmp_path, "2026-03-02", "ETH") == ["000001-000005.parquet"]
    assert names(tmp_path, "2026-03-04") == ["000001-000005.parquet"]
    assert names(tmp_path, "2026-03-05") == ["000001.parquet"]
    found = calib.read_quotes(tmp_path)
    new = [late, chain(9 + 2 * 24 * 3600), *(chain(day * 24 * 3600) for day in (3, 4))]
    assert said(found) == said(joined([*told, *new]))
    kept = set(before)
    assert [row for row in exactly(found) if row in kept] == before


def test_a_crash_before_the_parts_are_removed_doubles_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = recorded_days(tmp_path, days=2)
    with monkeypatch.context() as patch, Recorder(tmp_path) as recorder:
        patch.setattr(DayFolder, "remove_replaced", lambda _: None)
        recorder.take(chain(9 + 24 * 3600))
        recorder.flush()
    assert len(names(tmp_path, "2026-03-02")) == 5
    told.append(chain(9 + 24 * 3600))
    for place in (tmp_path, tmp_path / "underlying=BTC" / "day=2026-03-02"):
        assert said(calib.read_quotes(place)) == said(
            joined(told if place == tmp_path else told[0:8:2])
        )
    source = QuoteSource([str(tmp_path)])
    assert said(joined([source.quotes(unit) for unit in source.units])) == said(joined(told))
    with Recorder(tmp_path) as again:
        again.take(joined([*told[6:8], *told[15:]]))  # the last ones of each day
        again.flush()
    assert (again.rows, again.repeats) == (0, 4 * 45)
    assert names(tmp_path, "2026-03-02") == ["000001-000004.parquet"]
    assert said(calib.read_quotes(tmp_path)) == said(joined(told))


def test_a_day_that_cannot_be_merged_ends_no_recording(tmp_path: Path) -> None:
    recorded_days(tmp_path, days=2)
    (tmp_path / "underlying=BTC" / "day=2026-03-02" / "000002.parquet").write_bytes(b"no")
    with Recorder(tmp_path) as recorder:
        recorder.take(chain(9 + 24 * 3600))
        recorder.flush()
    assert len(names(tmp_path, "2026-03-02")) == 4
    assert "000001-000004.parquet" in names(tmp_path, "2026-03-02", "ETH")


def test_of_rows_of_one_time_the_last_one_written_is_read_last(tmp_path: Path) -> None:
    first, earlier = chain(5), chain(0, venue="other")
    with Recorder(tmp_path) as recorder:
        for table in (first, joined([earlier, replace(first, ask=first.ask + 0.01)])):
            recorder.take(table)
            recorder.flush()
    found = chain_at(calib.read_quotes(tmp_path), "BTC", START + 5 * SECOND).quotes
    mine = found.take(found.usable & found.venue.equal("test"))
    np.testing.assert_array_equal(np.sort(mine.ask), np.sort(first.ask + 0.01))


def test_two_recorders_of_one_folder_are_refused(tmp_path: Path) -> None:
    with Recorder(tmp_path), pytest.raises(Unavailable, match="another recorder writes there"):
        Recorder(tmp_path)
    Recorder(tmp_path).close()  # let go


def test_days_that_are_not_asked_for_are_not_opened(tmp_path: Path) -> None:
    told = recorded_days(tmp_path)
    for path in tmp_path.rglob("day=2026-03-02/*.parquet"):
        path.write_bytes(b"no")
    day = np.datetime64("2026-03-04")
    for every, rows in ((None, 8 * 45), (timedelta(hours=6), 16 * 45)):
        source = QuoteSource([str(tmp_path)], first=day, every=every)
        assert [str(one) for one in source.units] == ["BTC 2026-03-04", "ETH 2026-03-04"]
        found = joined([source.quotes(unit) for unit in source.units])
        assert said(found) == said(joined(told[-(rows // 45) :]))
    with pytest.raises(InvalidQuoteTable, match="parquet: "):
        _ = QuoteSource([str(tmp_path)], first=day, every=timedelta(days=2)).units


def test_a_part_of_a_source_has_the_files_of_its_unit_alone(tmp_path: Path) -> None:
    recorded_days(tmp_path)
    source = QuoteSource([str(tmp_path)], every=timedelta(hours=1))
    assert len(source) == 24
    for unit in source.units:
        part = pickle.loads(pickle.dumps(source.of(unit)))
        assert len(part) in (4, 8)  # with those of the day before
        assert said(part.quotes(unit)) == said(source.quotes(unit))
    assert len(source) == 24


def test_files_are_whole_while_it_records(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, rows_a_file=100)
    for seconds in range(5):
        recorder.take(chain(seconds))
    assert len(calib.read_quotes(tmp_path)) == recorder.rows == 135
    assert not list(tmp_path.rglob("*.tmp"))


def test_what_could_not_be_written_waits_and_nothing_is_written_twice(tmp_path: Path) -> None:
    in_the_way = tmp_path / "underlying=ETH"
    tables = [chain(0, "BTC"), chain(0, "ETH"), chain(0, "XRP")]
    recorder = Recorder(tmp_path)
    recorder.take(joined(tables))
    in_the_way.touch()
    for _ in range(2):
        with pytest.raises(OSError, match="underlying=ETH"):
            recorder.flush()
    assert recorder.rows == 45
    in_the_way.unlink()
    recorder.flush()
    recorder.flush()
    assert said(calib.read_quotes(tmp_path)) == said(joined(tables))


def test_threads_write_every_row_once(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, rows_a_file=100)
    tables = [chain(seconds, name) for seconds in range(20) for name in ("BTC", "ETH")]
    with ThreadPoolExecutor(4) as pool:
        work = [(recorder.take, table) for table in tables], [(recorder.flush,)] * len(tables)
        for one in [pool.submit(*call) for pair in zip(*work, strict=True) for call in pair]:
            one.result()
    recorder.flush()
    assert said(calib.read_quotes(tmp_path)) == said(joined(tables))


def test_a_folder_that_cannot_be_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        Recorder(tmp_path / "file")


def test_a_folder_that_holds_something_else_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidQuoteTable, match="no Parquet file is in this folder"):
        calib.read_quotes(tmp_path)
    with Recorder(tmp_path) as recorder:
        recorder.take(chain())
    (path,) = tmp_path.rglob("*.parquet")
    path.with_name("a.parquet").write_bytes(b"no")
    with pytest.raises(InvalidQuoteTable, match=r"a\.parquet"):
        calib.read_quotes(tmp_path)
