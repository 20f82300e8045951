"""What certified surfaces cost as underlyings, expiries and strikes grow, one of them at a time.

Compiled beforehand, and called on one thread. Processor seconds, the least of several runs: other
work on a machine adds to them through its caches alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from time import process_time

import numpy as np
from rich.console import Console
from rich.table import Table

from calib.fitting.fit import fit_chains
from tests.benchmarks.universe import chain

ROUNDS = 15
USUAL = {"underlyings": 8, "expiries": 8, "strikes": 32}
GROWING = {
    "underlyings": (1, 4, 16, 64),
    "expiries": (4, 8, 16),
    "strikes": (16, 32, 64),
}
"""Each size of expiries or strikes is a shape to compile, a quarter of a minute."""


def sizes(axis: str) -> Iterator[dict[str, int]]:
    """The usual size with one number growing."""
    return (USUAL | {axis: number} for number in GROWING[axis])


def seconds(underlyings: int, expiries: int, strikes: int) -> float:
    """Least processor seconds from prices to surfaces, all of them certified."""
    group = [chain(number, expiries, strikes) for number in range(underlyings)]
    fits = fit_chains(group)
    assert all(fit.surface.certificate.arbitrage_free for fit in fits)
    times = []
    for _ in range(ROUNDS):
        began = process_time()
        fit_chains(group)
        times.append(process_time() - began)
    return min(times)


def test_cost_against_size() -> None:
    table = Table(
        "growing", "underlyings", "expiries", "strikes", "ms", "ms an underlying", "µs a slice",
        "µs a row", "cost grows like",
        title=f"prices to certified surfaces, processor time, least of {ROUNDS}",
    )  # fmt: skip
    for axis, numbers in GROWING.items():
        costs = [seconds(**size) for size in sizes(axis)]
        power, _ = np.polyfit(np.log(numbers), np.log(costs), 1)
        for size, cost in zip(sizes(axis), costs, strict=True):
            last = size[axis] == numbers[-1]
            slices = size["underlyings"] * size["expiries"]
            table.add_row(
                axis,
                *map(str, size.values()),
                f"{1e3 * cost:.2f}",
                f"{1e3 * cost / size['underlyings']:.2f}",
                f"{1e6 * cost / slices:.0f}",
                f"{1e6 * cost / (slices * size['strikes']):.1f}",
                f"n^{power:.2f}" if last else "",
                end_section=last,
            )
    Console(width=150).print(table)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
