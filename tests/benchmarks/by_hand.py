"""Smiles as one fits them by hand: a loop over chains and expiries with scipy's least squares.

`python -m tests.benchmarks.by_hand TABLE PROCESSES TIME…` fits the chains of these quote times and
prints one line of JSON: seconds on the wall, chains, slices, rows. It needs nothing of calib.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import least_squares
from scipy.special import ndtr

_YEAR = pd.Timedelta(days=365)
_LEAST_QUOTES = 5


def call_price(vol: Any, forward: float, strike: Any, years: float) -> Any:
    """Black's price of a call, undiscounted."""
    deviation = vol * np.sqrt(years)
    d = np.log(forward / strike) / deviation + 0.5 * deviation
    return forward * ndtr(d) - strike * ndtr(d - deviation)


def implied(price: Any, forward: float, strike: Any, years: float, call: Any) -> Any:
    """Vols by bisection, all strikes at once."""
    price = np.where(call, price, price + forward - strike)
    low, high = np.full(len(strike), 1e-3), np.full(len(strike), 10.0)
    for _ in range(40):
        middle = 0.5 * (low + high)
        above = call_price(middle, forward, strike, years) > price
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return 0.5 * (low + high)


def fit_slice(rows: pd.DataFrame, years: float) -> Any | None:
    """A free SVI smile through the out-of-the-money quotes with two sides; None: too few."""
    forward = float(rows["forward"].median())
    rows = rows[(rows["bid"] > 0.0) & (rows["ask"] >= rows["bid"])]
    call = (rows["right"] == "C").to_numpy()
    strike = rows["strike"].to_numpy()
    out = call == (strike >= forward)
    call, strike = call[out], strike[out]
    if len(strike) < _LEAST_QUOTES or not forward > 0.0:
        return None
    unit = forward if rows["unit"].iloc[0] == "inverse" else 1.0
    bid, ask = (
        implied(unit * rows[side].to_numpy()[out], forward, strike, years, call)
        for side in ("bid", "ask")
    )
    k, mid, error = np.log(strike / forward), 0.5 * (bid + ask), np.maximum(0.5 * (ask - bid), 1e-4)

    def residuals(p: Any) -> Any:
        a, b, rho, m, sigma = p
        w = a + b * (rho * (k - m) + np.sqrt((k - m) ** 2 + sigma**2))
        return (np.sqrt(np.maximum(w, 1e-12) / years) - mid) / error

    w = float(np.interp(0.0, k[np.argsort(k)], mid[np.argsort(k)])) ** 2 * years
    start = [0.5 * w, 0.5 * np.sqrt(w), -0.3, 0.0, np.sqrt(w)]
    bounds = [-1.0, 0.0, -0.999, -2.0, 1e-4], [5.0, 5.0, 0.999, 2.0, 5.0]
    return least_squares(residuals, start, bounds=bounds, x_scale="jac").x


def fit_chain(chain: pd.DataFrame) -> int:
    """How many smiles of a chain were fitted."""
    now, fitted = chain["quote_time"].iloc[0], 0
    for expiry, rows in chain.groupby("expiry"):
        years = (expiry - now) / _YEAR
        fitted += years > 0.0 and fit_slice(rows, float(years)) is not None
    return fitted


def measured(table: str, processes: int, times: list[str]) -> dict[str, float]:
    """The loop over all of them; starting the processes is not counted."""
    wanted = pd.to_datetime(times, utc=True)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        frame = pd.read_parquet(table)
        began = perf_counter()
        chosen = frame[frame["quote_time"].isin(wanted)]
        chains = [one for _, one in chosen.groupby(["underlying", "quote_time"])]
        list(pool.map(fit_chain, [chains[0]] * processes))
        began = perf_counter()
        slices = sum(pool.map(fit_chain, chains))
        seconds = perf_counter() - began
    return {"seconds": seconds, "chains": len(chains), "slices": slices, "rows": len(chosen)}


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], int(sys.argv[2]), sys.argv[3:])))
