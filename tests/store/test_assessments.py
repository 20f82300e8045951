"""Assessments as records: nothing is lost, and each subject is read back with its own columns."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from calib.fitting.fit import fit_chains
from calib.modelrisk.forecasts import Forecast, forecasts
from calib.modelrisk.monitor import Assessment, MonitorSettings, MonitorState, assess
from calib.quotes.chain import chain_at
from calib.states import ModelName
from calib.store import Record, RecordKind, SurfaceKey
from calib.store.assessments import Subject, assessment_records, of_subject
from calib.store.frames import record_frame
from tests.service.samples import START, micros, smile_quotes

KEY = SurfaceKey("epoch", 7)


@pytest.fixture(scope="module")
def assessed() -> tuple[Assessment, tuple[Forecast, ...]]:
    """The second of two chains: the forward five per cent lower, vols half as high again."""
    state, last, one = MonitorState.start("BTC"), None, None
    scored: tuple[Forecast, ...] = ()
    for hours, forward, vol in ((0, 70_000.0, 0.6), (6, 66_500.0, 0.9)):
        at = START + micros(timedelta(hours=hours))
        table = smile_quotes("BTC", forward=forward, vol=vol)
        chain = chain_at(replace(table, quote_time=np.full(len(table), at)), "BTC", at)
        (fit,) = fit_chains([chain], [last])
        scored = () if last is None else forecasts(last, fit.slices)
        state, one = assess(state, fit, fit.surface, last, at, MonitorSettings())
        last = fit.surface
    assert one is not None
    return one, scored


@pytest.fixture(scope="module")
def records(assessed: tuple[Assessment, tuple[Forecast, ...]]) -> tuple[Record, ...]:
    one, scored = assessed
    return assessment_records(one, ModelName.SVI, KEY, scored)


def test_every_part_is_told(
    assessed: tuple[Assessment, tuple[Forecast, ...]], records: tuple[Record, ...]
) -> None:
    one, _ = assessed
    frame = record_frame(each for each in records if each.kind is RecordKind.METRIC)
    counts = frame["subject"].value_counts()
    assert counts[Subject.SURFACE] == 1
    assert counts[Subject.EXPIRY] == len(one.expiries) > 0
    assert counts[Subject.CHART] == len(one.points) > 0
    assert counts.get(Subject.FINDING, 0) == len(one.findings)
    assert sum(each.kind is RecordKind.ALARM for each in records) == len(one.alarms)
    assert sum(each.kind is RecordKind.TRANSITION for each in records) == len(one.transitions) > 0
    assert {(each.epoch, each.revision, each.model) for each in records} == {(*KEY, ModelName.SVI)}


def test_an_expiry_is_one_row_of_metrics_innovation_forecast_and_trust(
    assessed: tuple[Assessment, tuple[Forecast, ...]], records: tuple[Record, ...]
) -> None:
    one, scored = assessed
    frame = of_subject(
        record_frame(each for each in records if each.kind is RecordKind.METRIC), Subject.EXPIRY
    )
    row = frame.iloc[0]
    assert one.metrics is not None
    assert row["rms_vol_error"] == one.metrics.slices[0].rms_vol_error
    assert row["innovation_forward_move"] == pytest.approx(np.log(0.95))
    assert row["forecast_rms"] == scored[0].rms
    assert row["trust_level"] == one.expiries[0].level.name
    assert np.datetime64(row["expiry"].tz_convert(None), "us") == one.expiries[0].expiry


def test_a_subject_that_is_not_there_has_the_columns_of_a_record(
    records: tuple[Record, ...],
) -> None:
    frame = record_frame(each for each in records if each.kind is RecordKind.METRIC)
    found = of_subject(frame, Subject.PRUDENCE)
    assert len(found) == 0
    assert {"underlying", "quote_time", "expiry"} <= set(found.columns)
    assert "rms_vol_error" not in of_subject(frame, Subject.CHART).columns
