"""The records of a backtest as data frames, the same that a store gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from calib.jobs.recording import last_records, step_records
from calib.store.frames import record_frame
from calib.store.records import RecordKind

if TYPE_CHECKING:
    import pandas as pd

    from calib.jobs.backtest import Backtest


@dataclass(frozen=True)
class BacktestFrames:
    """``metrics``, ``alarms`` and ``transitions`` as `calib.store.Store` gives them."""

    metrics: pd.DataFrame
    alarms: pd.DataFrame
    transitions: pd.DataFrame


def frames_of(backtest: Backtest) -> BacktestFrames:
    """A row per record, in order of time."""
    records = [one for step in backtest.steps for one in step_records(step, backtest.model)]
    records += last_records(backtest)
    return BacktestFrames(
        *(
            record_frame(one for one in records if one.kind is kind)
            for kind in (RecordKind.METRIC, RecordKind.ALARM, RecordKind.TRANSITION)
        )
    )
