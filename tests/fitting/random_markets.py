"""Random quote sets by the hundred thousand: markets that could be, and such that could not.

All have at most four expiries of at most thirty quotes, so that all of them are of one shape.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from calib.models import essvi
from calib.quotes.chain import Chain, chains
from calib.quotes.reading import quotes_from_frame
from tests.fitting.surface_samples import QUOTE_TIME, Smile, hostile_smiles

HOSTILE, SANE = "HOSTILE", "SANE"
_DAYS = (1.0, 2.0, 7.0, 9.0, 30.0, 31.0, 90.0, 200.0, 700.0)


def sane_smiles(rng: np.random.Generator) -> list[Smile]:
    """Quotes around a surface without arbitrage: thin and one-sided ones too, and expiries that
    cross by a few spreads. The first expiry has five two-sided quotes or more.

    The surface is SSVI of power law, ψ = ηθ^(1−γ) with γ ≤ ½ (Gatheral & Jacquier 2014, §4), where
    ψ² ≤ 4θ/(1+|ρ|) and ψ ≤ 4/(1+|ρ|) hold at the last expiry and so at all.
    """
    count = int(rng.integers(1, 5))
    days = np.sort(rng.choice(_DAYS, count, replace=False))
    level = np.exp(rng.uniform(np.log(0.08), np.log(1.2)))
    theta = level**2 * days / 365.0
    theta *= (days / days[-1]) ** rng.uniform(-0.1, 0.2)
    rho = rng.uniform(-0.8, 0.5)
    power = rng.uniform(0.2, 0.5)
    most = min(np.sqrt(4.0 * theta[-1] / (1.0 + abs(rho))), 4.0 / (1.0 + abs(rho)))
    psi = rng.uniform(0.1, 0.9) * most * (theta / theta[-1]) ** (1.0 - power)
    tight = np.exp(rng.uniform(np.log(2e-3), np.log(0.05)))
    smiles = []
    for i, day in enumerate(days):
        thin = i > 0 and rng.random() < 0.2
        size = int(rng.integers(1, 4) if thin else rng.integers(8, 31))
        k = np.sort(rng.uniform(-2.5, 2.0, size)) * np.sqrt(theta[i])
        vol = np.sqrt(essvi.total_variance((theta[i], rho, psi[i]), k) / (day / 365.0))
        half = vol * tight * np.exp(rng.normal(0.0, 0.3, size))
        shift = rng.normal(0.0, 1.0) * tight * vol
        mid = vol + shift + half * rng.normal(0.0, 0.4, size)
        bid, ask = mid - half, mid + half
        free = np.arange(size) >= (5 if i == 0 else 1)
        bid[(rng.random(size) < 0.1) & free] = np.nan
        ask[(rng.random(size) < 0.05) & np.isfinite(bid) & free] = np.nan
        smiles.append(Smile(float(day), k, bid, ask))
    return smiles


def random_chains(seed: int, count: int, table: int = 250) -> Iterator[Chain]:
    """So many chains, every other one hostile; the underlying's name says which."""
    rng = np.random.default_rng(seed)
    for first in range(0, count, table):
        columns: list[pd.DataFrame] = []
        for number in range(first, min(first + table, count)):
            kind = HOSTILE if number % 2 else SANE
            smiles = hostile_smiles(rng) if number % 2 else sane_smiles(rng)
            columns += [_rows(f"{kind}{number:06d}", smile) for smile in smiles]
        yield from chains(quotes_from_frame(pd.concat(columns, ignore_index=True)))


def _rows(underlying: str, smile: Smile) -> pd.DataFrame:
    forward = 100.0
    return pd.DataFrame(
        {
            "quote_time": QUOTE_TIME,
            "venue": "X",
            "underlying": underlying,
            "expiry": QUOTE_TIME + pd.Timedelta(days=smile.days),
            "strike": forward * np.exp(smile.k),
            "right": np.where(smile.k < 0, "put", "call"),
            "unit": "vol",
            "bid": smile.bid,
            "ask": smile.ask,
            "forward": forward,
        }
    )
