"""Variance by a finite strip of options, and the 30-day index, the way CBOE computes the VIX.

    σ² = (2/T) Σ ΔKᵢ/Kᵢ² e^{RT} Q(Kᵢ) − (1/T)(F/K₀ − 1)²

with K₀ the highest strike not above the forward, Q(K) the price of the put below K₀, of the call
above and their mean at K₀, and ΔK half the distance between the neighbours of a strike (at either
end the distance to the one neighbour). e^{RT}Q is the undiscounted price.

Source: Cboe, "White paper: Cboe Volatility Index" (2019), steps 1 to 3.
"""

from __future__ import annotations

from math import nan, sqrt
from typing import Any

import numpy as np

from calib.conventions import Floats
from calib.errors import InvalidRequest, NotFitted
from calib.surface.evaluation import Evaluator
from calib.surface.timeline import Location
from calib.surface.variance_swap import at_each, total_variance_swap

DAYS_A_YEAR = 365.0


def strip_variance(strikes: Floats, prices: Floats, forward: float) -> float:
    """σ²T by the formula above, from undiscounted prices ``prices`` at ascending ``strikes``."""
    gaps = np.diff(strikes)
    widths = np.concatenate([gaps[:1], 0.5 * (gaps[:-1] + gaps[1:]), gaps[-1:]])
    lowest = forward / strikes[central(strikes, forward)] - 1.0
    return float(2.0 * (widths / (strikes * strikes)) @ prices - lowest * lowest)


def central(strikes: Floats, forward: float) -> int:
    """The place of K₀ among ascending strikes; InvalidRequest where all lie above the forward."""
    at = int(np.searchsorted(strikes, forward, side="right")) - 1
    if at < 0:
        raise InvalidRequest(
            f"a strip of options needs a strike at or below the forward {forward!r}; "
            f"the lowest is {float(strikes[0])!r}"
        )
    return at


def replicated_variance(evaluator: Evaluator, at: Location, strikes: Any) -> float:
    """σ²T at one place from the surface's own prices at ``strikes``.

    Raises InvalidRequest unless the strikes are two or more, positive, finite and ascending, the
    lowest of them not above the forward.
    """
    grid = np.asarray(strikes, np.float64)
    good = grid.ndim == 1 and grid.size >= 2 and bool(np.all(np.isfinite(grid) & (grid > 0.0)))
    if not (good and bool(np.all(np.diff(grid) > 0.0))):
        raise InvalidRequest(
            "strikes must be two or more positive numbers in ascending order, without repeats; "
            f"got {strikes!r}"
        )
    if not at.years > 0.0:
        return nan
    return strip_variance(grid, _strip(evaluator, at, grid), at.forward)


def replicated_vol(evaluator: Evaluator, expiry: Any, strikes: Any) -> Any:
    """√(σ²) for one expiry or an array of them, of the strip at ``strikes``; nan at time 0."""
    return at_each(
        evaluator, expiry, lambda _, at: _vol(replicated_variance(evaluator, at, strikes), at.years)
    )


def vix(evaluator: Evaluator, days: float, strikes: Any = None) -> float:
    """The index of so many days, as a vol: √(V/t), t = days/365.

    V is linear in time between the σ²T of the two fitted expiries on either side of t, or that of
    an expiry at t. Without ``strikes`` the strip is the whole line, `total_variance_swap`.
    CBOE publishes 100 times this number, and counts time in whole minutes.
    Raises InvalidRequest for days that are not positive and finite, and NotFitted where t does not
    lie between two expiries of one asset.
    """
    if not 0.0 < days < np.inf:
        raise InvalidRequest(f"days must be positive and finite, not {days!r}")
    t, timeline = days / DAYS_A_YEAR, evaluator.timeline
    at = evaluator.locate(t)
    if at.beyond:
        raise NotFitted(
            f"{days!r} days lie outside the fitted expiries, of {timeline.years[0] * 365:.6g} to "
            f"{timeline.years[-1] * 365:.6g} days: there are not two to interpolate between"
        )
    near, following = (timeline.locate(timeline.years[i]) for i in (at.lower, at.upper))
    total = _strip_or_line(evaluator, near, strikes)
    if following.years > near.years:
        next_total = _strip_or_line(evaluator, following, strikes)
        total = interpolated(near.years, total, following.years, next_total, t)
    return _vol(total, t)


def interpolated(near: float, one: float, following: float, other: float, t: float) -> float:
    """Total variance at t between ``one`` and ``other``, linear in time."""
    return (one * (following - t) + other * (t - near)) / (following - near)


def _strip_or_line(evaluator: Evaluator, at: Location, strikes: Any) -> float:
    if strikes is None:
        return total_variance_swap(evaluator, at)
    return replicated_variance(evaluator, at, strikes)


def _strip(evaluator: Evaluator, at: Location, strikes: Floats) -> Floats:
    """Undiscounted Black prices of the strip: puts below K₀, calls above, their mean at K₀."""
    from scipy.special import ndtr

    forward = at.forward
    k = np.log(strikes / forward)
    w, _, _ = evaluator.jet(k, at)
    root = np.sqrt(np.where(w > 0.0, w, nan))
    d1, d2 = 0.5 * root - k / root, -0.5 * root - k / root
    put = strikes * ndtr(-d2) - forward * ndtr(-d1)
    call = forward * ndtr(d1) - strikes * ndtr(d2)
    at_the_money = central(strikes, forward)
    prices: Floats = np.where(np.arange(strikes.size) < at_the_money, put, call)
    prices[at_the_money] = 0.5 * (put[at_the_money] + call[at_the_money])
    return prices


def _vol(total: float, years: float) -> float:
    return sqrt(total / years) if total >= 0.0 and years > 0.0 else nan
