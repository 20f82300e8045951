"""The engine: what to fit and when, and what becomes of it.

Quotes mark their underlying; whatever is marked when the fit thread is free goes there as one
batch. Under load batches grow and there is no queue of old work. The event loop never computes.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import structlog

from calib.conventions import ExpiryCalendar
from calib.quotes.book import Book
from calib.quotes.levels import Levels
from calib.quotes.reasons import Reason
from calib.quotes.table import Codes, QuoteTable
from calib.service.conversion import Ticks
from calib.service.fit_thread import FitJob, FitOutcome, FitThread
from calib.service.hub import Hub, Key
from calib.service.refusals import Overloaded
from calib.service.settings import ServiceSettings
from calib.states import SurfaceState
from calib.store import Entry, Moved, Provenance, SurfaceKey
from calib.surface.surface import Surface
from calib.surface.transport import with_levels

if TYPE_CHECKING:
    from calib.fitting.fit_value import Fit

_Answer = TypeVar("_Answer")

_log = structlog.get_logger(__name__)


@dataclass
class _Market:
    """One underlying: its quotes, and what was last made of them."""

    book: Book
    key: Key
    calendar: ExpiryCalendar
    quote_time: np.datetime64 | None = None  # of the latest chain
    quoted_at: float = -math.inf  # when it came, by the monotonic clock
    fitted: Surface | None = None
    fitted_key: SurfaceKey | None = None  # under which it was published
    fitted_levels: Levels = field(default_factory=Levels)


class Engine:
    """Takes quotes and ticks, fits what they changed, and publishes through the hub.

    ``keep`` is handed every chain that was fitted, and every surface published with its origin.
    ``now`` is the clock that quotes may not be ahead of; ``seconds`` is a monotonic one.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        hub: Hub,
        thread: FitThread,
        *,
        keep: Callable[[Entry], None],
        code_version: str = "",
        now: Callable[[], np.datetime64],
        seconds: Callable[[], float] = monotonic,
    ) -> None:
        self._settings = settings
        self._hub = hub
        self._thread = thread
        self._keep = keep
        self._code_version = code_version
        self._now = now
        self._seconds = seconds
        self._markets: dict[str, _Market] = {}
        self._dirty: dict[str, None] = {}  # in the order in which they were marked
        self._moved: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._calibrating = 0

    def restore(self, surface: Surface) -> None:
        """Put a surface from before a restart in force, stale until fresh quotes come."""
        self._hub.publish(surface, SurfaceState.STALE)
        market = self._market(surface.underlying)
        if market.key.model is surface.model:
            market.fitted = surface  # a start for the first fit
            market.fitted_key = SurfaceKey(surface.epoch, surface.revision)

    def take_quotes(
        self, quotes: QuoteTable, *, venue: str, underlying: str, snapshot_complete: bool
    ) -> Codes:
        """Bring rows of one venue and underlying in; each row's reason, USABLE where accepted."""
        if not (venue.strip() and underlying.strip()):
            return quotes.reason
        market = self._market(underlying)
        taken = market.book.take(
            quotes, venue=venue, snapshot_complete=snapshot_complete, latest=self._latest()
        )
        if taken.changed:
            market.quoted_at = self._seconds()
            self._dirty[underlying] = None
            self._wake.set()
        return taken.reason

    def take_ticks(self, ticks: Ticks) -> Codes:
        """Bring levels in; a reason a forward, then one for the spot where it is given."""
        rows = len(ticks.forward) + (ticks.spot is not None)
        if not ticks.venue.strip():
            return np.full(rows, Reason.BAD_VENUE, np.int8)
        if not ticks.underlying.strip():
            return np.full(rows, Reason.BAD_UNDERLYING, np.int8)
        market = self._market(ticks.underlying)
        reasons = market.book.tick(
            venue=ticks.venue,
            quote_time=ticks.quote_time,
            expiry=ticks.expiry,
            forward=ticks.forward,
            spot=ticks.spot,
            latest=self._latest(),
        )
        if (reasons == Reason.USABLE).any():
            self._moved[ticks.underlying] = None
            self._wake.set()
        return reasons

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
            return await self._thread.fit_alone(lambda: self._clocked(job()), conclude)
        finally:
            self._calibrating -= 1

    async def run(self) -> None:
        """Fit and publish until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            levels, jobs = self._collect()
            self._publish_moved()
            if jobs:
                outcomes = await self._thread.fit(list(jobs.values()))
                for (name, job), outcome in zip(jobs.items(), outcomes, strict=True):
                    with _kept_apart(name):
                        self._conclude(self._markets[name], job, levels[name], outcome)

    async def watch_ages(self) -> None:
        """Mark surfaces stale as their quotes grow too old, until cancelled."""
        limit = self._settings.quote_max_age.total_seconds()
        while True:
            await asyncio.sleep(min(1.0, 0.25 * limit))
            self.mark_stale()

    def mark_stale(self) -> None:
        """Mark every surface stale whose quotes are older than their limit.

        Age is counted in the market's own time, the latest quote time running on with the clock,
        so that a recording that is replayed is judged as if it happened now.
        """
        limit = np.timedelta64(round(self._settings.quote_max_age.total_seconds() * 1e6), "us")
        for market in self._markets.values():
            published = self._hub.get(market.key)
            if published is None or market.quote_time is None:
                continue
            elapsed = np.timedelta64(round((self._seconds() - market.quoted_at) * 1e6), "us")
            old = market.quote_time + elapsed - published.surface.quote_time > limit
            if old and self._hub.restate(market.key, SurfaceState.STALE):
                _log.warning("surface_stale", underlying=market.key.underlying)

    def _market(self, underlying: str) -> _Market:
        market = self._markets.get(underlying)
        if market is None:
            if len(self._markets) >= self._settings.max_underlyings:
                raise Overloaded(f"{len(self._markets)} underlyings are quoted already", 60.0)
            market = self._markets[underlying] = _Market(
                Book(underlying, self._settings.quote_max_age),
                Key(underlying, self._settings.model_of(underlying)),
                self._settings.calendar_of(underlying),
            )
        return market

    def _clocked(self, job: FitJob) -> FitJob:
        return replace(job, clock=self._settings.clock_of(job.chain.underlying))

    def _latest(self) -> np.datetime64:
        skew = round(self._settings.clock_skew.total_seconds() * 1e6)
        return self._now() + np.timedelta64(skew, "us")

    def _collect(self) -> tuple[dict[str, Levels], dict[str, FitJob]]:
        """A job for every underlying that is marked, with the levels that it was made under."""
        jobs: dict[str, FitJob] = {}
        levels: dict[str, Levels] = {}
        for name in self._dirty:
            with _kept_apart(name):
                market = self._markets[name]
                chain = market.book.chain()
                if chain is not None:
                    market.quote_time = chain.quote_time
                    levels[name] = market.book.levels()
                    jobs[name] = self._clocked(
                        FitJob(
                            chain,
                            market.key.model,
                            market.calendar,
                            market.fitted,
                            previous_key=market.fitted_key,
                        )
                    )
                    self._moved.pop(name, None)
        self._dirty.clear()
        return levels, jobs

    def _conclude(self, market: _Market, job: FitJob, levels: Levels, outcome: FitOutcome) -> None:
        self._keep(Entry(chain=job.chain))
        if outcome.fit is None:
            _log.error("fit_failed", underlying=market.key.underlying, exc_info=outcome.error)
            return
        surface = outcome.fit.surface
        if not surface.expiries:
            reasons = outcome.fit.slices.chain.quotes.reason_counts()
            _log.warning(
                "nothing_fitted",
                underlying=market.key.underlying,
                rows=len(job.chain.quotes),
                unusable={reason.name: count for reason, count in reasons.items()},
                certificate=surface.certificate.detail,
            )
            return
        if not surface.certificate.arbitrage_free:
            _log.error(
                "refused_uncertified",
                underlying=market.key.underlying,
                certificate=surface.certificate.detail,
            )
            return
        published = self._hub.get(market.key)
        if surface is market.fitted and published and published.state is SurfaceState.LIVE:
            return  # unchanged quotes: no new surface
        market.fitted, market.fitted_levels = surface, levels
        market.fitted_key = self._publish(
            surface, SurfaceState.LIVE, outcome.input_hash, outcome.provenance
        )
        _log.debug(
            "fitted",
            underlying=market.key.underlying,
            expiries=len(surface.expiries),
            rows=len(job.chain.quotes),
            started=outcome.started,
            ended=outcome.ended,
            published=self._seconds(),
        )

    def _publish_moved(self) -> None:
        """Surfaces whose levels moved but whose quotes did not follow their forwards at once."""
        for name in self._moved:
            with _kept_apart(name):
                self._follow_levels(self._markets[name])
        self._moved.clear()

    def _follow_levels(self, market: _Market) -> None:
        published = self._hub.get(market.key)
        if market.fitted is None or published is None or not market.fitted_levels.venues:
            return
        now = market.book.levels()
        factors = [
            now.moved_since(market.fitted_levels, int(one.expiry.astype(np.int64)))
            for one in market.fitted.expiries
        ]
        spot = now.spot if math.isfinite(now.spot) else None
        moved = with_levels(market.fitted, factors, spot)
        if moved != published.surface and market.fitted_key is not None:
            source = Moved(market.fitted_key, tuple(factors), spot)
            self._publish(moved, published.state, published.update.surface.input_hash, source)

    def _publish(
        self, surface: Surface, state: SurfaceState, input_hash: str, source: Provenance
    ) -> SurfaceKey:
        message = self._hub.publish(
            surface, state, input_hash=input_hash, code_version=self._code_version
        )
        self._keep(Entry(surface=message, provenance=source))
        return SurfaceKey(message.epoch, message.revision)


@contextmanager
def _kept_apart(underlying: str) -> Iterator[None]:
    """Whatever goes wrong with one underlying is logged and stops no other."""
    try:
        yield
    except Exception:  # noqa: BLE001 - see above
        _log.exception("underlying_failed", underlying=underlying)
