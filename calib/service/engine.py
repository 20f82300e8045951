"""The engine: what to fit and when.

Quotes mark their underlying; whatever is marked when the fit thread is free goes there as one
batch. Under load batches grow and there is no queue of old work. The event loop never computes:
fits are judged on the thread too, and what becomes of them is the publication's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import structlog

from calib.conventions import NO_INSTANT, Instants
from calib.modelrisk.venues import (
    VenueFault,
    VenueState,
    alarm_of,
    interrupted,
    resumed,
    timed,
)
from calib.quotes.book import Book, Taken, forward_reasons, may_be_in_force, stamp_reasons
from calib.quotes.levels import Levels
from calib.quotes.reasons import Reason
from calib.quotes.table import QuoteTable
from calib.quotes.venue_book import MOST_EXPIRIES, VenueBook
from calib.service.arrivals import Arrivals
from calib.service.conversion import Heartbeat, Ticks
from calib.service.fit_thread import FitJob, FitOutcome, FitThread
from calib.service.hub import Key
from calib.service.judge import Case, Judged, judge
from calib.service.market import Made, Market
from calib.service.publication import Publication
from calib.service.refusals import Overloaded
from calib.service.restoring import Trail
from calib.service.settings import ServiceSettings
from calib.service.venue_look import VenueLook, reading_of, readings_of, with_quotes_used
from calib.states import SurfaceState
from calib.store import Entry, SurfaceKey
from calib.surface.surface import Surface

if TYPE_CHECKING:
    from calib.fitting.fit_value import Fit

_Answer = TypeVar("_Answer")

_LOOK_SECONDS = 1.0  # between judgements by the clock, where no fit is judged

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Due:
    """A fit to do: the job, the levels that its chain was made under, a look at its venues."""

    job: FitJob
    levels: Levels
    look: VenueLook


class Engine:
    """Takes quotes and ticks, fits what they changed, and has it judged and published.

    ``keep`` is handed every chain that was fitted; breakers and marks begin as ``trail`` says.
    ``now`` is the clock that quotes may not be ahead of; ``seconds`` is a monotonic one.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        publication: Publication,
        thread: FitThread,
        *,
        keep: Callable[[Entry], None],
        trail: Trail,
        now: Callable[[], np.datetime64],
        seconds: Callable[[], float] = monotonic,
    ) -> None:
        self._settings = settings
        self._trail = trail
        self._publication = publication
        self._thread = thread
        self._keep = keep
        self._now = now
        self._seconds = seconds
        self.markets: dict[str, Market] = {}
        self._dirty: dict[str, None] = {}  # in the order in which they were marked
        self._moved: dict[str, None] = {}
        self._overtaken: set[str] = set()  # ticked since the chain that is being fitted was taken
        self._wake = asyncio.Event()
        self._ticked = asyncio.Event()
        self._at_rest = asyncio.Event()
        self._at_rest.set()
        self._fitting = False
        self._calibrating = 0

    def restore(self, surface: Surface) -> None:
        """Put a surface from before a restart in force, stale until fresh quotes come; its time has
        run on while the server was away."""
        market = self._market(surface.underlying)
        if market.key.model is not surface.model:
            self._publication.hub.publish(surface, SurfaceState.STALE)
            return
        away = 0.0
        if not np.isnat(surface.calibration_time):
            away = float((self._now() - surface.calibration_time) / np.timedelta64(1, "s"))
        market.quote_time, market.quoted_at = surface.quote_time, self._seconds() - max(away, 0.0)
        if not surface.marks:  # a start for the first fit
            market.start = surface
            market.start_key = SurfaceKey(surface.epoch, surface.revision)
        self._publication.restore(market, surface)

    def check_room(self, quotes: QuoteTable, *, venue: str, underlying: str) -> None:
        """Raise Overloaded where these rows would be more underlyings, venues, options or expiries
        than the server takes."""
        if venue.strip() and underlying.strip():
            market = self._quoted(underlying, venue)
            able = may_be_in_force(quotes, self._latest())
            quotes = quotes if able.all() else quotes.take(able)
            self._check_options(market, venue, quotes)
            _check_expiries(market, venue, quotes.expiry)

    def take_quotes(
        self,
        quotes: QuoteTable,
        *,
        venue: str,
        underlying: str,
        sequence: int = 0,
        snapshot_begin: bool = False,
        snapshot_complete: bool = False,
        more: bool = False,
    ) -> Taken:
        """Bring rows of one venue and underlying in, for which `check_room` found room.

        ``more``: further rows of the message are to come, and what it changes is fitted then, when
        no message of another venue is under way either.
        """
        if not (venue.strip() and underlying.strip()):
            return Taken(quotes.reason)
        market = self._quoted(underlying, venue)
        taken = market.book.take(
            quotes,
            venue=venue,
            sequence=sequence,
            snapshot_begin=snapshot_begin,
            snapshot_complete=snapshot_complete,
            latest=self._latest(),
        )
        if taken.changed:
            market.changed_at = self._seconds()
        newest = quotes.quote_time.max() if len(quotes) else NO_INSTANT
        market.waits |= taken.changed
        more &= not taken.repeated  # of a repeat no more is taken
        (market.unfinished.add if more else market.unfinished.discard)(venue)
        fits = market.waits and not market.unfinished
        self._heard(market, venue, newest, taken, fits=fits, more=more)
        market.waits &= not fits
        return taken

    def take_ticks(self, ticks: Ticks, sequence: int = 0) -> Taken:
        """Bring levels in; a reason a forward, then one for the spot where it is given."""
        rows = len(ticks.forward) + (ticks.spot is not None)
        if not ticks.venue.strip():
            return Taken(np.full(rows, Reason.BAD_VENUE, np.int8))
        if not ticks.underlying.strip():
            return Taken(np.full(rows, Reason.BAD_UNDERLYING, np.int8))
        market = self._quoted(ticks.underlying, ticks.venue)
        latest = self._latest()
        known = market.book.venues.get(ticks.venue)
        if (0 if known is None else known.expiries) + len(ticks.expiry) > MOST_EXPIRIES:
            wrong = forward_reasons(ticks.quote_time, ticks.expiry, ticks.forward, latest)
            _check_expiries(market, ticks.venue, ticks.expiry[wrong == Reason.USABLE])
        taken = market.book.tick(
            venue=ticks.venue,
            quote_time=ticks.quote_time,
            expiry=ticks.expiry,
            forward=ticks.forward,
            spot=ticks.spot,
            sequence=sequence,
            latest=latest,
        )
        if (taken.reason == Reason.USABLE).any():
            self._moved[ticks.underlying] = None
            self._overtaken.add(ticks.underlying)
            self._at_rest.clear()
            self._ticked.set()
        self._heard(market, ticks.venue, ticks.quote_time, taken, fits=taken.changed)
        return taken

    def take_heartbeat(self, beat: Heartbeat, sequence: int = 0) -> Taken:
        """A venue lives; one that was never heard of has nothing that could."""
        if not beat.venue.strip():
            return Taken(np.full(1, Reason.BAD_VENUE, np.int8))
        reason = stamp_reasons(1, beat.time, self._latest())
        taken = Taken(reason, incomplete=bool(beat.underlying))
        named = self.markets.get(beat.underlying)
        every = [] if beat.underlying else list(self.markets.values())
        for market in every if named is None else [named]:
            if beat.venue in market.book.venues:
                heard = market.book.beat(
                    venue=beat.venue, time=beat.time, sequence=sequence, latest=self._latest()
                )
                self._heard(market, beat.venue, beat.time, heard, fits=heard.changed)
                if beat.underlying:
                    taken = heard
        return taken

    def quoting(self, wanted: Callable[[str, str], bool]) -> list[tuple[str, str]]:
        """Which venues have quoted which underlyings, of those that are ``wanted``."""
        return [
            (venue, underlying)
            for underlying, market in self.markets.items()
            for venue in market.book.venues
            if wanted(venue, underlying)
        ]

    def standing(self, wanted: Callable[[str, str], bool]) -> list[QuoteTable]:
        """The last rows of each venue and underlying that is ``wanted``, as they came."""
        return [
            self.markets[underlying].book.venues[venue].rows(venue, underlying)
            for venue, underlying in self.quoting(wanted)
        ]

    def left_out(self, venue: str, underlying: str) -> Reason | None:
        """Why a venue whose chain is complete has no part in fits of this underlying, None where it
        has, or where it has to end a chain first."""
        market = self.markets.get(underlying)
        state = None if market is None else market.venues.get(venue)
        reason = None if state is None else state.left_out
        return None if reason is Reason.VENUE_INCOMPLETE else reason

    async def calibrate(
        self, job: Callable[[], FitJob], conclude: Callable[[Fit], _Answer]
    ) -> _Answer:
        """Fit a chain that somebody sent, and publish nothing.

        ``job`` and ``conclude`` run on the fit thread, like the fit. Raises Overloaded when too
        many wait already, and whatever ``job`` and the fit raise.
        """
        if self._calibrating >= self._settings.max_calibrations:
            raise Overloaded(f"{self._calibrating} calibrations are waiting", 0.5)
        self._calibrating += 1
        try:
            return await self._thread.fit_alone(lambda: self.clocked(job()), conclude)
        finally:
            self._calibrating -= 1

    @property
    def idle(self) -> bool:
        """Whether nothing is being fitted or waits for it."""
        return not (self._fitting or self._dirty or self._calibrating)

    async def drained(self, patience_seconds: float) -> bool:
        """Wait until all that was taken is fitted and published; False where that takes longer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_seconds):
                await self._at_rest.wait()
        return self._at_rest.is_set()

    async def run(self) -> None:
        """Fit and publish until cancelled; levels are followed beside the fits, however long these
        take."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._fit_marked())
            group.create_task(self._follow_levels())

    async def _fit_marked(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            due = self._collect()
            if due:
                self._fitting = True
                try:
                    jobs = {name: await self._screened(one) for name, one in due.items()}
                    outcomes = await self._thread.fit(list(jobs.values()))
                    for (name, job), outcome in zip(jobs.items(), outcomes, strict=True):
                        with _kept_apart(name):
                            levels = due[name].levels
                            await self._conclude(self.markets[name], job, levels, outcome)
                finally:
                    self._fitting = False
            self._rest()

    async def _follow_levels(self) -> None:
        while True:
            await self._ticked.wait()
            self._ticked.clear()
            for name in self._moved:
                with _kept_apart(name):
                    self._publication.follow_levels(self.markets[name])
            self._moved.clear()
            self._rest()

    def _rest(self) -> None:
        if not (self._dirty or self._fitting or self._moved):
            self._at_rest.set()

    async def watch_ages(self) -> None:
        """Mark surfaces stale as their quotes grow too old, judge what no fit judges, end marks and
        leave out venues that fall silent, until cancelled."""
        limit = self._settings.quote_max_age.total_seconds()
        pause = min(_LOOK_SECONDS, 0.25 * limit)
        while True:
            await asyncio.sleep(pause)
            self.mark_stale()
            for market in list(self.markets.values()):
                with _kept_apart(market.key.underlying):
                    self._look_for_silence(market)
                    await self._look(market, pause)
                await asyncio.sleep(0)  # many underlyings must not hold the loop

    def mark_stale(self) -> None:
        """Mark every surface stale whose quotes are older than their limit, in the market's own
        time."""
        limit = np.timedelta64(round(self._settings.quote_max_age.total_seconds() * 1e6), "us")
        hub = self._publication.hub
        for market in self.markets.values():
            published = hub.get(market.key)
            if published is None:
                continue
            age = self._publication.age(market, published.surface)
            if age is None:
                continue
            self._publication.meters.aged(
                market.key.underlying, float(age / np.timedelta64(1, "s"))
            )
            if age > limit and hub.restate(market.key, SurfaceState.STALE, age=age):
                _log.warning("surface_stale", underlying=market.key.underlying)

    def _look_for_silence(self, market: Market) -> None:
        """Leave out venues of which nothing was heard for long, and raise an alarm."""
        limit, seconds = self._publication.monitor.venues.silent_seconds, self._seconds()
        for name, book in market.book.venues.items():
            silent = seconds - market.arrivals.get(name, Arrivals()).heard_at
            state = market.venues.get(name, VenueState(name))
            if not book.complete or silent <= limit or state.left_out is Reason.VENUE_SILENT:
                continue
            now = market.now(seconds)
            if now is None:
                continue
            state = replace(state, reading=reading_of(market, name, seconds))
            state = interrupted(state, VenueFault(Reason.VENUE_SILENT, silent, limit), now)
            market.venues = {**market.venues, name: state}
            alarm = alarm_of(market.key.underlying, now, state)
            self._publication.alarm(alarm, self._publication.place(market))
            if len(market.book.venues) > 1:
                self._mark(market.key.underlying)

    def _mark(self, underlying: str) -> None:
        self._dirty[underlying] = None
        self._at_rest.clear()
        self._wake.set()

    async def _look(self, market: Market, pause: float) -> None:
        now = market.now(self._seconds())
        if now is None:
            return
        standing = tuple(mark for mark in market.marks if now < mark.until)
        if len(standing) < len(market.marks):
            market.marks = standing
            await self._publication.refresh(market)
        if self._seconds() - market.assessed_at >= pause and market.newest is not None:
            before = (market.holds, market.monitor.held)
            await self._publication.look_aside(market)
            if not market.holds and before != (market.holds, market.monitor.held):
                await self._publication.refresh(market)  # a force has ended, or some of it is held

    def _quoted(self, underlying: str, venue: str) -> Market:
        market = self._market(underlying)
        known = market.book.venues
        if venue not in known and len(known) >= self._settings.max_venues:
            raise Overloaded(f"{len(known)} venues quote {underlying} already", 60.0)
        return market

    def _check_options(self, market: Market, venue: str, quotes: QuoteTable) -> None:
        """Raise Overloaded where a venue would quote more options than may be."""
        most, book = self._settings.max_options, market.book.venues.get(venue) or VenueBook()
        if book.size + len(quotes) <= most:
            return
        if book.size + book.new_options(quotes) > most:
            raise Overloaded(
                f"{venue} quotes {book.size} options of {market.key.underlying}, and more than "
                f"{most} with these",
                60.0,
            )

    def _heard(
        self,
        market: Market,
        venue: str,
        stamp: np.datetime64,
        taken: Taken,
        *,
        fits: bool,
        more: bool = False,
    ) -> None:
        """Note a message, and mark its underlying where that has to be fitted for it; how the venue
        stands is told by its last part, where ``more`` of it is to come."""
        before = market.arrivals.get(venue, Arrivals())
        market.arrivals[venue] = before.with_message(self._seconds(), self._now(), stamp)
        if not more:
            fits |= self._resumed(market, venue, Reason.VENUE_SILENT)
            if taken.incomplete:
                self._lost(market, venue)
            else:
                self._resumed(market, venue, Reason.VENUE_INCOMPLETE)
        if fits:
            self._mark(market.key.underlying)
        if taken.missed or taken.repeated:
            _log.warning(
                "messages_repeated" if taken.repeated else "messages_missing",
                underlying=market.key.underlying,
                venue=venue,
                missing=taken.missed,
                last=market.book.venues[venue].sequence.last,
            )

    def _resumed(self, market: Market, venue: str, reason: Reason) -> bool:
        """Whether a venue was interrupted for this reason until now."""
        state = market.venues.get(venue)
        if state is None or state.left_out is not reason:
            return False
        market.venues = {**market.venues, venue: resumed(state)}
        name = reason.name.lower()
        _log.info("venue_resumed", underlying=market.key.underlying, venue=venue, after=name)
        return True

    def _lost(self, market: Market, venue: str) -> None:
        """A venue that had a say has none any more until it has ended a full chain."""
        state = market.venues.get(venue)
        if state is None or state.left_out is Reason.VENUE_INCOMPLETE:
            return
        now = market.now(self._seconds())
        missing = float(market.book.venues[venue].missing)
        fault = VenueFault(Reason.VENUE_INCOMPLETE, missing, 0.0)
        state = interrupted(state, fault, NO_INSTANT if now is None else now)
        market.venues = {**market.venues, venue: state}
        if now is not None:
            alarm = alarm_of(market.key.underlying, now, state)
            self._publication.alarm(alarm, self._publication.place(market))

    def _market(self, underlying: str) -> Market:
        market = self.markets.get(underlying)
        if market is None:
            if len(self.markets) >= self._settings.max_underlyings:
                raise Overloaded(f"{len(self.markets)} underlyings are quoted already", 60.0)
            market = self.markets[underlying] = Market(
                Book(underlying, self._settings.quote_max_age),
                Key(underlying, self._settings.model_of(underlying)),
                self._settings.calendar_of(underlying),
                self._trail.monitor(underlying, self._publication.monitor),
                marks=self._trail.marks_of(underlying),
                compared_at=self._seconds(),  # the first comparison waits like all others
            )
        return market

    def clocked(self, job: FitJob) -> FitJob:
        """The job in the variance time of its underlying."""
        return replace(job, clock=self._settings.clock_of(job.chain.underlying))

    def _latest(self) -> np.datetime64:
        skew = round(self._settings.clock_skew.total_seconds() * 1e6)
        return self._now() + np.timedelta64(skew, "us")

    def _collect(self) -> dict[str, _Due]:
        """What there is to do for every underlying that is marked."""
        due: dict[str, _Due] = {}
        for name in self._dirty:
            with _kept_apart(name):
                found = self._due(self.markets[name])
                if found is not None:
                    due[name] = found
                    self._overtaken.discard(name)
        self._dirty.clear()
        return due

    def _due(self, market: Market) -> _Due | None:
        """The fit of an underlying that is marked; None where it has no chain."""
        settings = self._publication.monitor.venues
        readings, faults = timed(readings_of(market, self._seconds()), self._now(), settings)
        ahead = {
            venue: one.reason for venue, one in faults.items() if one.reason is Reason.VENUE_AHEAD
        }
        chain = market.book.chain(ahead)
        if chain is None:
            return None
        if chain.quote_time != market.quote_time:
            # Not with every message: one whose clock stands still makes nothing younger.
            market.quote_time, market.quoted_at = chain.quote_time, market.changed_at
        market.chain = chain
        job = FitJob(
            chain,
            market.key.model,
            market.calendar,
            market.start,
            previous_key=market.start_key,
            case=self._case(market, chain.quote_time),
        )
        look = VenueLook(
            chain, market.calendar, market.newest, readings, faults, market.venues, settings
        )
        return _Due(self.clocked(job), market.book.levels(), look)

    async def _screened(self, due: _Due) -> FitJob:
        """The job with the rows of venues that are left out marked; how all of them stand is noted,
        and who is newly left out raises an alarm."""
        look, market = due.look, self.markets[due.job.chain.underlying]
        if not look.needed:
            found = {name: VenueState(name, one) for name, one in look.readings.items()}
            market.venues = look.settled(found, market.venues)
            return due.job
        chain = look.chain
        with _kept_apart(market.key.underlying):
            screened = await self._thread.run(look.taken)
            market.venues = look.settled(screened.states, market.venues)
            for alarm in screened.alarms:
                self._publication.alarm(alarm, self._publication.place(market))
            for name, one in look.states.items():
                if one.confirmed and name in market.venues.keys() - market.left_out.keys():
                    _log.info("venue_back", underlying=market.key.underlying, venue=name)
            market.chain = chain = screened.chain
        return replace(due.job, chain=chain)

    def _case(self, market: Market, quote_time: np.datetime64) -> Case:
        now = market.now(self._seconds())
        assert now is not None, "a chain has a time"
        compared, market.compared = market.compared, ()
        return Case(
            market.monitor,
            self._publication.monitor,
            now,
            market.newest,
            compared,
            market.marks,
            market.good,
            scores=self._publication.due(market, quote_time),
        )

    async def _conclude(
        self, market: Market, job: FitJob, levels: Levels, outcome: FitOutcome
    ) -> None:
        self._keep(Entry(chain=job.chain))
        if outcome.fit is not None:
            market.venues = with_quotes_used(
                market.venues, job.chain, np.flatnonzero(outcome.fit.used)
            )
        judged = await self._settled(market, outcome)
        good = judged.ready is not None
        seconds = outcome.ended - outcome.started
        self._publication.meters.fitted(market.key.underlying, seconds, good=good)
        made = None
        if outcome.fit is not None and good:
            trusted = levels.without(market.left_out)
            made = Made(outcome.fit.surface, trusted, outcome.input_hash, outcome.provenance)
        else:
            _log_failure(market, job, outcome)
        before = (market.holds, market.monitor.held)
        market.monitor = judged.monitor
        self._publication.conclude(market, judged, made)
        if made is None and not market.holds and before != (market.holds, market.monitor.held):
            await self._publication.refresh(market)  # nothing else puts it in force
        if market.key.underlying in self._overtaken:
            self._publication.follow_levels(market)
        _log.debug(
            "fitted",
            underlying=market.key.underlying,
            rows=len(job.chain.quotes),
            level=market.level.name,
            started=outcome.started,
            ended=outcome.ended,
            published=self._seconds(),
        )

    async def _settled(self, market: Market, outcome: FitOutcome) -> Judged:
        """The judgement of a fit on what holds now: one that the clock or an operator has
        overtaken is made again."""
        judged = outcome.judged
        assert judged is not None, "the engine's jobs have a case"
        while not judged.case.still_holds(market.monitor, market.marks, market.good):
            case = replace(
                judged.case, monitor=market.monitor, marks=market.marks, good=market.good
            )
            seconds = outcome.ended - outcome.started
            judged = await self._thread.run(lambda: judge(case, outcome.fit, seconds))  # noqa: B023 - awaited here
        return judged


def _check_expiries(market: Market, venue: str, expiry: Instants) -> None:
    """Raise Overloaded where a venue would have more expiries than may be."""
    book = market.book.venues.get(venue) or VenueBook()
    count = book.expiries_with(expiry.astype(np.int64))
    if count > MOST_EXPIRIES:
        raise Overloaded(
            f"{venue} would have {count} expiries of {market.key.underlying}, more than "
            f"{MOST_EXPIRIES}",
            60.0,
        )


def _log_failure(market: Market, job: FitJob, outcome: FitOutcome) -> None:
    """Say why no surface came of a chain."""
    underlying = market.key.underlying
    if outcome.fit is None:
        _log.error("fit_failed", underlying=underlying, exc_info=outcome.error)
        return
    certificate = outcome.fit.surface.certificate.detail
    if outcome.fit.surface.expiries:
        _log.error("refused_uncertified", underlying=underlying, certificate=certificate)
        return
    reasons = outcome.fit.slices.chain.quotes.reason_counts()
    _log.warning(
        "nothing_fitted",
        underlying=underlying,
        rows=len(job.chain.quotes),
        unusable={reason.name: count for reason, count in reasons.items()},
        certificate=certificate,
    )


@contextmanager
def _kept_apart(underlying: str) -> Iterator[None]:
    """Whatever goes wrong with one underlying is logged and stops no other."""
    try:
        yield
    except Exception:  # noqa: BLE001 - see above
        _log.exception("underlying_failed", underlying=underlying)
