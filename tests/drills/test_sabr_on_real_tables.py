"""SABR on chains of the real tables: certified as fitted, and so found by a dense look."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

import pytest

import calib
from calib.fitting.sabr_surface import fit_sabr_surfaces
from calib.market.slicing import slices_of
from calib.quotes.chain import chains
from tests.fitting.test_sabr_surfaces import assert_free

FOLDER = os.environ.get("CALIB_QUOTES_DIR", "")

# Table, and every how many chains.
SAMPLES = (
    ("deribit_2026-01.parquet", 13),
    ("deribit_2026-03.parquet", 13),
    ("deribit_2026-04-01_07.parquet", 5),
    ("spx_2019-04-09.parquet", 1),
    ("spx_close_2026-07.parquet", 1),
)


@pytest.mark.drill  # minutes, nearly all of them compilation
@pytest.mark.real_data
@pytest.mark.skipif(not FOLDER, reason="CALIB_QUOTES_DIR names no folder of real quote tables")
@pytest.mark.parametrize(("name", "every"), SAMPLES)
def test_sabr_surfaces_are_certified_without_a_blend(name: str, every: int) -> None:
    path = Path(FOLDER) / name
    if not path.exists():
        pytest.skip(f"{name} is not in CALIB_QUOTES_DIR")
    sliced = [slices_of(chain) for chain in islice(chains(calib.read_quotes(path)), 0, None, every)]
    for slices, fit in zip(sliced, fit_sabr_surfaces(sliced, 1.0), strict=True):
        assert_free(slices, fit)
        assert fit.blend == 0.0, (name, slices.chain.quote_time)
