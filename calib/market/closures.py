"""When a market's clock runs slower or faster than usual: closed periods, and events."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import inf

import numpy as np

from calib.conventions import Bools, Ints, iso, to_instant
from calib.errors import InvalidRequest

MINUTE = 60_000_000
DAY = 1_440 * MINUTE
WEEK = 7 * DAY
"""Microseconds."""

LEAST_WEIGHT = 0.05
"""What a closed period counts at least. With less, two expiries within one would, years ahead, be
the same double in variance time; with nothing an option that lives within it would have no time.
From Friday's to Monday's close stocks had a tenth more variance than on a working day (French
and Roll, Stock return variances, 1986): about this much for each day of the weekend."""

_MONDAY = 4 * DAY  # 1970-01-05 was one
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_WEEKLY = re.compile(r"\s*([A-Za-z]{3,9})\s+([01]\d|2[0-3]):([0-5]\d)\s*")


@dataclass(frozen=True)
class WeeklyClosure:
    """A part of every week that counts ``weight`` of open time, from LEAST_WEIGHT to 1.

    ``start`` and ``end`` are instants of the week in UTC: a day by its name or the first three
    letters of it, and the time, ``Saturday 00:00`` or ``fri 21:00``. The period runs from the one
    to the next of the other, without it, over the turn of the week where need be. UTC knows no
    summer time: what follows the clocks of a place is an hour off for half of the year.
    Raises InvalidRequest for anything else.
    """

    start: str
    end: str
    weight: float

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            object.__setattr__(self, name, _moment_of_week(name, getattr(self, name)))
        if self.start == self.end:
            raise InvalidRequest(f"a weekly closure from {self.start!r} to itself has no length")
        object.__setattr__(self, "weight", _weight(self.weight))

    @property
    def length(self) -> int:
        """Microseconds."""
        return (_offset(self.end) - _offset(self.start)) % WEEK

    def holds(self, micros: Ints) -> Bools:
        """Whether instants, in microseconds since 1970, lie within the period."""
        inside: Bools = (micros - _MONDAY - _offset(self.start)) % WEEK < self.length
        return inside

    def edges(self, start: int, end: int) -> Ints:
        """Where it begins and ends between two instants, in microseconds since 1970."""
        first = (start - _MONDAY) // WEEK - 1
        last = (end - _MONDAY) // WEEK
        begins = _MONDAY + _offset(self.start) + WEEK * np.arange(first, last + 1)
        return np.concatenate([begins, begins + self.length])


@dataclass(frozen=True)
class Closure:
    """A period, a holiday, that counts ``weight`` of open time, from LEAST_WEIGHT to 1.

    ``start`` and ``end`` (without it) are instants: datetime, ISO text or datetime64, in UTC.
    Raises InvalidRequest for anything else.
    """

    start: np.datetime64
    end: np.datetime64
    weight: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", to_instant(self.start))
        object.__setattr__(self, "end", to_instant(self.end))
        object.__setattr__(self, "weight", _weight(self.weight))
        _ascending("a closure", self.start, self.end)


@dataclass(frozen=True)
class Event:
    """Something expected that moves the price as much as ``extra_days`` of open market do.

    Its variance comes on top of what the time itself counts, evenly from ``start`` to ``end``,
    or, where only an instant is given, within the minute that follows it: an option that expires
    at that instant expires before the event. Instants are datetimes, ISO text or datetime64, in
    UTC. Raises InvalidRequest for anything else.
    """

    start: np.datetime64
    extra_days: float
    end: np.datetime64 | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", to_instant(self.start))
        if self.end is not None:
            object.__setattr__(self, "end", to_instant(self.end))
        _ascending("an event", self.start, self.until)
        days = _number("extra_days", self.extra_days)
        if not 0.0 < days < inf:
            raise InvalidRequest(
                f"extra_days is {self.extra_days!r}, must be positive: the days of open market "
                "that move the price as much as the event"
            )
        object.__setattr__(self, "extra_days", days)

    @property
    def until(self) -> np.datetime64:
        """When its variance is over."""
        return self.start + np.timedelta64(MINUTE, "us") if self.end is None else self.end


def _moment_of_week(name: str, value: object) -> str:
    match = _WEEKLY.fullmatch(value) if isinstance(value, str) else None
    days = [day for day in _DAYS if match and day.lower().startswith(match[1].lower())]
    if match is None or not days:
        raise InvalidRequest(
            f"{name} of a weekly closure is {value!r}, must be a day and a time in UTC "
            "such as 'Saturday 00:00'"
        )
    return f"{days[0]} {match[2]}:{match[3]}"


def _offset(moment: str) -> int:
    """Microseconds since Monday 00:00."""
    day, time = moment.split()
    hours, minutes = time.split(":")
    return _DAYS.index(day) * DAY + (60 * int(hours) + int(minutes)) * MINUTE


def _weight(value: object) -> float:
    weight = _number("weight", value)
    if not LEAST_WEIGHT <= weight <= 1.0:
        raise InvalidRequest(
            f"weight is {value!r}, must be from {LEAST_WEIGHT} to 1: what an hour of the closed "
            "period counts beside an open one. No time at all cannot be had: an option that lives "
            "within the period would have none"
        )
    return weight


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise InvalidRequest(f"{name} is {value!r}, must be a number")
    return float(value)


def _ascending(what: str, start: np.datetime64, end: np.datetime64) -> None:
    if not start < end:  # NaT compares false
        raise InvalidRequest(f"{what} must end after its start; got {iso(start)} to {iso(end)}")
