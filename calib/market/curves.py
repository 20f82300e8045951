"""Curves over expiries: zero rates and forwards, where some are seen and all are wanted."""

from __future__ import annotations

import numpy as np

from calib.conventions import Floats, Ints

# Standard deviation of a change in the zero rate over a factor e in T.
RATE_VOL = 0.004
# No zero rate is known better than this: parity prices carry borrow and dividend effects too.
RATE_FLOOR = 2e-4
# What a rate may be before anything is known.
RATE_PRIOR = 0.1
# Basis risk: standard deviation of ln F about a straight line in T, a year apart.
BASIS_VOL = 0.006
# How well a spot or index stands for the forward at no time to expiry.
SPOT_ERROR = 5e-4
# What the common carry of a forward curve is allowed to be before anything is known, a year.
CARRY_PRIOR = 0.25
# Rates at one expiry, or closer in ln T than this, are taken to be this far apart.
LEAST_STEP = 1e-6


def smooth_rates(years: Floats, rate: Floats, error: Floats) -> Floats:
    """Zero rates at all of ``years``: the posterior mean of a random walk in ln T.

    ``rate`` is nan where none is seen; ``error`` are standard errors.
    """
    place = np.log(years)
    order = np.argsort(place, kind="stable")
    step = np.maximum(np.diff(place[order]), LEAST_STEP)
    precision = np.zeros((len(years), len(years)))
    _tie(precision, order[:-1], order[1:], (RATE_VOL**2 * step) ** -1.0)
    precision[order[:1], order[:1]] += RATE_PRIOR**-2.0
    seen = np.flatnonzero(np.isfinite(rate))
    weight = np.hypot(error[seen], RATE_FLOOR) ** -2.0
    precision[seen, seen] += weight
    target = np.zeros(len(years))
    target[seen] = weight * rate[seen]
    return np.asarray(np.linalg.solve(precision, target), np.float64)


def forward_curve(
    years: Floats, forward: Floats, error: Floats, spot: float | None
) -> tuple[Floats, Floats]:
    """Forwards at all of ``years`` and their standard errors, nan where there can be none.

    The posterior of ln F = ln S + carry·T + a random walk, all three unknown; ``forward`` is nan
    where none is seen. Forwards at one expiry are sights of the same F.
    """
    seen = np.flatnonzero(np.isfinite(forward))
    if not (len(seen) or spot):
        return np.full(len(years), np.nan), np.full(len(years), np.nan)
    moment, place = np.unique(years, return_inverse=True)
    anchor = spot if spot else float(forward[seen[0]])
    size = len(moment) + 2  # ln F_1 … ln F_n, ln S, carry; the logs relative to ln(anchor)
    first, carry = size - 2, size - 1
    step = np.diff(moment, prepend=0.0)
    weight = (BASIS_VOL**2 * step) ** -1.0
    here = np.arange(len(moment))
    before = np.append(first, here[:-1])
    precision = np.zeros((size, size))
    precision[first, first] = (SPOT_ERROR if spot else 1.0) ** -2.0
    _tie(precision, before, here, weight)
    # Each step of the walk is ln F_i − ln F_{i−1} − carry·step.
    pull = weight * step
    precision[carry, carry] = CARRY_PRIOR**-2.0 + float(pull @ step)
    precision[carry, here] -= pull
    precision[carry, before] += pull
    precision[:, carry] = precision[carry]

    target = np.zeros(size)
    weight = (forward[seen] / error[seen]) ** 2.0
    np.add.at(precision, (place[seen], place[seen]), weight)
    np.add.at(target, place[seen], weight * np.log(forward[seen] / anchor))
    covariance = np.linalg.inv(precision)
    mean = covariance @ target
    with np.errstate(over="ignore"):
        curve = anchor * np.exp(mean[place])
    curve[~(np.isfinite(curve) & (curve > 0.0))] = np.nan  # from absurd quotes
    return curve, curve * np.sqrt(np.diag(covariance)[place])


def _tie(precision: Floats, before: Ints, after: Ints, weight: Floats) -> None:
    """Add weight·(x_after − x_before)² to the quadratic form; no place twice on either side."""
    precision[before, before] += weight
    precision[after, after] += weight
    precision[before, after] -= weight
    precision[after, before] -= weight
