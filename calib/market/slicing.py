"""From a chain to slices: selection, undiscounting, inversion, noise, and a reason for the rest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calib.conventions import Bools, ExpiryCalendar, Floats, Ints, Right, Unit, years_between
from calib.market.black import VolState, implied_vol_and_state
from calib.market.forwards import Forwards, implied_forwards
from calib.market.slices import QuoteKind, Slices
from calib.quotes.chain import Chain
from calib.quotes.reasons import Reason
from calib.quotes.table import QuoteTable

# No quote is worth more than this half-spread in vol, however tight it is shown.
NOISE_FLOOR = 1e-4


def slices_of(chain: Chain, calendar: ExpiryCalendar = ExpiryCalendar.SAME_ASSET) -> Slices:
    """Every expiry of the chain with its forward, every row with its vols or its reason.

    Premiums become undiscounted Black prices under their own venue's forward (linear: p/D,
    inverse: p·F/D), out-of-the-money rows are inverted on both sides, and each venue's vols meet
    at k = ln(K/F) of that venue. The published forward of an expiry is the venues' mean, weighted
    by 1/error².
    """
    quotes = chain.quotes
    forwards = implied_forwards(chain)
    expiry, years, forward, error, source, discount, slice_of_group = _expiries(chain, forwards)

    group = forwards.group
    row_forward = np.append(forwards.forward, np.nan)[group]
    row_discount = np.append(forwards.discount_factor, np.nan)[group]
    row_years = np.where(group >= 0, years_between(chain.quote_time, quotes.expiry), np.nan)

    reason = quotes.reason.copy()
    reason[(reason == Reason.USABLE) & ~np.isfinite(row_forward)] = Reason.NO_FORWARD
    reason[(reason == Reason.USABLE) & _in_the_money(quotes, row_forward, group)] = (
        Reason.IN_THE_MONEY
    )
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
    slice_index = np.append(slice_of_group, -1)[group]
    with np.errstate(divide="ignore", invalid="ignore"):
        log_moneyness = np.log(quotes.strike / row_forward)
    return Slices(
        chain=chain,
        calendar=calendar,
        expiry=expiry,
        years=years,
        forward=forward,
        forward_error=error,
        forward_source=source,
        discount_factor=discount,
        spot=forwards.spot,
        slice_index=slice_index,
        log_moneyness=log_moneyness,
        bid_vol=bid_vol,
        ask_vol=ask_vol,
        noise=_noise(bid_vol, ask_vol, kind, slice_index, len(expiry)),
        kind=kind,
        reason=reason,
    )


def _expiries(
    chain: Chain, forwards: Forwards
) -> tuple[NDArray[np.datetime64], Floats, Floats, Floats, NDArray[np.int8], Floats, Ints]:
    """Venues of one expiry joined: means weighted by 1/error², the best venue's source."""
    expiry, place = np.unique(forwards.expiry, return_inverse=True)
    if len(expiry) == len(forwards.expiry):  # one venue
        years = years_between(chain.quote_time, expiry)
        forward, error, source = forwards.forward, forwards.forward_error, forwards.source
        return expiry, years, forward, error, source, forwards.discount_factor, place
    known = np.isfinite(forwards.forward)
    weight = np.where(known, forwards.forward_error, np.inf) ** -2.0
    total = np.bincount(place, weight)

    def mean(values: Floats) -> Floats:
        with np.errstate(invalid="ignore"):
            return np.bincount(place, weight * np.where(known, values, 0.0)) / total

    source = np.zeros(len(expiry), np.int8)
    for i in np.argsort(weight, kind="stable"):
        source[place[i]] = forwards.source[i]
    years = years_between(chain.quote_time, expiry)
    forward = np.exp(mean(np.log(np.where(known, forwards.forward, 1.0))))
    with np.errstate(divide="ignore"):
        error = total**-0.5
    discount = mean(forwards.discount_factor)
    return expiry, years, forward, error, source, discount, place


def _in_the_money(quotes: QuoteTable, forward: Floats, group: Ints) -> Bools:
    """Premiums in the money, and vols in the money whose other right is quoted as well."""
    call = quotes.right == Right.CALL
    inside = np.where(call, quotes.strike < forward, quotes.strike >= forward)
    vols = np.flatnonzero((quotes.unit == Unit.VOL) & (quotes.reason == Reason.USABLE))
    if len(vols):
        key = np.rec.fromarrays([group[vols], quotes.strike[vols]])
        _, place = np.unique(key, return_inverse=True)
        outside_twin = np.bincount(place, ~inside[vols]) > 0
        inside[vols] &= outside_twin[place]
    return inside


def _vols(
    quotes: QuoteTable, rows: Ints, forward: Floats, discount: Floats, years: Floats
) -> tuple[Floats, Floats, NDArray[np.int8]]:
    """Bid and ask vols of the selected rows, nan where a side has none, and the rows' reasons."""
    unit = quotes.unit[rows]
    factor = np.where(unit == Unit.INVERSE, forward, 1.0) / discount
    price = np.stack([quotes.bid[rows], quotes.ask[rows]])
    vol = np.where(unit == Unit.VOL, price, np.nan)
    state = np.where(np.isfinite(vol), VolState.OK, VolState.BAD_INPUT).astype(np.int8)
    asked = np.isfinite(price) & (unit != Unit.VOL)
    side, column = np.nonzero(asked)
    if len(column):
        sign = np.where(quotes.right[rows[column]] == Right.CALL, 1.0, -1.0)
        vol[side, column], state[side, column] = implied_vol_and_state(
            price[side, column] * factor[column],
            forward[column],
            quotes.strike[rows[column]],
            years[column],
            sign,
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
        typical = np.full(slices + 1, 0.1)
        for i in np.unique(slice_index[bounds]):
            inside = both & (slice_index == i)
            if inside.any():
                typical[i] = np.median(noise[inside])
        noise[bounds] = typical[slice_index[bounds]]
    noise[kind == QuoteKind.NONE] = np.nan
    return noise
