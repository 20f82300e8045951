"""Alarms: a chart or a metric that has left its limits, as an event."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.modelrisk.plain_values import Value, plain_values
from calib.modelrisk.tenors import Tenor


@dataclass(frozen=True)
class Alarm:
    """One event: ``value`` of ``metric`` on ``chart`` beyond ``limit``.

    ``expiry`` None: of the whole ``tenor`` bucket; ``tenor`` None as well: of the underlying.
    ``cause`` says it in a sentence.
    """

    underlying: str
    quote_time: np.datetime64
    expiry: np.datetime64 | None
    tenor: Tenor | None
    chart: str
    metric: str
    cause: str
    value: float
    limit: float

    def values(self) -> dict[str, Value]:
        """The fields as plain values; instants as ISO 8601 text."""
        return plain_values(self)
