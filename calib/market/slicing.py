"""From a chain to slices: selection, undiscounting, inversion, noise, and a reason for the rest."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calib.conventions import (
    Bools,
    ExpiryCalendar,
    Floats,
    Instants,
    Ints,
    Right,
    Unit,
    years_between,
)
from calib.market.black import VolState, implied_vol_and_state
from calib.market.forwards import Forwards, implied_forwards
from calib.market.groups import group_quantiles
from calib.market.slices import QuoteKind, Slices
from calib.market.variance_clock import VarianceClock, VarianceTimes
from calib.quotes.chain import Chain
from calib.quotes.reasons import Reason
from calib.quotes.table import QuoteTable

# No quote is worth more than this half-spread in vol, however tight it is shown.
NOISE_FLOOR = 1e-4
# What a one-sided quote is worth in an expiry that has no two-sided one to compare it with.
LONE_NOISE = 0.1
# A vol quote of more than this total standard deviation is one of a price at its maximum: the
# complement 2Φ(−s/2) of that price is below the smallest double.
GREATEST_DEVIATION = 75.0


# Absurd numbers overflow, and absent ones divide: what comes of them has no vol and says why.
@np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore")
def slices_of(
    chain: Chain,
    calendar: ExpiryCalendar = ExpiryCalendar.SAME_ASSET,
    clock: VarianceClock | None = None,
) -> Slices:
    """Every expiry of the chain with its forward, every row with its vols or its reason.

    Premiums become undiscounted Black prices under their own venue's forward (linear: p/D,
    inverse: p·F), out-of-the-money rows are inverted on both sides, and each venue's vols meet
    at k = ln(K/F) of that venue. The published forward of an expiry is the venues' mean, weighted
    by 1/error². Variance time is that of ``clock``, plain years without one.
    """
    quotes = chain.quotes
    forwards = implied_forwards(chain, calendar)
    joined = _expiries(chain, forwards)

    group = forwards.group
    row_forward = np.append(forwards.forward, np.nan)[group]
    row_discount = np.append(forwards.discount_factor, np.nan)[group]
    row_years = np.append(years_between(chain.quote_time, forwards.expiry), np.nan)[group]

    log_moneyness = np.log(quotes.strike / row_forward)
    reason = quotes.reason.copy()
    usable = reason == Reason.USABLE
    reason[usable & ~np.isfinite(log_moneyness)] = Reason.BAD_STRIKE  # beyond any forward
    reason[usable & _in_the_money(quotes, row_forward, group)] = Reason.IN_THE_MONEY
    reason[usable & ~np.isfinite(row_forward)] = Reason.NO_FORWARD
    rows = np.flatnonzero(reason == Reason.USABLE)
    bid_vol, ask_vol = np.full(len(quotes), np.nan), np.full(len(quotes), np.nan)
    bid_vol[rows], ask_vol[rows], reason[rows] = _vols(
        quotes, rows, row_forward[rows], row_discount[rows], row_years[rows]
    )

    kind = np.full(len(quotes), QuoteKind.NONE, np.int8)
    fits = reason == Reason.USABLE
    has_bid, has_ask = np.isfinite(bid_vol), np.isfinite(ask_vol)
    kind[fits & has_bid & has_ask] = QuoteKind.TWO_SIDED
    kind[fits & ~has_bid & has_ask] = QuoteKind.CEILING
    kind[fits & has_bid & ~has_ask] = QuoteKind.FLOOR
    slice_index = np.append(joined.slice_of_group, -1)[group]
    times = VarianceTimes(joined.years, ())
    if clock is not None:
        times = clock.times(chain.quote_time, joined.expiry)
    return Slices(
        chain=chain,
        calendar=calendar,
        expiry=joined.expiry,
        years=joined.years,
        variance_time=times.variance_time,
        forward=joined.forward,
        forward_error=joined.forward_error,
        forward_source=joined.forward_source,
        discount_factor=joined.discount_factor,
        spot=forwards.spot,
        slice_index=slice_index,
        log_moneyness=log_moneyness,
        bid_vol=bid_vol,
        ask_vol=ask_vol,
        noise=_noise(bid_vol, ask_vol, kind, slice_index, len(joined.expiry)),
        kind=kind,
        reason=reason,
        variance_clock=times.knots,
    )


class _Expiries(NamedTuple):
    """The venues' forwards of each expiry as one; ``slice_of_group``: its place, by group."""

    expiry: Instants
    years: Floats
    forward: Floats
    forward_error: Floats
    forward_source: NDArray[np.int8]
    discount_factor: Floats
    slice_of_group: Ints


def _expiries(chain: Chain, forwards: Forwards) -> _Expiries:
    """Venues of one expiry joined: means weighted by 1/error², the best venue's source.

    Where venues lie further apart than their errors say, the error of the mean grows with it.
    """
    expiry, place = np.unique(forwards.expiry, return_inverse=True)
    size = len(expiry)
    years = years_between(chain.quote_time, expiry)
    if size == len(forwards.expiry):  # one venue an expiry
        return _Expiries(
            expiry,
            years,
            forwards.forward,
            forwards.forward_error,
            forwards.source,
            forwards.discount_factor,
            place,
        )
    known = np.isfinite(forwards.forward)
    log_forward = np.log(np.where(known, forwards.forward, 1.0))
    weight = np.where(known, forwards.forward / forwards.forward_error, 0.0) ** 2.0
    total = np.bincount(place, weight, size)
    mean = np.bincount(place, weight * log_forward, size) / total
    chi2 = np.bincount(place, weight * (log_forward - mean[place]) ** 2, size)
    freedom = np.maximum(np.bincount(place, known, size) - 1.0, 1.0)
    error = np.sqrt(np.maximum(1.0, chi2 / freedom) / total)
    # Venues at one expiry share their discount factor.
    discount = forwards.discount_factor[np.unique(place, return_index=True)[1]]
    source = np.zeros(size, np.int8)
    ascending = np.argsort(weight, kind="stable")
    source[place[ascending]] = forwards.source[ascending]
    forward = np.exp(mean)
    return _Expiries(expiry, years, forward, forward * error, source, discount, place)


def _in_the_money(quotes: QuoteTable, forward: Floats, group: Ints) -> Bools:
    """Premiums in the money, and vols in the money whose other right is quoted as well."""
    call = quotes.right == Right.CALL
    inside = np.where(call, quotes.strike < forward, quotes.strike >= forward)
    rows = np.flatnonzero((quotes.unit == Unit.VOL) & (quotes.reason == Reason.USABLE))
    # Of one group and strike, those out of the money come first.
    rows = rows[np.lexsort((inside[rows], quotes.strike[rows], group[rows]))]
    if len(rows):
        strike, of_group = quotes.strike[rows], group[rows]
        fresh = np.r_[True, (strike[1:] != strike[:-1]) | (of_group[1:] != of_group[:-1])]
        first = rows[np.maximum.accumulate(np.where(fresh, np.arange(len(rows)), 0))]
        inside[rows] &= ~inside[first]
    return inside


def _vols(
    quotes: QuoteTable, rows: Ints, forward: Floats, discount: Floats, years: Floats
) -> tuple[Floats, Floats, NDArray[np.int8]]:
    """Bid and ask vols of the selected rows, nan where a side has none, and the rows' reasons."""
    unit = quotes.unit[rows]
    factor = np.where(unit == Unit.INVERSE, forward, 1.0 / discount)
    price = np.stack([quotes.bid[rows], quotes.ask[rows]])
    told = (unit == Unit.VOL) & (price <= GREATEST_DEVIATION / np.sqrt(years))
    vol = np.where(told, price, np.nan)
    state = np.full(price.shape, VolState.BAD_INPUT, np.int8)
    cell = np.flatnonzero(np.isfinite(price) & (unit != Unit.VOL))
    if len(cell):
        column = cell % len(rows)
        row = rows[column]
        vol.flat[cell], state.flat[cell] = implied_vol_and_state(
            price.ravel()[cell] * factor[column],
            forward[column],
            quotes.strike[row],
            years[column],
            np.where(quotes.right[row] == Right.CALL, 1.0, -1.0),
        )
    none = ~np.isfinite(vol).any(axis=0)
    below = none & (state == VolState.BELOW_INTRINSIC).any(axis=0)
    reason = np.where(none, Reason.ABOVE_MAXIMUM, Reason.USABLE).astype(np.int8)
    reason[below] = Reason.BELOW_INTRINSIC
    return vol[0], vol[1], reason


def _noise(
    bid_vol: Floats, ask_vol: Floats, kind: NDArray[np.int8], slice_index: Ints, slices: int
) -> Floats:
    """Half the bid–ask spread in vol; for a bound, the median of its expiry's two-sided quotes."""
    noise = np.maximum(0.5 * (ask_vol - bid_vol), NOISE_FLOOR)
    bounds = (kind == QuoteKind.CEILING) | (kind == QuoteKind.FLOOR)
    if bounds.any():
        both = kind == QuoteKind.TWO_SIDED
        (typical,) = group_quantiles(noise[both], slice_index[both], slices, 0.5)
        noise[bounds] = np.where(np.isnan(typical), LONE_NOISE, typical)[slice_index[bounds]]
    noise[kind == QuoteKind.NONE] = np.nan
    return noise
