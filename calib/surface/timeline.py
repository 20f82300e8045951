"""Where an instant falls among the fitted expiries: the part of the published rule about time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import exp, inf, log, nan
from typing import Any, NamedTuple

import numpy as np

from calib.conventions import Floats
from calib.errors import NotFitted


class Location(NamedTuple):
    """How what is known at the expiries makes up an instant; numbers, or arrays of one shape.

    Total variance there is
    ``lower_weight * w_lower(k) + upper_weight * w_upper(k) + last_weight * w_last(0)``.
    ``fraction`` is the way gone from ``lower`` to ``upper`` in variance time; exactly at an expiry,
    and outside all of them, both are that expiry and ``fraction`` is 0.
    """

    years: Any
    lower: Any
    upper: Any
    fraction: Any
    lower_weight: Any
    upper_weight: Any
    last_weight: Any
    forward: Any
    discount_factor: Any
    beyond: Any
    """True before the first and after the last expiry."""


_LARGEST_EXPONENT = 709.0

_NOWHERE = Location(nan, 0, 0, nan, nan, 0.0, 0.0, nan, nan, True)


@dataclass(frozen=True)
class Timeline:
    """The expiries of a surface in time: years t, variance time τ, forward F, discount factor D.

    τ(t) is piecewise linear through (0, 0), the (T_i, τ_i) and ``knots``, the turns (t, τ) of the
    clock in order of time; beyond the last of these points it has slope 1.
    ``coupled`` is False where the expiries are different assets: then nothing lies between them.
    """

    years: tuple[float, ...]
    variance_time: tuple[float, ...]
    forward: tuple[float, ...]
    discount_factor: tuple[float, ...]
    spot: float | None
    coupled: bool
    labels: tuple[str, ...]
    """The expiries as people read them, for messages."""
    knots: tuple[tuple[float, float], ...] = ()

    def locate(self, t: float) -> Location:
        """Where t years from the quote time falls; nan everywhere unless t is finite and ≥ 0.

        ln F is linear in t between expiries; before the first it starts from ln spot at 0 where
        spot is known, else F is flat; beyond the last it goes on at the mean rate
        (ln F_N − ln spot)/T_N, else it is flat. ln D is linear in t through (0, 0), and beyond the
        last goes on at the mean rate ln D_N/T_N.
        What grows out of the range of doubles on the way is nan.
        Raises NotFitted where there is no expiry, or none at t and the expiries are not coupled.
        """
        years = self.years
        self._need_expiries()
        if not 0.0 <= t < inf:
            return _NOWHERE
        after = bisect_left(years, t)
        if after < len(years) and years[after] == t:
            return self._at(after)
        if not self.coupled:
            raise NotFitted(self._no_such_expiry(t, after))
        if after == 0:
            return self._before_first(t)
        if after == len(years):
            return self._beyond_last(t)
        return self._between(t, after - 1, after)

    def locate_all(self, t: Floats) -> Location:
        """`locate` for every element of an array; the fields are arrays of its shape."""
        self._need_expiries()
        unique, inverse = np.unique(t, return_inverse=True)
        columns: Iterable[tuple[Any, ...]] = zip(
            *(self.locate(one) for one in unique.tolist()), strict=True
        )
        inverse = inverse.reshape(t.shape)
        found = [np.array(column)[inverse] for column in columns]
        return Location(*found) if found else Location(*_empty(t.shape))

    def _need_expiries(self) -> None:
        if not self.years:
            raise NotFitted("the surface has no fitted expiry")

    def _at(self, i: int) -> Location:
        forward, discount_factor = self.forward[i], self.discount_factor[i]
        return Location(
            self.years[i], i, i, 0.0, 1.0, 0.0, 0.0, forward, discount_factor, beyond=False
        )

    def _before_first(self, t: float) -> Location:
        share = t / self.years[0]
        way = share
        if self.knots:
            way = min(self._elapsed(0.0, t) / self.variance_time[0], 1.0)
        first = self.forward[0]
        forward = first if self.spot is None else _along(self.spot, first, share)
        discount_factor = _along(1.0, self.discount_factor[0], share)
        return Location(t, 0, 0, 0.0, way, 0.0, 0.0, forward, discount_factor, beyond=True)

    def _between(self, t: float, i: int, j: int) -> Location:
        share = (t - self.years[i]) / (self.years[j] - self.years[i])
        way = share  # without knots variance time is linear in t from one expiry to the next
        if self.knots:
            start, end = self.variance_time[i], self.variance_time[j]
            way = min(self._elapsed(start, t) / (end - start), 1.0)
        forward = _along(self.forward[i], self.forward[j], share)
        discount_factor = _along(self.discount_factor[i], self.discount_factor[j], share)
        return Location(t, i, j, way, 1.0 - way, way, 0.0, forward, discount_factor, beyond=False)

    def _beyond_last(self, t: float) -> Location:
        last = len(self.years) - 1
        share = t / self.years[last]
        elapsed = t - self.years[last]
        if self.knots:
            elapsed = self._elapsed(self.variance_time[last], t)
        forward = self.forward[last]
        if self.spot is not None:
            forward = _along(self.spot, forward, share)
        return Location(
            years=t,
            lower=last,
            upper=last,
            fraction=0.0,
            lower_weight=1.0,
            upper_weight=0.0,
            last_weight=elapsed / self.variance_time[last],
            forward=forward,
            discount_factor=_along(1.0, self.discount_factor[last], share),
            beyond=True,
        )

    @cached_property
    def _clock(self) -> tuple[list[float], list[float]]:
        """Years and variance time of all points in order, (0, 0) the first of them."""
        expiries = zip(self.years, self.variance_time, strict=True)
        points = sorted({(0.0, 0.0), *expiries, *((t, tau) for t, tau in self.knots)})
        return [t for t, _ in points], [tau for _, tau in points]

    def _elapsed(self, start: float, t: float) -> float:
        """τ(t) − ``start``, a variance time no later; by the nearest point, so that nothing is
        lost where the difference is small."""
        years, variance_time = self._clock
        after = bisect_right(years, t)
        behind, tau = t - years[after - 1], variance_time[after - 1]
        if after < len(years):
            share = behind / (years[after] - years[after - 1])
            behind = share * (variance_time[after] - tau)
        return (tau - start) + behind

    def _no_such_expiry(self, t: float, after: int) -> str:
        nearest = range(max(after - 1, 0), min(after + 1, len(self.years)))
        named = " and ".join(f"{self.labels[i]} ({self.years[i]!r} years)" for i in nearest)
        return (
            f"no expiry at {t!r} years from the quote time, and the expiries of this underlying "
            f"are different assets, with nothing between them; nearest: {named}"
        )


def _along(start: float, end: float, share: float) -> float:
    """start·(end/start)^share, linear in the logarithm; nan where that is no positive double."""
    growth = share * log(end / start)
    value = start * exp(growth) if abs(growth) < _LARGEST_EXPONENT else nan
    return value if 0.0 < value < inf else nan


def _empty(shape: tuple[int, ...]) -> list[Any]:
    index, number, flag = (np.empty(shape, kind) for kind in (np.int64, np.float64, np.bool_))
    return [number, index, index, *[number] * 6, flag]
