"""Recordings: what is taken is read back to the last bit, once, whatever is told again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import calib
from calib.errors import InvalidQuoteTable
from calib.jobs.quote_source import QuoteSource
from calib.jobs.recorder import Recorder
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
