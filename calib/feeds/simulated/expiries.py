"""The expiries that a venue lists, how they roll off and what takes their place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import count as counting
from itertools import islice
from typing import Literal

import numpy as np

from calib.conventions import Instants, to_datetime

_FRIDAY = 4
_MONTHLIES = 3
_QUARTER_MONTHS = (3, 6, 9, 12)


@dataclass(frozen=True)
class ExpiryRule:
    """Dailies, Friday weeklies, monthlies and quarterlies of one venue.

    ``settle`` and ``monthly_settle`` are times of day in UTC, counted from midnight (daylight
    saving is left out); where they differ, two expiries can share a date. ``monthly`` says which
    Friday ends a month. ``weekends`` says whether dailies settle on Saturdays and Sundays.
    """

    settle: timedelta
    monthly_settle: timedelta
    monthly: Literal["last_friday", "third_friday"]
    weekends: bool

    def is_monthly(self, expiry: np.datetime64) -> bool:
        """Whether ``expiry`` ends a month or a quarter."""
        day = to_datetime(expiry).date()
        month_end = _instant(self._month_end(day.year, day.month), self.monthly_settle)
        return bool(expiry == month_end)

    def _month_end(self, year: int, month: int) -> date:
        if self.monthly == "third_friday":
            first = date(year, month, 1)
            return first + timedelta(days=(_FRIDAY - first.weekday()) % 7 + 14)
        last = date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)
        return last - timedelta(days=(last.weekday() - _FRIDAY) % 7)

    def dailies(self, now: np.datetime64) -> Iterator[np.datetime64]:
        """Every daily expiry after ``now``, in order."""
        for day in _days(now):
            expiry = _instant(day, self.settle)
            if expiry > now and (self.weekends or day.weekday() <= _FRIDAY):
                yield expiry

    def weeklies(self, now: np.datetime64) -> Iterator[np.datetime64]:
        """Every Friday expiry after ``now``, in order."""
        for day in _days(now):
            expiry = _instant(day, self.settle)
            if expiry > now and day.weekday() == _FRIDAY:
                yield expiry

    def month_ends(
        self, now: np.datetime64, months: tuple[int, ...] = tuple(range(1, 13))
    ) -> Iterator[np.datetime64]:
        """Every monthly expiry after ``now`` that ends one of ``months``, in order."""
        today = to_datetime(now).date()
        for index in counting(12 * today.year + today.month - 1):
            year, month = divmod(index, 12)
            expiry = _instant(self._month_end(year, month + 1), self.monthly_settle)
            if expiry > now and month + 1 in months:
                yield expiry


def listed_expiries(
    rule: ExpiryRule, now: np.datetime64, count: int, listed: Instants | None = None
) -> Instants:
    """``count`` expiries after ``now``, ascending: those of ``listed`` that live, and new ones.

    A quarter of ``count`` are dailies, a third weeklies, then three monthlies, the rest
    quarterlies; dates that coincide make room for further ones. An expiry once listed stays
    until it expires, so that only what rolled off is replaced, the nearest kind first.
    """
    live = set() if listed is None else set(listed[listed > now])
    for expiry in _wanted(rule, now, count):
        if len(live) >= count:
            break
        live.add(expiry)
    return np.array(sorted(live), "datetime64[us]")


def _wanted(rule: ExpiryRule, now: np.datetime64, count: int) -> Iterator[np.datetime64]:
    yield from islice(rule.dailies(now), max(1, count // 4))
    yield from islice(rule.weeklies(now), max(1, count // 3))
    yield from islice(rule.month_ends(now), _MONTHLIES)
    yield from rule.month_ends(now, _QUARTER_MONTHS)


def _days(now: np.datetime64) -> Iterator[date]:
    today = to_datetime(now).date()
    for offset in counting():
        yield today + timedelta(days=offset)


def _instant(day: date, settle: timedelta) -> np.datetime64:
    return np.datetime64(day, "us") + np.timedelta64(settle)
