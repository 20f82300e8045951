"""Events of model risk, as a page lists them: alarms, and changes of a breaker's level."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import nan

import numpy as np

from calib.surface.messages import instant
from calib.v1 import model_risk_pb2

SPAN = np.timedelta64(1, "D")
"""How far back events are listed."""
MOST_EVENTS = 200
"""Events that are kept, the newest."""


class EventKind(StrEnum):
    """What an event is: a number beyond its limit, or a change of a breaker's level."""

    ALARM = "alarm"
    LEVEL = "level"


@dataclass(frozen=True)
class Event:
    """An alarm, or a change of level; ``what`` names the chart, or the levels before and after.

    ``expiry`` None: the underlying, or the tenor bucket, as a whole. ``value`` and ``limit`` are in
    the unit of what signals, nan where nothing was measured.
    """

    at: np.datetime64
    underlying: str
    kind: EventKind
    what: str
    cause: str
    expiry: np.datetime64 | None = None
    value: float = nan
    limit: float = nan

    @property
    def key(self) -> tuple[object, ...]:
        """What tells it from all others, however often it is told."""
        return (self.at, self.underlying, self.kind, self.what, self.expiry)


def alarm_event(message: model_risk_pb2.Alarm) -> Event:
    """The event in a message."""
    has_expiry = message.HasField("expiry")
    return Event(
        at=instant(message.quote_time, "alarms.quote_time"),
        underlying=message.underlying,
        kind=EventKind.ALARM,
        what=" ".join(part for part in (message.chart, message.metric, message.tenor) if part),
        cause=message.cause,
        expiry=instant(message.expiry, "alarms.expiry") if has_expiry else None,
        value=message.value,
        limit=message.limit,
    )


def level_event(message: model_risk_pb2.Transition) -> Event:
    """The event in a message."""
    has_expiry = message.HasField("expiry")
    return Event(
        at=instant(message.at, "transitions.at"),
        underlying=message.underlying,
        kind=EventKind.LEVEL,
        what=f"{_level_name(message.before)} → {_level_name(message.after)}",
        cause=message.cause,
        expiry=instant(message.expiry, "transitions.expiry") if has_expiry else None,
        value=message.value,
        limit=message.limit,
    )


def _level_name(number: model_risk_pb2.BreakerLevel.ValueType) -> str:
    known = number in model_risk_pb2.BreakerLevel.values()
    name = model_risk_pb2.BreakerLevel.Name(number) if known else "BREAKER_LEVEL_HALTED"
    return name.removeprefix("BREAKER_LEVEL_")
