"""Implied vols of 100,000 options: time beside other libraries, errors against 40 digits.

Calls and puts, in and out of the money, |k| <= 1.5, total standard deviation 0.02 to 2, prices
computed with mpmath and rounded to doubles. "inverse" is the distance to the vol at which the
rounded price is exact. "conditioned" are the options whose rounded price still determines the vol
to 1e-10 (eps·price/vega below that); their errors are against the vol they were priced with.
CPU time counts all threads, wall time what one waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import iv_engine
import numpy as np
import pytest
import QuantLib as ql
from rich.console import Console
from rich.table import Table

import calib
from calib.conventions import Floats
from calib.market.black import VolState
from tests.market.black_reference import Options, joined, random_options

COUNT = 100_000
SAMPLE = 5_000  # of them, for libraries that take one option a call
ROUNDS = 15

Invert = Callable[[Options], Floats]


@pytest.fixture(scope="module")
def market() -> Options:
    """The references, in processes of their own: 50 digits take half a minute a core."""
    seeds = np.random.SeedSequence(2015).spawn(20)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        return joined(list(pool.map(_references, seeds)))


def _references(seed: np.random.SeedSequence) -> Options:
    return random_options(np.random.default_rng(seed), COUNT // 20)


def ours(market: Options) -> Floats:
    return calib.implied_vol(market.price, market.forward, market.strike, 1.0, market.sign)


def by_iv_engine(market: Options, parallel: bool) -> Floats:
    vols = np.empty(len(market.price))
    for is_call in (True, False):
        rows = (market.sign > 0) == is_call
        vols[rows] = iv_engine.implied_volatilities(
            market.price[rows],
            market.forward[rows],
            market.strike[rows],
            np.ones(int(rows.sum())),
            is_call,
            parallel,
        )
    return vols


def by_quantlib(market: Options) -> Floats:
    vols = np.full(len(market.price), np.nan)
    rows = zip(
        *(a.tolist() for a in (market.price, market.forward, market.strike, market.sign)),
        strict=True,
    )
    for i, (price, forward, strike, sign) in enumerate(rows):
        kind = ql.Option.Call if sign > 0 else ql.Option.Put
        try:
            vols[i] = ql.blackFormulaImpliedStdDev(
                kind, strike, forward, price, 1.0, 0.0, ql.nullDouble(), 1e-12, 1000
            )
        except RuntimeError:
            continue  # no vol, or not found
    return vols


CONTESTANTS: dict[str, tuple[Invert, int]] = {
    "calib": (ours, COUNT),
    "iv-engine": (lambda market: by_iv_engine(market, False), COUNT),
    "iv-engine, parallel": (lambda market: by_iv_engine(market, True), COUNT),
    "QuantLib (sample)": (by_quantlib, SAMPLE),
}


@pytest.mark.timeout(900)
def test_implied_vol(benchmark: Any, market: Options) -> None:
    table = Table(title=f"Black inversion of {COUNT:,} options")
    table.add_column("", no_wrap=True)
    headings = (
        "wall ns a vol",
        "CPU ns a vol",
        "error: inverse",
        "conditioned",
        "within 1e-10",
        "not found",
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, (invert, count) in CONTESTANTS.items():
        part = market.first(count)
        wall, cpu, vols = _timed(invert, part)
        has_vol, found = part.has_vol(), np.isfinite(vols)
        inverse = np.abs(part.stdev_errors(vols))[has_vol & found].max()
        well = has_vol & (part.condition < 1e-10)
        error = np.abs(vols - part.stdev)[well]
        table.add_row(
            name,
            f"{wall:.0f}",
            f"{cpu:.0f}",
            f"{inverse:.1e}",
            f"{np.nanmax(error):.1e}",
            f"{np.mean(error <= 1e-10):.3%}",
            f"{np.sum(has_vol & ~found)}",
        )
    Console(width=120).print(table)
    left = market.has_vol()
    well = left & (market.condition < 1e-10)
    print(f"{left.sum():,} have a vol, {well.sum():,} of them to 1e-10 or better; ", end="")
    print(f"{(~left).sum():,} were left without time value by rounding and are tagged so")

    state = calib.implied_vol_state(market.price, market.forward, market.strike, 1.0, market.sign)
    assert np.array_equal(state == VolState.OK, left)
    assert np.all(state[~left] == VolState.BELOW_INTRINSIC)
    assert np.abs(market.stdev_errors(ours(market)))[left].max() <= 1e-10
    benchmark.pedantic(ours, (market,), rounds=ROUNDS, warmup_rounds=2)


def _timed(invert: Invert, market: Options) -> tuple[float, float, Floats]:
    """Best wall and CPU nanoseconds an option, and the vols."""
    wall, cpu = [], []
    vols = invert(market)
    for _ in range(ROUNDS):
        start, start_cpu = time.perf_counter(), time.process_time()
        invert(market)
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
    return min(wall) / len(vols) * 1e9, min(cpu) / len(vols) * 1e9, vols
