"""What a weekend counts for: short expiries of real tables interpolated from their neighbours.

Every expiry of up to ten days that has a neighbour on either side is left out, its total variance
at the money interpolated in variance time, and the vol compared with its own. The vols are those
of a parabola through the mids nearest the money, expiry by expiry: a fit that joins expiries would
know the neighbours already.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from calib.conventions import Bools, Floats, Instants, micros_of
from calib.market.closures import DAY, WEEK, WeeklyClosure
from calib.market.slices import QuoteKind, Slices
from calib.market.slicing import slices_of
from calib.market.variance_clock import VarianceClock
from tests.market.shared_tables import NAMES, needs_tables, shared_chains

pytestmark = [pytest.mark.real_data, needs_tables]

WEIGHTS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
WINDOWS = (
    ("Saturday 00:00", "Monday 00:00"),
    ("Friday 21:00", "Sunday 22:00"),  # when futures in Chicago rest, in winter about
    ("Saturday 06:00", "Sunday 18:00"),  # what forward variances of single days point to
)
LONGEST_DAYS = 10
NEAREST_QUOTES = 7
MONDAY = micros_of(np.datetime64("1970-01-05"))
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


class Term(NamedTuple):
    """The money of one chain: expiries, years and vol."""

    underlying: str
    quote_time: np.datetime64
    expiry: Instants
    years: Floats
    vol: Floats


class LeftOut(NamedTuple):
    """Vols of expiries interpolated from their neighbours, minus their own, in bp."""

    error: Floats
    over_weekend: Bools
    """Whether a part of Saturday or Sunday lies between the neighbours."""
    underlying: np.ndarray


def terms(name: str) -> list[Term]:
    return [term for chain in shared_chains(name) if len((term := _term(slices_of(chain))).vol) > 2]


def _term(slices: Slices) -> Term:
    vol = np.full(len(slices.expiry), np.nan)
    both = slices.kind == QuoteKind.TWO_SIDED
    for i in range(len(vol)):
        rows = np.flatnonzero(both & (slices.slice_index == i))
        k = slices.log_moneyness[rows]
        near = np.argsort(np.abs(k), kind="stable")[:NEAREST_QUOTES]
        k, rows = k[near], rows[near]
        if len(rows) >= 5 and k.min() < 0.0 < k.max():
            x = k / np.abs(k).max()
            vol[i] = np.polyfit(x, slices.mid_vol[rows], 2, w=1.0 / slices.noise[rows])[-1]
    known = np.isfinite(vol)
    chain = slices.chain
    return Term(
        chain.underlying, chain.quote_time, slices.expiry[known], slices.years[known], vol[known]
    )


def left_out(found: list[Term], clock: VarianceClock) -> LeftOut:
    parts = [part for term in found for part in _interpolated(term, clock)]
    error, over, underlying = zip(*parts, strict=True)
    return LeftOut(np.array(error), np.array(over), np.array(underlying))


def _interpolated(term: Term, clock: VarianceClock) -> Iterator[tuple[float, bool, str]]:
    tau = clock.times(term.quote_time, term.expiry).variance_time
    w = term.vol**2 * term.years
    micros = term.expiry.astype(np.int64)
    for i in range(1, len(w) - 1):
        if not 0.25 <= 365 * term.years[i] <= LONGEST_DAYS:
            continue
        share = (tau[i] - tau[i - 1]) / (tau[i + 1] - tau[i - 1])
        between = w[i - 1] + share * (w[i + 1] - w[i - 1])
        vol = np.sqrt(max(between, 0.0) / term.years[i])
        start = (micros[i - 1] - MONDAY) % WEEK
        weekend = bool(start + micros[i + 1] - micros[i - 1] > 5 * DAY)
        yield 1e4 * (vol - term.vol[i]), weekend, term.underlying


def forward_variance_by_day(found: list[Term]) -> dict[str, list[float]]:
    """Forward variances from one daily expiry to the next, over those of the working days of the
    same chain (Monday to Friday 08:00 UTC), by the day on which the later one falls."""
    ratios: dict[str, list[float]] = {day: [] for day in DAYS}
    for term in found:
        w, micros = term.vol**2 * term.years, term.expiry.astype(np.int64)
        daily = np.flatnonzero(np.diff(micros) == DAY)
        change = np.diff(w)[daily]
        day = ((micros[daily + 1] - MONDAY) // DAY % 7).tolist()
        working = [c for c, d in zip(change, day, strict=True) if 0 < d < 5]
        if working and np.mean(working) > 0.0:
            for c, d in zip(change, day, strict=True):
                ratios[DAYS[d]].append(c / float(np.mean(working)))
    return ratios


def _rms(errors: Floats) -> float:
    return float(np.sqrt(np.mean(errors**2)))


def _shown(errors: Floats) -> str:
    return f"{np.median(np.abs(errors)):.0f} / {_rms(errors):.0f}"


def test_what_a_weekend_counts_for() -> None:
    found = {name: terms(name) for name in NAMES if name.startswith("deribit")}
    if len(found) < 2:
        pytest.skip("needs two Deribit tables in CALIB_QUOTES_DIR")
    everything = [term for many in found.values() for term in many]
    underlyings = sorted({term.underlying for term in everything})
    console = Console(width=180)
    for start, end in WINDOWS:
        table = Table(
            "weight",
            "no weekend between",
            "weekend between",
            *(name.removeprefix("deribit_").removesuffix(".parquet") for name in found),
            *underlyings,
            title=f"One expiry left out, weekend {start} to {end} UTC: median / rms vol error, bp",
        )
        rms: dict[float, list[float]] = {}
        for weight in WEIGHTS:
            clock = VarianceClock(weekly=(WeeklyClosure(start, end, weight),))
            whole = left_out(everything, clock)
            parts = [left_out(many, clock) for many in found.values()]
            weekends = [part.error[part.over_weekend] for part in parts]
            rms[weight] = [_rms(errors) for errors in weekends]
            table.add_row(
                f"{weight:.2f}",
                _shown(whole.error[~whole.over_weekend]),
                _shown(whole.error[whole.over_weekend]),
                *map(_shown, weekends),
                *(
                    _shown(whole.error[whole.over_weekend & (whole.underlying == name)])
                    for name in underlyings
                ),
            )
        console.print(table)
        # What the first month prefers is better than plain years in the second, by far.
        best = min(rms, key=lambda weight: rms[weight][0])
        console.print(
            f"best weight of the first table: {best}; with it the error in the second is "
            f"{rms[best][1]:.0f} bp, with plain years {rms[1.0][1]:.0f} bp\n"
        )
        assert rms[best][1] < 0.65 * rms[1.0][1]
    counts = left_out(everything, VarianceClock())
    console.print(
        f"{len(counts.error)} expiries left out of {len(everything)} chains, "
        f"{counts.over_weekend.sum()} of them with a weekend between their neighbours"
    )


def test_what_the_market_charges_for_each_day() -> None:
    found = [term for name in NAMES if name.startswith("deribit") for term in terms(name)]
    if not found:
        pytest.skip("no Deribit table in CALIB_QUOTES_DIR")
    ratios = forward_variance_by_day(found)
    table = Table(
        "24 h to 08:00 UTC of",
        *DAYS,
        title="Forward variance of a day over that of the working days of its chain",
    )
    table.add_row("quarter, half, three quarters", *map(_quartiles, ratios.values()))
    table.add_row("days", *(str(len(many)) for many in ratios.values()))
    Console(width=180).print(table)
    median = {day: float(np.median(many)) for day, many in ratios.items()}
    assert max(median["Sun"], median["Mon"]) < 0.8 < min(median[day] for day in DAYS[1:5])


def _quartiles(values: list[float]) -> str:
    return " / ".join(f"{q:.2f}" for q in np.quantile(values, (0.25, 0.5, 0.75)))
