"""Certificates of slices fitted to real quotes, expiry by expiry, against the dense look."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import calib
from calib.arbitrage.surfaces import certify_surfaces
from tests.arbitrage.dense import lowest_g, lowest_g_between, lowest_growth
from tests.arbitrage.slice_samples import from_rows

TABLES = os.environ.get("CALIB_QUOTES_DIR", "")


@pytest.mark.real_data
@pytest.mark.skipif(not TABLES, reason="CALIB_QUOTES_DIR is not set")
def test_verdicts_on_fitted_slices_are_those_of_the_dense_look() -> None:
    import pandas as pd

    table = pd.read_parquet(Path(TABLES) / "deribit_2026-04-01_07.parquet")
    times = np.sort(table["quote_time"].unique())[::20][:3]
    quotes = calib.quotes_from_frame(table[table["quote_time"].isin(times)])
    surfaces = [
        np.array([one.parameters for one in fit.surface.expiries])
        for fit in calib.fit_many(quotes, model="svi")
    ]
    fitted = [rows[np.isfinite(rows).all(axis=1)] for rows in surfaces]
    proofs = certify_surfaces(from_rows(np.concatenate(fitted)), [len(rows) for rows in fitted])

    depth = np.concatenate([lowest_g(rows) for rows in fitted])
    growth = np.concatenate([lowest_growth(rows[:-1], rows[1:]) for rows in fitted])
    between = np.concatenate([lowest_g_between(rows[:-1], rows[1:]) for rows in fitted])
    assert depth.size > 30
    assert np.array_equal(proofs.butterfly.ok, depth > 0)
    assert np.array_equal(proofs.calendar.ok, growth > 0)
    assert (proofs.butterfly.margin <= depth + 1e-12).all()
    assert (proofs.calendar.margin <= growth + 1e-12).all()
    ends = proofs.butterfly.ok[proofs.pair_first] & proofs.butterfly.ok[proofs.pair_first + 1]
    assert np.array_equal(proofs.interpolation.ok, ends)
    assert (between[ends] > 0).all()
