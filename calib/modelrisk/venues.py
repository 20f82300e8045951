"""Venues of one underlying side by side: which of them goes wrong, and when it is heard again.

A venue is held against the others and, where one word stands against another, against the last good
surface. What looks wrong is left out of that fit at once, as a suspicion; it is left out for good,
with an alarm, when the others have sent newer quotes and it still looks wrong: so a market that
jumps at one venue first raises no alarm. The way back takes a probation, with a limit of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, nan
from typing import NamedTuple

import numpy as np

from calib.conventions import NO_INSTANT, Floats, iso, micros_of
from calib.market.groups import group_quantiles
from calib.market.slices import QuoteKind, Slices
from calib.modelrisk.alarms import Alarm
from calib.modelrisk.innovations import predict
from calib.modelrisk.plain_values import Value, plain_values
from calib.quotes.agreement import agreeing, mean_of
from calib.quotes.chain import Chain
from calib.quotes.reasons import Reason
from calib.surface.surface import Surface

_INTERRUPTIONS = (Reason.VENUE_SILENT, Reason.VENUE_INCOMPLETE)
_LEAST_QUOTES = 3
_SECOND = np.timedelta64(1, "s")


@dataclass(frozen=True)
class VenueSettings:
    """When a venue is left out of fits, and when it comes back.

    ``silent_seconds`` without any message, by the server's clock. ``behind_seconds``: its newest
    quote, tick or heartbeat behind that of the newest venue (or, where its clock is further from
    the server's than the other's, ahead of it). ``stuck_seconds``: since a price of it last
    changed, counted to the last such change elsewhere. ``forward``: ln of its forward over what the
    other venues say, the median over expiries. ``apart`` and ``apart_vol``: its mids against the
    others' in half-spreads and as a vol, medians over its quotes, of which both have to be beyond
    their limits: narrow spreads cross easily, and wide ones hide much.
    ``release``: the share of a limit that a reading has to fall below before it counts as good.
    ``probation``: so many good looks in a row, each with newer quotes of the venue, over at least
    ``probation_seconds``.
    """

    silent_seconds: float = 120.0
    behind_seconds: float = 60.0
    stuck_seconds: float = 300.0
    forward: float = 0.005
    apart: float = 3.0
    apart_vol: float = 0.01
    release: float = 0.5
    probation: int = 3
    probation_seconds: float = 30.0


@dataclass(frozen=True)
class VenueReading:
    """What is known of one venue at one look.

    ``latest``, ``alive`` and ``moved``: quote times of its newest row, of its newest sign of life
    and of its last change of a price or new option, NaT where there was none. ``age_seconds`` of
    the newest sign of life behind that of the newest venue; ``still_seconds``: how long its prices
    have stood while others moved. ``quotes``: its rows that the last fit used. ``basis``: ln of its
    forward over the venues' that agree, the median over expiries. ``gap`` (a vol) and
    ``gap_half_spreads``: its mids less the agreeing venues', the medians over its quotes.
    ``offset_seconds``: the server's clock less the venue's (`calib.service.arrivals`);
    ``silent_seconds`` since its last message. ``missed``, ``repeated`` and ``restarts`` of its
    count of messages.
    nan is what is not known: a venue alone has neither basis nor gap.
    """

    latest: np.datetime64 = NO_INSTANT
    alive: np.datetime64 = NO_INSTANT
    moved: np.datetime64 = NO_INSTANT
    age_seconds: float = nan
    still_seconds: float = nan
    quotes: int = 0
    basis: float = nan
    gap: float = nan
    gap_half_spreads: float = nan
    offset_seconds: float = nan
    silent_seconds: float = nan
    missed: int = 0
    repeated: int = 0
    restarts: int = 0


class VenueFault(NamedTuple):
    """What looks wrong: ``value`` is beyond ``limit``."""

    reason: Reason
    value: float
    limit: float


@dataclass(frozen=True)
class VenueState:
    """How one venue stands.

    ``fault``: what it is left out for, None where it takes part; seen ``since`` then, and as yet a
    suspicion unless ``confirmed``. ``good`` counts the looks of the running probation, which began
    at ``probing_since``; ``looked_at``: its newest quote at the last of them. ``before``: how it
    stood, left out for good, when it was interrupted.
    """

    venue: str
    reading: VenueReading = field(default_factory=VenueReading)
    fault: VenueFault | None = None
    since: np.datetime64 = NO_INSTANT
    confirmed: bool = False
    good: int = 0
    probing_since: np.datetime64 = NO_INSTANT
    looked_at: np.datetime64 = NO_INSTANT
    before: VenueState | None = None

    @property
    def left_out(self) -> Reason | None:
        """Why it has no part in fits."""
        return None if self.fault is None else self.fault.reason

    @property
    def cause(self) -> str:
        """Why, in a sentence; empty where it takes part."""
        if self.fault is None:
            return ""
        reason, value, limit = self.fault
        return f"{self.venue}: {reason.text} ({value:.3g}, limit {limit:.3g})"

    def values(self) -> dict[str, Value]:
        """The numbers as plain values; instants as ISO 8601 text."""
        left_out = None if self.fault is None else self.fault.reason.name
        told: dict[str, Value] = {"venue": self.venue, "left_out": left_out, "cause": self.cause}
        since = None if np.isnat(self.since) else iso(self.since)
        told |= {"left_out_since": since, "confirmed": self.confirmed, "good": self.good}
        return told | plain_values(self.reading)


class Screened(NamedTuple):
    """A chain in which rows of venues that are left out are marked, and how all venues stand."""

    chain: Chain
    states: Mapping[str, VenueState]
    alarms: tuple[Alarm, ...]


def timed(
    readings: Mapping[str, VenueReading], now: np.datetime64, settings: VenueSettings
) -> tuple[dict[str, VenueReading], dict[str, VenueFault]]:
    """The readings with their ages against each other, and which venues' times are out of step.

    ``now`` is the server's clock: where one venue is far ahead of the others, it says which.
    """
    known = {name: one for name, one in readings.items() if not np.isnat(one.alive)}
    order = sorted(known, key=lambda name: known[name].alive, reverse=True)
    faults: dict[str, VenueFault] = {}
    limit = settings.behind_seconds
    while len(order) > 1:
        first, second = (known[name].alive for name in order[:2])
        lead = _seconds(first - second)
        if lead <= limit or abs(first - now) <= abs(second - now):
            break
        faults[order.pop(0)] = VenueFault(Reason.VENUE_AHEAD, lead, limit)
    if not order:
        return dict(readings), faults
    newest = known[order[0]].alive
    after = dict(readings)
    for name, one in known.items():
        moves = [known[other].moved for other in order if other != name]
        last = max((at for at in moves if not np.isnat(at)), default=NO_INSTANT)
        age = _seconds(newest - one.alive)
        still = max(_seconds(last - one.moved), 0.0)
        after[name] = replace(one, age_seconds=age, still_seconds=still)
        if name in faults:
            continue
        if age > limit:
            faults[name] = VenueFault(Reason.VENUE_BEHIND, age, limit)
        elif still > settings.stuck_seconds:
            faults[name] = VenueFault(Reason.VENUE_STUCK, still, settings.stuck_seconds)
    return after, faults


def screened(
    chain: Chain,
    slices: Slices,
    previous: Surface | None,
    readings: Mapping[str, VenueReading],
    faults: Mapping[str, VenueFault],
    states: Mapping[str, VenueState],
    settings: VenueSettings,
) -> Screened:
    """Hold the venues of a chain against each other, and mark the rows of those left out.

    ``slices``: of the chain; ``previous``: the last good surface; ``readings`` and ``faults``: as
    `timed` has them; ``states``: those of the last look, of venues that are gone included.
    """
    known = {name: states.get(name, VenueState(name)) for name in readings}
    voters = [name for name, one in known.items() if not one.confirmed and name not in faults]
    after, apart = compared(slices, previous, readings, voters, settings)
    found = {**apart, **faults}
    settled: dict[str, VenueState] = {}
    alarms: list[Alarm] = []
    for name, state in known.items():
        others = [after[other].latest for other in voters if other != name]
        witnessed = max((at for at in others if not np.isnat(at)), default=NO_INSTANT)
        now = chain.quote_time
        settled[name] = one = step(
            state, after[name], found.get(name), settings, now=now, witnessed=witnessed
        )
        if one.confirmed and not state.confirmed:
            alarms.append(alarm_of(chain.underlying, now, one))
    return Screened(_marked(chain, settled), settled, tuple(alarms))


def compared(
    slices: Slices,
    previous: Surface | None,
    readings: Mapping[str, VenueReading],
    voters: Sequence[str],
    settings: VenueSettings,
) -> tuple[dict[str, VenueReading], dict[str, VenueFault]]:
    """The readings with basis and gap, and which venues lie away from the others."""
    forwards, gaps, scaled = _against(slices, previous)
    decided = previous is not None or len(voters) > 2  # else one word stands against another
    basis = mean_of(forwards, agreeing(forwards, settings.forward, voters))
    borne_out = agreeing(scaled, settings.apart, voters)
    level, height = mean_of(gaps, borne_out), mean_of(scaled, borne_out)
    if len(readings) < 2:
        basis = level = height = nan
    after: dict[str, VenueReading] = {}
    faults: dict[str, VenueFault] = {}
    for name, one in readings.items():
        away = forwards.get(name, nan) - basis
        apart = scaled.get(name, nan) - height
        gap = gaps.get(name, nan) - level
        after[name] = replace(one, basis=away, gap=gap, gap_half_spreads=apart)
        if not decided:
            continue
        if _distance(apart, gap, settings) > 1.0:
            faults[name] = VenueFault(Reason.VENUE_APART, apart, settings.apart)
        if abs(away) > settings.forward:  # what is wrong with a forward is wrong with its vols
            faults[name] = VenueFault(Reason.VENUE_FORWARD, away, settings.forward)
    return after, faults


def step(
    state: VenueState,
    reading: VenueReading,
    fault: VenueFault | None,
    settings: VenueSettings,
    *,
    now: np.datetime64,
    witnessed: np.datetime64,
) -> VenueState:
    """How a venue stands after one more look.

    ``witnessed``: the newest quote of the venues that it is held against, NaT where there are none.
    No look ends an interruption.
    """
    if state.left_out in _INTERRUPTIONS:
        return replace(state, reading=reading)
    fresh = not reading.latest <= state.looked_at  # NaT compares as false
    seen = replace(state, reading=reading, looked_at=reading.latest)
    if fault is not None:
        if state.fault is None:
            return replace(seen, fault=fault, since=now, good=0)
        confirmed = state.confirmed or bool(witnessed > state.since)
        return replace(seen, fault=fault, confirmed=confirmed, good=0, probing_since=NO_INSTANT)
    if not state.confirmed:
        return VenueState(state.venue, reading, looked_at=reading.latest)
    if not _good(reading, state.left_out, settings, alone=bool(np.isnat(witnessed))):
        return replace(seen, good=0, probing_since=NO_INSTANT)
    if not fresh:
        return seen
    began = now if np.isnat(state.probing_since) else state.probing_since
    if state.good + 1 < settings.probation or _seconds(now - began) < settings.probation_seconds:
        return replace(seen, good=state.good + 1, probing_since=began)
    return VenueState(state.venue, reading, looked_at=reading.latest)


def interrupted(state: VenueState, fault: VenueFault, now: np.datetime64) -> VenueState:
    """A venue of which nothing, or not all, was heard; no other has to bear that out."""
    before = state if state.confirmed else None
    return VenueState(state.venue, state.reading, fault, now, confirmed=True, before=before)


def resumed(state: VenueState) -> VenueState:
    """A venue after its interruption: it takes part, unless it was left out for good before, for
    which it serves its probation anew."""
    if state.before is None:
        return VenueState(state.venue, state.reading)
    return replace(state.before, reading=state.reading, good=0, probing_since=NO_INSTANT)


def alarm_of(underlying: str, at: np.datetime64, state: VenueState) -> Alarm:
    """The alarm of a venue that is left out."""
    assert state.fault is not None, "a venue that takes part alarms nobody"
    reason, value, limit = state.fault
    return Alarm(
        underlying, at, None, None, "venue", reason.name.lower(), state.cause, value, limit
    )


def _against(
    slices: Slices, previous: Surface | None
) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """By venue: ln of its forward over the last surface's (over the mean of all where there is
    none), and its mids less what that surface says, as a vol and in half-spreads; medians."""
    quotes, size = slices.chain.quotes, len(slices.expiry)
    venue, names = quotes.venue.codes.astype(np.int64), quotes.venue.names
    before = slices.forward
    gap = np.full(len(quotes), nan)
    if previous is not None:
        known = {micros_of(one.expiry): one.forward for one in previous.expiries}
        moments = slices.expiry.astype(np.int64).tolist()
        before = np.array([known.get(moment, nan) for moment in moments])
        gap = slices.mid_vol - predict(previous, slices).vol
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        moved = np.log(quotes.strike / np.append(before, nan)[slices.slice_index])
        moved -= slices.log_moneyness
    # One number an expiry, so that those with many strikes do not decide alone.
    rows = np.flatnonzero((slices.slice_index >= 0) & (venue >= 0) & np.isfinite(moved))
    place = venue[rows] * size + slices.slice_index[rows]
    (by_expiry,) = group_quantiles(moved[rows], place, len(names) * size, 0.5)
    told = np.flatnonzero(np.isfinite(by_expiry))
    (forwards,) = group_quantiles(by_expiry[told], told // size, len(names), 0.5)
    rows = np.flatnonzero((slices.kind == QuoteKind.TWO_SIDED) & np.isfinite(gap))
    few = np.bincount(venue[rows], minlength=len(names)) < _LEAST_QUOTES
    (gaps,) = group_quantiles(gap[rows], venue[rows], len(names), 0.5)
    (scaled,) = group_quantiles(gap[rows] / slices.noise[rows], venue[rows], len(names), 0.5)

    def named(values: Floats) -> dict[str, float]:
        return dict(zip(names, values.tolist(), strict=True))

    return named(forwards), named(np.where(few, nan, gaps)), named(np.where(few, nan, scaled))


def _good(
    reading: VenueReading, left_out: Reason | None, settings: VenueSettings, *, alone: bool
) -> bool:
    """Whether all that is known of a venue is well within its limits.

    What it was left out for has to be known, if others tell it: of a venue alone nothing is.
    """
    pairs = (
        (reading.age_seconds, settings.behind_seconds),
        (reading.still_seconds, settings.stuck_seconds),
        (reading.basis, settings.forward),
        (_distance(reading.gap_half_spreads, reading.gap, settings), 1.0),
    )
    told = {
        Reason.VENUE_FORWARD: reading.basis,
        Reason.VENUE_APART: reading.gap_half_spreads,
    }
    known = alone or left_out not in told or isfinite(told[left_out])
    return known and all(not abs(value) > settings.release * limit for value, limit in pairs)


def _distance(half_spreads: float, gap: float, settings: VenueSettings) -> float:
    """How far mids lie from the others', 1 at the limit."""
    return min(abs(half_spreads) / settings.apart, abs(gap) / settings.apart_vol)


def _marked(chain: Chain, states: Mapping[str, VenueState]) -> Chain:
    """The chain with the usable rows of venues left out marked with the reason."""
    quotes, reason = chain.quotes, chain.quotes.reason
    for code, name in enumerate(quotes.venue.names):
        why = states[name].left_out if name in states else None
        if why is not None:
            reason = np.where(
                (quotes.venue.codes == code) & (reason == Reason.USABLE), np.int8(why), reason
            )
    if reason is quotes.reason:
        return chain
    return replace(chain, quotes=quotes.with_reason(reason))


def _seconds(span: np.timedelta64) -> float:
    """nan where either end is NaT."""
    return float(span / _SECOND)
