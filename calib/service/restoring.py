"""What a restart begins from: breakers and marks as the store says.

Conservative: what an operator set stands, and a breaker that had tripped begins as tripped, its
probation to be served anew. What charts and expiries were used to is learned again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from calib.conventions import to_instant
from calib.modelrisk.breakers import BreakerLevel, BreakerState, Force
from calib.modelrisk.monitor import MonitorSettings, MonitorState
from calib.store import Record, RecordKind, Store
from calib.store.queries import Cursor
from calib.store.records import Scalar
from calib.surface.marks import Mark, MarkHandle

_PAGE = 1_000

BreakerKey = tuple[str, int | None]
"""Underlying, and microseconds of the expiry or None for the underlying as a whole."""


@dataclass(frozen=True)
class Trail:
    """The last word on every breaker and mark: ``tripped`` ones, ``forces``, and ``marks``."""

    tripped: Mapping[BreakerKey, BreakerState] = field(default_factory=dict)
    forces: Mapping[BreakerKey, Force] = field(default_factory=dict)
    marks: Mapping[tuple[str, int, MarkHandle], Mark] = field(default_factory=dict)

    def monitor(self, underlying: str, settings: MonitorSettings) -> MonitorState:
        """What the monitor of an underlying begins from; its first step drops what has expired."""
        whole = BreakerState(underlying)
        breakers: dict[int, BreakerState] = {}
        for name, key in {*self.tripped, *self.forces}:
            if name != underlying:
                continue
            if key is None:
                whole = self._breaker(underlying, None, settings)
            else:
                breakers[key] = self._breaker(underlying, key, settings)
        return MonitorState(underlying, whole, breakers)

    def marks_of(self, underlying: str) -> tuple[Mark, ...]:
        """The marks of an underlying, some of which may have ended."""
        return tuple(mark for (name, _, _), mark in self.marks.items() if name == underlying)

    def _breaker(self, underlying: str, key: int | None, settings: MonitorSettings) -> BreakerState:
        expiry = None if key is None else np.datetime64(key, "us")
        found = self.tripped.get((underlying, key), BreakerState(underlying, expiry))
        force = self.forces.get((underlying, key))
        level = force.level if force else found.tripped
        above = level > BreakerLevel.NORMAL
        return BreakerState(
            underlying,
            expiry,
            tripped=found.tripped,
            since=found.since,
            force=force,
            multiplier=settings.breakers.least_multiplier if above else 1.0,
            cause=found.cause,
        )


def read_trail(store: Store) -> Trail:
    """The trail in a store; raises Unavailable where it cannot be read."""
    tripped = {
        (record.underlying, _micros(record.expiry)): _tripped(record)
        for record in store.last_records(RecordKind.TRANSITION)
    }
    forces: dict[BreakerKey, Force] = {}
    marks: dict[tuple[str, int, MarkHandle], Mark] = {}
    for record in sorted(_actions(store), key=lambda one: to_instant(one.values["acted"])):
        values, key = record.values, (record.underlying, _micros(record.expiry))
        match values["action"]:
            case "force":
                forces[key] = _force(record)
            case "release":
                forces.pop(key, None)
            case "set mark" | "clear mark" as action:
                assert record.expiry is not None, "a mark is of an expiry"
                handle = MarkHandle[str(values["handle"])]
                place = (record.underlying, int(record.expiry.astype(np.int64)), handle)
                if action == "set mark":
                    marks[place] = _mark(record, handle)
                else:
                    marks.pop(place, None)
    return Trail(tripped, forces, marks)


def _actions(store: Store) -> Iterable[Record]:
    cursor: Cursor | None = None
    while True:
        page, cursor = store.records(RecordKind.ACTION, after=cursor, limit=_PAGE)
        yield from page
        if cursor is None:
            return


def _tripped(record: Record) -> BreakerState:
    # None for an expiry that was over, and that the first step drops.
    level = BreakerLevel[str(record.values.get("tripped") or "NORMAL")]
    cause = str(record.values["cause"]) if level else ""
    return BreakerState(
        record.underlying, record.expiry, tripped=level, since=record.quote_time, cause=cause
    )


def _force(record: Record) -> Force:
    values = record.values
    return Force(
        BreakerLevel[str(values["level"])],
        str(values["operator"]),
        str(values["reason"]),
        record.quote_time,
        _instant(values["until"]),
    )


def _mark(record: Record, handle: MarkHandle) -> Mark:
    values, expiry = record.values, record.expiry
    assert expiry is not None
    value = values["value"]
    assert isinstance(value, (int, float))
    return Mark(
        expiry,
        handle,
        bool(values["pinned"]),
        float(value),
        str(values["operator"]),
        str(values["reason"]),
        record.quote_time,
        to_instant(values["until"]),
    )


def _instant(value: Scalar) -> np.datetime64 | None:
    return None if value is None else to_instant(value)


def _micros(expiry: np.datetime64 | None) -> int | None:
    return None if expiry is None else int(expiry.astype("datetime64[us]").astype(np.int64))
