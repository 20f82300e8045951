"""Circuit breakers: how far a surface may be quoted from, graduated, and the way back.

NORMAL → WIDENED → HELD → HALTED. Evidence raises a level at once. It is lowered one at a time, and
only after a probation: the breaker is half open while fits are good, and each of them has to be
(Nygard, Release It!, 2nd ed. 2018, "Circuit Breaker"). Limits to trip and to let go are distinct,
so that a reading that trembles about one of them does not make the level tremble.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from math import inf, isfinite

import numpy as np

from calib.conventions import NO_INSTANT, iso
from calib.errors import InvalidRequest


class BreakerLevel(IntEnum):
    """How far a surface may be trusted.

    NORMAL: as published. WIDENED: with larger error bars and a larger least half-spread.
    HELD: the last good surface stands, marked with its age. HALTED: do not quote.
    """

    NORMAL = 0
    WIDENED = 1
    HELD = 2
    HALTED = 3


class Trigger(StrEnum):
    """What a breaker looks at, each in a unit of its own in which larger is worse.

    FIT_FAILURE: failed fits in a row. RESIDUALS: √χ²_red, in half-spreads. INNOVATION: the level's
    one-step error in its own standard deviations. FORWARD_JUMP: the forward's move, or its basis to
    parity, likewise. STARVATION: usual number of quotes over that at hand. STALE_FEED: age of the
    quotes over its limit. MODELS_DISAGREE: range of vols between models over what the quotes leave
    open. ALARM: charts that signal. EXPIRIES: share of an underlying's expiries that are held or
    halted.
    """

    FIT_FAILURE = "fit failure"
    RESIDUALS = "residuals"
    INNOVATION = "innovation"
    FORWARD_JUMP = "forward jump"
    STARVATION = "quote starvation"
    STALE_FEED = "stale feed"
    MODELS_DISAGREE = "models disagree"
    ALARM = "alarm"
    EXPIRIES = "expiries held"


@dataclass(frozen=True)
class Limits:
    """From which reading on a trigger asks for each level; inf: never."""

    widened: float = inf
    held: float = inf
    halted: float = inf

    def level(self, value: float, ease: float = 1.0) -> BreakerLevel:
        """The highest level whose limit, times ``ease``, the value reaches; nan reaches none."""
        reached = BreakerLevel.NORMAL
        for level, limit in zip(_TRIPPED, (self.widened, self.held, self.halted), strict=True):
            if value >= ease * limit and isfinite(limit):
                reached = level
        return reached

    def of(self, level: BreakerLevel) -> float:
        """The limit of a level; that of the lowest for NORMAL."""
        return (self.widened, self.widened, self.held, self.halted)[level]

    @property
    def lowest(self) -> float:
        """The first limit there is."""
        return min(self.widened, self.held, self.halted)


_TRIPPED = (BreakerLevel.WIDENED, BreakerLevel.HELD, BreakerLevel.HALTED)


def _default_limits() -> Mapping[Trigger, Limits]:
    return {
        Trigger.FIT_FAILURE: Limits(held=1.0, halted=5.0),
        Trigger.RESIDUALS: Limits(widened=3.0, held=7.0),
        Trigger.INNOVATION: Limits(widened=4.0, held=10.0),
        Trigger.FORWARD_JUMP: Limits(widened=5.0, held=10.0, halted=100.0),
        Trigger.STARVATION: Limits(widened=1.8, held=4.0),
        Trigger.STALE_FEED: Limits(widened=1.0, held=2.0, halted=6.0),
        Trigger.MODELS_DISAGREE: Limits(widened=5.0, held=15.0),
        Trigger.ALARM: Limits(widened=1.0),
        Trigger.EXPIRIES: Limits(widened=0.25, held=0.5),
    }


@dataclass(frozen=True)
class BreakerSettings:
    """When a breaker trips and when it lets go.

    The defaults are measured on Deribit BTC and ETH, January, March and the first week of April
    2026, six hours between fits: in a week without stress at most a few of a dozen expiries are
    WIDENED for a day, mostly in their last days, and nothing is HALTED.

    ``limits`` by trigger. ``release``: the share of a limit that a reading has to fall below
    before it counts as good. ``probation``: good fits in a row that lower a level by one, over at
    least ``probation_seconds`` from the first of them. ``least_multiplier`` and
    ``greatest_multiplier`` bound what error bars are multiplied by above NORMAL.
    """

    limits: Mapping[Trigger, Limits] = field(default_factory=_default_limits)
    release: float = 0.8
    probation: int = 3
    probation_seconds: float = 30.0
    least_multiplier: float = 1.5
    greatest_multiplier: float = 10.0


@dataclass(frozen=True)
class Evidence:
    """What one step rests on: a ``readings`` value by trigger, nan or absent where nothing is
    known, and whether a fit (``fitted``) stands behind it: without one no probation is served."""

    readings: Mapping[Trigger, float]
    fitted: bool = True


@dataclass(frozen=True)
class Force:
    """A level that an operator set, until released or, if given, ``until`` then."""

    level: BreakerLevel
    actor: str
    reason: str
    at: np.datetime64
    until: np.datetime64 | None = None


@dataclass(frozen=True)
class BreakerState:
    """A breaker of one expiry, or of an underlying (``expiry`` None).

    ``tripped`` is what the evidence has come to and ``force`` what an operator says of it;
    ``level`` is what holds. ``good`` counts the fits of the running probation, which began at
    ``probing_since``. ``multiplier``: what error bars are to be multiplied by.
    """

    underlying: str
    expiry: np.datetime64 | None = None
    tripped: BreakerLevel = BreakerLevel.NORMAL
    since: np.datetime64 = NO_INSTANT
    good: int = 0
    probing_since: np.datetime64 = NO_INSTANT
    force: Force | None = None
    multiplier: float = 1.0
    cause: str = ""

    @property
    def level(self) -> BreakerLevel:
        """The level in force."""
        return self.force.level if self.force else self.tripped

    @property
    def probing(self) -> bool:
        """Whether the breaker is half open: above NORMAL, and its fits are good."""
        return self.tripped > BreakerLevel.NORMAL and self.good > 0


@dataclass(frozen=True)
class Transition:
    """A change of the level in force, or of an operator's hold on it.

    ``trigger`` with ``value`` and ``limit`` where evidence raised the level; ``actor`` where an
    operator acted. ``cause`` says it in a sentence.
    """

    underlying: str
    expiry: np.datetime64 | None
    at: np.datetime64
    before: BreakerLevel
    after: BreakerLevel
    cause: str
    trigger: Trigger | None = None
    value: float = float("nan")
    limit: float = float("nan")
    actor: str = ""

    def values(self) -> dict[str, float | int | str | bool | None]:
        """The fields as plain values."""
        return {
            "underlying": self.underlying,
            "expiry": None if self.expiry is None else iso(self.expiry),
            "at": iso(self.at),
            "before": self.before.name,
            "after": self.after.name,
            "cause": self.cause,
            "trigger": None if self.trigger is None else self.trigger.value,
            "value": self.value,
            "limit": self.limit,
            "actor": self.actor,
        }


def step(
    state: BreakerState, evidence: Evidence, settings: BreakerSettings, now: np.datetime64
) -> tuple[BreakerState, tuple[Transition, ...]]:
    """The breaker after one more piece of evidence."""
    transitions: list[Transition] = []
    if state.force and state.force.until is not None and now >= state.force.until:
        state, ended = _unforced(state, now, f"{state.force.actor}'s hold has ended", "")
        transitions += ended
    demanded = _asked(evidence, settings, 1.0)
    standing = _asked(evidence, settings, settings.release)
    before = state.level
    trigger: Trigger | None = None
    value = limit = float("nan")
    if demanded > state.tripped:
        trigger, value, limit = _foremost(evidence, settings, demanded)
        cause = f"{trigger} is {value:.3g}, at or beyond {limit:.3g}"
        state = replace(state, tripped=demanded, since=now, cause=cause)
        state = replace(state, good=0, probing_since=NO_INSTANT)
    elif state.tripped == BreakerLevel.NORMAL:
        state = replace(state, good=0, probing_since=NO_INSTANT)
        cause = ""
    elif standing >= state.tripped:
        state = replace(state, good=0, probing_since=NO_INSTANT)
        cause = state.cause
    else:
        state, cause = _probed(state, evidence.fitted, settings, now)
    multiplier = _multiplier(state.level, evidence, settings)
    if not evidence.fitted and state.level > BreakerLevel.NORMAL:
        # A look at the clock, or a failed fit, measures nothing that could make bars smaller.
        multiplier = max(multiplier, state.multiplier)
    state = replace(state, multiplier=multiplier)
    if state.level != before:
        transitions.append(
            Transition(
                state.underlying,
                state.expiry,
                now,
                before,
                state.level,
                cause,
                trigger,
                value,
                limit,
            )
        )
    return state, tuple(transitions)


def force(
    state: BreakerState,
    level: BreakerLevel,
    *,
    actor: str,
    reason: str,
    now: np.datetime64,
    until: np.datetime64 | None = None,
) -> tuple[BreakerState, tuple[Transition, ...]]:
    """Set a level by hand. Evidence goes on to be weighed underneath, and holds again once it is
    released. Raises InvalidRequest without an actor and a reason, and for an end that is past."""
    _signed(actor, reason)
    if until is not None and until <= now:
        raise InvalidRequest(f"until {iso(until)} is not after {iso(now)}")
    after = replace(state, force=Force(level, actor, reason, now, until))
    after = replace(after, multiplier=max(state.multiplier, 1.0))
    cause = f"set to {level.name} by {actor}: {reason}"
    return after, (_by_hand(state, after, now, cause, actor),)


def release(
    state: BreakerState, *, actor: str, reason: str, now: np.datetime64
) -> tuple[BreakerState, tuple[Transition, ...]]:
    """Let the evidence hold again; nothing happens where nothing is forced.

    Raises InvalidRequest without an actor and a reason.
    """
    _signed(actor, reason)
    if state.force is None:
        return state, ()
    return _unforced(state, now, f"released by {actor}: {reason}", actor)


def _unforced(
    state: BreakerState, now: np.datetime64, cause: str, actor: str
) -> tuple[BreakerState, tuple[Transition, ...]]:
    after = replace(state, force=None)
    return after, (_by_hand(state, after, now, cause, actor),)


def _by_hand(
    before: BreakerState, after: BreakerState, now: np.datetime64, cause: str, actor: str
) -> Transition:
    return Transition(
        after.underlying, after.expiry, now, before.level, after.level, cause, actor=actor
    )


def _signed(actor: str, reason: str) -> None:
    if not (actor.strip() and reason.strip()):
        raise InvalidRequest("who acts on a breaker gives a name and a reason")


def _probed(
    state: BreakerState, fitted: bool, settings: BreakerSettings, now: np.datetime64
) -> tuple[BreakerState, str]:
    """One more good step of a probation, which may be its last."""
    if not fitted:
        return state, state.cause
    began = now if np.isnat(state.probing_since) else state.probing_since
    good = state.good + 1
    seconds = (now - began) / np.timedelta64(1, "s")
    if good < settings.probation or seconds < settings.probation_seconds:
        return replace(state, good=good, probing_since=began), state.cause
    lower = BreakerLevel(state.tripped - 1)
    cause = f"{good} good fits in a row"
    after = replace(state, tripped=lower, since=now, good=0, probing_since=NO_INSTANT)
    return replace(after, cause=cause if lower else ""), cause


def _asked(evidence: Evidence, settings: BreakerSettings, ease: float) -> BreakerLevel:
    levels = (
        limits.level(evidence.readings.get(trigger, float("nan")), ease)
        for trigger, limits in settings.limits.items()
    )
    return max(levels, default=BreakerLevel.NORMAL)


def _foremost(
    evidence: Evidence, settings: BreakerSettings, level: BreakerLevel
) -> tuple[Trigger, float, float]:
    """Of the triggers that ask for the level, the one furthest beyond its limit."""
    asking = [
        (trigger, evidence.readings[trigger], limits.of(level))
        for trigger, limits in settings.limits.items()
        if limits.level(evidence.readings.get(trigger, float("nan"))) == level
    ]
    return max(asking, key=lambda one: one[1] / one[2])


def _multiplier(level: BreakerLevel, evidence: Evidence, settings: BreakerSettings) -> float:
    """1 at NORMAL; above, the greatest reading over its first limit, within the bounds set."""
    if level == BreakerLevel.NORMAL:
        return 1.0
    ratios = [
        evidence.readings[trigger] / limits.lowest
        for trigger, limits in settings.limits.items()
        if evidence.readings.get(trigger, float("nan")) > 0.0 and isfinite(limits.lowest)
    ]
    most = max(ratios, default=1.0)
    return min(max(most, settings.least_multiplier), settings.greatest_multiplier)
