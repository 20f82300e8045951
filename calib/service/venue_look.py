"""A look at the venues of one underlying: what is known of each, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import nan

import numpy as np

from calib.conventions import ExpiryCalendar, Ints
from calib.modelrisk.venues import (
    Screened,
    VenueFault,
    VenueReading,
    VenueSettings,
    VenueState,
    screened,
)
from calib.quotes.chain import Chain
from calib.quotes.reasons import Reason
from calib.quotes.venue_book import NEVER
from calib.service.arrivals import Arrivals
from calib.service.market import Market
from calib.surface.surface import Surface


@dataclass(frozen=True)
class VenueLook:
    """Everything that a chain's venues are held against each other by, as it stood at one moment.

    ``newest``: the last good fit; ``readings`` and ``faults``: what their times say; ``states``:
    those of the last look.
    """

    chain: Chain
    calendar: ExpiryCalendar
    newest: Surface | None
    readings: Mapping[str, VenueReading]
    faults: Mapping[str, VenueFault]
    states: Mapping[str, VenueState]
    settings: VenueSettings

    @property
    def needed(self) -> bool:
        """Whether there is anything to hold against each other, or anybody on probation."""
        return len(self.readings) > 1 or any(one.fault for one in self.states.values())

    def taken(self) -> Screened:
        """What it comes to; for the fit thread, which runs compiled code."""
        from calib.market.slicing import slices_of

        return screened(
            self.chain,
            slices_of(self.chain, self.calendar),
            self.newest,
            self.readings,
            self.faults,
            self.states,
            self.settings,
        )

    def settled(
        self, found: Mapping[str, VenueState], now: Mapping[str, VenueState]
    ) -> dict[str, VenueState]:
        """What was found, but for venues that were interrupted or resumed since the look, or have
        no complete chain: these stand as they do ``now``."""
        overtaken = {name: one for name, one in now.items() if one is not self.states.get(name)}
        return {**now, **found, **overtaken}


def standings(market: Market, seconds: float) -> tuple[VenueState, ...]:
    """How all venues stand now, those included that have no say for want of a full chain."""
    found = []
    for name, book in market.book.venues.items():
        state = replace(
            market.venues.get(name, VenueState(name)), reading=reading_of(market, name, seconds)
        )
        if not book.complete:
            fault = VenueFault(Reason.VENUE_INCOMPLETE, float(book.missing), 0.0)
            state = replace(state, fault=fault, confirmed=True)
        found.append(state)
    return tuple(found)


def readings_of(market: Market, seconds: float) -> dict[str, VenueReading]:
    """What is known of the venues that have a say."""
    return {
        name: reading_of(market, name, seconds)
        for name, book in market.book.venues.items()
        if book.complete
    }


def reading_of(market: Market, name: str, seconds: float) -> VenueReading:
    """What book and arrivals know of a venue, the rest as it was last seen; what others tell of it
    is over when they have gone."""
    venues = market.book.venues
    book, known = venues[name], market.venues.get(name, VenueState(name)).reading
    if not any(other.complete for other in venues.values() if other is not book):
        known = replace(known, basis=nan, gap=nan, gap_half_spreads=nan)
    arrivals, count = market.arrivals.get(name, Arrivals()), book.sequence
    return replace(
        known,
        latest=_instant(book.latest),
        alive=_instant(book.alive),
        moved=_instant(book.moved),
        offset_seconds=arrivals.offset_seconds,
        silent_seconds=seconds - arrivals.heard_at,
        missed=count.missed,
        repeated=count.repeated,
        restarts=count.restarts,
    )


def with_quotes_used(
    states: Mapping[str, VenueState], chain: Chain, used: Ints
) -> dict[str, VenueState]:
    """The states with the number of rows that a fit of the chain used of each venue."""
    codes = chain.quotes.venue.codes[used]
    counts = {
        name: int(np.count_nonzero(codes == code))
        for code, name in enumerate(chain.quotes.venue.names)
    }
    return {
        name: replace(one, reading=replace(one.reading, quotes=counts.get(name, 0)))
        for name, one in states.items()
    }


def _instant(micros: int) -> np.datetime64:
    return np.datetime64("NaT" if micros == NEVER else micros, "us")
