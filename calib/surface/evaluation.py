"""The published rule of evaluation, in plain numpy: what a quoter runs for every price.

The rule is fixed for every language and stands in ``protos/calib/v1/surface.proto``. Its parts are
time (`calib.surface.timeline`), the smile of one expiry (`calib.surface.smiles`), and here what
joins them: at a constant log-moneyness k = ln(K/F(t)) total variance is linear in variance time
between expiries, w_1(k)·τ/τ_1 before the first and w_N(k) + (τ/τ_N − 1)·w_N(0) beyond the last;
vol = √(w/t).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite, log, nan, sqrt
from typing import Any

import numpy as np

from calib.conventions import Bools, Floats
from calib.surface.instants import years_from
from calib.surface.smiles import Smiles
from calib.surface.timeline import Location, Timeline

QUOTED_RANGE_TOLERANCE = 1e-12
"""By how much k must lie outside the quoted range to count as outside: the strike of the last
quote itself must not, whichever way its logarithm is rounded."""


@dataclass(frozen=True)
class Evaluator:
    """A surface made ready for evaluation; expiries are given as `Surface` describes them.

    Numbers in give numbers out; arrays broadcast. Strikes that are not positive and finite and
    expiries before the quote time have no value: nan, and they count as extrapolated.
    """

    quote_time: np.datetime64
    timeline: Timeline
    smiles: Smiles

    def total_variance(self, log_moneyness: Any, expiry: Any) -> Any:
        """w(k, t)."""
        return self._variance(_finite(_number(log_moneyness)), self.locate(expiry))

    def implied_vol(self, strike: Any, expiry: Any) -> Any:
        """√(w/t) at k = ln(K/F(t)); nan at t = 0, where there is no time for a vol."""
        k, at = self.place(strike, expiry)
        w = self._variance(k, at)
        if isinstance(w, float) and isinstance(at.years, float):
            return sqrt(w / at.years) if at.years > 0.0 and w >= 0.0 else nan
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.sqrt(w / np.where(at.years > 0.0, at.years, nan))

    def vol_error(self, strike: Any, expiry: Any) -> Any:
        """One standard error of the vol: linear in variance time between expiries at constant k,
        constant before the first and beyond the last."""
        k, at = self.place(strike, expiry)
        if isinstance(k, float) and isinstance(at.lower, int):
            return self._one_vol_error(k, at)
        error = self.smiles.vol_error(at.lower, k)
        if np.any(at.fraction > 0.0):
            upper = self.smiles.vol_error(at.upper, k)
            # An expiry of weight 0 has no say, not even where its own error is not known.
            step = np.where(at.fraction > 0.0, upper - error, 0.0)
            error = error + at.fraction * step
        return np.where(at.years > 0.0, error, nan)

    def _one_vol_error(self, k: float, at: Location) -> float:
        error = self.smiles.one_vol_error(at.lower, k)
        if at.fraction > 0.0:
            error += at.fraction * (self.smiles.one_vol_error(at.upper, k) - error)
        return error if at.years > 0.0 else nan

    def forward(self, expiry: Any) -> Any:
        """F(t) in quote currency."""
        return self.locate(expiry).forward

    def discount_factor(self, expiry: Any) -> Any:
        """D(t)."""
        return self.locate(expiry).discount_factor

    def is_extrapolated(self, strike: Any, expiry: Any) -> bool | Bools:
        """Whether t lies outside the expiries, or k outside the quoted range at t."""
        k, at = self.place(strike, expiry)
        low, high = self.smiles.k_min, self.smiles.k_max
        bottom = low[at.lower] + at.fraction * (low[at.upper] - low[at.lower])
        top = high[at.lower] + at.fraction * (high[at.upper] - high[at.lower])
        tolerance = QUOTED_RANGE_TOLERANCE
        outside = at.beyond | ~((k >= bottom - tolerance) & (k <= top + tolerance))
        return bool(outside) if np.ndim(outside) == 0 else outside

    def place(self, strike: Any, expiry: Any) -> tuple[Any, Location]:
        """Log-moneyness of a strike, nan where there is none, and where the expiry falls."""
        at = self.locate(expiry)
        return _moneyness(_number(strike), at.forward), at

    def jet(self, k: Any, at: Location) -> tuple[Any, Any, Any]:
        """w(k, t), dw/dk and d²w/dk² at a place; ``k`` broadcasts with its fields."""
        smiles = self.smiles
        jets = zip(smiles.jet(at.lower, k), smiles.jet(at.upper, k), strict=True)
        w, slope, curvature = (at.lower_weight * one + at.upper_weight * two for one, two in jets)
        at_the_money = smiles.total_variance(len(smiles.years) - 1, 0.0)
        return w + at.last_weight * at_the_money, slope, curvature

    def locate(self, expiry: Any) -> Location:
        """Where an expiry, given as `Surface` describes it, falls among the fitted ones."""
        years = years_from(self.quote_time, expiry)
        if isinstance(years, float):
            return self.timeline.locate(years)
        return self.timeline.locate_all(years)

    def _variance(self, k: Any, at: Location) -> Any:
        smiles = self.smiles
        if isinstance(at.lower, int):
            w = at.lower_weight * smiles.total_variance(at.lower, k)
            if at.upper_weight:
                w = w + at.upper_weight * smiles.total_variance(at.upper, k)
            if at.last_weight:
                w = w + at.last_weight * smiles.total_variance(at.lower, 0.0)
        else:
            last = len(smiles.years) - 1
            w = (
                at.lower_weight * smiles.total_variance(at.lower, k)
                + at.upper_weight * smiles.total_variance(at.upper, k)
                + at.last_weight * smiles.total_variance(last, 0.0)
            )
        return float(w) if np.ndim(w) == 0 else w


def _number(value: Any) -> Any:
    """A float for a number, a float array for anything else."""
    if isinstance(value, float):
        return float(value)
    array = np.asarray(value, np.float64)
    return float(array) if array.ndim == 0 else array


def _finite(k: Any) -> Any:
    """k, with nan in place of infinities."""
    if isinstance(k, float):
        return k if isfinite(k) else nan
    return np.where(np.isfinite(k), k, nan)


def _moneyness(strike: Any, forward: Any) -> Any:
    """ln(K/F); nan where the strike is not positive and finite."""
    if isinstance(strike, float) and isinstance(forward, float):
        ratio = strike / forward
        return log(ratio) if 0.0 < ratio < inf else nan
    with np.errstate(over="ignore", under="ignore"):
        ratios = strike / forward
    result: Floats = np.log(np.where((ratios > 0.0) & (ratios < inf), ratios, nan))
    return result
