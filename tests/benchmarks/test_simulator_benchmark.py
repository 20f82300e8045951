"""What a simulated market costs: Bates prices of a chain, and a whole snapshot of quotes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import pytest

from calib.feeds.simulated.contour import time_value
from calib.feeds.simulated.underlying import default_underlyings
from calib.feeds.simulator import SimulatorSettings, snapshots

EXPIRIES, STRIKES = 12, 40


def test_bates_prices_of_a_chain(benchmark: Callable[..., Any]) -> None:
    (bitcoin,) = default_underlyings(1)
    years = np.geomspace(0.5, 330.0, EXPIRIES)[:, None] / 365.0
    k = np.linspace(-4.0, 4.0, STRIKES) * 0.5 * np.sqrt(years)
    values = benchmark(time_value, bitcoin.model, k, years, bitcoin.variance)
    assert np.all(values > 0.0)


@pytest.mark.parametrize("underlyings", [1, 3])
def test_a_snapshot(benchmark: Callable[..., Any], underlyings: int) -> None:
    settings = SimulatorSettings(
        underlyings=default_underlyings(underlyings),
        expiries=EXPIRIES,
        strikes=STRIKES,
        snapshots=10**6,
    )
    stream = snapshots(settings)
    list(islice(stream, 3))  # compiles the implied vols
    snapshot = benchmark(next, stream)
    assert len(snapshot.quotes) >= 2 * underlyings * EXPIRIES * STRIKES
