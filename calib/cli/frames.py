"""Data frames to files, CSV or Parquet by the file's suffix."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from calib.cli.console import writing
from calib.errors import InvalidRequest

if TYPE_CHECKING:
    import pandas as pd


def check_suffix(path: Path) -> None:
    """Raise InvalidRequest unless the suffix is .csv or .parquet: before work, not after it."""
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise InvalidRequest(f"{path}: the suffix must be .csv or .parquet")


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Write the frame without its index; instants in CSV as ISO 8601 text."""
    check_suffix(path)
    with writing(path):
        if path.suffix.lower() == ".csv":
            frame.to_csv(path, index=False)
        else:
            frame.to_parquet(path, index=False)
