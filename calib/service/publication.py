"""Publication: which surface is in force, under which judgement, and what goes on record.

NORMAL and WIDENED put new fits in force; HELD and HALTED keep the last good one there, of the
underlying as a whole or, in a new surface, of one expiry. Nothing is published that is not
certified and judged.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median

import numpy as np
import structlog

from calib.conventions import micros_of
from calib.modelrisk.alarms import Alarm
from calib.modelrisk.breakers import Transition
from calib.modelrisk.forecasts import Forecast
from calib.modelrisk.holds import good_smiles
from calib.modelrisk.marks import Refusal
from calib.modelrisk.monitor import (
    Assessment,
    MonitorSettings,
    MonitorState,
    assess,
    with_errors_of,
)
from calib.service.board import Board, Notice
from calib.service.fit_thread import FitThread
from calib.service.hub import Hub
from calib.service.journal import Place
from calib.service.judge import Judged, Ready, made_ready, standing
from calib.service.market import InForce, Made, Market
from calib.service.meters import Meters
from calib.service.model_risk_messages import levels_of, risk_to_proto
from calib.service.venue_look import standings
from calib.states import SurfaceState
from calib.store import Entry, Moved, Record, SurfaceKey
from calib.store.assessments import alarm_records, transition_records
from calib.surface.surface import Surface
from calib.surface.transport import variance_scale, with_levels

_log = structlog.get_logger(__name__)


class Publication:
    """The one way out: to quoters through the hub, to risk managers through the board, to the
    store through ``keep``.

    ``metrics_every``: metrics are stored at most so often, but with all that raises or changes
    anything. ``stickiness``: the skew-stickiness ratio by which variances follow forwards between
    two fits.
    """

    def __init__(
        self,
        hub: Hub,
        board: Board,
        meters: Meters,
        thread: FitThread,
        *,
        keep: Callable[[Entry], None],
        monitor: MonitorSettings,
        metrics_every: np.timedelta64,
        stickiness: float,
        seconds: Callable[[], float],
        code_version: str = "",
    ) -> None:
        self.hub = hub
        self.board = board
        self.meters = meters
        self.monitor = monitor
        self._thread = thread
        self._keep = keep
        self._metrics_every = metrics_every
        self._stickiness = stickiness
        self._seconds = seconds
        self._code_version = code_version

    def restore(self, market: Market, surface: Surface) -> None:
        """Put a surface from before a restart in force, stale until fresh quotes come."""
        # Of older quotes is no measure of how the market moves.
        fitted = tuple(one for one in surface.expiries if not (one.hold and one.hold.share))
        market.newest = replace(surface, expiries=fitted) if fitted else surface
        self._look(market)
        if market.assessment is not None:
            market.assessment = with_errors_of(market.assessment, surface)
        marked = {micros_of(mark.expiry) for mark in surface.marks}
        market.good = good_smiles(surface, (surface.epoch, surface.revision), marked)
        risk = None if market.assessment is None else risk_to_proto(market.assessment)
        self.hub.publish(surface, SurfaceState.STALE, risk=risk, age=self.age(market, surface))
        if market.assessment is not None:
            self.tell(market, market.assessment)

    def conclude(self, market: Market, judged: Judged, made: Made | None) -> None:
        """A fit was judged: publish it where that lets, and tell what was found."""
        market.assessment, market.assessed_at = judged.assessment, self._seconds()
        if made is not None and judged.ready is not None:
            market.candidate, market.newest = made, made.surface
        if made is None or judged.ready is None or market.holds:
            self._assessed(market, judged.assessment)
        else:
            self._put_in_force(market, made, judged.ready)
        self.tell(market, market.assessment, judged.scored)

    def look(self, market: Market, before: Sequence[Transition] = ()) -> None:
        """Judge an underlying by the clock alone, after transitions that an operator caused."""
        self._look(market)
        if market.assessment is not None:
            transitions = (*before, *market.assessment.transitions)
            market.assessment = replace(market.assessment, transitions=transitions)
            self.tell(market, market.assessment)

    async def look_aside(self, market: Market) -> None:
        """Judge an underlying by the clock alone, off the event loop, which has more to do.

        Nothing comes of it where somebody else has judged meanwhile.
        """
        state, now = market.monitor, market.now(self._seconds())
        if now is None:
            return
        monitor, assessment = await asyncio.to_thread(
            assess, state, None, market.newest, None, now, self.monitor
        )
        if market.monitor is state:
            self._take(market, monitor, assessment)
            assert market.assessment is not None
            self.tell(market, market.assessment)

    async def refresh(self, market: Market) -> list[Refusal]:
        """Put in force what now ought to be: the newest fit where none is held back any more,
        with holds and marks as they are. Gives the marks that it cannot take."""
        while True:
            current = None if market.in_force is None else market.in_force.made
            made = current if market.holds else market.candidate or current
            now = market.now(self._seconds())
            if made is None or now is None:
                return []
            marks, monitor, good = market.marks, market.monitor, market.good
            surface, held = made.surface, standing(good, monitor)
            if market.holds and market.in_force is not None:  # as it stands, but for its marks
                surface, held = market.in_force.ready.unmarked, {}
            ready = await self._thread.run(lambda: made_ready(surface, held, marks, now))  # noqa: B023 - awaited here
            if market.marks is marks and market.monitor is monitor and market.good is good:
                break
        published = self.hub.get(market.key)
        self._put_in_force(market, made, ready)
        if market.holds and published is not None and published.move is not None:
            move = published.move
            spot = move.spot if move.HasField("spot") else None
            scale = move.variance_scale if move.variance_scale <= ready.headroom else 1.0
            self._move(market, tuple(move.forward_factor), spot, scale)
        self.follow_levels(market)
        return list(ready.marked.refused)

    def follow_levels(self, market: Market) -> None:
        """Move the surface in force with its forwards, and its variances as the skew-stickiness
        says, unless it is held as it is. The forwards of smiles that are go along with the others.
        """
        in_force = market.in_force
        if in_force is None or market.holds or not in_force.made.levels.venues:
            return
        now, apart = market.book.levels().without(market.left_out), self.monitor.venues.forward
        ready, expiries = in_force.ready, in_force.surface.expiries
        own = [
            now.moved_since(in_force.made.levels, micros_of(one.expiry), apart) for one in expiries
        ]
        others = [by for by, one in zip(own, expiries, strict=True) if one.hold is None]
        along = median(others) if others else 1.0
        factors = [by if one.hold is None else along for by, one in zip(own, expiries, strict=True)]
        told = now.spot_since(in_force.made.levels, apart)
        spot = told if math.isfinite(told) else None
        scale = variance_scale(
            market.key.model, ready.lean, factors, self._stickiness, ready.headroom
        )
        self._move(market, tuple(factors), spot, scale)

    def _move(
        self, market: Market, factors: tuple[float, ...], spot: float | None, scale: float
    ) -> None:
        """Move the surface in force by factors of its forwards and a scale of its variances."""
        in_force, published = market.in_force, self.hub.get(market.key)
        assert in_force is not None, "who moves a surface has one"
        moved = with_levels(in_force.surface, factors, spot, scale)
        if published is None or moved == published.surface:
            return
        assert market.assessment is not None, "nothing is published before it was judged"
        source = Moved(in_force.key, factors, spot, scale)
        risk = risk_to_proto(market.assessment)
        message = self.hub.move(market.key, moved, source, risk=risk, age=self.age(market, moved))
        self._keep(Entry(surface=message, provenance=source))

    def tell(
        self, market: Market, assessment: Assessment, scored: tuple[Forecast, ...] | None = None
    ) -> None:
        """Restate the surface in force where its level changed, and put the step on record.

        ``scored`` None: a look at the clock, which measures nothing that is not known.
        """
        assessment = replace(assessment, venues=standings(market, self._seconds()))
        published = self.hub.get(market.key)
        risk = risk_to_proto(assessment)
        if published is not None and levels_of(published.update.risk) != levels_of(risk):
            self.hub.restate(market.key, risk=risk, age=self.age(market, published.surface))
        place = self.place(market)
        last = self.board.get(market.key.underlying)
        fitted = last and (last.fitted or last) if assessment.metrics is None else None
        notice = Notice(assessment, place, scored or (), fitted)
        self.board.put(notice)
        self.meters.judged(
            market.key.underlying, market.level, [one.level for one in assessment.expiries]
        )
        self.meters.venues(market.key.underlying, assessment.venues)
        news = alarm_records(assessment.alarms, place.model, place.key)
        news += transition_records(assessment, place.model, place.key)
        for change in assessment.transitions:
            _log.warning(
                "breaker",
                underlying=change.underlying,
                expiry=None if change.expiry is None else str(change.expiry),
                before=change.before.name,
                after=change.after.name,
                cause=change.cause,
            )
        for alarm in assessment.alarms:
            self.meters.alarmed(alarm.underlying, alarm.chart, alarm.metric)
        if scored is not None:
            measured = assessment.metrics
            at = assessment.at if measured is None else measured.quote_time
            due = self.due(market, at)
            if news or due:
                news = notice.metrics + news
            if due:
                market.measured_at = at
        self.record(*news)

    def alarm(self, alarm: Alarm, place: Place | None = None) -> None:
        """Raise an alarm that no chart raises; without a place it is the service's own."""
        _log.warning("alarm", underlying=alarm.underlying, cause=alarm.cause)
        self.meters.alarmed(alarm.underlying, alarm.chart, alarm.metric)
        place = place or Place(None, self.hub.epoch, 0)
        self.record(*alarm_records([alarm], place.model, place.key))

    def record(self, *records: Record) -> None:
        """Hand records to the store."""
        if records:
            self._keep(Entry(records=records))

    def due(self, market: Market, at: np.datetime64) -> bool:
        """Whether the metrics of a chain of this time are to be stored, whatever they tell."""
        last = market.measured_at
        return last is None or not (last <= at < last + self._metrics_every)

    def place(self, market: Market) -> Place:
        """What records of an underlying belong to now."""
        published = self.hub.get(market.key)
        revision = 0 if published is None else published.revision
        return Place(market.key.model, self.hub.epoch, revision)

    def _look(self, market: Market) -> None:
        now = market.now(self._seconds())
        if now is None:
            return
        self._take(market, *assess(market.monitor, None, market.newest, None, now, self.monitor))

    def _take(self, market: Market, monitor: MonitorState, assessment: Assessment) -> None:
        market.monitor = monitor
        self._assessed(market, _still_finding(assessment, market.assessment))

    def _assessed(self, market: Market, assessment: Assessment) -> None:
        """Take an assessment, with the least half-spreads of what is in force."""
        if market.in_force is not None:
            assessment = with_errors_of(assessment, market.in_force.surface)
        market.assessment, market.assessed_at = assessment, self._seconds()

    def _put_in_force(self, market: Market, made: Made, ready: Ready) -> None:
        self._refused(market, ready.marked.refused)
        surface, published = ready.surface, self.hub.get(market.key)
        if market.in_force is not None and published is not None:
            same = surface is market.in_force.surface or (
                surface is not made.surface and surface == market.in_force.surface
            )
            if same and published.state is SurfaceState.LIVE:
                return  # unchanged quotes, holds and marks: no new surface
        # A mark changes a surface, not how old its quotes are.
        fresh = market.in_force is None or made is not market.in_force.made
        state = SurfaceState.LIVE if fresh or published is None else published.state
        if self._too_old(market, surface):
            state = SurfaceState.STALE
        assert market.assessment is not None, "nothing is published before it was judged"
        if surface is not made.surface or not fresh:  # else the errors are those of the fit
            market.assessment = with_errors_of(market.assessment, surface)
        key = self._publish(market, surface, state, made, ready.headroom)
        market.in_force = InForce(made, ready, key)
        held = {micros_of(e.expiry) for e in ready.unmarked.expiries if e.hold is not None}
        now = micros_of(surface.quote_time)
        before = {moment: one for moment, one in market.good.items() if moment > now}
        market.good = before | good_smiles(ready.unmarked, key, without=held)
        if not surface.marks:
            market.start, market.start_key = surface, key

    def _too_old(self, market: Market, surface: Surface) -> bool:
        """Whether its quotes are older than their limit, as those are by and by that come under a
        stamp that stands still."""
        age = self.age(market, surface)
        limit = self.monitor.quote_max_age_seconds
        return age is not None and bool(age / np.timedelta64(1, "s") > limit)

    def _refused(self, market: Market, refused: Sequence[Refusal]) -> None:
        """An alarm for every mark that the surface cannot take any more."""
        before, market.refusals = market.refusals, {one.mark: one.reason for one in refused}
        for one in refused:
            if one.mark not in before:
                value = one.mark.value
                cause = f"{one.mark} cannot be had: {one.reason}"
                self.alarm(
                    Alarm(
                        market.key.underlying,
                        one.mark.at if market.quote_time is None else market.quote_time,
                        one.mark.expiry,
                        None,
                        "mark",
                        one.mark.handle.name.lower(),
                        cause,
                        value,
                        value,
                    ),
                    self.place(market),
                )

    def _publish(
        self,
        market: Market,
        surface: Surface,
        state: SurfaceState,
        made: Made,
        headroom: float,
    ) -> SurfaceKey:
        assert market.assessment is not None, "nothing is published before it was judged"
        message = self.hub.publish(
            surface,
            state,
            risk=risk_to_proto(market.assessment),
            headroom=headroom,
            age=self.age(market, surface),
            input_hash=made.input_hash,
            code_version=self._code_version,
        )
        self._keep(Entry(surface=message, provenance=made.provenance))
        return SurfaceKey(message.epoch, message.revision)

    def age(self, market: Market, surface: Surface) -> np.timedelta64 | None:
        """How old the quotes of a surface are, in the market's own time; None before the first
        chain."""
        now = market.now(self._seconds())
        if now is None:
            return None
        age: np.timedelta64 = now - surface.quote_time
        return age


def _still_finding(assessment: Assessment, last: Assessment | None) -> Assessment:
    """A look at the clock finds no causes: those of the last fit stand until the next."""
    if last is None:
        return assessment
    findings = {int(one.expiry.astype(np.int64)): one.findings for one in last.expiries}
    return replace(
        assessment,
        expiries=tuple(
            replace(one, findings=findings.get(int(one.expiry.astype(np.int64)), ()))
            for one in assessment.expiries
        ),
    )
