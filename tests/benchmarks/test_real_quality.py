"""Certified surfaces of every chain of the real tables against free smiles, printed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

import calib
from calib.conventions import Floats
from calib.fitting.fit_value import Fit
from calib.fitting.settings import FitSettings
from calib.fitting.smile import LossName
from calib.quotes.chain import chains
from calib.quotes.table import QuoteTable
from calib.states import ModelName
from tests.benchmarks.quality import by_snapshot, fits_of, is_certified, lowest_seen, quality

FOLDER = os.environ.get("CALIB_QUOTES_DIR", "")
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not FOLDER, reason="CALIB_QUOTES_DIR names no folder of real quote tables"),
]

FREE = {
    "free, same loss": FitSettings(arbitrage_free=False),
    "free, least squares": FitSettings(arbitrage_free=False, loss=LossName.SQUARE),
}


def quantiles(values: Floats, scale: float = 1.0) -> str:
    return " / ".join(f"{scale * np.quantile(values, q):.2f}" for q in (0.5, 0.05, 0.0))


def test_quality_on_real_tables() -> None:
    proofs = Table(
        "table", "model", "surfaces", "uncertified", "refused", "arbitrage found", "lowest seen",
        "blended", "blends", "rows/s",
        title="Proofs, and what a dense look finds: 4,001 points to ±50 deviations and 1,201 where "
        "smiles bend, all pairs, between, before and beyond",
    )  # fmt: skip
    meets = Table(
        "table", "fit", "in spread by snapshot, %", "less free, same loss, points",
        "less free, least squares, points", "RMSE bp", "χ²_red",
        title="How the quotes are met (median / 5 % / worst; RMSE and χ²_red: medians over chains)",
    )  # fmt: skip
    deribit: list[tuple[Floats, Floats, Floats]] = []
    for path in sorted(Path(FOLDER).glob("*.parquet")):
        quotes = calib.read_quotes(path)
        free = {name: fits_of(chains(quotes), settings) for name, settings in FREE.items()}
        shares = [by_snapshot(fits) for fits in free.values()]
        for model in ModelName:
            fits = _timed(proofs, path.stem, quotes, model)
            certified = [is_certified(fit.surface) for fit in fits]
            if model is ModelName.SABR and not any(certified):
                continue
            assert all(certified), (path.stem, model)
            share = by_snapshot(fits)
            _row(meets, path.stem, f"{model.name.lower()}, certified", fits, share, shares)
            if model is ModelName.SVI and path.stem.startswith("deribit"):
                deribit.append((share, *shares))  # type: ignore[arg-type]
        for (name, fits), share in zip(free.items(), shares, strict=True):
            _row(meets, path.stem, name, fits, share, shares)
    console = Console(width=200)
    console.print(proofs)
    console.print(meets)
    if deribit:
        svi, same, least = (np.concatenate(parts) for parts in zip(*deribit, strict=True))
        console.print(
            f"certified SVI on all {len(svi)} Deribit snapshots, points of share "
            f"(median / 5 % / worst): less the free fit {quantiles(svi - same, 100)}, "
            f"less free least squares {quantiles(svi - least, 100)}"
        )
        assert np.median(svi) >= 0.95
        assert np.median(svi - same) >= -0.005
        assert np.quantile(svi - same, 0.05) >= -0.025


def _timed(table: Table, name: str, quotes: QuoteTable, model: ModelName) -> list[Fit]:
    started = perf_counter()
    fits = fits_of(chains(quotes), FitSettings(model=model))
    seconds = perf_counter() - started
    surfaces = [fit.surface for fit in fits]
    blends = np.array([surface.blend for surface in surfaces])
    lowest = np.full(len(fits), np.nan)
    if model is not ModelName.SABR:  # proved within its quotes, where the look would leave them
        lowest = np.array([lowest_seen(one) if one.expiries else np.nan for one in surfaces])
        assert not (lowest < 0.0).any(), name
    refused = sum(not surface.expiries for surface in surfaces)
    some = blends[blends > 0.0]
    table.add_row(
        name,
        model.name.lower(),
        str(len(fits)),
        str(sum(not is_certified(surface) for surface in surfaces)),
        str(refused),
        "not looked" if np.isnan(lowest).all() else str(int((lowest < 0.0).sum())),
        f"{np.nanmin(lowest):.1e}" if np.isfinite(lowest).any() else "",
        f"{100 * np.mean(blends > 0.0):.1f} %",
        " ".join(f"{one:.2f}" for one in np.sort(some)),
        f"{len(quotes) / seconds:,.0f}",
    )
    return fits


def _row(
    table: Table,
    name: str,
    label: str,
    fits: Sequence[Fit],
    share: Floats,
    free: Sequence[Floats],
) -> None:
    found = [quality(fit) for fit in fits]
    table.add_row(
        name,
        label,
        quantiles(share, 100),
        *(quantiles(share - other, 100) for other in free),
        f"{1e4 * np.median([one.rmse for one in found]):.1f}",
        f"{np.median([one.chi2 for one in found]):.2f}",
    )
