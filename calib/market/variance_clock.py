"""The clock that interpolation between expiries runs in: weekends, holidays and events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np

from calib.conventions import MICROSECONDS_PER_YEAR, Floats, Instants, Ints, micros_of
from calib.errors import InvalidRequest
from calib.market.closures import DAY, WEEK, Closure, Event, WeeklyClosure

WEEKS_BEYOND = 4
"""Whole weeks that the clock is told beyond the week of the last expiry."""

MOST_WEEKS = 156
"""Weeks from the quote time that the clock tells at most; further out, where a weekend more or
less is a thousandth of the time, it runs as plain years."""

_Part = TypeVar("_Part", WeeklyClosure, Closure, Event)


class VarianceKnot(NamedTuple):
    """A point at which the clock changes its speed; both in years from the quote time."""

    years: float
    variance_time: float


class VarianceTimes(NamedTuple):
    """What a clock says from one quote time on.

    ``variance_time``: that of each expiry, in years. ``knots``: where the clock turns, in order;
    variance time is piecewise linear through (0, 0), the knots and, on these lines, the expiries,
    and has slope 1 beyond the last knot.
    """

    variance_time: Floats
    knots: tuple[VarianceKnot, ...]


@dataclass(frozen=True)
class VarianceClock:
    """Variance time τ: how much price movement the market expects from the quote time to t.

    An open instant runs at speed g, a closed one at g·weight, where the smallest weight counts
    where closures overlap; an event adds g·extra_days/365 over its length. g is such that the
    mean speed over a week without holidays and events is exactly 1: g = 1/mean weight of the
    weekly closures. So τ comes back to plain years after every whole week, vols by the clock
    (√(w/τ)) stay comparable with those by the calendar (√(w/t)), a holiday takes variance away,
    and an event adds what that many open days have. Interpolation itself does not see g: it uses
    quotients of differences of τ only.

    τ is 0 at the quote time and strictly increasing. It is told for whole weeks from the quote
    time, to WEEKS_BEYOND after the last expiry but to no more than MOST_WEEKS, and has slope 1
    from there on; holidays and events that lie further out are not counted.
    Without closures and events it is plain years, to the bit.

    Daily and weekly options on BTC and ETH of January to April 2026 are priced as if Saturday
    06:00 to Sunday 18:00 UTC counted 0.4, or whole Saturdays and Sundays 0.4 to 0.45: see
    tests/benchmarks/test_variance_time_benchmark.py.
    """

    weekly: tuple[WeeklyClosure, ...] = ()
    closures: tuple[Closure, ...] = ()
    events: tuple[Event, ...] = ()

    def __post_init__(self) -> None:
        for name, kind in _PARTS.items():
            parts = getattr(self, name)
            if not (isinstance(parts, Sequence) and all(isinstance(one, kind) for one in parts)):
                raise InvalidRequest(f"{name} is {parts!r}, must be a tuple of {kind.__name__}")
            object.__setattr__(self, name, tuple(parts))

    @classmethod
    def weekends(cls, weight: float) -> VarianceClock:
        """The clock on which Saturdays and Sundays, in UTC, count ``weight`` of another day."""
        return cls(weekly=(WeeklyClosure("Saturday 00:00", "Monday 00:00", weight),))

    @classmethod
    def from_table(cls, table: object) -> VarianceClock:
        """A clock from plain values, as a settings file holds them.

        ``weekly``, ``closures`` and ``events``, each absent or a list of tables with the fields of
        WeeklyClosure, Closure or Event. Raises InvalidRequest, naming what cannot be used.
        """
        if not isinstance(table, Mapping):
            raise InvalidRequest(
                f"a clock is a table of weekly, closures and events, not {table!r}"
            )
        _known_names("a clock", set(table), set(_PARTS), set())
        return cls(
            weekly=_parts("weekly", WeeklyClosure, table),
            closures=_parts("closures", Closure, table),
            events=_parts("events", Event, table),
        )

    def times(self, quote_time: np.datetime64, expiries: Instants) -> VarianceTimes:
        """The variance time of each expiry (n,), in any order, and the knots of the clock.

        Expiries at or before the quote time have their plain years, which are not positive.
        """
        start = micros_of(quote_time)
        instants = np.asarray(expiries, "datetime64[us]").astype(np.int64)
        weeks = -(-(int(instants.max(initial=start)) - start) // WEEK) + WEEKS_BEYOND
        turns, speed = self._turns(start, start + WEEK * min(weeks, MOST_WEEKS))
        told = np.append(0.0, np.cumsum(speed[:-1] * np.diff(turns)))
        place = np.maximum(np.searchsorted(turns, instants, side="right") - 1, 0)
        micros = told[place] + speed[place] * (instants - turns[place])
        variance_time = np.where(instants > start, micros, instants - start) / MICROSECONDS_PER_YEAR
        years = (turns - start) / MICROSECONDS_PER_YEAR
        knots = zip(years.tolist(), (told / MICROSECONDS_PER_YEAR).tolist(), strict=True)
        return VarianceTimes(variance_time, tuple(map(VarianceKnot._make, knots))[1:])

    def _turns(self, start: int, end: int) -> tuple[Ints, Floats]:
        """Where the speed changes, from ``start`` to ``end``, and the speed from there on."""
        closures = [one for one in self._closures if one[0] < end and one[1] > start]
        events = [one for one in self._events if one[0] < end and one[1] > start]
        edges = [edge for one in (*closures, *events) for edge in one[:2]]
        weekly = [one.edges(start, end) for one in self.weekly]
        turns = np.unique(np.concatenate([np.array([start, end, *edges], np.int64), *weekly]))
        turns = turns[(turns >= start) & (turns <= end)]
        weight = self._weekly_weight(turns)
        for begin, finish, reduced in closures:
            within = slice(*np.searchsorted(turns, (begin, finish)))
            weight[within] = np.minimum(weight[within], reduced)
        speed = self._open_speed * weight
        for begin, finish, days in events:
            within = slice(*np.searchsorted(turns, (begin, finish)))
            speed[within] += self._open_speed * days * DAY / (finish - begin)
        speed[-1] = 1.0
        changes = np.append(True, speed[1:] != speed[:-1])
        return turns[changes], speed[changes]

    def _weekly_weight(self, micros: Ints) -> Floats:
        weight = np.ones(len(micros))
        for one in self.weekly:
            weight = np.where(one.holds(micros), np.minimum(weight, one.weight), weight)
        return weight

    @cached_property
    def _open_speed(self) -> float:
        """g: one over the mean weight of a week."""
        edges = [one.edges(0, WEEK) for one in self.weekly]
        turns = np.unique(np.concatenate([np.array([0, WEEK]), *edges]))
        turns = turns[(turns >= 0) & (turns <= WEEK)]
        weight = self._weekly_weight(turns[:-1])
        return WEEK / float(weight @ np.diff(turns))

    @cached_property
    def _closures(self) -> tuple[tuple[int, int, float], ...]:
        return tuple((micros_of(c.start), micros_of(c.end), c.weight) for c in self.closures)

    @cached_property
    def _events(self) -> tuple[tuple[int, int, float], ...]:
        return tuple((micros_of(e.start), micros_of(e.until), e.extra_days) for e in self.events)


_PARTS: dict[str, type[WeeklyClosure] | type[Closure] | type[Event]] = {
    "weekly": WeeklyClosure,
    "closures": Closure,
    "events": Event,
}


def _parts(name: str, kind: type[_Part], table: Mapping[str, Any]) -> tuple[_Part, ...]:
    rows = table.get(name, ())
    if not isinstance(rows, (list, tuple)) or not all(isinstance(row, Mapping) for row in rows):
        raise InvalidRequest(f"{name} is {rows!r}, must be a list of tables")
    known = {field.name: field.default is MISSING for field in fields(kind)}
    needed = {field for field, required in known.items() if required}
    made = []
    for row in rows:
        _known_names(f"an entry of {name}", set(row), set(known), needed)
        made.append(kind(**row))
    return tuple(made)


def _known_names(what: str, given: set[str], known: set[str], needed: set[str]) -> None:
    for name in sorted(given - known):
        raise InvalidRequest(f"{what} has no {name!r}; it has {', '.join(sorted(known))}")
    for name in sorted(needed - given):
        raise InvalidRequest(
            f"{what} needs {name!r}; given were {', '.join(sorted(given)) or 'none'}"
        )
