"""A recorded month as the engine lives it: each chain fitted after the last, and monitored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from calib.fitting.fit import fit_chains
from calib.fitting.fit_value import Fit
from calib.modelrisk.breakers import BreakerLevel, Transition
from calib.modelrisk.monitor import Assessment, MonitorSettings, MonitorState, assess
from calib.quotes.chain import Chain
from calib.surface.surface import Surface
from tests.market.shared_tables import shared_chains

SIX_HOURS = MonitorSettings(quote_max_age_seconds=1.6 * 6.0 * 3_600.0)
"""The defaults, for chains about six hours apart."""


@dataclass
class Week:
    """What happened in one week of one underlying."""

    steps: int = 0
    alarms: list[str] = field(default_factory=list)
    trips: list[Transition] = field(default_factory=list)
    levels: Counter[BreakerLevel] = field(default_factory=Counter)

    def row(self) -> tuple[str, ...]:
        """Steps, alarms, trips to each level, and the share of expiries that were NORMAL."""
        to = Counter(trip.after for trip in self.trips)
        normal = self.levels[BreakerLevel.NORMAL] / max(sum(self.levels.values()), 1)
        return (
            str(self.steps),
            str(len(self.alarms)),
            *(str(to[level]) for level in list(BreakerLevel)[1:]),
            f"{normal:.1%}",
        )


def chains_of(name: str, underlying: str, since: str = "2026-01-01") -> list[Chain]:
    """The recorded chains of one underlying from a time on."""
    start = np.datetime64(since, "us")
    return [
        chain
        for chain in shared_chains(name)
        if chain.underlying == underlying and chain.quote_time >= start
    ]


def lived(
    state: MonitorState, fit: Fit, last: Surface | None, settings: MonitorSettings
) -> tuple[MonitorState, Assessment, Surface | None]:
    """One step of the monitor as the engine takes it, and the surface that is in force after it."""
    good = bool(fit.surface.expiries) and fit.surface.certificate.arbitrage_free
    in_force = fit.surface if good else last
    now = fit.slices.chain.quote_time
    state, one = assess(state, fit, in_force, last, now, settings, failed=not good)
    return state, one, in_force


def monitored(chains: Sequence[Chain], settings: MonitorSettings = SIX_HOURS) -> list[Assessment]:
    """An assessment a chain."""
    state = MonitorState.start(chains[0].underlying)
    last: Surface | None = None
    found = []
    for chain in chains:
        (fit,) = fit_chains([chain], [last])
        state, one, last = lived(state, fit, last, settings)
        found.append(one)
    return found


def by_week(found: Sequence[Assessment]) -> dict[str, Week]:
    """What happened, by the first day of each week from the first chain on."""
    start = found[0].at.astype("datetime64[D]")
    weeks: dict[str, Week] = {}
    for one in found:
        number = int((one.at - start) / np.timedelta64(7, "D"))
        week = weeks.setdefault(str(start + np.timedelta64(7 * number, "D")), Week())
        week.steps += 1
        week.alarms += [f"{str(one.at)[:13]} {alarm.cause}" for alarm in one.alarms]
        week.trips += [t for t in one.transitions if t.after > t.before]
        week.levels.update(each.level for each in one.expiries)
    return weeks
