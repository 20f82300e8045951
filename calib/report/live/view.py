"""What a page shows of a state, as text: tiles, tables, the line about the connection."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import isfinite

import numpy as np

from calib.client.update import StaleCause, SurfaceUpdate
from calib.modelrisk.breakers import BreakerLevel
from calib.report.live.assessments import HEARTBEATS, Assessed, Venue
from calib.report.live.events import Event
from calib.report.live.state import LiveState, Watched
from calib.report.style import age_text, expiry_texts, percent_text, price_text, tenor_text
from calib.surface.handles import SmileHandles
from calib.surface.surface import Surface

NOTHING = "–"


@dataclass(frozen=True)
class Connection:
    """Whether the server speaks, and since when it does not; ``store`` says why its store fails,
    empty where it does not, or nobody knows."""

    word: str
    text: str
    alive: bool
    store: str = ""


@dataclass(frozen=True)
class Tile:
    """An underlying at a glance. ``level`` is the name of a breaker level; ``state`` is LIVE, or
    STALE and the name of its cause; ``note`` says why, empty where all is well."""

    underlying: str
    level: str
    state: str
    live: bool
    note: str
    age: str
    revision: str
    model: str
    expiries: int
    rms: str
    in_spread: str


@dataclass(frozen=True)
class ExpiryRow:
    """One expiry: vols in percent, skew in vol points for a move of 10 % in strike."""

    expiry: str
    tenor: str
    forward: str
    atm_vol: str
    error: str
    skew: str
    risk_reversal: str
    rms: str
    quotes: int
    level: str
    cause: str


@dataclass(frozen=True)
class VenueRow:
    """How a venue stands."""

    venue: str
    used: int
    age: str
    silent: str
    basis: str
    gap: str
    trouble: str


@dataclass(frozen=True)
class EventRow:
    """An alarm or a change of level, one line; ``key`` tells it from all others."""

    key: str
    time: str
    underlying: str
    expiry: str
    what: str
    value: str
    limit: str
    cause: str


def connection(state: LiveState, at: float) -> Connection:
    """Of the dashboard with its server, ``at`` this reading of the monotonic clock."""
    silent = state.silent_seconds(at)
    patience = HEARTBEATS.patience_seconds
    lost = {watched: seconds for watched, seconds in silent.items() if seconds > patience}
    of = f" of {' and '.join(lost)}" if len(lost) < len(silent) else ""
    why = f" ({state.risk_trouble})" if state.risk_trouble and Watched.RISK in lost else ""
    if not lost:
        text = f"{state.server}, heard {age_text(max(silent.values()))} ago"
        store = f"store fails: {state.store_trouble}" if state.store_trouble else ""
        return Connection("CONNECTED", text, alive=True, store=store)
    since = min(lost.values())
    if not isfinite(since):
        text = f"{state.server} has said nothing{of} yet{why}"
        return Connection("CONNECTING", text, alive=False)
    text = f"{state.server} has said nothing{of} for {age_text(since)}{why}"
    return Connection("SILENT", text, alive=False)


def tiles(state: LiveState, at: float) -> tuple[Tile, ...]:
    """One for each underlying, by name."""
    silent = state.is_risk_silent(at)
    return tuple(
        _tile(name, state.updates.get(name), state.assessed.get(name), silent)
        for name in state.underlyings
    )


def _tile(name: str, update: SurfaceUpdate | None, assessed: Assessed | None, silent: bool) -> Tile:
    """``silent``: nothing is heard of model risk, and what was heard last is no longer known."""
    known = None if silent else assessed
    rms = NOTHING if known is None else basis_points(known.rms_vol_error)
    share = NOTHING if known is None else percent_text(known.in_spread_share, 0)
    unheard = "nothing is heard of model risk" if silent else ""
    if update is None:
        level = BreakerLevel.HALTED if known is None else known.risk.level
        note = unheard or (known.risk.cause if known is not None else "") or "no surface yet"
        return Tile(
            underlying=name,
            level=level.name,
            state="NO SURFACE",
            live=False,
            note=note,
            age=NOTHING,
            revision=NOTHING,
            model=NOTHING,
            expiries=0,
            rms=rms,
            in_spread=share,
        )
    cause = update.stale_cause
    notes = [] if update.risk is None else [update.risk.cause]
    notes += [] if cause is None else [cause.value]
    notes += [] if cause is StaleCause.SILENT else [unheard]
    return Tile(
        underlying=name,
        level=update.level.name,
        state="LIVE" if cause is None else f"STALE · {cause.name}",
        live=cause is None,
        note="; ".join(filter(None, notes)),
        age=age_text(update.age_seconds),
        revision=str(update.revision),
        model=update.model.name,
        expiries=len(update.expiries),
        rms=rms,
        in_spread=share,
    )


def expiry_rows(update: SurfaceUpdate) -> tuple[ExpiryRow, ...]:
    """One for each fitted expiry, the nearest first."""
    surface = update.surface
    names = expiry_texts(each.expiry for each in surface.expiries)
    rows = []
    for each, name, smile in zip(surface.expiries, names, handles(surface), strict=True):
        judged = None if update.risk is None else update.risk.of(each.expiry)
        values, errors = smile.value, smile.error
        why = ["" if judged is None else judged.cause or judged.finding]
        why += [] if each.hold is None else [str(each.hold)]
        rows.append(
            ExpiryRow(
                expiry=name,
                tenor=tenor_text(each.years),
                forward=price_text(each.forward),
                atm_vol=percent_text(values.atm_vol, 2),
                error=percent_text(errors.atm_vol, 2),
                skew=signed(10.0 * values.skew),
                risk_reversal=signed(100.0 * values.risk_reversal_25),
                rms=basis_points(each.diagnostics.rms_vol_error),
                quotes=each.diagnostics.quotes_used,
                level=update.level_of(each.expiry).name,
                cause="; ".join(filter(None, why)),
            )
        )
    return tuple(rows)


def usual_expiry(surface: Surface) -> np.datetime64 | None:
    """The expiry that is chosen before anybody has: the nearest to 30 days; None of none."""
    nearest = min(surface.expiries, key=lambda each: abs(365.0 * each.years - 30.0), default=None)
    return None if nearest is None else nearest.expiry


@lru_cache(maxsize=64)
def handles(surface: Surface) -> tuple[SmileHandles, ...]:
    """Those of every fitted expiry; pages that show the same surface share them."""
    return surface.handle_values()


def venue_rows(state: LiveState, underlying: str, at: float) -> tuple[VenueRow, ...]:
    """One for each venue that quotes the underlying, by name; their silence goes on between
    assessments."""
    assessed = state.assessed.get(underlying)
    if assessed is None:
        return ()
    since = at - state.assessed_at[underlying]
    return tuple(_venue_row(venue, since) for venue in assessed.venues)


def _venue_row(venue: Venue, since: float) -> VenueRow:
    return VenueRow(
        venue=venue.name,
        used=venue.quotes_used,
        age=age_text(venue.age_seconds),
        silent=age_text(venue.silent_seconds + since),
        basis=signed(1e4 * venue.basis, " bp"),
        gap=signed(venue.gap_half_spreads),
        trouble=venue.trouble,
    )


def event_rows(state: LiveState, now: np.datetime64) -> tuple[EventRow, ...]:
    """Alarms and changes of level, the newest first."""
    return tuple(_event_row(event, now) for event in state.events)


def _event_row(event: Event, now: np.datetime64) -> EventRow:
    expiry = "all" if event.expiry is None else expiry_texts([event.expiry])[0]
    return EventRow(
        key=" ".join(map(str, event.key)),
        time=moment_text(event.at, now),
        underlying=event.underlying or "service",
        expiry=expiry,
        what=event.what,
        value=number_text(event.value),
        limit=number_text(event.limit),
        cause=event.cause,
    )


def moment_text(at: np.datetime64, now: np.datetime64) -> str:
    """The time of day in UTC, with the date where that is not today's."""
    date, _, time = str(at)[:19].partition("T")
    return time if date == str(now)[:10] else f"{date} {time}"


def basis_points(vol: float) -> str:
    """A vol as a decimal in hundredths of a vol point."""
    return f"{1e4 * vol:.1f} bp" if isfinite(vol) else NOTHING


def signed(value: float, unit: str = "") -> str:
    """A number with its sign."""
    return f"{value:+.2f}{unit}".replace("-", "−") if isfinite(value) else NOTHING


def number_text(value: float) -> str:
    """A number of unknown unit with as many digits as help."""
    return f"{value:.3g}".replace("-", "−") if isfinite(value) else NOTHING
