"""How honest error bars are: simulated errors, left-out quotes and the next quotes, in bars."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

import calib
from calib.fitting.memory import Memory
from calib.fitting.settings import FitSettings
from calib.quotes.chain import chains
from calib.states import ModelName
from tests.benchmarks.hold_out import HeldOut, leave_one_out, one_step_ahead
from tests.benchmarks.stability import walk
from tests.fitting.error_bars import NODES, Noise, errors, true_markets

FOLDER = os.environ.get("CALIB_QUOTES_DIR", "")
real_tables = pytest.mark.skipif(
    not FOLDER, reason="CALIB_QUOTES_DIR names no folder of real quote tables"
)
TENORS = ((0.0, 7.0), (7.0, 30.0), (30.0, 90.0), (90.0, 10_000.0))
TABLES = (
    "deribit_2026-01.parquet",
    "deribit_2026-03.parquet",
    "deribit_2026-04-01_07.parquet",
    "spx_2019-04-09.parquet",
    "spx_close_2026-07.parquet",
    "spx_vix_vol_2023-02-15.parquet",
)
MARKETS = (
    (Noise(1.0), 0.0),
    (Noise(0.4), 0.0),
    (Noise(0.5, length=0.15), 0.2),
    (Noise(0.5, length=0.4), 0.5),
    (Noise(0.5, length=1.0), 0.75),
    (Noise(0.0, tick=1.0), 0.0),
    (Noise(0.4, tick=0.5), 0.0),
    (Noise(0.4, length=0.4, tick=0.5), 0.4),
)


def test_error_bars_of_simulated_markets() -> None:
    truth = true_markets(seed=7, snapshots=40)
    table = Table(
        "errors of mids", "noise is", "all", *(f"{x:+.2f} sd" for x in NODES), "with the shape's",
        "bar bp", "shape bp",
        title="Standardised errors of fitted vols: what the quotes' errors do, and the shape's too",
    )  # fmt: skip
    for noise, reach in MARKETS:
        stated = FitSettings(error_reach=reach, noise_scale=noise.stated)
        for name, settings in (("stated", stated), ("measured", FitSettings())):
            found = errors(truth, noise, settings, np.random.default_rng(1))
            table.add_row(
                f"{noise.scale:g} half-spreads, shared {noise.length:g} sd, ticks {noise.tick:g}",
                name,
                *(f"{found.deviation(x):.2f}" for x in (None, *NODES)),
                f"{found.whole_deviation():.2f}",
                f"{1e4 * np.sqrt(np.mean(found.bar**2)):.1f}",
                f"{1e4 * np.sqrt(np.mean(found.shape**2)):.1f}",
            )
    Console(width=180).print(table)


@real_tables
@pytest.mark.real_data
@pytest.mark.parametrize("model", list(ModelName), ids=lambda model: model.name)
def test_quotes_left_out_of_real_tables(model: ModelName) -> None:
    table = _table(f"Quotes left out one at a time, {model.name}: standard deviation in error bars")
    for name in TABLES:
        path = Path(FOLDER) / name
        if path.exists():
            taken = [c for c in chains(calib.read_quotes(path)) if c.underlying != "VIX"]
            step, rounds = (8, 3) if "deribit" in name else (4, 1)
            settings = FitSettings(model=model)
            rng = np.random.default_rng(3)
            parts = [leave_one_out(chain, settings, rounds, rng) for chain in taken[::step]]
            _row(table, path.stem, HeldOut.joined(parts))
    Console(width=180).print(table)


@real_tables
@pytest.mark.real_data
def test_the_next_quotes_of_the_deribit_months() -> None:
    table = _table(
        "The last surface at the next quotes, SVI: standard deviation in error bars, which know "
        "nothing of what the market does in between"
    )
    for name in TABLES[:3]:
        path = Path(FOLDER) / name
        if path.exists():
            found = list(chains(calib.read_quotes(path)))
            for underlying in sorted({one.underlying for one in found}):
                fits = walk([c for c in found if c.underlying == underlying], FitSettings())
                _row(table, f"{path.stem} {underlying}", one_step_ahead(fits, Memory()))
    Console(width=180).print(table)


def _table(title: str) -> Table:
    return Table(
        "table", "quotes", "all", "within 1 / 2 bars", "inside", "outside",
        *(f"{low:g}–{high:g} days" for low, high in TENORS), "bar bp", "noise bp", "error bp",
        title=title,
    )  # fmt: skip


def _row(table: Table, name: str, found: HeldOut) -> None:
    z = np.abs(found.standardised)
    days = 365.0 * found.years
    inside = ~found.outside
    bp = [1e4 * np.median(np.abs(x)) for x in (found.bar, found.noise, found.error)]
    groups = [inside, found.outside, *((days > low) & (days <= high) for low, high in TENORS)]
    table.add_row(
        name,
        str(len(z)),
        f"{found.deviation():.2f}",
        f"{np.mean(z < 1.0):.2f} / {np.mean(z < 2.0):.2f}",
        *(f"{found.deviation(group):.2f}" if group.any() else "–" for group in groups),
        *(f"{x:.1f}" for x in bp),
    )
