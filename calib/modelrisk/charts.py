"""Control charts: when a series of standardised innovations has left its course.

Both charts take independent x ~ N(0, 1) in control, so they belong on innovations, not on levels,
which are autocorrelated. A state is frozen and a step is pure. After a signal the caller starts
anew from the initial state, so that run lengths between signals are those stated here.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

RUN_LENGTHS = {"ewma": 500.0, "cusum": 465.0}
"""Average run lengths in control of the charts under their default settings, see there."""


@dataclass(frozen=True)
class EwmaSettings:
    """``weight`` λ of the newest value and width ``limit`` L of the limits.

    z ← λx + (1 − λ)z; the limits are ±L√(λ/(2 − λ)·(1 − (1 − λ)^{2t})) after t values, or without
    the last factor where they are not ``time_varying``. With λ = .1 and L = 2.814 the average run
    length in control is 500 from fixed limits, and 10.3 after a shift of the mean by 1
    (Lucas & Saccucci, "Exponentially weighted moving average control schemes", Technometrics 32
    (1990), table 3; Montgomery, Introduction to Statistical Quality Control, §9.2).
    """

    weight: float = 0.1
    limit: float = 2.814
    time_varying: bool = False


@dataclass(frozen=True)
class EwmaState:
    """The average ``value`` z after ``count`` values."""

    value: float = 0.0
    count: int = 0


@dataclass(frozen=True)
class CusumSettings:
    """``slack`` k, ``limit`` h and ``headstart``, in standard deviations.

    C⁺ ← max(0, x − k + C⁺), C⁻ ← max(0, −x − k + C⁻), a signal where either exceeds h. With k = ½
    and h = 5 the two-sided average run length is 465 in control and 10.4 after a shift by 1 (Page,
    "Continuous inspection schemes", Biometrika 41 (1954); Montgomery §9.1, table 9.3). A headstart
    of h/2 finds what is wrong from the start sooner (Lucas & Crosier, Technometrics 24 (1982)).
    """

    slack: float = 0.5
    limit: float = 5.0
    headstart: float = 0.0


@dataclass(frozen=True)
class CusumState:
    """The sums ``up`` C⁺ and ``down`` C⁻."""

    up: float = 0.0
    down: float = 0.0


@dataclass(frozen=True)
class Reading:
    """Where a chart stands after a step: ``value`` against ±``limit``, and whether that is a
    signal."""

    value: float
    limit: float

    @property
    def signal(self) -> bool:
        """Whether the value lies beyond its limits."""
        return abs(self.value) > self.limit


def ewma_step(state: EwmaState, x: float, settings: EwmaSettings) -> tuple[EwmaState, Reading]:
    """The chart after one more value; a nan changes nothing."""
    weight = settings.weight
    if x != x:
        after = state
    else:
        after = EwmaState(weight * x + (1.0 - weight) * state.value, state.count + 1)
    variance = weight / (2.0 - weight)
    if settings.time_varying:
        variance *= 1.0 - (1.0 - weight) ** (2 * after.count)
    return after, Reading(after.value, settings.limit * sqrt(variance))


def cusum_start(settings: CusumSettings) -> CusumState:
    """Both sums at the headstart."""
    return CusumState(settings.headstart, settings.headstart)


def cusum_step(state: CusumState, x: float, settings: CusumSettings) -> tuple[CusumState, Reading]:
    """The chart after one more value; the reading is the larger sum, with the sign of its side. A
    nan changes nothing."""
    after = state
    if x == x:
        after = CusumState(
            max(0.0, x - settings.slack + state.up), max(0.0, -x - settings.slack + state.down)
        )
    value = after.up if after.up >= after.down else -after.down
    return after, Reading(value, settings.limit)
