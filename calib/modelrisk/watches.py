"""Watches: the control charts of one underlying, a pair for each tenor bucket and innovation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from calib.modelrisk.alarms import Alarm
from calib.modelrisk.charts import (
    CusumSettings,
    CusumState,
    EwmaSettings,
    EwmaState,
    cusum_start,
    cusum_step,
    ewma_step,
)
from calib.modelrisk.plain_values import Value, plain_values
from calib.modelrisk.tenors import Tenor


@dataclass(frozen=True)
class ChartSettings:
    """The settings of both charts."""

    ewma: EwmaSettings = field(default_factory=EwmaSettings)
    cusum: CusumSettings = field(default_factory=CusumSettings)


@dataclass(frozen=True)
class ChartPair:
    """Both charts of one series."""

    ewma: EwmaState
    cusum: CusumState


@dataclass(frozen=True)
class ChartPoint:
    """One step of one chart, for histories: what came in, where the chart stands, its limits."""

    tenor: Tenor
    metric: str
    chart: str
    innovation: float
    value: float
    limit: float

    def values(self) -> dict[str, Value]:
        """The fields as plain values."""
        return plain_values(self)


Charts = Mapping[tuple[Tenor, str], ChartPair]
"""By tenor bucket and metric."""

_WORDS = {"level": "the level of vol", "skew": "the skew"}


def chart_step(
    charts: Charts,
    metric: str,
    pooled: Mapping[Tenor, float],
    settings: ChartSettings,
    underlying: str,
    quote_time: np.datetime64,
) -> tuple[Charts, tuple[ChartPoint, ...], tuple[Alarm, ...]]:
    """The charts after one standardised innovation of ``metric`` for each tenor in ``pooled``.

    A chart that signals raises an alarm and starts anew.
    """
    after = dict(charts)
    points: list[ChartPoint] = []
    alarms: list[Alarm] = []
    for tenor, z in pooled.items():
        fresh = ChartPair(EwmaState(), cusum_start(settings.cusum))
        pair = charts.get((tenor, metric), fresh)
        ewma, average = ewma_step(pair.ewma, z, settings.ewma)
        cusum, sums = cusum_step(pair.cusum, z, settings.cusum)
        for chart, reading in (("ewma", average), ("cusum", sums)):
            points.append(ChartPoint(tenor, metric, chart, z, reading.value, reading.limit))
            if reading.signal:
                way = "above" if reading.value > 0.0 else "below"
                cause = (
                    f"{_WORDS[metric]} at {tenor} keeps coming in {way} what the last surface "
                    f"says: {chart.upper()} {reading.value:+.2f}, limits ±{reading.limit:.2f}"
                )
                alarms.append(
                    Alarm(
                        underlying,
                        quote_time,
                        None,
                        tenor,
                        chart,
                        metric,
                        cause,
                        reading.value,
                        reading.limit,
                    )
                )
        after[tenor, metric] = ChartPair(
            fresh.ewma if average.signal else ewma, fresh.cusum if sums.signal else cusum
        )
    return after, tuple(points), tuple(alarms)
