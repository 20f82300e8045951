"""A simulated market on two venues, with the second of which one thing after another goes wrong: it
is left out while it does, and at no other time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import pytest

from calib.conventions import ExpiryCalendar
from calib.feeds.hostile import Fault, FaultName, hostile
from calib.feeds.hostile.second_venue import with_second_venue
from calib.feeds.simulated.underlying import default_underlyings
from calib.feeds.simulator import SimulatorSettings, snapshots
from calib.fitting.fit import fit_chains
from calib.fitting.settings import FitSettings
from calib.modelrisk.venues import VenueReading, VenueSettings, VenueState, timed
from calib.quotes.book import Book
from calib.quotes.reasons import Reason
from calib.quotes.table import QuoteTable, joined
from calib.service.venue_look import VenueLook
from calib.surface.surface import Surface

STEP = np.timedelta64(1_000_000, "us")
SETTINGS = VenueSettings(behind_seconds=3.0, stuck_seconds=4.0, probation_seconds=3.0)
MOMENTS = 60
FAULTS = (
    (FaultName.SHIFTED_VENUE, 10, 16, 0.05),
    (FaultName.STALE_VENUE, 26, 34, 1.0),
    (FaultName.WRONG_FORWARD, 44, 50, 0.01),
)
# Which reasons each fault may have. Of what has stopped, prices are old before stamps are.
REASONS = {
    FaultName.SHIFTED_VENUE: {Reason.VENUE_APART},
    FaultName.STALE_VENUE: {Reason.VENUE_BEHIND, Reason.VENUE_STUCK},
    FaultName.WRONG_FORWARD: {Reason.VENUE_FORWARD, Reason.VENUE_APART},
}


def instant(micros: int) -> np.datetime64:
    return np.datetime64(micros, "us")


@dataclass
class Desk:
    """What a server does with the venues of one underlying, chain by chain."""

    book: Book
    states: dict[str, VenueState] = field(default_factory=dict)
    newest: Surface | None = None
    alarms: list[tuple[int, str]] = field(default_factory=list)

    def take(self, moment: int, venue: str, quotes: QuoteTable) -> None:
        self.book.take(quotes, venue=venue, snapshot_begin=True, snapshot_complete=True)
        readings = {
            name: VenueReading(instant(one.latest), instant(one.alive), instant(one.moved))
            for name, one in self.book.venues.items()
        }
        now = max(one.alive for one in readings.values())
        readings, faults = timed(readings, now, SETTINGS)
        chain = self.book.chain()
        assert chain is not None
        look = VenueLook(
            chain,
            ExpiryCalendar.SAME_ASSET,
            self.newest,
            readings,
            faults,
            self.states,
            SETTINGS,
        )
        found = look.taken()
        self.states = dict(found.states)
        self.alarms += [(moment, alarm.metric) for alarm in found.alarms]
        (fit,) = fit_chains([found.chain], [self.newest], FitSettings())
        assert fit.surface.certificate.arbitrage_free
        self.newest = fit.surface


@pytest.fixture(scope="module")
def market() -> tuple[QuoteTable, str, str]:
    """The market of an underlying on its own venue and a second one, and their names."""
    underlying = default_underlyings()[0]
    settings = SimulatorSettings(
        seed=5,
        underlyings=(underlying,),
        expiries=4,
        strikes=15,
        snapshots=MOMENTS,
        interval=timedelta(seconds=1),
    )
    table = joined([snapshot.quotes for snapshot in snapshots(settings)])
    first = table.venue[0]
    return with_second_venue(table, underlying.name, "second", seed=1), first, underlying.name


def moments(table: QuoteTable) -> Iterator[tuple[int, np.datetime64]]:
    yield from enumerate(np.unique(table.quote_time))


@pytest.mark.parametrize("second_first", [True, False])
def test_what_goes_wrong_with_a_venue_leaves_it_out_and_nothing_else_does(
    market: tuple[QuoteTable, str, str], second_first: bool
) -> None:
    table, first, name = market
    start = table.quote_time.min()
    faults = [
        Fault(what, name, start + a * STEP, start + b * STEP, size, venue="second")
        for what, a, b, size in FAULTS
    ]
    spoilt = hostile(table, faults).quotes
    desk = Desk(Book(name, timedelta(minutes=10)))
    out: dict[int, Reason | None] = {}
    order = ["second", first] if second_first else [first, "second"]
    for moment, time in moments(table):
        rows = table.quote_time == time
        for venue in order:
            # What has stopped is sent again as it was last seen, stamps included.
            desk.take(moment, venue, spoilt.take(rows & table.venue.equal(venue)))
        assert desk.states[first].left_out is None
        out[moment] = desk.states["second"].left_out
    for what, a, b, _ in FAULTS:
        late = 5 if what is FaultName.STALE_VENUE else 0  # by their limits
        assert all(out[moment] in REASONS[what] for moment in range(a + late, b)), what
        assert all(out[moment] is None for moment in range(b + 6, b + 10)), what
    assert all(out[moment] is None for moment in range(FAULTS[0][1]))
    assert len(desk.alarms) == len(FAULTS)
    for (moment, _), (_, a, b, _) in zip(desk.alarms, FAULTS, strict=True):
        assert a <= moment < b


def test_what_befalls_all_venues_leaves_none_out(market: tuple[QuoteTable, str, str]) -> None:
    """Jumps of spot and of vol, strikes and sides that go missing, wide and crossed quotes: who is
    first to tell may be suspected until the other follows, and nobody is alarmed."""
    table, first, name = market
    start = table.quote_time.min()
    faults = [
        Fault(what, name, start + a * STEP, start + (a + 4) * STEP, what.usual_size)
        for a, what in (
            (6, FaultName.SPOT_JUMP),
            (16, FaultName.VOL_JUMP),
            (26, FaultName.MISSING_STRIKES),
            (34, FaultName.WIDE_MARKET),
            (42, FaultName.CROSSED_CHAIN),
            (50, FaultName.MISSING_SIDES),
        )
    ]
    spoilt = hostile(table, faults).quotes
    desk = Desk(Book(name, timedelta(minutes=10)))
    for moment, time in moments(table):
        rows = table.quote_time == time
        order = [first, "second"] if moment % 2 else ["second", first]
        for venue in order:
            desk.take(moment, venue, spoilt.take(rows & table.venue.equal(venue)))
        assert {one.left_out for one in desk.states.values()} == {None}, moment
    assert desk.alarms == []
