"""What a backtest writes into a store: surfaces with where they come from, quotes, and records."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

from calib.jobs.backtest import Backtest, Step
from calib.states import ModelName
from calib.store.assessments import assessment_records, comparison_records
from calib.store.entry import Entry
from calib.store.provenance import SurfaceKey
from calib.store.records import Record
from calib.surface.messages import timestamp
from calib.surface.surface import Surface
from calib.v1 import surface_pb2


def step_records(step: Step, model: ModelName) -> tuple[Record, ...]:
    """What the monitor said of a step."""
    return assessment_records(step.assessment, model, step.key, step.forecasts)


def last_records(backtest: Backtest) -> tuple[Record, ...]:
    """What the comparisons at its end say."""
    last = {step.chain.underlying: step for step in backtest.steps if step.surface is not None}
    found: list[Record] = []
    for one in backtest.comparisons:
        surface = one.surface
        found += comparison_records(
            surface.underlying,
            surface.quote_time,
            surface.model,
            last[surface.underlying].key,
            one.expiries,
            one.lines,
        )
    return tuple(found)


def step_entry(step: Step, model: ModelName) -> Entry:
    """A step for the store; the surface is said to be calibrated when its quotes were made."""
    records = step_records(step, model)
    if step.provenance is None or step.surface is None:
        return Entry(chain=step.chain, records=records)
    return Entry(surface_message(step.surface, step.key), step.provenance, step.chain, records)


def surface_message(surface: Surface, key: SurfaceKey) -> surface_pb2.Surface:
    """A surface as a job stores it."""
    message = surface.to_proto()
    message.epoch, message.revision = key
    message.code_version = _code_version()
    # A run's own clock would make the same job another one each time it is written.
    message.calibration_time.CopyFrom(timestamp(surface.quote_time))
    return message


@cache
def _code_version() -> str:
    """Read once: it is parsed from a file."""
    return version("calib")
