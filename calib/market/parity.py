"""Put-call parity: what calls and puts of one strike say about forward and discount factor.

Linear premiums obey C − P = D(F − K), inverse ones c − p = 1 − K/F: an inverse premium is paid in
the asset itself, so that its discount factor is taken for 1 (Black 1976; Stoll 1969, "The
relationship between put and call option prices", J. Finance 24). Bids and asks of the two options
bound both sides of the equation, pair by pair.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from calib.conventions import Bools, Floats, Ints, Right, Unit
from calib.quotes.table import QuoteTable

# No pair is known better than this share of its strike, however tight its quotes are.
PAIR_FLOOR = 1e-9
# Nor is a forward: where spreads are tightest, near and far strikes disagree by about this.
PARITY_FLOOR = 1e-5
# Nor is a slope of C − P: deep in the money, mids lean to one side of the truth.
SLOPE_FLOOR = 2e-4
# A line through fewer pairs says nothing about stale ones among them.
LEAST_PAIRS = 3
# A slope outside is not a discount factor but bad quotes.
LEAST_DISCOUNT, GREATEST_DISCOUNT = 0.2, 2.0


# Groups without pairs divide by nothing, and absurd prices overflow: both are told by not being
# finite in the end.
QUIETLY = np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore")


class Pairs(NamedTuple):
    """Calls and puts of one strike, all four sides quoted: the bounds of C − P, by group."""

    group: Ints
    strike: Floats
    low: Floats
    high: Floats
    inverse: Bools

    def where(self, chosen: Bools) -> Pairs:
        """The chosen pairs."""
        return Pairs(
            group=self.group[chosen],
            strike=self.strike[chosen],
            low=self.low[chosen],
            high=self.high[chosen],
            inverse=self.inverse[chosen],
        )


class ParityForwards(NamedTuple):
    """By group: the forward, its standard error, and the interval (``floor``, ``ceiling``).

    All are nan without a pair. Inside the interval no bid and ask cross; where it is empty (floor
    above ceiling), they do.
    """

    forward: Floats
    error: Floats
    floor: Floats
    ceiling: Floats


def parity_pairs(quotes: QuoteTable, group: Ints, usable: Bools) -> Pairs:
    """The pairs among the ``usable`` rows, each row in the group of its number."""
    rows = np.flatnonzero(
        usable & (quotes.unit != Unit.VOL) & np.isfinite(quotes.bid) & np.isfinite(quotes.ask)
    )
    rows = rows[np.lexsort((quotes.right[rows], quotes.strike[rows], group[rows]))]
    call, put = rows[:-1], rows[1:]
    matched = (
        (group[call] == group[put])
        & (quotes.strike[call] == quotes.strike[put])
        & (quotes.unit[call] == quotes.unit[put])
        & (quotes.right[call] == Right.CALL)
        & (quotes.right[put] == Right.PUT)
    )
    call, put = call[matched], put[matched]
    return Pairs(
        group=group[call],
        strike=quotes.strike[call],
        low=quotes.bid[call] - quotes.ask[put],
        high=quotes.ask[call] - quotes.bid[put],
        inverse=quotes.unit[call] == Unit.INVERSE,
    )


@QUIETLY
def discount_factors(pairs: Pairs, forward: Floats) -> tuple[Floats, Floats]:
    """Each group's −d(C − P)/dK over its linear pairs and its relative error, nan where unknown.

    A weighted straight line, through (``forward``, 0) where that is finite. Weights are 1/h², with
    h half the interval of C − P; two further passes take back the weight of stale pairs.
    """
    groups = len(forward)
    pairs = pairs.where(~pairs.inverse)
    group, x = pairs.group, pairs.strike
    y = 0.5 * (pairs.low + pairs.high)
    half = np.maximum(0.5 * (pairs.high - pairs.low), PAIR_FLOOR * x)
    pinned = np.isfinite(forward)
    weight = half**-2.0
    slope = error = np.full(groups, np.nan)
    for _ in range(3):
        total = np.bincount(group, weight, groups)
        x_mean = np.where(pinned, forward, np.bincount(group, weight * x, groups) / total)
        y_mean = np.where(pinned, 0.0, np.bincount(group, weight * y, groups) / total)
        dx, dy = x - x_mean[group], y - y_mean[group]
        spread = np.bincount(group, weight * dx * dx, groups)
        slope = -np.bincount(group, weight * dx * dy, groups) / spread
        error = np.hypot(spread**-0.5 / slope, SLOPE_FLOOR)
        pull = (dy + slope[group] * dx) / half
        weight = half**-2.0 / (1.0 + pull * pull)
    sound = (slope > LEAST_DISCOUNT) & (slope < GREATEST_DISCOUNT) & np.isfinite(error)
    sound &= np.bincount(group, minlength=groups) >= LEAST_PAIRS
    return np.where(sound, slope, np.nan), np.where(sound, error, np.nan)


@QUIETLY
def parity_forwards(pairs: Pairs, discount: Floats) -> ParityForwards:
    """Each group's forward from its pairs under its ``discount`` factor.

    The mean of the pairs' F, weighted by 1/h² (h half a pair's interval of F), stale pairs taken
    back in one further pass, kept inside the interval that all pairs allow. Its error takes each F
    for uniform in its own interval and independent of the others, and is at most that of one
    uniform in the common interval; where that is empty it is the scatter of the pairs, if greater.
    """
    groups = len(discount)
    low, high = (_forward(pairs, bound, discount) for bound in (pairs.low, pairs.high))
    sane = np.isfinite(low) & np.isfinite(high) & (low > 0.0) & (high > 0.0)
    group, low, high = pairs.group[sane], low[sane], high[sane]
    floor, ceiling = np.full(groups, -np.inf), np.full(groups, np.inf)
    np.maximum.at(floor, group, low)
    np.minimum.at(ceiling, group, high)

    middle = 0.5 * (low + high)
    half = np.maximum(0.5 * (high - low), PAIR_FLOOR * middle)
    weight = half**-2.0

    def mean(values: Floats) -> Floats:
        return np.bincount(group, weight * values, groups) / np.bincount(group, weight, groups)

    pull = (middle - mean(middle)[group]) / half
    weight = weight / (1.0 + pull * pull)
    centre = mean(middle)
    scatter = np.sqrt(mean((middle - centre[group]) ** 2))
    alone = (3.0 * np.bincount(group, weight, groups)) ** -0.5
    together = (ceiling - floor) / np.sqrt(12.0)
    agree = floor < ceiling
    forward = np.where(agree, np.clip(centre, floor, np.maximum(floor, ceiling)), centre)
    error = np.where(agree, np.minimum(alone, together), np.maximum(alone, scatter))
    some = np.isfinite(centre)
    return ParityForwards(
        forward,
        np.hypot(error, PARITY_FLOOR * forward),
        np.where(some, floor, np.nan),
        np.where(some, ceiling, np.nan),
    )


def _forward(pairs: Pairs, bound: Floats, discount: Floats) -> Floats:
    linear = pairs.strike + bound / discount[pairs.group]
    return np.where(pairs.inverse, pairs.strike / (1.0 - bound), linear)
