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
from math import inf, isfinite, nan

import numpy as np

from calib.conventions import NO_INSTANT, iso
from calib.errors import InvalidRequest
from calib.modelrisk.plain_values import Value, plain_values


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
    open. ALARM: charts that signal. EXPIRIES: share of an underlying's expiries, of those that ever
    had quotes, that evidence holds or halts; what an operator forces is no evidence.
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

    The defaults were chosen with Deribit BTC and ETH of January, March and the first week of April
    2026 in view, six hours between fits, so that these weeks show what the limits do and are no
    test of them: in a week without stress at most one in fifteen of its expiries' steps is not
    NORMAL, one expiry at most is HELD and none HALTED, while of BTC's last three days of January
    more than a quarter are not NORMAL. No other week has been held against them.

    ``limits`` by trigger. ``release``: the share of a limit that a reading has to fall below
    before it counts as good. ``probation``: good fits in a row that lower a level by one, over at
    least ``probation_seconds`` from the first of them. ``least_multiplier`` and
    ``greatest_multiplier`` bound what error bars are multiplied by above NORMAL; only a good fit
    makes it smaller.
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
    ``probing_since``. ``severity``: the greatest reading over its first limit, the worst since the
    last good fit; ``multiplier``, what error bars are to be multiplied by, follows from it and from
    the level in force.
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
    severity: float = 0.0

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
    """A change of the level in force, of what the evidence has come to under an operator's hold
    (``before`` and ``after`` are one then), or of the hold.

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
    value: float = nan
    limit: float = nan
    actor: str = ""

    def values(self) -> dict[str, Value]:
        """The fields as plain values."""
        return plain_values(self)


def step(
    state: BreakerState, evidence: Evidence, settings: BreakerSettings, now: np.datetime64
) -> tuple[BreakerState, tuple[Transition, ...]]:
    """The breaker after one more piece of evidence."""
    transitions: list[Transition] = []
    if state.force and state.force.until is not None and now >= state.force.until:
        ended = f"{state.force.actor}'s hold has ended"
        state, changed = _unforced(state, now, ended, "", settings)
        transitions += changed
    demanded = _asked(evidence, settings, 1.0)
    standing = _asked(evidence, settings, settings.release)
    before = state
    severity = _severity(evidence, settings)
    quiet = standing < state.tripped if state.tripped else not demanded
    good = evidence.fitted and quiet
    state = replace(state, severity=severity if good else max(severity, state.severity))
    trigger: Trigger | None = None
    value = limit = nan
    cause = state.cause
    if demanded > state.tripped:
        trigger, value, limit = _foremost(evidence, settings, demanded)
        cause = f"{trigger} is {value:.3g}, at or beyond {limit:.3g}"
        state = replace(
            state, tripped=demanded, since=now, cause=cause, good=0, probing_since=NO_INSTANT
        )
    elif state.tripped and quiet:
        state, cause = _probed(state, evidence.fitted, settings, now)
    else:
        state = replace(state, good=0, probing_since=NO_INSTANT)
    state = _weighed(state, settings)
    if (state.level, state.tripped) != (before.level, before.tripped):
        transitions.append(
            Transition(
                state.underlying,
                state.expiry,
                now,
                before.level,
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
    settings: BreakerSettings | None = None,
) -> tuple[BreakerState, tuple[Transition, ...]]:
    """Set a level by hand. Evidence goes on to be weighed underneath, and holds again once it is
    released. The multiplier is that of the level at once, within the bounds of ``settings``.

    Raises InvalidRequest without an actor and a reason, and for an end that is past.
    """
    _signed(actor, reason)
    if until is not None and until <= now:
        raise InvalidRequest(f"until {iso(until)} is not after {iso(now)}")
    after = replace(state, force=Force(level, actor, reason, now, until))
    after = _weighed(after, settings or BreakerSettings())
    cause = f"set to {level.name} by {actor}: {reason}"
    return after, (_by_hand(state, after, now, cause, actor),)


def release(
    state: BreakerState,
    *,
    actor: str,
    reason: str,
    now: np.datetime64,
    settings: BreakerSettings | None = None,
) -> tuple[BreakerState, tuple[Transition, ...]]:
    """Let the evidence hold again; nothing happens where nothing is forced.

    Raises InvalidRequest without an actor and a reason.
    """
    _signed(actor, reason)
    if state.force is None:
        return state, ()
    cause = f"released by {actor}: {reason}"
    return _unforced(state, now, cause, actor, settings or BreakerSettings())


def _unforced(
    state: BreakerState, now: np.datetime64, cause: str, actor: str, settings: BreakerSettings
) -> tuple[BreakerState, tuple[Transition, ...]]:
    after = _weighed(replace(state, force=None), settings)
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
        limits.level(evidence.readings.get(trigger, nan), ease)
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
        if limits.level(evidence.readings.get(trigger, nan)) == level
    ]
    return max(asking, key=lambda one: one[1] / one[2])


def _severity(evidence: Evidence, settings: BreakerSettings) -> float:
    """The greatest reading over its first limit."""
    ratios = [
        evidence.readings[trigger] / limits.lowest
        for trigger, limits in settings.limits.items()
        if evidence.readings.get(trigger, nan) > 0.0 and isfinite(limits.lowest)
    ]
    return max(ratios, default=0.0)


def _weighed(state: BreakerState, settings: BreakerSettings) -> BreakerState:
    """With the multiplier of the level in force: 1 at NORMAL; above, the severity in bounds."""
    if state.level == BreakerLevel.NORMAL:
        return replace(state, multiplier=1.0)
    most = min(max(state.severity, settings.least_multiplier), settings.greatest_multiplier)
    return replace(state, multiplier=most)
