"""A universe of chains from raw bid and ask prices to certified surfaces, in a process of its own.

`python -m tests.benchmarks.universe UNDERLYINGS EXPIRIES STRIKES` prints one line of JSON: seconds
on the wall, processor seconds, rows, slices, certified surfaces, and peak memory in bytes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

from calib.fitting.fit import fit_stream
from calib.market.black import black_price
from calib.models import essvi
from calib.quotes.chain import Chain
from calib.quotes.labels import Labels
from calib.quotes.table import validated

START = np.datetime64("2026-01-05T15:00:00", "us")
FORWARD, TICK = 100.0, 0.01


def chain(number: int, expiries: int, strikes: int) -> Chain:
    """An underlying of its own seed: eSSVI smiles, an error of a third of the spread, ticks."""
    rng = np.random.default_rng(number)
    days = np.unique(np.round(np.geomspace(7.0, 720.0, expiries))).astype(np.int64)
    years = days / 365.0
    theta = rng.uniform(0.15, 0.7) ** 2 * years
    rho = np.full(len(days), rng.uniform(-0.7, 0.1))
    psi = rng.uniform(0.7, 1.1) * np.sqrt(theta)
    place = np.repeat(np.arange(len(days)), strikes)
    k = np.tile(np.linspace(-2.2, 1.8, strikes), len(days)) * np.sqrt(theta)[place]
    w = essvi.total_variance((theta[place], rho[place], psi[place]), k)
    vol = np.sqrt(w / years[place])
    strike, put = FORWARD * np.exp(k), k < 0.0
    right = np.where(put, "P", "C")
    half = 0.01 * vol
    middle = vol + half / 3.0 * rng.normal(size=len(k))
    bid = black_price(middle - half, FORWARD, strike, years[place], right)
    ask = black_price(middle + half, FORWARD, strike, years[place], right)
    rows, name = len(k), f"U{number}"
    table = validated(
        quote_time=np.full(rows, START),
        venue=Labels.constant("bench", rows),
        underlying=Labels.constant(name, rows),
        expiry=START + days[place] * np.timedelta64(86_400_000_000, "us"),
        strike=strike,
        right=Labels(put.astype(np.int32), ("C", "P")),
        unit=Labels.constant("linear", rows),
        bid=np.floor(bid / TICK) * TICK,
        ask=np.ceil(ask / TICK) * TICK,
        forward=np.full(rows, FORWARD),
    )
    return Chain(name, START, table)


def stream(count: int, expiries: int, strikes: int) -> Iterator[Chain]:
    """Chains made one by one, as they are asked for."""
    return (chain(i, expiries, strikes) for i in range(count))


def measured(count: int, expiries: int, strikes: int) -> dict[str, float]:
    """Fit them all once, compiled beforehand; the making of chains is timed apart."""
    for _ in fit_stream(stream(4, expiries, strikes), group=2):
        pass
    began = perf_counter()
    for _ in stream(min(count, 200), expiries, strikes):
        pass
    making = (perf_counter() - began) * count / min(count, 200)
    began, busy = perf_counter(), process_time()
    rows = slices = certified = 0
    for fits in fit_stream(stream(count, expiries, strikes)):
        rows += sum(len(fit.model_vol) for fit in fits)
        slices += sum(len(fit.surface.expiries) for fit in fits)
        certified += sum(fit.surface.certificate.arbitrage_free for fit in fits)
    return {
        "seconds": perf_counter() - began,
        "busy": process_time() - busy,
        "making": making,
        "rows": rows,
        "slices": slices,
        "certified": certified,
        "peak": _peak_bytes(),
    }


def _peak_bytes() -> float:
    """The most memory that this program has held: what `getrusage` says of a process that another
    one started may be that one's."""
    status = Path("/proc/self/status").read_text("utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return 1024.0 * float(line.split()[1])


if __name__ == "__main__":
    print(json.dumps(measured(*map(int, sys.argv[1:4]))))
