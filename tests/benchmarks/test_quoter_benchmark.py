"""What a quoter pays for a price from a surface that it holds: calib beside the same formulas
written out by hand, for one strike in plain floats and for a hundred in numpy.

By hand means: parameters, forward and weights of the expiries at hand, nothing looked up, nothing
checked. A look at `state` and `level` comes with every price, and is listed too. Ratios last,
microseconds are of this machine.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log, sqrt
from time import perf_counter
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from calib.client import ModelRisk, SurfaceUpdate
from calib.client.contact import Contact
from calib.conventions import utc_now
from calib.modelrisk.breakers import BreakerLevel
from calib.states import ModelName, SurfaceState
from calib.surface.surface import Surface
from tests.benchmarks.test_surface_benchmark import surface_of

POINTS = np.linspace(80.0, 125.0, 100)
ROUNDS, CALLS = 40, 200

Ask = Callable[[], Any]


def held() -> SurfaceUpdate:
    """An update as a watch hands it out, of twelve SVI expiries with error bars."""
    now = utc_now()
    contact = Contact("127.0.0.1:50051", 1e6, 1e6, utc_now)
    contact.heard(now)
    return SurfaceUpdate(
        surface=surface_of(ModelName.SVI),
        reported_state=SurfaceState.LIVE,
        valid_until=now + np.timedelta64(1, "D"),
        risk=ModelRisk(BreakerLevel.NORMAL, now),
        contact=contact,
    )


class ByHand:
    """The published rule between two SVI expiries, written out; ``sqrt`` and ``log`` are those of
    math or of numpy."""

    def __init__(self, surface: Surface, root: Callable[[Any], Any], ln: Callable[[Any], Any]):
        self.one, self.two = surface.expiries[4:6]
        self.years = 0.5 * (self.one.years + self.two.years)
        self.way = 0.5
        self.forward = surface.forward(self.years)
        self.root, self.ln = root, ln

    def variance(self, k: Any, parameters: Any) -> Any:
        a, b, rho, m, sigma = parameters
        x = k - m
        return a + b * (rho * x + self.root(x * x + sigma * sigma))

    def total_variance(self, k: Any) -> Any:
        start = self.variance(k, self.one.parameters)
        return start + self.way * (self.variance(k, self.two.parameters) - start)

    def implied_vol(self, strike: Any) -> Any:
        return self.root(self.total_variance(self.ln(strike / self.forward)) / self.years)

    def error(self, k: Any, each: Any) -> Any:
        _, b, rho, m, sigma = each.parameters
        x = k - m
        r = self.root(x * x + sigma * sigma)
        g = (1.0, rho * x + r, b * x, -b * (rho + x / r), b * sigma / r)
        c, size = each.covariance, range(5)
        variance = sum(g[i] * c[5 * i + j] * g[j] for i in size for j in size)
        moved = b * (rho + x / r) * each.forward_error / each.forward
        w = self.variance(k, each.parameters)
        return self.root(variance + moved * moved) / (2.0 * self.root(w * each.years))

    def vol_error(self, strike: Any) -> Any:
        k = self.ln(strike / self.forward)
        start = self.error(k, self.one)
        return start + self.way * (self.error(k, self.two) - start)


def microseconds(asks: list[Ask]) -> list[float]:
    """The median time of each, taken in turns, so that what else runs here meets all alike."""
    times: list[list[float]] = [[] for _ in asks]
    for _ in range(ROUNDS):
        for ask, taken in zip(asks, times, strict=True):
            start = perf_counter()
            for _ in range(CALLS):
                ask()
            taken.append((perf_counter() - start) / CALLS)
    return [1e6 * float(np.median(taken)) for taken in times]


def test_a_price_from_a_held_surface() -> None:
    update = held()
    plain, arrays = (ByHand(update.surface, *by) for by in ((sqrt, log), (np.sqrt, np.log)))
    years = plain.years
    span = np.timedelta64(round(years * 365 * 86_400e6), "us")
    instant = update.quote_time + span
    strike, k = 97.0, log(97.0 / plain.forward)
    ks = np.log(POINTS / plain.forward)
    cases: dict[str, tuple[Ask, Ask]] = {
        "total_variance, 1 point": (
            lambda: update.total_variance(k, years),
            lambda: plain.total_variance(k),
        ),
        "implied_vol, 1 point": (
            lambda: update.implied_vol(strike, years),
            lambda: plain.implied_vol(strike),
        ),
        "implied_vol, 1 point, by instant": (
            lambda: update.implied_vol(strike, instant),
            lambda: plain.implied_vol(strike),
        ),
        "vol_error, 1 point": (
            lambda: update.vol_error(strike, years),
            lambda: plain.vol_error(strike),
        ),
        "total_variance, 100 points": (
            lambda: update.total_variance(ks, years),
            lambda: arrays.total_variance(ks),
        ),
        "implied_vol, 100 points": (
            lambda: update.implied_vol(POINTS, years),
            lambda: arrays.implied_vol(POINTS),
        ),
        "vol_error, 100 points": (
            lambda: update.vol_error(POINTS, years),
            lambda: arrays.vol_error(POINTS),
        ),
    }
    for name, (ask, same) in cases.items():
        np.testing.assert_allclose(ask(), same(), rtol=1e-9, err_msg=name)
    looks: dict[str, Ask] = {"state": lambda: update.state, "level": lambda: update.level}
    flat = [ask for pair in cases.values() for ask in pair]
    times = microseconds(flat + list(looks.values()))
    table = Table("", "calib, µs", "by hand, µs", "ratio", title="A price from a held surface, SVI")
    for row, name in enumerate(cases):
        ours, by_hand = times[2 * row : 2 * row + 2]
        table.add_row(name, f"{ours:.1f}", f"{by_hand:.1f}", f"{ours / by_hand:.1f}")
    for name, taken in zip(looks, times[len(flat) :], strict=True):
        table.add_row(name, f"{taken:.2f}", "", "")
    Console(width=100).print(table)
