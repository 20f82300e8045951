"""Microseconds a slice of the bare SVI fit, beside scipy with an analytic Jacobian."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from time import perf_counter

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.optimize import least_squares

from calib.conventions import Floats
from calib.fitting.least_squares import Tolerances
from calib.fitting.smile import LossName, fit_smiles
from calib.fitting.universe import Batch
from calib.models import svi
from calib.models.model import model_named

QUOTES = 41
NOISE = 0.004
TOLERANCES = Tolerances()


def market(lanes: int) -> Batch:
    """Random SVI smiles over ±2.5 ATM deviations, with errors of half the noise."""
    rng = np.random.default_rng(1)
    years = rng.uniform(0.02, 1.5, lanes)
    theta = rng.uniform(0.2, 0.9, lanes) ** 2 * years
    rho = rng.uniform(-0.7, 0.3, lanes)
    psi = rng.uniform(0.7, 1.3, lanes) * np.sqrt(theta)
    flat = np.sqrt(1.0 - rho**2)
    smile = (0.5 * theta * flat**2, 0.5 * psi, rho, -theta * rho / psi, theta * flat / psi)
    k = np.linspace(-2.5, 2.5, QUOTES)[:, None] * np.sqrt(theta)
    vol = np.sqrt(svi.total_variance(smile, k) / years)
    spread = np.full(k.shape, NOISE)
    vol = vol + 0.5 * NOISE * rng.normal(size=k.shape)
    return Batch(np.arange(lanes), k, vol, spread, spread, years)


def padded(batch: Batch, lanes: int) -> Batch:
    """The batch as the fitter pads it, with copies of its first slice."""
    extra = lanes - len(batch.lanes)

    def wider(part: Floats) -> Floats:
        return np.concatenate([part, np.repeat(part[..., :1], extra, axis=-1)], axis=-1)

    return Batch(batch.lanes, *(wider(part) for part in batch[1:]))


def by_scipy(batch: Batch) -> tuple[Floats, float]:
    """`least_squares(method="lm")` in raw parameters, and seconds a slice."""
    start = np.array([0.5, 0.5, -0.3, 0.0, 0.5])
    found = []
    began = perf_counter()
    for i in range(len(batch.lanes)):
        k, target, years = batch.k[:, i], batch.target[:, i], batch.years[i]
        width = np.sqrt(np.interp(0.0, k, target) ** 2 * years)

        def residual(p: Floats, k: Floats = k, target: Floats = target, t: float = years) -> Floats:
            w = np.maximum(svi.total_variance(p, k), 1e-12)
            rows: Floats = (np.sqrt(w / t) - target) / NOISE
            return rows

        def jacobian(p: Floats, k: Floats = k, t: float = years) -> Floats:
            w = np.maximum(svi.total_variance(p, k), 1e-12)
            slope = 0.5 / (NOISE * np.sqrt(w * t))
            columns: Floats = np.stack(svi.parameter_gradient(p, k), axis=1) * slope[:, None]
            return columns

        first = start * np.array([width**2, width, 1.0, width, width])
        found.append(least_squares(residual, first, jac=jacobian, method="lm").x)
    return np.array(found).T, (perf_counter() - began) / len(batch.lanes)


def rms(batch: Batch, parameters: Floats) -> Floats:
    """Root mean square vol error of each slice, in basis points."""
    w = np.maximum(svi.total_variance(parameters, batch.k), 1e-12)
    gap: Floats = np.sqrt(w / batch.years) - batch.target
    error: Floats = 1e4 * np.sqrt(np.mean(gap * gap, axis=0))
    return error


def fastest(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Least and median seconds of a call."""
    work()
    times = []
    for _ in range(rounds):
        began = perf_counter()
        work()
        times.append(perf_counter() - began)
    return min(times), float(np.median(times))


def test_microseconds_a_slice() -> None:
    table = Table(
        "slices",
        "loss",
        "start",
        "µs a slice, median",
        "µs, least",
        "steps, mean / most",
        "rms bp, median",
        "scipy µs",
        "scipy rms bp",
        "times faster",
        title=f"SVI fits of {QUOTES} quotes a slice",
    )
    model = model_named("svi")
    for lanes, shape in ((1, 16), (12, 16), (128, 128)):
        batch = market(lanes)
        wide = padded(batch, shape)
        theirs, seconds = by_scipy(batch)
        reached = np.median(rms(batch, theirs))
        for loss in (LossName.SQUARE, LossName.DEAD_ZONE):
            nothing = np.full((5, shape), np.nan)
            fits = fit_smiles(model, loss, TOLERANCES, wide, nothing)
            # The next tick: the same smile a little higher, from where the last fit ended.
            warm = svi.to_chart(fits.parameters)
            ticked = wide._replace(target=wide.target * 1.001)
            for start, data, at in (("cold", wide, nothing), ("tick", ticked, warm)):
                mine = fit_smiles(model, loss, TOLERANCES, data, at)
                work = partial(fit_smiles, model, loss, TOLERANCES, data, at)
                least, median = fastest(work, 200)
                errors = rms(batch, mine.parameters[:, :lanes])
                if loss is LossName.SQUARE and start == "cold":
                    assert errors.max() <= 1.001 * rms(batch, theirs).max()
                table.add_row(
                    str(lanes),
                    loss.value,
                    start,
                    f"{1e6 * median / lanes:.1f}",
                    f"{1e6 * least / lanes:.1f}",
                    f"{mine.steps[:lanes].mean():.1f} / {mine.steps[:lanes].max()}",
                    f"{np.median(errors):.2f}",
                    f"{1e6 * seconds:.0f}",
                    f"{reached:.2f}",
                    f"{seconds * lanes / median:.1f}",
                )
    Console(width=160).print(table)
    Console(width=160).print(f"processors: {os.cpu_count()}; load {os.getloadavg()[0]:.1f}")
