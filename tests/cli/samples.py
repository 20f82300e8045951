"""Small quote tables as files, and the command line run inside the test's own process."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calib.cli import main

NOW = pd.Timestamp("2026-03-02T08:00:00Z")


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code and what it printed."""

    code: int
    out: str
    err: str


class CommandLine:
    """Runs ``calib ARGUMENTS`` in this process."""

    def __init__(self, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self._patch = patch
        self._capture = capture

    def __call__(self, *arguments: object) -> Ended:
        self._capture.readouterr()
        with self._patch.context() as patch:
            patch.setattr(sys, "argv", ["calib", *map(str, arguments)])
            patch.setenv("COLUMNS", "160")
            with pytest.raises(SystemExit) as ended:
                main()
        printed = self._capture.readouterr()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return Ended(code or 0, printed.out, printed.err)


def quotes(underlyings: tuple[str, ...] = ("AAA",), times: int = 1) -> pd.DataFrame:
    """Two expiries of nine strikes each around a smile that is no model's; quoted in vol."""
    rows = []
    for step in range(times):
        now = NOW + pd.Timedelta(hours=step)
        for underlying in underlyings:
            for days in (30, 120):
                expiry = NOW + pd.Timedelta(days=days)
                for k in np.linspace(-0.3, 0.3, 9):
                    vol = 0.5 + 0.4 * k**2 - 0.1 * k + 0.01 * step
                    rows.append(
                        {
                            "quote_time": now,
                            "venue": "V",
                            "underlying": underlying,
                            "expiry": expiry,
                            "strike": 100.0 * np.exp(k),
                            "right": "P" if k < 0 else "C",
                            "unit": "vol",
                            "bid": vol - 0.01,
                            "ask": vol + 0.01,
                            "forward": 100.0,
                        }
                    )
    return pd.DataFrame(rows)


def written(folder: Path, frame: pd.DataFrame, name: str = "quotes.parquet") -> Path:
    """The frame in a file of the folder."""
    path = folder / name
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path, index=False)
    return path
