"""History calibrated anew: the same however it is cut, interrupted, read or repeated."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pandas as pd
import pytest

import calib
from calib.cli.frames import write_frame
from calib.errors import InvalidQuoteTable, InvalidRequest, Unavailable
from calib.fitting.fit import fit_chains
from calib.jobs.quote_source import QuoteSource
from calib.jobs.recalibration import SUBJECT, RecalibrationSettings, chosen_units, recalibrate
from calib.quotes.chain import chains
from calib.store import open_store
from calib.store.audit import Verdict, audit
from tests.cli.backtest_run import command
from tests.cli.samples import quotes as plain_quotes
from tests.jobs.history import contents, history


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return history()


@pytest.fixture(scope="module")
def table(frame: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("history") / "quotes.parquet"
    write_frame(path, frame)
    return path


@pytest.fixture(scope="module")
def whole(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("whole") / "calib.db"
    ended = command("recalibrate", table, "--store", store)
    assert ended.code == 0, ended.err
    return store


def done(places: list[str], store: Path, settings: RecalibrationSettings | None = None) -> int:
    source = QuoteSource(places)
    with open_store(str(store), create=True) as opened:
        results = list(recalibrate(source, opened, chosen_units(source.units), settings))
    return sum(not one.known for one in results)


def test_a_day_is_fitted_chain_after_chain_from_a_cold_start(table: Path, whole: Path) -> None:
    with open_store(str(whole)) as store:
        stored = {(s.underlying, s.quote_time): s for s in store.surfaces()}
    last, day = None, None
    for chain in sorted(
        chains(calib.read_quotes(table)), key=lambda c: (c.underlying, c.quote_time)
    ):
        here = (chain.underlying, chain.quote_time.astype("datetime64[D]"))
        (fit,) = fit_chains([chain], [last if here == day else None])
        last, day = fit.surface, here
        found = stored.pop((chain.underlying, chain.quote_time))
        assert [e.parameters for e in found.expiries] == [e.parameters for e in last.expiries]
    assert not stored


def test_surfaces_can_be_audited(whole: Path) -> None:
    with open_store(str(whole)) as store:
        verdicts = {finding.verdict for finding in audit(store)}
    assert verdicts == {Verdict.IDENTICAL}


def test_done_again_it_is_the_same(table: Path, whole: Path) -> None:
    before = contents(whole)
    assert done([str(table)], whole) == 0
    assert contents(whole) == before


def test_one_day_at_a_time_one_thread_is_the_same(table: Path, whole: Path, tmp_path: Path) -> None:
    store = tmp_path / "calib.db"
    source = QuoteSource([str(table)])
    for unit in reversed(source.units):
        with open_store(str(store), create=True) as opened:
            list(recalibrate(source, opened, [unit], RecalibrationSettings(threads=1)))
    assert contents(store) == contents(whole)


def test_other_quotes_are_calibrated_beside(frame: pd.DataFrame, tmp_path: Path) -> None:
    store = tmp_path / "calib.db"
    first = frame[frame["underlying"] == frame["underlying"].iloc[0]]
    write_frame(tmp_path / "a.parquet", first)
    days = done([str(tmp_path / "a.parquet")], store)
    changed = first.copy()
    changed.loc[changed.index[0], "bid_size"] += 1.0
    write_frame(tmp_path / "b.parquet", changed)
    assert done([str(tmp_path / "b.parquet")], store) == 1  # the day of that row alone
    with open_store(str(store)) as opened:
        assert len({s.epoch for s in opened.surfaces()}) == days + 1


def partitioned(frame: pd.DataFrame, folder: Path) -> list[str]:
    for name, mine in frame.groupby("underlying"):
        place = folder / f"underlying={name}"
        place.mkdir(parents=True)
        write_frame(place / "part.parquet", mine.drop(columns="underlying"))
    return [str(folder)]


def by_day_in_csv(frame: pd.DataFrame, folder: Path) -> list[str]:
    folder.mkdir()
    for day, mine in frame.groupby(frame["quote_time"].dt.date):
        mine.to_csv(folder / f"{day}.csv.gz", index=False)
    return [str(folder / "*.csv.gz")]


def in_an_object_store(frame: pd.DataFrame, folder: Path) -> list[str]:
    store = fsspec.filesystem("memory")
    with store.open(f"/{folder.name}/quotes.parquet", "wb") as file:
        frame.to_parquet(file, index=False)
    return [f"memory://{folder.name}/quotes.parquet"]


@pytest.mark.parametrize("laid_out", [partitioned, by_day_in_csv, in_an_object_store])
def test_wherever_the_quotes_lie(
    laid_out: object, frame: pd.DataFrame, whole: Path, tmp_path: Path
) -> None:
    assert callable(laid_out)
    store = tmp_path / "calib.db"
    done(laid_out(frame, tmp_path / "quotes"), store)
    with open_store(str(store)) as mine, open_store(str(whole)) as theirs:
        for one, other in zip(mine.surfaces(), theirs.surfaces(), strict=True):
            assert one.expiries == other.expiries


def test_killed_between_two_days_it_goes_on(table: Path, whole: Path, tmp_path: Path) -> None:
    store = tmp_path / "calib.db"
    process = started(table, store)
    deadline = time.monotonic() + 120.0
    while stored_days(store) < 2 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    ended = command("recalibrate", table, "--store", store)
    assert ended.code == 0, ended.err
    assert contents(store) == contents(whole)


def started(table: Path, store: Path) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-m", "calib", "recalibrate", str(table), "--store", str(store)]
    return subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def stored_days(store: Path) -> int:
    try:
        with open_store(str(store)) as opened:
            return int((opened.metrics()["subject"] == SUBJECT).sum())
    except (Unavailable, KeyError):  # not made yet
        return 0


def test_two_runs_at_once_are_refused(table: Path, whole: Path) -> None:
    with open_store(str(whole)) as store, store.alone("recalibrate"):
        ended = command("recalibrate", table, "--store", whole)
    assert ended.code == 2
    assert "another recalibrate is at work" in ended.err
    with open_store(str(whole)) as store, store.alone("recalibrate"):  # let go
        pass


def test_what_gives_no_surface_needs_a_person(frame: pd.DataFrame, tmp_path: Path) -> None:
    bad = frame.copy()
    one = bad["quote_time"] == bad["quote_time"].min()
    bad.loc[one, ["bid", "ask"]] = -1.0
    bad.loc[bad.index[-1], "underlying"] = None
    write_frame(tmp_path / "bad.parquet", bad)
    store = tmp_path / "calib.db"
    ended = command("recalibrate", tmp_path / "bad.parquet", "--store", store)
    assert ended.code == 1
    assert "2 chains gave no surface" in ended.err
    assert "1 rows name no underlying or no quote time" in ended.err
    assert "no expiry could be fitted" in ended.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--underlying", "XRP"], "no quotes of XRP"),
        (["--from", "2020-01-01", "--to", "2020-02-01"], "there is nothing to calibrate"),
        (["--from", "2026-03-02T06:00"], "is within a day"),
        (["--to", "soon"], "is no day"),
    ],
)
def test_bad_usage_is_named(table: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    ended = command("recalibrate", table, "--store", tmp_path / "calib.db", *arguments)
    assert ended.code == 2
    assert said in ended.err


def test_places_without_quotes_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="names no quote table"):
        QuoteSource([str(tmp_path / "*.parquet")])
    with pytest.raises(InvalidRequest, match="cannot be reached"):
        QuoteSource(["nowhere://bucket/quotes.parquet"])
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(InvalidQuoteTable, match=r"a\.csv: not a quote table"):
        _ = QuoteSource([str(tmp_path / "a.csv")]).units


def test_only_the_days_asked_for(table: Path, tmp_path: Path) -> None:
    source = QuoteSource([str(table)])
    days = sorted({unit.day for unit in source.units})
    chosen = chosen_units(source.units, [source.units[0].underlying], days[1], days[2])
    assert [(unit.underlying, unit.day) for unit in chosen] == [
        (source.units[0].underlying, days[1])
    ]


def test_as_of_chains_begin_anew_each_day(tmp_path: Path) -> None:
    write_frame(tmp_path / "quotes.csv", plain_quotes(times=3))
    ended = command(
        "recalibrate", tmp_path / "quotes.csv", "--store", tmp_path / "calib.db", "--every", "30min"
    )
    assert ended.code == 0, ended.err


def test_a_lock_is_of_its_job(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "calib.db"), create=True) as store, store.alone("recalibrate"):
        with store.alone("drift"):
            pass
        with pytest.raises(Unavailable, match="another recalibrate"), store.alone("recalibrate"):
            pass
