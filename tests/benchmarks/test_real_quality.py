"""How well the free SVI smiles of every real table meet their quotes, printed."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

import calib
from calib.conventions import Floats
from calib.fitting.fit_value import Fit
from calib.market.slices import QuoteKind
from calib.states import FitState

FOLDER = os.environ.get("CALIB_QUOTES_DIR", "")
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not FOLDER, reason="CALIB_QUOTES_DIR names no folder of real quote tables"),
]


def outcome(fit: Fit) -> tuple[int, int, float, float]:
    """Rows that count, those inside bid–ask, squared vol error, and squared error in half-spreads.

    Every two-sided, uncrossed, unexpired out-of-the-money row that can be inverted at both sides
    counts, whether its expiry was fitted or not; errors are over the fitted ones.
    """
    both = fit.slices.kind == QuoteKind.TWO_SIDED
    bid, ask, vol = fit.slices.bid_vol[both], fit.slices.ask_vol[both], fit.model_vol[both]
    gap = vol - 0.5 * (bid + ask)
    inside = int(np.count_nonzero((vol >= bid) & (vol <= ask)))
    chi2 = float(np.nanmean((gap / fit.slices.noise[both]) ** 2))
    return int(both.sum()), inside, float(np.nanmean(gap * gap)) ** 0.5, chi2


def quantiles(values: Floats) -> str:
    return " / ".join(f"{np.quantile(values, q):.4f}" for q in (0.5, 0.05, 0.0))


def test_quality_on_real_tables() -> None:
    table = Table(
        "table",
        "chains",
        "rows/s",
        "in spread by chain: median / 5 % / worst",
        "by snapshot: median / 5 % / worst",
        "rmse bp, median",
        "χ² a row, median",
        "expiries",
        title="Free SVI smiles on real tables",
    )
    deribit = []
    for path in sorted(Path(FOLDER).glob("*.parquet")):
        quotes = calib.read_quotes(path)
        calib.fit_many(quotes)  # compiles
        started = perf_counter()
        fits = calib.fit_many(quotes)
        seconds = perf_counter() - started
        assert all(fit.surface.expiries for fit in fits)
        outcomes = [outcome(fit) for fit in fits]
        share = np.array([inside / count for count, inside, *_ in outcomes])
        whole: dict[np.datetime64, list[int]] = {}
        for fit, (count, inside, *_) in zip(fits, outcomes, strict=True):
            total = whole.setdefault(fit.surface.quote_time, [0, 0])
            total[0] += count
            total[1] += inside
        snapshots = np.array([inside / count for count, inside in whole.values()])
        if path.name.startswith("deribit"):
            deribit.append(snapshots)
        states = Counter(state.name for fit in fits for state in fit.states)
        table.add_row(
            path.stem,
            str(len(fits)),
            f"{len(quotes) / seconds:,.0f}",
            quantiles(share),
            quantiles(snapshots),
            f"{1e4 * np.median([rmse for *_, rmse, _ in outcomes]):.1f}",
            f"{np.median([chi2 for *_, chi2 in outcomes]):.2f}",
            ", ".join(f"{count} {name}" for name, count in states.most_common()),
        )
        assert set(states) <= {state.name for state in FitState}
    console = Console(width=220)
    console.print(table)
    if deribit:
        joined = np.concatenate(deribit)
        console.print(
            f"all {len(joined)} Deribit snapshots, median / 5 % / worst: {quantiles(joined)}"
        )
        assert np.median(joined) >= 0.95
