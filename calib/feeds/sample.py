"""The quote table that ships with calib: a small simulated market, for first steps and tests."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def sample_quotes() -> Path:
    """Path of a Parquet quote table: a few simulated underlyings at a few times.

    It is what ``calib simulate`` writes; the README says with which options.
    """
    return Path(str(files("calib") / "data" / "sample_quotes.parquet"))
