"""What goes on record of model risk: metrics, alarms, transitions, and what operators do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from calib.conventions import iso
from calib.modelrisk.alarms import Alarm
from calib.modelrisk.breakers import Force
from calib.modelrisk.monitor import Assessment
from calib.states import ModelName
from calib.store import Record, RecordKind, SurfaceKey
from calib.store.assessments import assessment_records
from calib.store.records import Scalar
from calib.surface.marks import Mark

_COLUMNS = ("underlying", "quote_time", "expiry", "model")  # of every record, not values again


class Place(NamedTuple):
    """What records belong to: a model (None: the service) and the surface in force, revision 0 for
    none."""

    model: ModelName | None
    epoch: str
    revision: int


class Signature(NamedTuple):
    """Who acts, and why."""

    operator: str
    reason: str


def measured(assessment: Assessment, place: Place) -> tuple[Record, ...]:
    """The metrics of a step, as a report reads them: of the surface as a whole, of each expiry, of
    charts and findings; none without a fit."""
    if assessment.metrics is None or place.model is None:
        return ()
    key = SurfaceKey(place.epoch, place.revision)
    told = assessment_records(assessment, place.model, key)
    # A step is made at the market's time, its metrics are those of a chain.
    when = assessment.metrics.quote_time
    return tuple(replace(one, quote_time=when) for one in told if one.kind is RecordKind.METRIC)


def raised(alarms: Iterable[Alarm], place: Place) -> tuple[Record, ...]:
    """Alarms."""
    return tuple(
        Record(
            RecordKind.ALARM,
            alarm.underlying,
            alarm.quote_time,
            alarm.expiry,
            place.model,
            place.epoch,
            place.revision,
            _told(alarm.values()),
        )
        for alarm in alarms
    )


def changed(assessment: Assessment, place: Place) -> tuple[Record, ...]:
    """The transitions of a step.

    ``tripped`` is what the evidence has come to, under an operator's force too: what a restart
    begins from.
    """
    found = []
    for change in assessment.transitions:
        breaker = assessment.breaker
        if change.expiry is not None:
            judged = assessment.of(change.expiry)
            if judged is None:
                continue
            breaker = judged.breaker
        values = _told(change.values()) | {"tripped": breaker.tripped.name}
        found.append(
            Record(
                RecordKind.TRANSITION,
                change.underlying,
                change.at,
                change.expiry,
                place.model,
                place.epoch,
                place.revision,
                values,
            )
        )
    return tuple(found)


def forced(
    underlying: str, expiry: np.datetime64 | None, force: Force, acted: np.datetime64, place: Place
) -> Record:
    """An operator has forced a breaker."""
    values: dict[str, Scalar] = {
        "action": "force",
        "level": force.level.name,
        "until": None if force.until is None else iso(force.until),
    }
    by = Signature(force.actor, force.reason)
    return _action(underlying, expiry, force.at, by, acted, place, values)


def released(
    underlying: str,
    expiry: np.datetime64 | None,
    at: np.datetime64,
    by: Signature,
    acted: np.datetime64,
    place: Place,
) -> Record:
    """An operator has released a breaker."""
    return _action(underlying, expiry, at, by, acted, place, {"action": "release"})


def marked(underlying: str, mark: Mark, acted: np.datetime64, place: Place) -> Record:
    """An operator has set a mark."""
    values: dict[str, Scalar] = {
        "action": "set mark",
        "handle": mark.handle.name,
        "pinned": mark.pinned,
        "value": mark.value,
        "until": iso(mark.until),
    }
    by = Signature(mark.author, mark.reason)
    return _action(underlying, mark.expiry, mark.at, by, acted, place, values)


def cleared(
    underlying: str,
    mark: Mark,
    at: np.datetime64,
    by: Signature,
    acted: np.datetime64,
    place: Place,
) -> Record:
    """An operator has cleared a mark."""
    values: dict[str, Scalar] = {"action": "clear mark", "handle": mark.handle.name}
    return _action(underlying, mark.expiry, at, by, acted, place, values)


def _action(
    underlying: str,
    expiry: np.datetime64 | None,
    at: np.datetime64,
    by: Signature,
    acted: np.datetime64,
    place: Place,
    values: dict[str, Scalar],
) -> Record:
    """``at`` is the market's time; ``acted`` the wall's, by which actions are in order."""
    told = values | {"operator": by.operator, "reason": by.reason, "acted": iso(acted)}
    return Record(RecordKind.ACTION, underlying, at, expiry, *place, told)


def _told(values: dict[str, Scalar]) -> dict[str, Scalar]:
    return {name: value for name, value in values.items() if name not in _COLUMNS}
