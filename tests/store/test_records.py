"""Records beside surfaces: exact, in order, once, in one transaction with the surfaces."""

from __future__ import annotations

import math
import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.errors import InvalidRequest, Unavailable
from calib.jobs import backtest, recalibration
from calib.jobs.backtest import BacktestSettings
from calib.jobs.quote_source import Unit
from calib.service.hub import new_epoch
from calib.states import ModelName
from calib.store import (
    Cursor,
    Entry,
    Fitted,
    Moved,
    Record,
    RecordKind,
    Retention,
    Store,
    SurfaceKey,
    open_store,
)
from calib.store.build import this_build
from calib.store.documents import scalars_from_document, scalars_to_document
from calib.store.queries import JOBS
from tests.service.samples import START, surface
from tests.store.samples import at, chain, fitted, published, record

SCALARS = st.none() | st.booleans() | st.integers() | st.text() | st.floats(width=64)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "calib.db"), create=True)


def pages(store: Store, kind: RecordKind, limit: int) -> list[list[Record]]:
    found, cursor = [], None
    while True:
        page, cursor = store.records(kind, after=cursor, limit=limit)
        found.append(page)
        if cursor is None:
            return found


@given(st.dictionaries(st.text(), SCALARS))
def test_values_survive_their_document_exactly(values: dict[str, float | int | str | None]) -> None:
    back = scalars_from_document(scalars_to_document(values))
    assert list(back) == list(values)
    # repr tells every double apart, signed zeros too.
    assert [repr(value) for value in back.values()] == [repr(value) for value in values.values()]


def test_records_come_back_as_they_were_written(store: Store) -> None:
    written = [
        record(3, expiry=at(60), a=math.nan, b=-0.0, c=1 / 3, d="NaN", e=True, f=None, g=2**53 + 1),
        record(4, model=None, kind=RecordKind.ALARM, cause="jump", limit=math.inf),
        record(5, "ETH", RecordKind.TRANSITION, before="NORMAL", after="HELD"),
        record(6, "ETH", RecordKind.ACTION, author="jane", reason="exchange halted"),
    ]
    store.append([Entry(records=tuple(written))])
    for kind, one in zip(RecordKind, written, strict=True):
        (read,), cursor = store.records(kind, limit=10)
        assert cursor is None
        assert repr(read) == repr(one)
        assert read.digest == one.digest


def test_a_value_that_is_no_scalar_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match=r"smile = \[1\.0\] of a record in metrics is a list"):
        record(smile=[1.0])  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="float32"):
        record(rms=np.float32(0.5))  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="NaT"):
        record(time=np.datetime64("NaT"))


def test_a_record_written_twice_is_there_once_and_any_difference_makes_another(
    store: Store,
) -> None:
    one = record(expiry=at(60), a=1.0, b="x")
    others = [
        replace(one, epoch="f"),
        replace(one, revision=2),
        replace(one, expiry=None),
        replace(one, model=ModelName.SABR),
        replace(one, underlying="ETH"),
        replace(one, quote_time=at(1)),
        replace(one, values={"a": 1, "b": "x"}),
        replace(one, values={"a": 1.0}),
    ]
    same = replace(one, values={"b": "x", "a": 1.0})
    store.append([Entry(records=(one, one)), Entry(records=(same, *others))])
    store.append([Entry(records=(one, *others))])
    (page,) = pages(store, RecordKind.METRIC, 100)
    assert len(page) == 1 + len(others)


def test_pages_of_records_join_to_the_whole(store: Store) -> None:
    store.append([Entry(records=tuple(record(i, time=at(i % 2), n=i) for i in range(1, 24)))])
    found = pages(store, RecordKind.METRIC, 5)
    assert [len(page) for page in found] == [5, 5, 5, 5, 3]
    order = [(one.quote_time, one.revision) for page in found for one in page]
    assert order == sorted(order)
    assert len(set(order)) == 23
    (whole,) = pages(store, RecordKind.METRIC, 23)
    assert [one.revision for one in whole] == [revision for _, revision in order]
    _, cursor = store.records(RecordKind.METRIC, limit=2)
    assert isinstance(cursor, Cursor)


def test_the_last_record_is_what_a_server_wrote_last_or_else_the_latest_of_history(
    store: Store,
) -> None:
    kind, job = RecordKind.TRANSITION, "backtest-1"
    written = (
        record(1, kind=kind, time=at(5)),
        record(2, kind=kind, time=at(5)),
        record(3, kind=kind, time=at(8), expiry=at(60), after="NORMAL"),
        record(4, kind=kind, time=at(4), expiry=at(60), after="HELD"),  # a clock was set right
        record(5, "ETH", kind, time=at(1)),
        record(6, kind=kind, time=at(2), epoch=job),  # history, written later
        record(7, kind=kind, time=at(9), epoch=job, expiry=at(60)),
        record(8, "SOL", kind, time=at(2), epoch=job),
        record(9, "SOL", kind, time=at(1), epoch=job),
    )
    store.append([Entry(records=written)])
    assert sorted(one.revision for one in store.last_records(kind)) == [2, 4, 5, 8]


def test_the_epochs_of_jobs_are_known_by_how_they_begin() -> None:
    unit, build, history = Unit("BTC", START.astype("datetime64[D]")), this_build(), [chain()]
    settings = BacktestSettings()
    assert backtest._epoch(history, settings, build).startswith(JOBS)
    assert recalibration._epoch(unit, history, settings.fit, build).startswith(JOBS)
    assert not new_epoch().startswith(JOBS)


def test_frames_have_a_column_for_every_value(store: Store) -> None:
    records = (
        record(1, time=at(1), expiry=at(60), rms=0.5, state="ok"),
        record(2, time=at(2), model=None, rms=math.nan, count=3),
        record(3, "ETH", time=at(3), rms=0.7),
        record(4, kind=RecordKind.ALARM, cause="jump"),
    )
    store.append([Entry(records=records)])
    frame = store.metrics()
    assert frame.columns.tolist() == [
        *("underlying", "quote_time", "expiry", "model", "epoch", "revision"),
        *("rms", "state", "count"),
    ]
    assert frame.revision.tolist() == [1, 2, 3]
    assert frame.model.tolist() == ["SVI", "", "SVI"]
    assert str(frame.quote_time.dtype) == "datetime64[us, UTC]"
    assert frame.expiry.isna().tolist() == [False, True, True]
    assert store.metrics("ETH").rms.tolist() == [0.7]
    assert store.metrics("BTC", at(2), at(3)).revision.tolist() == [2]
    assert store.metrics(model=ModelName.ESSVI).empty
    assert store.alarms().cause.tolist() == ["jump"]
    assert store.transitions().empty
    assert store.actions().columns.tolist()[:2] == ["underlying", "quote_time"]


def test_values_that_repeat_a_column_are_left_out_of_frames(store: Store) -> None:
    repeated = {"model": "SVI", "quote_time": "2026-03-02T08:00:00", "expiry": "2026-03-09"}
    one = replace(record(expiry=at(60)), values={**repeated, "underlying": "BTC", "rms": 0.5})
    store.append([Entry(records=(one,))])
    frame = store.metrics()
    assert frame.columns.tolist() == [
        *("underlying", "quote_time", "expiry", "model", "epoch", "revision", "rms")
    ]
    assert frame.expiry.tolist() == [pd.Timestamp(str(at(60)), tz="UTC")]
    (read,), _ = store.records(RecordKind.METRIC, limit=1)
    assert read == one  # nothing of it is lost in the store


def test_surfaces_and_records_are_one_transaction(tmp_path: Path, store: Store) -> None:
    with sqlite3.connect(tmp_path / "calib.db") as connection:
        connection.execute("DROP TABLE alarms")
    connection.close()
    entry = Entry(
        surface=surface(epoch="e", revision=1).to_proto(),
        records=(record(1), record(1, kind=RecordKind.ALARM)),
    )
    with pytest.raises(Unavailable, match="alarms"):
        store.append([entry])
    assert list(store.surfaces()) == []
    assert store.metrics().empty


def test_what_is_old_goes_and_the_trail_of_operators_stays(store: Store) -> None:
    for day in range(6):
        time = START + np.timedelta64(day, "D")
        one = chain(time=time)
        every = tuple(record(day + 1, kind=kind, time=time) for kind in RecordKind)
        made = surface(at=time, epoch="e", revision=day + 1).to_proto()
        store.append([Entry(surface=made, chain=one, records=every)])
    retention = Retention(rows=timedelta(days=2), quotes=timedelta(days=1))
    while store.tidy(retention):
        pass
    # The third stood when the time that is kept began.
    assert [one.revision for one in store.surfaces()] == [3, 4, 5, 6]
    assert store.transitions().revision.tolist() == [3, 4, 5, 6]
    for frame in (store.metrics(), store.alarms()):
        assert frame.revision.tolist() == [4, 5, 6]
    assert store.actions().revision.tolist() == [1, 2, 3, 4, 5, 6]
    assert sorted(set(store.quotes().as_of.dt.day)) == [6, 7]


def test_what_a_restart_begins_from_stays_however_old_it_is(store: Store) -> None:
    kind = RecordKind.TRANSITION
    day, soon, late = 24 * 60, at(30 * 60), at(60 * 24 * 60)
    quiet = chain("QUIET", at(day))
    made = surface("QUIET", at=at(day), epoch="e", revision=2).to_proto()
    changes = (
        record(1, "QUIET", kind, time=at(0), after="HELD"),
        record(2, "QUIET", kind, time=at(10), after="HALTED"),
        record(3, "QUIET", kind, time=at(10), expiry=soon, after="HELD"),
        record(5, "QUIET", kind, time=at(5), expiry=late, after="WIDENED"),
        record(4, "QUIET", kind, time=at(10), expiry=late, after="HELD"),
    )
    store.append(
        [
            *published([surface("QUIET", epoch="e", revision=1)]),
            Entry(made, fitted(quiet, "hash"), quiet, changes),
            *published([surface("BTC", at=at(30 * day), epoch="e", revision=3)]),
        ]
    )
    before = [store.latest(), [one for one in store.last_records(kind) if one.expiry != soon]]
    while store.tidy(Retention(rows=timedelta(days=2))):
        pass
    assert [store.latest(), store.last_records(kind)] == before
    assert [one.revision for one in store.surfaces()] == [2, 3]
    assert store.transitions().revision.tolist() == [2, 4]
    assert [one.provenance is not None for one in store.published("QUIET")] == [True]


def test_the_fit_that_a_kept_surface_was_moved_from_stays_with_it(store: Store) -> None:
    day = 24 * 60
    keys = [SurfaceKey("e", number) for number in (1, 2, 3)]
    sources: list[Fitted | Moved] = [
        fitted(chain(time=at(0)), "first"),
        fitted(chain(time=at(1)), "second"),
        Moved(keys[1], (1.01, 1.01, 1.01), 70_100.0),
    ]
    made = [
        surface(at=at(time), epoch="e", revision=key.revision)
        for time, key in zip((0, 1, 1), keys, strict=True)
    ]
    store.append(
        [
            *[Entry(one.to_proto(), source) for one, source in zip(made, sources, strict=True)],
            *published([surface("ETH", at=at(30 * day), epoch="e", revision=4)]),
        ]
    )
    while store.tidy(Retention(rows=timedelta(days=2))):
        pass
    kept = {one.key: one.provenance for one in store.published("BTC")}
    assert kept == dict(zip(keys[1:], sources[1:], strict=True))


def test_tidying_keeps_all_where_nothing_else_was_asked_for(store: Store) -> None:
    store.append(published(surface(at=at(1e6 * i), epoch="e", revision=i) for i in (1, 2)))
    while store.tidy():
        pass
    assert len(list(store.surfaces())) == 2
