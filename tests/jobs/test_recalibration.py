"""History calibrated anew: the same however it is cut, interrupted, read or repeated."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from jax.errors import JaxRuntimeError

import calib
from calib.cli.frames import write_frame
from calib.cli.recalibrate import _usual_workers
from calib.errors import InvalidQuoteTable, InvalidRequest, Unavailable
from calib.fitting.fit import fit_chains
from calib.fitting.settings import FitSettings
from calib.jobs.attempt import attempt
from calib.jobs.quote_source import QuoteSource, Unit
from calib.jobs.recalibration import SUBJECT, RecalibrationSettings, recalibrate
from calib.quotes.chain import chains
from calib.quotes.fingerprint import fingerprint
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
        results = list(recalibrate(source, opened, source.units, settings))
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


def test_two_processes_come_to_the_same(table: Path, whole: Path, tmp_path: Path) -> None:
    store = tmp_path / "calib.db"
    source = QuoteSource([str(table)])
    with open_store(str(store), create=True) as opened:
        settings = RecalibrationSettings(workers=2)
        first = list(recalibrate(source, opened, source.units, settings))
        again = list(recalibrate(source, opened, source.units, settings))
    assert [one.unit for one in first] == list(source.units)
    assert not any(one.known for one in first)
    assert all(one.known for one in again)
    assert [one.surfaces for one in again] == [one.surfaces for one in first]
    assert contents(store) == contents(whole)


def test_one_day_at_a_time_is_the_same(table: Path, whole: Path, tmp_path: Path) -> None:
    store = tmp_path / "calib.db"
    source = QuoteSource([str(table)])
    for unit in reversed(source.units):
        with open_store(str(store), create=True) as opened:
            list(recalibrate(source, opened, [unit]))
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


def test_interrupted_it_ends_at_once_and_goes_on(table: Path, whole: Path, tmp_path: Path) -> None:
    store = tmp_path / "calib.db"
    process = started(table, store, "--workers", "2")
    deadline = time.monotonic() + 120.0
    while stored_days(store) < 1 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60.0)
    assert process.returncode == 130
    ended = command("recalibrate", table, "--store", store)
    assert ended.code == 0, ended.err
    assert contents(store) == contents(whole)


@pytest.mark.parametrize(
    ("units", "free", "most"),
    [(15, "99000000 kB", 1), (32, "99000000 kB", 2), (32, "1900000 kB", 1), (32, "9 kB", 1)],
)
def test_there_are_no_more_workers_than_there_is_room_for(
    units: int, free: str, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calib.cli.recalibrate.sched_getaffinity", lambda _: set(range(4)))
    memory = tmp_path / "meminfo"
    memory.write_text(f"MemTotal:       99000000 kB\nMemAvailable:   {free}\n")
    assert _usual_workers(units, memory) == most
    assert _usual_workers(100, tmp_path / "none") == 4


def started(table: Path, store: Path, *more: str) -> subprocess.Popen[bytes]:
    arguments = [
        sys.executable,
        "-m",
        "calib",
        "recalibrate",
        str(table),
        "--store",
        str(store),
        *more,
    ]
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
    assert "2 chains gave no surface, 1 rows name no underlying or no quote time" in ended.err
    assert "no expiry could be fitted" in ended.err
    again = command("recalibrate", tmp_path / "bad.parquet", "--store", store)
    assert again.code == 1
    assert again.err == ended.err


def test_rows_without_a_name_concern_their_day(frame: pd.DataFrame, tmp_path: Path) -> None:
    bad = frame.copy()
    bad.loc[bad["quote_time"] == bad["quote_time"].max(), "underlying"] = None
    nameless = int(bad["underlying"].isna().sum())
    bad.loc[bad.index[:2], "quote_time"] = pd.NaT
    write_frame(tmp_path / "bad.parquet", bad)
    bad.to_csv(tmp_path / "bad.csv", index=False)
    day = np.datetime64(frame["quote_time"].max().tz_localize(None), "D")
    name = frame["underlying"].iloc[0]
    for path in ("bad.parquet", "bad.csv"):
        for expected, wanted in (
            (nameless + 2, {}),
            (0, {"last": day}),
            (nameless, {"first": day}),
            (0, {"first": day + 1, "last": day + 2, "every": timedelta(hours=1)}),
            (2, {"underlyings": [name]}),
        ):
            source = QuoteSource([str(tmp_path / path)], **wanted)
            _ = source.units
            assert source.nameless_rows == expected


def test_a_machine_that_cannot_is_no_failure_of_a_chain(
    frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError("cannot allocate")

    (chain, *_) = chains(calib.quotes_from_frame(frame))
    monkeypatch.setattr("calib.jobs.attempt.fit_chains", no_memory)
    with pytest.raises(Unavailable, match="could not be fitted on this machine: MemoryError"):
        attempt(chain, None, FitSettings())


def test_a_day_that_could_not_be_fitted_here_is_not_done(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object) -> None:
        raise JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    store = tmp_path / "calib.db"
    with monkeypatch.context() as patch:
        patch.setattr("calib.jobs.attempt.fit_chains", exhausted)
        with pytest.raises(Unavailable, match="RESOURCE_EXHAUSTED"):
            done([str(table)], store)
    assert stored_days(store) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--underlying", "XRP"], "no quotes of XRP"),
        (["--from", "2020-01-01", "--to", "2020-02-01"], "there is nothing to calibrate"),
        (["--from", "2026-03-02T06:00"], "is within a day"),
        (["--to", "soon"], "is no day"),
        (["--last", "36h"], "ends within a day"),
        (["--last", "1d", "--to", "2026-03-02"], "--last goes without"),
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
    (tmp_path / "b.csv.gz").write_bytes(b"\x1f\x8bno")
    with pytest.raises(InvalidQuoteTable, match=r"b\.csv\.gz: "):
        _ = QuoteSource([str(tmp_path / "b.csv.gz")]).units


def test_files_of_one_day_may_differ_in_form(frame: pd.DataFrame, tmp_path: Path) -> None:
    one = frame[frame["underlying"] == frame["underlying"].iloc[0]]
    day = one[one["quote_time"] < one["quote_time"].min().normalize() + pd.Timedelta(days=1)]
    times = day["quote_time"]
    forms = [
        day,
        day.assign(venue="naive", quote_time=times.dt.tz_localize(None)),
        day.assign(venue="far", quote_time=times.dt.tz_convert("Asia/Tokyo")),
        day.assign(venue="coarse", quote_time=times.astype("datetime64[s, UTC]")),
        day.assign(venue="text", strike=day["strike"].map(repr), quote_time=times.map(str)),
        day.assign(venue="coded", underlying=day["underlying"].astype("category")),
    ]
    for i, form in enumerate(forms):
        write_frame(tmp_path / f"{i}.parquet", form)
    day.assign(venue="csv").to_csv(tmp_path / "6.csv", index=False)
    first = np.datetime64(times.min().tz_localize(None), "D")
    source = QuoteSource([str(tmp_path)], first=first, underlyings=[day["underlying"].iloc[0]])
    (unit,) = source.units
    found = source.quotes(unit)
    np.testing.assert_array_equal(found.row, np.arange(7 * len(day)))
    alike = calib.quotes_from_frame(day)
    for i in range(7):
        mine = found.take(np.arange(i * len(day), (i + 1) * len(day)))
        for name in ("quote_time", "strike", "bid", "reason"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(alike, name))


def test_a_value_that_is_none_is_found_in_its_file(frame: pd.DataFrame, tmp_path: Path) -> None:
    write_frame(tmp_path / "a.parquet", frame)
    write_frame(tmp_path / "b.parquet", frame.assign(bid="much"))
    source = QuoteSource([str(tmp_path)])
    with pytest.raises(InvalidQuoteTable, match=r"b\.parquet: column 'bid', row 0: 'much'"):
        source.quotes(source.units[0])


def test_what_is_not_asked_for_is_not_read(frame: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "quotes.parquet"
    ordered = frame.sort_values("quote_time", kind="stable")
    early = ordered["quote_time"] < ordered["quote_time"].min().normalize() + pd.Timedelta(days=1)
    ordered.to_parquet(path, index=False, row_group_size=int(early.sum()))
    groups = pq.read_metadata(path)
    ends = [groups.row_group(i).column(0).dictionary_page_offset for i in (0, 1)]
    content = bytearray(path.read_bytes())
    content[ends[0] : ends[1]] = b"\xff" * (ends[1] - ends[0])
    path.write_bytes(content)
    first = np.datetime64(ordered["quote_time"][~early].min().tz_localize(None), "D")
    source = QuoteSource([str(path)], first=first)
    assert sum(len(source.quotes(unit)) for unit in source.units) == int((~early).sum())
    with pytest.raises(InvalidQuoteTable, match=r"quotes\.parquet: "):
        _ = QuoteSource([str(path)]).units


def test_only_yesterday(tmp_path: Path) -> None:
    today = pd.Timestamp.now("UTC").normalize()  # it may be tomorrow when they are asked for
    days = [plain_quotes().assign(quote_time=today + pd.Timedelta(days=d)) for d in (-2, -1, 0)]
    expiry = today + pd.Timedelta(days=90)
    write_frame(tmp_path / "quotes.parquet", pd.concat(days).assign(expiry=expiry))
    store = tmp_path / "calib.db"
    ended = command("recalibrate", tmp_path / "quotes.parquet", "--store", store, "--last", "1d")
    assert ended.code == 0, ended.err
    with open_store(str(store)) as opened:
        (surface,) = opened.surfaces()
    assert pd.Timestamp(surface.quote_time, tz="UTC") in (today - pd.Timedelta(days=1), today)


def test_only_the_days_asked_for(table: Path) -> None:
    units = QuoteSource([str(table)]).units
    days = sorted({unit.day for unit in units})
    name = units[0].underlying
    chosen = QuoteSource([str(table)], underlyings=[name], first=days[1], last=days[2])
    assert chosen.units == (Unit(name, days[1]),)


def stamped(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows with a time of their own, spread over the hours after their chain's."""
    places = frame.groupby(["underlying", "quote_time"]).cumcount()
    return frame.assign(quote_time=frame["quote_time"] + pd.to_timedelta(7 * places, "min"))


def as_of(
    frame: pd.DataFrame, folder: Path, **settings: Any
) -> dict[tuple[str, np.datetime64], str]:
    write_frame(folder / "quotes.parquet", frame)
    source = QuoteSource([str(folder / "quotes.parquet")], **settings)
    made = [one for unit in source.units for one in source.chains(unit, source.quotes(unit))]
    assert len({(one.underlying, one.quote_time) for one in made}) == len(made)
    return {(one.underlying, one.quote_time): fingerprint(one) for one in made}


@pytest.mark.parametrize("max_age", [timedelta(hours=9), timedelta(minutes=1)])
def test_midnight_cuts_no_chain_in_two(
    frame: pd.DataFrame, tmp_path: Path, max_age: timedelta
) -> None:
    rows = stamped(frame)
    spans: dict[str, Any] = {"every": timedelta(minutes=10), "max_age": max_age}
    whole = chains(calib.quotes_from_frame(rows), **spans)
    found = as_of(rows, tmp_path, **spans)
    assert found == {
        (one.underlying, one.quote_time): fingerprint(one)
        for one in whole
        if (one.underlying, one.quote_time) in found
    }
    ends = rows["quote_time"].dt.ceil("10min").dt.tz_localize(None).to_numpy("datetime64[us]")
    assert found.keys() >= set(zip(rows["underlying"], ends, strict=True))


def test_a_chain_is_the_same_whichever_days_are_wanted(frame: pd.DataFrame, tmp_path: Path) -> None:
    rows, every = stamped(frame), timedelta(minutes=30)
    whole = as_of(rows, tmp_path, every=every)
    days = sorted({time.astype("datetime64[D]") for _, time in whole})
    assert len(days) > 2
    for first, last in zip(days, [*days[1:], None], strict=True):
        one_day = as_of(rows, tmp_path, every=every, first=first, last=last)
        assert one_day == {key: whole[key] for key in whole if key[1].astype("M8[D]") == first}
    # What was quoted before midnight counts after it.
    assert any(time == days[1] for _, time in whole)


def test_quotes_of_every_option_count_at_midnight(tmp_path: Path) -> None:
    evening = plain_quotes().assign(quote_time=pd.Timestamp("2026-03-02T23:59:30Z"))
    morning = evening.iloc[:1].assign(quote_time=pd.Timestamp("2026-03-03T00:00:30Z"))
    found = pd.concat([evening, morning])
    write_frame(tmp_path / "quotes.parquet", found)
    source = QuoteSource([str(tmp_path / "quotes.parquet")], every=timedelta(minutes=1))
    (unit,) = source.units
    assert unit.day == np.datetime64("2026-03-03")
    made = source.chains(unit, source.quotes(unit))
    assert [str(one.quote_time)[11:16] for one in made] == ["00:00", "00:01"]
    assert [int(one.quotes.usable.sum()) for one in made] == [len(evening), len(evening)]


def test_a_lock_is_of_its_job(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "calib.db"), create=True) as store, store.alone("recalibrate"):
        with store.alone("drift"):
            pass
        with pytest.raises(Unavailable, match="another recalibrate"), store.alone("recalibrate"):
            pass
