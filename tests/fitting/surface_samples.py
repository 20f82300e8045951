"""Chains of vols made for the tests of joint fits: clean, crossing, thin and hostile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from calib.arbitrage.essvi import EssviSlices, as_svi
from calib.conventions import ExpiryCalendar, Floats
from calib.market.slices import Slices
from calib.market.slicing import slices_of
from calib.models import essvi
from calib.quotes.chain import chains
from calib.quotes.reading import quotes_from_frame

QUOTE_TIME = pd.Timestamp("2026-03-02 12:00", tz="UTC")


class Smile(NamedTuple):
    """Quotes of one expiry in vol: nan is a side that is not quoted."""

    days: float
    k: Floats
    bid: Floats
    ask: Floats


def chain_of(
    smiles: Sequence[Smile], calendar: ExpiryCalendar = ExpiryCalendar.SAME_ASSET
) -> Slices:
    forward = 100.0
    rows = [
        {
            "quote_time": QUOTE_TIME,
            "venue": "X",
            "underlying": "U",
            "expiry": QUOTE_TIME + pd.Timedelta(days=smile.days),
            "strike": forward * np.exp(k),
            "right": "put" if k < 0 else "call",
            "unit": "vol",
            "bid": bid,
            "ask": ask,
            "forward": forward,
        }
        for smile in smiles
        for k, bid, ask in zip(smile.k, smile.bid, smile.ask, strict=True)
    ]
    (chain,) = chains(quotes_from_frame(pd.DataFrame(rows)))
    return slices_of(chain, calendar)


TRUTH = EssviSlices.of(
    theta=[0.0035, 0.0060, 0.0110, 0.0240, 0.0500],
    rho=[-0.30, -0.34, -0.38, -0.42, -0.45],
    psi=[0.055, 0.080, 0.115, 0.190, 0.300],
)
TRUTH_DAYS = (7.0, 14.0, 30.0, 75.0, 180.0)


def true_smiles(
    quotes: int = 12, half_spread: float = 0.002, noise: float = 0.0, seed: int = 0
) -> list[Smile]:
    """Quotes around a surface without arbitrage, out to two ATM standard deviations."""
    rng = np.random.default_rng(seed)
    smiles = []
    for days, theta, rho, psi in zip(TRUTH_DAYS, *TRUTH, strict=True):
        k = np.linspace(-2.0, 1.5, quotes) * np.sqrt(theta)
        vol = np.sqrt(essvi.total_variance((theta, rho, psi), k) / (days / 365.0))
        mid = vol + noise * rng.standard_normal(quotes)
        smiles.append(Smile(days, k, mid - half_spread, mid + half_spread))
    return smiles


def true_svi() -> Floats:
    """The same surface as raw SVI, (5, n)."""
    return np.stack(as_svi(TRUTH))


def hostile_smiles(rng: np.random.Generator) -> list[Smile]:
    """Quotes that agree with nothing: random levels, jumps, lone wings, one-sided rows."""
    count = int(rng.integers(1, 5))
    days = np.sort(rng.choice([1.0, 2.0, 9.0, 30.0, 31.0, 200.0, 900.0], count, replace=False))
    smiles = []
    for day in days:
        size = int(rng.integers(1, 16))
        spread = np.exp(rng.uniform(np.log(0.02), np.log(3.0)))
        k = np.sort(rng.uniform(-spread, spread, size))
        level = np.exp(rng.uniform(np.log(0.05), np.log(2.0)))
        mid = level * np.exp(rng.normal(0.0, rng.choice([0.01, 0.2, 0.6]), size))
        half = mid * np.exp(rng.uniform(np.log(1e-3), np.log(0.3), size))
        bid, ask = mid - half, mid + half
        bid[rng.random(size) < 0.15] = np.nan
        ask[rng.random(size) < 0.1] = np.nan
        smiles.append(Smile(float(day), k, bid, ask))
    return smiles
