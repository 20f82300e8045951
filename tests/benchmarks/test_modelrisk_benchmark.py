"""Model risk over the recorded months: alarms and breakers by week, causes found, a step's cost."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from calib.fitting.fit import fit_chains
from calib.fitting.fit_value import Fit
from calib.modelrisk.attribution import AttributionSettings
from calib.modelrisk.monitor import Assessment, MonitorState, assess
from calib.modelrisk.tenors import TENORS
from tests.market.shared_tables import needs_tables
from tests.modelrisk.injected_causes import Score, score, simulated_score
from tests.modelrisk.real_months import SIX_HOURS, by_week, chains_of, monitored

pytestmark = [pytest.mark.real_data, needs_tables]

MONTHS = ("deribit_2026-01.parquet", "deribit_2026-03.parquet", "deribit_2026-04-01_07.parquet")
UNDERLYINGS = ("BTC", "ETH")

DESIGN = 10 * (1 / 500 + 1 / 465)
"""Alarms a step that the run lengths allow for: two charts on two series of five tenors."""


def test_alarms_and_breakers_by_week() -> None:
    table = Table(
        "underlying", "week from", "steps", "alarms", "by design", "WIDENED", "HELD", "HALTED",
        "NORMAL",
        title="Alarms, trips of breakers, and the share of expiries that were NORMAL",
    )  # fmt: skip
    alarms = []
    lived: dict[str, list[Assessment]] = {name: [] for name in MONTHS}
    for name in MONTHS:
        for underlying in UNDERLYINGS:
            found = monitored(chains_of(name, underlying))
            lived[name] += found
            for start, week in by_week(found).items():
                steps, count, *rest = week.row()
                table.add_row(underlying, start, steps, count, f"{week.steps * DESIGN:.1f}", *rest)
                alarms += [f"{underlying} {alarm}" for alarm in week.alarms]
    console = Console(width=150)
    console.print(table)
    console.print("\n".join(alarms))
    january, march, april = lived.values()
    for period, found in (("January and March", [*january, *march]), ("April", april)):
        console.print(innovations_by_tenor(f"{period}: root mean square of z", found))
    moves = np.array(
        [
            one.move.mahalanobis
            for found in lived.values()
            for each in found
            for one in (each.metrics.slices if each.metrics else ())
        ]
    )
    jumped = np.mean(moves[np.isfinite(moves)] >= AttributionSettings().mahalanobis)
    console.print(f"parameters jump in one expiry in {1.0 / jumped:.0f}")
    assert alarms


def innovations_by_tenor(title: str, found: Sequence[Assessment]) -> Table:
    """How large standardised innovations are, of level and skew: 1 by design."""
    table = Table("tenor", "level", "skew", title=title, title_justify="left", min_width=50)
    ahead = [one for each in found for one in each.innovations]
    for tenor in (*TENORS, None):
        mine = [one for one in ahead if tenor in (one.tenor, None)]
        z = np.array([(one.level_z, one.skew_z) for one in mine]).reshape(-1, 2)
        z = z[np.isfinite(z).all(axis=1)]
        if len(z):
            table.add_row(
                tenor or "all", *(f"{rms:.2f}" for rms in np.sqrt(np.mean(z * z, axis=0)))
            )
    return table


@pytest.mark.parametrize("name", MONTHS)
def test_faults_in_recorded_chains(name: str) -> None:
    total = Score()
    for underlying in UNDERLYINGS:
        total += score(chains_of(name, underlying), SIX_HOURS, every=10)
    Console(width=150).print(f"faults put into {name}", total.table(), sep="\n")
    assert total.right >= 0.9


def test_faults_in_simulated_chains() -> None:
    total = Score()
    for seed in (11, 12, 13):
        total += simulated_score(seed, underlyings=4, snapshots=14, every=2)
    Console(width=150).print("faults put into simulated markets", total.table(), sep="\n")
    assert total.right >= 0.9


def test_cost_of_a_step() -> None:
    chains = chains_of(MONTHS[0], "BTC")[:12]
    fits: list[Fit] = []
    for chain in chains:
        fits += fit_chains([chain], [fits[-1].surface if fits else None])
    times = []
    for _ in range(5):
        state, last = MonitorState.start("BTC"), None
        for fit in fits:
            begun = perf_counter()
            state, _ = assess(state, fit, fit.surface, last, fit.slices.chain.quote_time, SIX_HOURS)
            times.append(perf_counter() - begun)
            last = fit.surface
    rows = len(fits[0].slices.kind)
    Console(width=150).print(
        f"one step of the monitor, {len(fits[0].surface.expiries)} expiries of {rows} rows: "
        f"median {1e3 * np.median(times):.1f} ms, 95 % within {1e3 * np.quantile(times, 0.95):.1f}"
    )
    assert np.median(times) < 0.2
