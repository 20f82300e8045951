"""One underlying on the server: its quotes, what was made of them, and how far it is trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from calib.conventions import ExpiryCalendar
from calib.modelrisk.breakers import BreakerLevel
from calib.modelrisk.comparison import ExpiryComparison
from calib.modelrisk.holds import GoodSmile
from calib.modelrisk.monitor import Assessment, MonitorState
from calib.modelrisk.venues import VenueState
from calib.quotes.book import Book
from calib.quotes.chain import Chain
from calib.quotes.levels import Levels
from calib.quotes.reasons import Reason
from calib.service.arrivals import Arrivals
from calib.service.hub import Key
from calib.service.judge import Ready
from calib.states import ModelName
from calib.store import Provenance, SurfaceKey
from calib.surface.marks import Mark
from calib.surface.surface import Surface


@dataclass(frozen=True)
class Made:
    """A certified fit, and what it was made from: its levels, input hash and provenance."""

    surface: Surface
    levels: Levels
    input_hash: str
    provenance: Provenance


@dataclass(frozen=True)
class InForce:
    """A published surface: the fit behind it, what was made of that, and its key."""

    made: Made
    ready: Ready
    key: SurfaceKey

    @property
    def surface(self) -> Surface:
        """As it was published, before levels moved it."""
        return self.ready.surface


@dataclass
class Market:
    """The one mutable value of an underlying; only the event loop changes it.

    ``quote_time`` of the latest chain, which came at ``quoted_at`` of the monotonic clock.
    ``newest``: the last good fit, published or held back, that the next fit is held against;
    ``candidate`` the same with its origin, None for one from before a restart. ``start``: the last
    that was published without marks: fits start from it and remember it, because only what is
    stored can be built again. ``good``: of each expiry the smile that was published last while it
    was not held, by its microseconds.
    """

    book: Book
    key: Key
    calendar: ExpiryCalendar
    monitor: MonitorState
    quote_time: np.datetime64 | None = None
    quoted_at: float = -math.inf
    changed_at: float = -math.inf  # when the last message came that changed the chain
    chain: Chain | None = None
    newest: Surface | None = None
    candidate: Made | None = None
    in_force: InForce | None = None
    good: Mapping[int, GoodSmile] = field(default_factory=dict)
    start: Surface | None = None
    start_key: SurfaceKey | None = None
    marks: tuple[Mark, ...] = ()
    refusals: dict[Mark, str] = field(default_factory=dict)
    assessment: Assessment | None = None
    assessed_at: float = -math.inf
    measured_at: np.datetime64 | None = None  # the last time that metrics were stored
    compared: tuple[ExpiryComparison, ...] = ()
    compared_at: float = -math.inf
    others: dict[ModelName, Surface] = field(default_factory=dict)
    waits: bool = False  # whether changes wait for the rest of a message
    unfinished: set[str] = field(default_factory=set)  # venues whose message goes on
    arrivals: dict[str, Arrivals] = field(default_factory=dict)  # by venue
    venues: Mapping[str, VenueState] = field(default_factory=dict)

    @property
    def left_out(self) -> dict[str, Reason]:
        """The venues that have no part in fits, and why."""
        found = {name: one.left_out for name, one in self.venues.items()}
        return {name: reason for name, reason in found.items() if reason is not None}

    @property
    def level(self) -> BreakerLevel:
        """That of the underlying."""
        return self.monitor.whole.level

    @property
    def holds(self) -> bool:
        """Whether new surfaces are kept back."""
        return self.level >= BreakerLevel.HELD

    def now(self, seconds: float) -> np.datetime64 | None:
        """The market's own time: the latest quote time running on with the clock; None before the
        first chain. A recording that is replayed is judged as if it happened now."""
        if self.quote_time is None:
            return None
        elapsed = np.timedelta64(round((seconds - self.quoted_at) * 1e6), "us")
        moment: np.datetime64 = self.quote_time + elapsed
        return moment
