"""Certified surfaces: one of twelve expiries, cold and after a tick; many bare slices; a universe.

Ratios are of one run on the same slices. Times are the least of several runs, because other work
on a machine only ever adds to them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import jax
import numpy as np
import pytest
import QuantLib as ql
from rich.console import Console
from rich.table import Table

from calib.feeds.simulator import SimulatorSettings, snapshots
from calib.fitting import certified, fit
from calib.fitting.fit import fit_chains
from calib.fitting.fit_value import Fit
from calib.fitting.least_squares import Tolerances
from calib.fitting.smile import LossName, fit_smiles
from calib.fitting.universe import LANE_BUCKETS, QUOTE_BUCKETS, Batch
from calib.market.slices import QuoteKind
from calib.market.slicing import slices_of
from calib.models.model import model_named
from calib.quotes.chain import Chain, chains
from tests.benchmarks.test_fit_benchmark import by_scipy, market
from tests.benchmarks.universe import chain as made_chain
from tests.market.shared_tables import FOLDER, shared_chains

ROOT = Path(__file__).parents[2]
ROUNDS = 40
SAMPLE = 4  # slices that QuantLib fits: it takes a twentieth of a second for each


def live_chain() -> tuple[str, Chain]:
    """A chain of twelve expiries: Deribit's where the shared tables are, else a simulated one."""
    if FOLDER:
        for found in shared_chains("deribit_2026-03.parquet"):
            if len(slices_of(found).expiry) == 12:
                return "Deribit", found
    shot = next(iter(snapshots(SimulatorSettings(snapshots=1))))
    return "simulated", next(chains(shot.quotes))


def ticked(chain: Chain, number: int) -> Chain:
    """A second later, five quotes a little lower."""
    table = chain.quotes
    later = np.timedelta64(number + 1, "s")
    changed = np.random.default_rng(number).choice(np.flatnonzero(table.bid > 0.0), 5)
    bid, time = table.bid.copy(), table.quote_time.copy()
    bid[changed] *= 0.995
    time[changed] += later
    return replace(
        chain,
        quote_time=chain.quote_time + later,
        quotes=replace(table, bid=bid, quote_time=time),
    )


class Stages:
    """Seconds in each part of a fit, the parts being timed where the fit itself calls them."""

    parts = (
        ("slices", fit, "slices_of"),
        ("batch", certified, "surface_batches"),
        ("prior", certified, "svi_prior"),
        ("joint fit", certified, "fit_joint"),
        ("certificate", certified, "certify_all"),
    )

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def timed(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name, module, function in self.parts:
                patch.setattr(module, function, self._wrapped(name, getattr(module, function)))
            yield

    def _wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            began = perf_counter()
            result = call(*arguments)
            if name == "batch":
                result = list(result)
            jax.block_until_ready(result)  # type: ignore[no-untyped-call]
            self.seconds[name] += perf_counter() - began
            return result

        return timed


def stages_of(work: Callable[[], object], rounds: int) -> dict[str, float]:
    """Least seconds of each part, of the rest, and of the whole call with no part timed."""
    work()
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        began = perf_counter()
        work()
        found["whole"].append(perf_counter() - began)
        stages = Stages()
        began = perf_counter()
        with stages.timed():
            work()
            whole = perf_counter() - began
        for name, seconds in stages.seconds.items():
            found[name].append(seconds)
        found["assembly"].append(whole - sum(stages.seconds.values()))
    return {name: min(seconds) for name, seconds in found.items()}


def by_quantlib(batch: Batch) -> float:
    """Seconds a slice of `SviInterpolatedSmileSection`, from a sample."""
    today = ql.Date(5, 1, 2026)
    ql.Settings.instance().evaluationDate = today
    began = perf_counter()
    number = min(SAMPLE, len(batch.lanes))
    for i in range(number):
        strikes = np.exp(batch.k[:, i])
        atm = float(np.interp(0.0, batch.k[:, i], batch.target[:, i]))
        width = atm**2 * batch.years[i]
        section = ql.SviInterpolatedSmileSection(
            today + max(1, round(365 * batch.years[i])), 1.0, strikes.tolist(), False, atm,
            batch.target[:, i].tolist(), 0.5 * width, 0.5 * width**0.5, width**0.5, -0.3, 0.0,
            False, False, False, False, False, False,
        )  # fmt: skip
        section.volatility(1.0)
    return (perf_counter() - began) / number


def bare_slices(chain: Chain) -> list[Batch]:
    """The chain's expiries, each with its two-sided quotes alone, for those who fit by hand."""
    slices = slices_of(chain)
    batches = []
    for i in range(len(slices.expiry)):
        mine = np.flatnonzero((slices.slice_index == i) & (slices.kind == QuoteKind.TWO_SIDED))
        mine = mine[np.argsort(slices.log_moneyness[mine])]
        k = slices.log_moneyness[mine, None]
        if len(np.unique(k)) < 6:
            continue
        target = 0.5 * (slices.bid_vol[mine, None] + slices.ask_vol[mine, None])
        noise = slices.noise[mine, None]
        batches.append(Batch(np.arange(1), k, target, noise, noise, slices.years[i : i + 1]))
    return batches


def test_a_certified_surface_of_twelve_expiries() -> None:
    source, chain = live_chain()
    (first,) = fit_chains([chain])
    tick = ticked(chain, 1)
    work: dict[str, Callable[[], list[Fit]]] = {
        "cold": lambda: fit_chains([chain]),
        "after a tick": lambda: fit_chains([tick], [first.surface]),
    }
    names = ("slices", "batch", "prior", "joint fit", "certificate", "assembly", "whole")
    table = Table(
        "start", *names, "steps",
        title=f"ms, least of {ROUNDS}: {len(first.surface.expiries)} {source} expiries, "
        f"{sum(d.quotes_used for d in first.slice_diagnostics)} quotes; aims 15 cold, 2 warm",
    )  # fmt: skip
    for start, call in work.items():
        (last,) = call()
        assert last.surface.certificate.arbitrage_free
        seconds = stages_of(call, ROUNDS)
        steps = max(one.steps for one in last.slice_diagnostics)
        table.add_row(start, *(f"{1e3 * seconds[name]:.2f}" for name in names), str(steps))
    Console(width=160).print(table)
    alone = bare_slices(chain)
    theirs = sum(min(by_scipy(one)[1] for _ in range(3)) for one in alone)
    quantlib = len(alone) * np.mean([by_quantlib(one) for one in alone[:SAMPLE]])
    print(
        f"bare, free of conditions, {len(alone)} slices: scipy {1e3 * theirs:.2f} ms, "
        f"QuantLib {1e3 * quantlib:.0f} ms (from {SAMPLE}); load {os.getloadavg()[0]:.1f}"
    )


def chunked(count: int) -> list[Batch]:
    """Slices as the fitter batches them: 128 lanes, quotes padded up to a bucket."""
    whole, lanes = market(count), LANE_BUCKETS[-1]
    padding = next(size for size in QUOTE_BUCKETS if size >= len(whole.k)) - len(whole.k)

    def rows(part: np.ndarray, beyond: np.ndarray) -> np.ndarray:
        return np.concatenate([part, np.repeat(beyond[:1], padding, axis=0)])

    chunks = []
    for begin in range(0, count, lanes):
        mine = np.resize(np.arange(begin, min(begin + lanes, count)), lanes)
        free = np.full((1, lanes), np.inf)
        k, target, above, below = (part[:, mine] for part in whole[1:5])
        chunks.append(
            Batch(
                np.arange(lanes), rows(k, k), rows(target, target), rows(above, free),
                rows(below, free), whole.years[mine],
            )
        )  # fmt: skip
    return chunks


def test_batches_of_bare_slices() -> None:
    model, tolerances, nothing = model_named("svi"), Tolerances(), np.full((5, 128), np.nan)
    few = market(200)
    scipy_seconds = min(by_scipy(few)[1] for _ in range(2))
    quantlib = by_quantlib(few)
    table = Table(
        "slices", "loss", "threads", "µs a slice", "µs a slice and core", "steps, mean",
        "times scipy", "times QuantLib",
        title="bare SVI fits of 41 quotes, padded to 64; aim 8 µs a slice and core",
    )  # fmt: skip
    for count, rounds in ((128, 100), (2_048, 5), (50_000, 2)):
        chunks = chunked(count)
        for loss in (LossName.SQUARE, LossName.DEAD_ZONE):

            def one(batch: Batch, loss: LossName = loss) -> float:
                return float(fit_smiles(model, loss, tolerances, batch, nothing).steps.mean())

            steps = np.mean([one(batch) for batch in chunks[:16]])
            for threads in (1, 2) if len(chunks) > 1 else (1,):
                with ThreadPoolExecutor(threads) as pool:
                    times = []
                    for _ in range(rounds):
                        began = perf_counter()
                        list(pool.map(one, chunks))
                        times.append(perf_counter() - began)
                each = min(times) / count
                table.add_row(
                    f"{count:,}", loss.value, str(threads), f"{1e6 * each:.1f}",
                    f"{1e6 * each * threads:.1f}", f"{steps:.1f}",
                    f"{scipy_seconds / each:.0f}", f"{quantlib / each:,.0f}",
                )  # fmt: skip
    Console(width=160).print(table)
    print(
        f"scipy {1e6 * scipy_seconds:.0f} µs, QuantLib {1e6 * quantlib:,.0f} µs a slice "
        f"(from {SAMPLE}); load {os.getloadavg()[0]:.1f}"
    )


def in_a_process(underlyings: int, expiries: int, strikes: int) -> dict[str, float]:
    """`tests.benchmarks.universe` of that size."""
    done = subprocess.run(
        [
            sys.executable, "-m", "tests.benchmarks.universe",
            str(underlyings), str(expiries), str(strikes),
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=1500, check=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_universe_from_prices_to_certified_surfaces() -> None:
    sizes = (
        (100, 10, 40), (400, 10, 40), (5_000, 10, 40),
        (200, 5, 40), (200, 20, 40), (200, 10, 20), (200, 10, 80),
    )  # fmt: skip
    table = Table(
        "underlyings", "expiries", "strikes", "s", "ms an underlying", "µs a slice", "cores busy",
        "rows/s", "certified", "peak MB", "of it making chains, s",
        title="two threads, bid and ask prices to certified surfaces; aim 5 s for 5,000",
    )  # fmt: skip
    for size in sizes:
        found = in_a_process(*size)
        assert found["certified"] == size[0]
        assert found["peak"] < 2e9
        table.add_row(
            *(f"{n:,}" for n in size),
            f"{found['seconds']:.1f}",
            f"{1e3 * found['seconds'] / size[0]:.2f}",
            f"{1e6 * found['seconds'] / found['slices']:.0f}",
            f"{found['busy'] / found['seconds']:.2f}",
            f"{found['rows'] / found['seconds']:,.0f}",
            f"{found['certified']:.0f}",
            f"{found['peak'] / 1e6:.0f}",
            f"{found['making']:.1f}",
        )
    Console(width=170).print(table)
    group = [made_chain(i, 10, 40) for i in range(32)]
    seconds = stages_of(lambda: fit_chains(group), 5)
    print(
        "a group of 32 on one thread, ms an underlying: "
        + ", ".join(f"{name} {1e3 * part / 32:.2f}" for name, part in seconds.items())
        + f"; load {os.getloadavg()[0]:.1f}"
    )
