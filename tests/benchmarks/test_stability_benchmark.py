"""What memory does on the Deribit months: jitter of handles beside out-of-sample error, printed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

import calib
from calib.conventions import Floats
from calib.fitting.fit import fit_chains
from calib.fitting.fit_value import Fit
from calib.fitting.memory import Memory
from calib.fitting.settings import FitSettings
from calib.quotes.chain import chains
from tests.benchmarks import stability
from tests.benchmarks.stability import Moves

FOLDER = os.environ.get("CALIB_QUOTES_DIR", "")
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not FOLDER, reason="CALIB_QUOTES_DIR names no folder of real quote tables"),
]
MONTHS = ("deribit_2026-01.parquet", "deribit_2026-03.parquet")
MEMORY = Memory()
SETTINGS = {"off": FitSettings(memory=None), "on": FitSettings(memory=MEMORY)}
EVERY = 5


def walks(name: str, settings: FitSettings) -> list[list[Fit]]:
    """Both underlyings of a month through time."""
    path = Path(FOLDER) / name
    if not path.exists():
        pytest.skip(f"{name} is not in CALIB_QUOTES_DIR")
    table = list(chains(calib.read_quotes(path)))
    names = sorted({one.underlying for one in table})
    return [stability.walk([c for c in table if c.underlying == u], settings) for u in names]


def rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(values * values)))


def one_step(fits: Sequence[Fit]) -> list[float]:
    """RMSE in vol of each surface at the next quotes."""
    pairs = pairwise(fits)
    return [rms(stability.told(one, two, MEMORY)) for one, two in pairs]


def left_out(fits: Sequence[Fit], settings: FitSettings) -> list[float]:
    """RMSE in vol at every fifth quote, of fits that did not see it."""
    errors = []
    for number in range(1, len(fits), 4):
        whole = fits[number]
        thin, rows = stability.thinned(whole, EVERY, number % EVERY)
        (fit,) = fit_chains([thin], [fits[number - 1].surface], settings)
        errors.append(rms(stability.errors(stability.parameters_of(fit, whole), whole, rows)))
    return errors


def test_memory_on_the_deribit_months() -> None:
    console = Console(width=200)
    table = Table(
        "month",
        "memory",
        "ATM vol bp",
        "skew·√T bp",
        "curvature·T bp",
        "one step: median / mean RMSE bp",
        "left out: median / mean RMSE bp",
        title="Changes of handles between surfaces (median / RMS), and errors out of sample",
    )
    carried: dict[str, list[tuple[float, ...]]] = {name: [] for name in SETTINGS}
    cold = []
    for name in MONTHS:
        for setting, settings in SETTINGS.items():
            fits = walks(name, settings)
            pairs = [pair for each in fits for pair in pairwise(each)]
            moved = Moves.joined([stability.moves(*pair, MEMORY) for pair in pairs])
            if setting == "off":
                cold.append(moved)
            ahead = np.array([e for each in fits for e in one_step(each)])
            out = np.array([e for each in fits for e in left_out(each, settings)])
            steadiness = (rms(moved.handles[1]), rms(moved.handles[2]))
            carried[setting].append((*steadiness, float(np.mean(ahead)), float(np.mean(out))))
            table.add_row(
                name.removesuffix(".parquet"),
                setting,
                *(f"{1e4 * np.median(np.abs(h)):.1f} / {1e4 * rms(h):.1f}" for h in moved.handles),
                *(f"{1e4 * np.median(e):.1f} / {1e4 * np.mean(e):.1f}" for e in (ahead, out)),
            )
    console.print(table)
    moved = Moves.joined(cold)
    tenors = Table("years to expiry", "R at the money", "drift, likeliest", "moves, by these")
    for tenor in (None, *range(len(stability.TENORS) - 1)):
        mine = np.ones(len(moved.years), bool)
        label = "all"
        if tenor is not None:
            mine = stability.tenor_of(moved.years) == tenor
            label = f"{stability.TENORS[tenor]:.2f} to {stability.TENORS[tenor + 1]:.2f}"
        part = Moves(*(column[..., mine] for column in moved))
        ratio, error = stability.stickiness(part)
        likely = stability.drift(part)
        stated = replace(MEMORY, drift=tuple(likely.tolist()))
        tenors.add_row(
            label,
            f"{ratio:.2f} ± {error:.2f}",
            " ".join(f"{d:.2f}" for d in likely),
            " ".join(f"{z:.2f}" for z in stability.standardised(part, stated)),
        )
    console.print(tenors)
    # Memory steadies the shapes of smiles, at no more than a few per cent of error out of sample.
    skew, curvature, ahead_by, out_by = np.mean(carried["on"], axis=0) / np.mean(
        carried["off"], axis=0
    )
    assert max(skew, curvature) < 0.9
    assert max(ahead_by, out_by) < 1.03
