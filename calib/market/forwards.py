"""Forward and discount factor of every expiry: from the venue, or implied from put-call parity.

Linear premiums obey C − P = D(F − K), inverse ones c − p = D(1 − K/F), for which D = 1 is taken: an
inverse premium is paid in the asset itself. The discount curve comes from the slope of C − P over
all strikes, smoothed over expiries; a forward from the strikes near the money, kept inside the
interval that bids and asks allow, and shrunk to the curve of the other expiries in proportion to
what each is worth.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calib.conventions import Bools, Floats, Ints, Right, Unit, years_between
from calib.quotes.chain import Chain
from calib.quotes.reasons import Reason
from calib.states import ForwardSource

# Basis risk: standard deviation of ln F about a straight line in T, a year apart.
BASIS_VOL = 0.004
# How well a spot or index stands for the forward at no time to expiry.
SPOT_ERROR = 5e-4
# Standard deviation of a change in the zero rate over a factor e in T.
RATE_VOL = 0.004
# No zero rate is known better than this: parity prices carry borrow and dividend effects too.
RATE_FLOOR = 2e-4
# Nor is a slope of C − P: deep in the money, mids lean to one side of the truth.
SLOPE_FLOOR = 2e-4
# A venue's forward is at best this good: quotes and forwards are stamped at different instants.
VENUE_FLOOR = 1e-5
# What the common carry of a forward curve is allowed to be before anything is known, a year.
CARRY_PRIOR = 0.25


class Forwards(NamedTuple):
    """Forwards of g groups (venue, expiry), sorted by expiry, then venue.

    ``expiry``, ``venue`` (label code), ``forward``, ``forward_error`` (one standard error),
    ``source`` (:class:`ForwardSource`, 0 where there is none and the forward is nan),
    ``discount_factor``: arrays of shape (g,). ``group``: the group of each row of the chain, -1
    for rows whose expiry or venue cannot be read. ``spot``: the chain's median spot, if any.
    """

    expiry: NDArray[np.datetime64]
    venue: NDArray[np.int32]
    forward: Floats
    forward_error: Floats
    source: NDArray[np.int8]
    discount_factor: Floats
    group: Ints
    spot: float | None


class _Pairs(NamedTuple):
    """Call and put of one strike, both quoted on both sides: the bounds of C − P."""

    group: Ints
    strike: Floats
    low: Floats
    high: Floats
    inverse: Bools

    @property
    def mid(self) -> Floats:
        return 0.5 * (self.low + self.high)

    @property
    def noise(self) -> Floats:
        return 0.5 * (self.high - self.low)


def implied_forwards(chain: Chain) -> Forwards:
    """Forwards and discount factors of every expiry and venue in the chain.

    A group's forward is the median of the venue's own where it gives any; otherwise the posterior
    of a Gaussian model in which ln F is a straight line in T from the spot, of unknown slope,
    plus a random walk, seen through parity with half its bid-ask interval as noise.
    """
    quotes = chain.quotes
    readable = ~np.isnat(quotes.expiry) & (quotes.venue.codes >= 0)
    readable &= ~np.isin(quotes.reason, (Reason.EXPIRED, Reason.BAD_STRIKE))
    expiry, venue, group = _groups(quotes.expiry, quotes.venue.codes, readable)
    years = years_between(chain.quote_time, expiry)
    groups = len(years)
    usable = readable & (quotes.reason == Reason.USABLE)

    venue_forward, venue_error = _venue_forwards(quotes.forward, group, usable, groups)
    known = np.isfinite(venue_forward)
    spot = _spot(quotes.spot[usable])
    linear = _any_of(group, usable & (quotes.unit == Unit.LINEAR), groups)
    if known.all() and not linear.any():
        source = np.full(groups, ForwardSource.VENUE, np.int8)
        return Forwards(
            expiry, venue, venue_forward, venue_error, source, np.ones(groups), group, spot
        )

    pairs = _parity_pairs(chain, group, usable)
    discount = _discount_factors(pairs, venue_forward, years, linear)
    parity, parity_error = _parity_forwards(pairs, discount, groups)
    curve, curve_error = _forward_curve(
        years,
        np.where(known, venue_forward, parity),
        np.where(known, venue_error, parity_error),
        spot,
    )
    forward = np.where(known, venue_forward, curve)
    seen = known | np.isfinite(parity)
    source = np.select(
        [known, np.isfinite(parity), np.isfinite(curve) & seen.any(), np.isfinite(curve)],
        [ForwardSource.VENUE, ForwardSource.PARITY, ForwardSource.CURVE, ForwardSource.SPOT],
        0,
    ).astype(np.int8)
    error = np.where(known, venue_error, curve_error)
    return Forwards(expiry, venue, forward, error, source, discount, group, spot)


def _groups(
    expiry: NDArray[np.datetime64], venue: NDArray[np.int32], readable: Bools
) -> tuple[NDArray[np.datetime64], NDArray[np.int32], Ints]:
    rows = np.flatnonzero(readable)
    moment, codes = expiry[rows].astype(np.int64), venue[rows]
    moments, moment_index = np.unique(moment, return_inverse=True)
    stride = int(codes.max(initial=0)) + 1
    keys, group_of_row = np.unique(moment_index * stride + codes, return_inverse=True)
    group = np.full(len(expiry), -1, np.int64)
    group[rows] = group_of_row
    return (
        moments[keys // stride].astype("datetime64[us]"),
        (keys % stride).astype(np.int32),
        group,
    )


def _any_of(group: Ints, holds: Bools, groups: int) -> Bools:
    return np.bincount(group[holds], minlength=groups)[:groups] > 0


def _venue_forwards(
    forward: Floats, group: Ints, usable: Bools, groups: int
) -> tuple[Floats, Floats]:
    """Median of each group's forwards, and the spread of the middle half as its error."""
    given = np.flatnonzero(usable & np.isfinite(forward))
    order = given[np.lexsort((forward[given], group[given]))]
    counts = np.bincount(group[order], minlength=groups)
    ends = np.cumsum(counts)
    starts = ends - counts
    middle, spread = np.full(groups, np.nan), np.full(groups, np.nan)
    some = counts > 0
    values = forward[order]

    def quantile(q: float) -> Floats:
        place = starts[some] + q * (counts[some] - 1)
        below = np.floor(place).astype(np.int64)
        above = np.ceil(place).astype(np.int64)
        return values[below] + (place - below) * (values[above] - values[below])

    if some.any():
        middle[some] = quantile(0.5)
        # The interquartile range of a normal variable is 1.349 standard deviations.
        deviation = (quantile(0.75) - quantile(0.25)) / 1.349
        spread[some] = np.maximum(deviation, VENUE_FLOOR * middle[some])
    return middle, spread


def _parity_pairs(chain: Chain, group: Ints, usable: Bools) -> _Pairs:
    quotes = chain.quotes
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
    return _Pairs(
        group[call],
        quotes.strike[call],
        quotes.bid[call] - quotes.ask[put],
        quotes.ask[call] - quotes.bid[put],
        quotes.unit[call] == Unit.INVERSE,
    )


def _discount_factors(pairs: _Pairs, venue_forward: Floats, years: Floats, linear: Bools) -> Floats:
    """exp(−zero rate · T) for groups with linear premiums, 1 elsewhere.

    The slope of C − P over strikes is −D; weights are 1/noise², one robust pass takes stale
    pairs out. With a venue forward the line is pinned at (F, 0).
    """
    groups = len(years)
    discount = np.ones(groups)
    rate, rate_error = np.full(groups, np.nan), np.full(groups, np.nan)
    for g in np.flatnonzero(linear):
        mine = (pairs.group == g) & ~pairs.inverse
        if mine.sum() < 3:
            continue
        strike, value = pairs.strike[mine], pairs.mid[mine]
        noise = np.maximum(pairs.noise[mine], 1e-9 * strike)
        slope, error = _robust_slope(strike, value, noise, venue_forward[g])
        if 0.2 < slope < 2.0:  # anything else is not a discount factor but bad quotes
            rate[g] = -np.log(slope) / years[g]
            slope_error = np.hypot(error / slope, SLOPE_FLOOR)
            rate_error[g] = np.hypot(slope_error / years[g], RATE_FLOOR)
    found = np.isfinite(rate)
    if found.any():
        smooth = _smooth_rates(years, rate, rate_error)
        discount[linear] = np.exp(-smooth * years)[linear]
    return discount


def _robust_slope(x: Floats, y: Floats, noise: Floats, pin: float) -> tuple[float, float]:
    """−dy/dx of a straight line (through (pin, 0) where pin is finite), and its standard error."""
    weight = noise**-2.0
    slope = error = np.nan
    for _ in range(3):
        centre_x = pin if np.isfinite(pin) else np.average(x, weights=weight)
        centre_y = 0.0 if np.isfinite(pin) else np.average(y, weights=weight)
        dx, dy = x - centre_x, y - centre_y
        spread = float(np.sum(weight * dx * dx))
        if spread <= 0.0:
            return np.nan, np.nan
        slope = -float(np.sum(weight * dx * dy)) / spread
        error = spread**-0.5
        pull = (dy + slope * dx) / noise
        weight = noise**-2.0 / (1.0 + pull * pull)
    return slope, error


def _smooth_rates(years: Floats, rate: Floats, error: Floats) -> Floats:
    """Posterior mean of a random walk in ln T seen with the given errors, at every T."""
    place = np.log(years)
    order = np.argsort(place, kind="stable")
    size = len(years)
    precision = np.zeros((size, size))
    target = np.zeros(size)
    steps = np.maximum(np.diff(place[order]), 1e-6)
    for i, step in zip(range(size - 1), 1.0 / (RATE_VOL**2 * steps), strict=True):
        a, b = order[i], order[i + 1]
        precision[a, a] += step
        precision[b, b] += step
        precision[a, b] -= step
        precision[b, a] -= step
    seen = np.isfinite(rate)
    precision[seen, seen] += error[seen] ** -2.0
    target[seen] = rate[seen] * error[seen] ** -2.0
    return np.linalg.solve(precision, target)


def _parity_forwards(pairs: _Pairs, discount: Floats, groups: int) -> tuple[Floats, Floats]:
    """Each group's forward by parity alone, and its standard error; nan without a pair.

    Pairs are averaged with weights 1/noise²; the mean is kept inside the interval that all bids
    and asks allow where that is not empty, and then half that interval over √3 (uniform) is its
    error; otherwise the scatter of the pairs is.
    """
    forward, error = np.full(groups, np.nan), np.full(groups, np.nan)
    if not len(pairs.group):
        return forward, error
    rate = discount[pairs.group]
    strike = pairs.strike
    with np.errstate(divide="ignore", invalid="ignore"):
        low = np.where(pairs.inverse, strike / (1.0 - pairs.low), strike + pairs.low / rate)
        high = np.where(pairs.inverse, strike / (1.0 - pairs.high), strike + pairs.high / rate)
    sane = np.isfinite(low) & np.isfinite(high) & (low > 0.0) & (high > 0.0)
    middle, noise = 0.5 * (low + high), np.maximum(0.5 * (high - low), 1e-9 * strike)
    for g in np.unique(pairs.group[sane]):
        mine = sane & (pairs.group == g)
        value, scale = middle[mine], noise[mine]
        weight = scale**-2.0
        mean = np.average(value, weights=weight)
        pull = (value - mean) / scale
        weight = weight / (1.0 + pull * pull)
        mean = float(np.average(value, weights=weight))
        floor, ceiling = float(low[mine].max()), float(high[mine].min())
        if floor < ceiling:
            forward[g] = min(max(mean, floor), ceiling)
            error[g] = (ceiling - floor) / (2.0 * np.sqrt(3.0))
        else:
            scatter = np.average((value - mean) ** 2, weights=weight) ** 0.5
            forward[g], error[g] = mean, max(scatter, float(scale.min()))
    return forward, error


def _spot(spot: Floats) -> float | None:
    given = spot[np.isfinite(spot)]
    return float(np.median(given)) if len(given) else None


def _forward_curve(
    years: Floats, forward: Floats, error: Floats, spot: float | None
) -> tuple[Floats, Floats]:
    """Posterior of ln F = ln S + carry·T + random walk given what is seen; nan if nothing is.

    Unknowns are ln S, the carry and ln F at each distinct expiry; venues at one expiry share it.
    """
    seen = np.isfinite(forward)
    if not (seen.any() or spot):
        return np.full(len(years), np.nan), np.full(len(years), np.nan)
    moments, place = np.unique(years, return_inverse=True)
    anchor = spot if spot else float(forward[seen][0])
    size = len(moments) + 2  # ln S, carry, ln F_1 …, all relative to ln(anchor)
    precision, target = np.zeros((size, size)), np.zeros(size)
    precision[0, 0] = (SPOT_ERROR if spot else 1.0) ** -2.0
    precision[1, 1] = CARRY_PRIOR**-2.0
    steps = np.diff(moments, prepend=0.0)
    for i, step in enumerate(steps):
        row = np.zeros(size)
        row[i + 2] = 1.0
        row[0 if i == 0 else i + 1] = -1.0
        row[1] = -step
        precision += np.outer(row, row) / (BASIS_VOL**2 * step)
    weight = (error[seen] / forward[seen]) ** -2.0
    np.add.at(precision, (place[seen] + 2, place[seen] + 2), weight)
    np.add.at(target, place[seen] + 2, weight * np.log(forward[seen] / anchor))
    covariance = np.linalg.inv(precision)
    mean = covariance @ target
    curve = anchor * np.exp(mean[2:])[place]
    return curve, curve * np.sqrt(np.diag(covariance)[2:])[place]
