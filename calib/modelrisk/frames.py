"""Model-risk values as data frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

import pandas as pd

if TYPE_CHECKING:
    from calib.modelrisk.metrics import SurfaceMetrics
    from calib.modelrisk.plain_values import Value

INSTANTS = ("quote_time", "expiry", "at", "until")
"""The columns that hold instants, in any of these frames."""


class HasValues(Protocol):
    """Whatever can say its numbers by name."""

    def values(self) -> dict[str, Value]:
        """Flat names and plain values."""


def frame_of(rows: Iterable[HasValues]) -> pd.DataFrame:
    """A row per value, a column per name; what a row does not have is missing."""
    return _timed(pd.DataFrame([row.values() for row in rows]))


def slice_frame(measured: Sequence[SurfaceMetrics]) -> pd.DataFrame:
    """A row per expiry of every surface: underlying, quote_time, and the slice's metrics."""
    return _timed(
        pd.DataFrame(
            [
                {"underlying": each.underlying, "quote_time": each.quote_time, **one.values()}
                for each in measured
                for one in each.slices
            ]
        )
    )


def _timed(frame: pd.DataFrame) -> pd.DataFrame:
    for name in INSTANTS:
        if name in frame.columns:
            frame[name] = pd.to_datetime(frame[name], utc=True)
    return frame
