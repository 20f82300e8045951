"""Simulated markets whose truth and whose quotes' errors are known, and errors in error bars.

The truth is a Bates market (`calib.feeds.simulator`), which is none of the models that are fitted.
What a fit of the quotes without errors misses is the shape's error; what a fit of the quotes with
errors is away from that one is the errors' doing, and what an error bar speaks of.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pandas as pd

from calib.conventions import Bools, Floats
from calib.feeds.simulated.underlying import default_underlyings
from calib.feeds.simulator import SimulatorSettings, simulate
from calib.fitting.fit import fit_chains
from calib.fitting.settings import FitSettings
from calib.quotes.chain import chains
from calib.quotes.reading import quotes_from_frame

NODES = (-1.5, -0.75, 0.0, 0.75, 1.5)
"""Strikes, in standard deviations at the money, at which error bars are looked at."""


def true_markets(seed: int, snapshots: int, expiries: int = 8, strikes: int = 30) -> pd.DataFrame:
    """True out-of-the-money vols of one market, a row a strike; every snapshot an underlying of
    its own.

    ``half`` is the half-spread in vol, a function of how far out an option is; ``x`` its strike in
    standard deviations at the money.
    """
    simulation = simulate(
        SimulatorSettings(
            seed, default_underlyings()[:1], expiries=expiries, strikes=strikes,
            snapshots=snapshots, interval=timedelta(hours=6),
        )
    )  # fmt: skip
    truth = simulation.truth
    out = (truth["strike"] >= truth["forward"]) == (truth["right"] == "C")
    truth = truth[out & np.isfinite(truth["true_vol"])].copy()
    truth["k"] = np.log(truth["strike"] / truth["forward"])
    truth["underlying"] = truth["underlying"].astype(str) + truth["quote_time"].astype(str)
    truth = truth.sort_values(["underlying", "expiry", "k"]).reset_index(drop=True)
    years = (truth["expiry"] - truth["quote_time"]) / pd.Timedelta(days=365)
    level = np.concatenate(
        [
            np.full(len(group), np.interp(0.0, group["k"], group["true_vol"]))
            for _, group in truth.groupby(["underlying", "expiry"])
        ]
    )
    truth["x"] = truth["k"] / (level * np.sqrt(years))
    truth["half"] = 0.01 * level * (1.0 + 0.5 * truth["x"] ** 2)
    near: pd.DataFrame = truth[truth["x"].abs() < 3.5].reset_index(drop=True)
    return near


@dataclass(frozen=True)
class Noise:
    """Errors of mids in half-spreads: their standard deviation ``scale``, and the distance, in
    standard deviations at the money, over which neighbours' errors forget each other as
    exp(−Δ/``length``); 0: independent. ``tick``: vols are quoted on multiples of so many
    half-spreads, bids rounded down and asks up."""

    scale: float
    length: float = 0.0
    tick: float = 0.0

    @property
    def stated(self) -> float:
        """Their standard deviation in quoted half-spreads. Rounding outwards widens those by half a
        tick, and a mid by the mean of two uniform errors, of variance tick²/24."""
        return float(np.hypot(self.scale, self.tick / np.sqrt(24.0)) / (1.0 + 0.5 * self.tick))

    def quotes(self, truth: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
        """Quotes around the truth."""
        error = np.concatenate(
            [
                self.errors(group["x"].to_numpy(), rng)
                for _, group in truth.groupby(["underlying", "expiry"], sort=False)
            ]
        )
        mid = truth["true_vol"] + self.scale * truth["half"] * error
        bid, ask = mid - truth["half"], mid + truth["half"]
        if self.tick:
            tick = self.tick * truth["half"]
            bid, ask = tick * np.floor(bid / tick), tick * np.ceil(ask / tick)
        columns = ["quote_time", "underlying", "expiry", "strike", "right", "forward"]
        return truth[columns].assign(venue="X", unit="vol", bid=bid, ask=ask)

    def errors(self, x: Floats, rng: np.random.Generator) -> Floats:
        """Errors of unit variance at the points ``x``, in standard deviations at the money."""
        if not self.length:
            return rng.standard_normal(len(x))
        apart = np.abs(x[:, None] - x) / self.length
        root = np.linalg.cholesky(np.exp(-apart) + 1e-9 * np.eye(len(x)))
        return np.asarray(root @ rng.standard_normal(len(x)))


@dataclass(frozen=True)
class Errors:
    """At n nodes: the ``noise`` in a fitted vol and the error of its model's ``shape``, both in
    vol, the error ``bar``, and the strike ``x`` in standard deviations at the money."""

    noise: Floats
    shape: Floats
    bar: Floats
    x: Floats

    def deviation(self, x: float | None = None) -> float:
        """Root mean square of the noise in error bars, at the nodes at ``x`` or at all."""
        return _root_mean_square((self.noise / self.bar)[self._at(x)])

    def whole_deviation(self, x: float | None = None) -> float:
        """The same of noise and shape together: of the distance from the truth."""
        return _root_mean_square(((self.noise + self.shape) / self.bar)[self._at(x)])

    def _at(self, x: float | None) -> Bools:
        return np.ones(len(self.x), bool) if x is None else self.x == x


def errors(
    truth: pd.DataFrame, noise: Noise, settings: FitSettings, rng: np.random.Generator
) -> Errors:
    """What fits of noisy quotes are away from fits of true ones, and those from the truth."""
    exact = truth[["quote_time", "underlying", "expiry", "strike", "right", "forward"]].assign(
        venue="X", unit="vol", bid=truth["true_vol"] - truth["half"],
        ask=truth["true_vol"] + truth["half"],
    )  # fmt: skip
    clean, noisy = (
        fit_chains(list(chains(quotes_from_frame(table))), (), settings)
        for table in (exact, noise.quotes(truth, rng))
    )
    found: list[tuple[float, float, float, float]] = []
    vols = dict(iter(truth.groupby(["underlying", "expiry"])))
    for one, other in zip(clean, noisy, strict=True):
        assert one.surface.underlying == other.surface.underlying
        for smile in one.surface.expiries:
            moment = pd.Timestamp(smile.expiry, tz="UTC")
            group = vols[one.surface.underlying, moment]
            x, k, vol = (group[name].to_numpy() for name in ("x", "k", "true_vol"))
            for node in NODES:
                if not x[0] < node < x[-1]:
                    continue
                strike = smile.forward * np.exp(np.interp(node, x, k))
                at = other.surface.implied_vol(strike, smile.expiry)
                middle = one.surface.implied_vol(strike, smile.expiry)
                true = np.interp(node, x, vol)
                bar = other.surface.vol_error(strike, smile.expiry)
                found.append((at - middle, middle - true, bar, node))
    return Errors(*np.array(found).T)


def _root_mean_square(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2)))
