"""What one step of the monitor came to, as records; ``subject`` says what each of them tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from calib.modelrisk.alarms import Alarm
from calib.modelrisk.breakers import Transition
from calib.modelrisk.comparison import ExpiryComparison
from calib.modelrisk.forecasts import Forecast
from calib.modelrisk.monitor import Assessment
from calib.modelrisk.prudence import PrudentLine
from calib.states import ModelName
from calib.store.provenance import SurfaceKey
from calib.store.records import Record, RecordKind, Scalar

if TYPE_CHECKING:
    import pandas as pd

Values = Mapping[str, Scalar]


class Subject(StrEnum):
    """What a stored metric is about.

    SURFACE: a surface as a whole, with the ``level`` and ``cause`` of its breaker. EXPIRY: one
    expiry, its innovation's numbers under ``innovation_…``, those of its forecast under
    ``forecast_…`` and of its breaker under ``trust_…``. CHART: where a control chart stands.
    FINDING: one cause with its evidence. VENUE: how one venue stands. COMPARISON: an expiry by
    several models. PRUDENCE: one line of prudent valuation.
    """

    SURFACE = "surface"
    EXPIRY = "expiry"
    CHART = "chart"
    FINDING = "finding"
    VENUE = "venue"
    COMPARISON = "comparison"
    PRUDENCE = "prudence"


_OWN = ("underlying", "quote_time", "expiry", "model", "epoch", "revision")
"""What a record says of itself, and its values need not repeat."""


def assessment_records(
    one: Assessment, model: ModelName, key: SurfaceKey, scored: Sequence[Forecast] = ()
) -> tuple[Record, ...]:
    """Records of an assessment: metrics, alarms, transitions.

    ``key``: of the surface in force; ``scored``: the forecasts of the surface before it.
    """
    return (
        *metric_records(one, model, key, scored),
        *alarm_records(one.alarms, model, key),
        *transition_records(one, model, key),
    )


def metric_records(
    one: Assessment, model: ModelName | None, key: SurfaceKey, scored: Sequence[Forecast] = ()
) -> tuple[Record, ...]:
    """What was measured, at the time of the chain, or of the step where no fit came of one."""
    at = one.at if one.metrics is None else one.metrics.quote_time

    def metric(subject: Subject, expiry: np.datetime64 | None, values: Values) -> Record:
        told = {"subject": subject.value, **_told(values)}
        return Record(RecordKind.METRIC, one.underlying, at, expiry, model, *key, told)

    whole: Values = {} if one.metrics is None else one.metrics.values()
    state: Values = {
        "fitted_chain": one.metrics is not None,
        "level": one.level.name,
        "cause": one.breaker.cause,
        "multiplier": one.breaker.multiplier,
    }
    return (
        metric(Subject.SURFACE, None, {**whole, **state}),
        *(metric(Subject.EXPIRY, expiry, values) for expiry, values in _by_expiry(one, scored)),
        *(metric(Subject.CHART, None, point.values()) for point in one.points),
        *(metric(Subject.FINDING, each.expiry, each.values()) for each in one.findings),
        *(metric(Subject.VENUE, None, each.values()) for each in one.venues),
    )


def alarm_records(
    alarms: Iterable[Alarm], model: ModelName | None, key: SurfaceKey
) -> tuple[Record, ...]:
    """Alarms, each at its own time."""

    def record(one: Alarm) -> Record:
        kind, values = RecordKind.ALARM, _told(one.values())
        return Record(kind, one.underlying, one.quote_time, one.expiry, model, *key, values)

    return tuple(map(record, alarms))


def transition_records(
    one: Assessment, model: ModelName | None, key: SurfaceKey
) -> tuple[Record, ...]:
    """Transitions, each at its own time.

    ``tripped`` is what the evidence has come to, under an operator's force too: what a restart
    begins from. None for an expiry that is over.
    """

    def record(change: Transition) -> Record:
        judged = one if change.expiry is None else one.of(change.expiry)
        tripped = None if judged is None else judged.breaker.tripped.name
        values = {**_told(change.values()), "tripped": tripped}
        kind, name = RecordKind.TRANSITION, change.underlying
        return Record(kind, name, change.at, change.expiry, model, *key, values)

    return tuple(map(record, one.transitions))


def comparison_records(
    underlying: str,
    at: np.datetime64,
    model: ModelName,
    key: SurfaceKey,
    compared: Sequence[ExpiryComparison],
    lines: Sequence[PrudentLine],
) -> tuple[Record, ...]:
    """Records of what models of the same quotes say, and of the prudent lines that follow."""

    def metric(subject: Subject, expiry: np.datetime64, values: Values) -> Record:
        told = {"subject": subject.value, **_told(values)}
        return Record(RecordKind.METRIC, underlying, at, expiry, model, *key, told)

    return (
        *(metric(Subject.COMPARISON, each.expiry, each.values()) for each in compared),
        *(metric(Subject.PRUDENCE, line.expiry, line.values()) for line in lines),
    )


def of_subject(metrics: pd.DataFrame, subject: Subject) -> pd.DataFrame:
    """The rows of stored metrics that are about this, with the columns that these have."""
    if "subject" not in metrics.columns:
        return metrics.iloc[:0]
    mine = metrics[metrics["subject"] == subject.value]
    told = [name for name in mine.columns if name in _OWN or mine[name].notna().any()]
    return mine[told].drop(columns="subject", errors="ignore").reset_index(drop=True)


def _told(values: Values) -> dict[str, Scalar]:
    return {name: value for name, value in values.items() if name not in _OWN}


def _by_expiry(
    one: Assessment, scored: Iterable[Forecast]
) -> Iterable[tuple[np.datetime64, Values]]:
    """The values of each expiry that anything is known of, in order."""
    found: dict[int, tuple[np.datetime64, dict[str, Scalar]]] = {}

    def add(expiry: np.datetime64, prefix: str, values: Values) -> None:
        moment = int(expiry.astype("datetime64[us]").astype(np.int64))
        _, known = found.setdefault(moment, (expiry, {}))
        known |= {f"{prefix}{name}": value for name, value in _told(values).items()}

    for each in () if one.metrics is None else one.metrics.slices:
        add(each.expiry, "", each.values())
    for innovation in one.innovations:
        add(innovation.expiry, "innovation_", innovation.values())
    for forecast in scored:
        add(forecast.expiry, "forecast_", forecast.values())
    for trust in one.expiries:
        add(trust.expiry, "trust_", trust.values())
    return (found[moment] for moment in sorted(found))
