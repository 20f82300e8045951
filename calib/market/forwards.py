"""Forward and discount factor of every expiry: from the venue, or implied from its quotes.

A venue's forward is its own where it gives one. Elsewhere it is implied from put-call parity and
from the venue's curve through its other expiries, each in proportion to what it is worth. Discount
factors come from the slope of C − P over all strikes, smoothed over expiries.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calib.conventions import (
    Bools,
    ExpiryCalendar,
    Floats,
    Instants,
    Ints,
    Unit,
    years_between,
)
from calib.market.curves import forward_curve, smooth_rates
from calib.market.groups import group_quantiles
from calib.market.parity import QUIETLY, Pairs, discount_factors, parity_forwards, parity_pairs
from calib.quotes.chain import Chain
from calib.quotes.reasons import Reason
from calib.quotes.table import QuoteTable
from calib.states import ForwardSource

# A venue's forward is at best this good: quotes and forwards are stamped at different instants.
VENUE_FLOOR = 1e-5
# How far the forwards of two venues may lie apart: the error of one lent to the other.
VENUE_BASIS = 1e-3
# The interquartile range of a normal variable, in standard deviations.
_QUARTILES_APART = 1.349


class Forwards(NamedTuple):
    """Forwards of g groups (venue, expiry), sorted by expiry, then venue.

    ``expiry``, ``venue`` (label code), ``forward``, ``forward_error`` (one standard error),
    ``source`` (:class:`ForwardSource`, 0 where there is none and the forward is nan),
    ``discount_factor`` (of the quote currency, 1 where no linear premiums tell it): arrays of
    shape (g,). ``group``: the group of each row of the chain, -1 for rows that have expired or
    whose expiry, venue or strike cannot be read. ``spot``: the chain's median spot, if any.
    """

    expiry: Instants
    venue: NDArray[np.int32]
    forward: Floats
    forward_error: Floats
    source: NDArray[np.int8]
    discount_factor: Floats
    group: Ints
    spot: float | None


@QUIETLY
def implied_forwards(
    chain: Chain, calendar: ExpiryCalendar = ExpiryCalendar.SAME_ASSET
) -> Forwards:
    """Forwards and discount factors of every expiry and venue in the chain.

    A group's forward is the median of the venue's own where it gives any (VENUE); otherwise the
    posterior of a Gaussian model in which the venue's ln F is a straight line in T from the spot,
    of unknown slope, plus a random walk, seen through parity, and kept inside the interval that
    the group's bids and asks allow (PARITY). An expiry that shows nothing of its own has it from
    the curve (CURVE), that of all venues where its own shows nothing at all, or from the spot
    (SPOT). Under an ``INDEPENDENT`` calendar expiries are different assets: there is no curve.
    """
    quotes = chain.quotes
    readable = ~np.isnat(quotes.expiry) & (quotes.expiry > chain.quote_time)
    readable &= (quotes.venue.codes >= 0) & (quotes.reason != Reason.BAD_STRIKE)
    expiry, venue, group = _groups(quotes.expiry, quotes.venue.codes, readable)
    years = years_between(chain.quote_time, expiry)
    usable = readable & (quotes.reason == Reason.USABLE)

    own, own_error = _venue_forwards(quotes.forward, group, usable, len(years))
    source = np.where(np.isfinite(own), ForwardSource.VENUE, 0).astype(np.int8)
    linear = bool((usable & (quotes.unit == Unit.LINEAR)).any())
    spot = _median_spot(quotes, usable)
    discount = np.ones(len(years))
    given = source == ForwardSource.VENUE
    if linear or not given.all():
        pairs = parity_pairs(quotes, group, usable)
    if linear:
        discount = _discount_factors(pairs, own, years)
    if not given.all():
        implied = parity_forwards(pairs, discount)
        source[~given & np.isfinite(implied.forward)] = ForwardSource.PARITY
        own = np.where(given, own, implied.forward)
        own_error = np.where(given, own_error, implied.error)
        if calendar is ExpiryCalendar.SAME_ASSET:
            venue_spots = {
                int(code): _median_spot(quotes, usable & (quotes.venue.codes == code))
                for code in np.unique(venue)
            }
            curve, curve_error = _curves(years, venue, own, own_error, venue_spots, spot)
            agree = implied.floor < implied.ceiling
            inside = np.clip(curve, implied.floor, np.fmax(implied.floor, implied.ceiling))
            lent = (source == 0) & np.isfinite(curve)
            source[lent] = ForwardSource.CURVE if source.any() else ForwardSource.SPOT
            own = np.where(given, own, np.where(agree, inside, curve))
            own_error = np.where(given, own_error, curve_error)
    return Forwards(expiry, venue, own, own_error, source, discount, group, spot)


def _groups(
    expiry: Instants, venue: NDArray[np.int32], readable: Bools
) -> tuple[Instants, NDArray[np.int32], Ints]:
    rows = np.flatnonzero(readable)
    moments, place = np.unique(expiry[rows].astype(np.int64), return_inverse=True)
    stride = int(venue[rows].max(initial=0)) + 1
    if stride == 1:  # one venue: its groups are the expiries
        keys, group_of_row = np.arange(len(moments)), place
    else:
        keys, group_of_row = np.unique(place * stride + venue[rows], return_inverse=True)
    group = np.full(len(expiry), -1, np.int64)
    group[rows] = group_of_row
    return (
        moments[keys // stride].astype("datetime64[us]"),
        (keys % stride).astype(np.int32),
        group,
    )


def _venue_forwards(
    forward: Floats, group: Ints, usable: Bools, groups: int
) -> tuple[Floats, Floats]:
    """Median of each group's forwards, and the spread of the middle half as its error."""
    given = np.flatnonzero(usable & np.isfinite(forward))
    low, middle, high = group_quantiles(forward[given], group[given], groups, 0.25, 0.5, 0.75)
    return middle, np.fmax((high - low) / _QUARTILES_APART, VENUE_FLOOR * middle)


def _median_spot(quotes: QuoteTable, rows: Bools) -> float | None:
    given = quotes.spot[rows & np.isfinite(quotes.spot)]
    if not len(given):
        return None
    given.sort()  # a tenth of what `np.median` takes
    return float(0.5 * given[(len(given) - 1) // 2] + 0.5 * given[len(given) // 2])


def _discount_factors(pairs: Pairs, forward: Floats, years: Floats) -> Floats:
    """exp(−zero rate · T), the rates smoothed over expiries."""
    slope, error = discount_factors(pairs, forward)
    return np.exp(-smooth_rates(years, -np.log(slope) / years, error / years) * years)


def _curves(
    years: Floats,
    venue: NDArray[np.int32],
    forward: Floats,
    error: Floats,
    venue_spots: Mapping[int, float | None],
    spot: float | None,
) -> tuple[Floats, Floats]:
    """Each venue's forward curve at its own expiries, and its error.

    Venues keep their own levels; one that shows no forward at all follows the others'.
    """
    curve, curve_error = forward_curve(years, forward, error, spot)
    if len(venue_spots) == 1:
        return curve, curve_error
    curve_error = np.hypot(curve_error, VENUE_BASIS * curve)
    seen = np.isfinite(forward)
    for code, level in venue_spots.items():
        mine = venue == code
        if seen[mine].any() or not seen.any():
            curve[mine], curve_error[mine] = forward_curve(
                years[mine], forward[mine], error[mine], level or spot
            )
    return curve, curve_error
