"""From a chain to slices: vols given back, sides as bounds, and a reason for every other row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.conventions import ExpiryCalendar, Floats, Unit
from calib.market.black import black_price
from calib.market.slices import QuoteKind, Slices
from calib.market.slicing import GREATEST_DEVIATION, LONE_NOISE, NOISE_FLOOR, slices_of
from calib.quotes.chain import Chain, chain_at
from calib.quotes.labels import Labels
from calib.quotes.reasons import Reason
from calib.quotes.table import QuoteTable, validated
from calib.states import ForwardSource
from tests.market.black_chains import NAN, NOW, Market, chain_of, edited, smile
from tests.market.consistency import consistent

UNITS = list(Unit)


def true_vol(slices: Slices) -> Floats:
    years = np.append(slices.years, np.nan)[slices.slice_index]
    return smile(slices.log_moneyness, years)


def rows_of(table: QuoteTable, strike: float, right: int, expiry: int = 0) -> Any:
    """Where one option stands."""
    moment = np.unique(table.expiry)[expiry]
    (row,) = np.flatnonzero(
        (table.strike == strike) & (table.right == right) & (table.expiry == moment)
    )
    return row


@pytest.mark.parametrize("unit", UNITS)
def test_vols_and_log_moneyness_are_given_back(unit: Unit) -> None:
    market = Market(unit=unit, given=True, rate=0.0)
    slices = slices_of(market.chain())
    consistent(slices)
    assert slices.expiry.tolist() == market.expiry.tolist()
    assert np.allclose(slices.years, market.years, rtol=1e-15)
    assert np.array_equal(slices.forward, market.forward)
    used = slices.used
    forward = market.forward[slices.slice_index]
    assert np.array_equal(slices.log_moneyness, np.log(slices.chain.quotes.strike / forward))
    assert used.sum() == len(used) / 2
    true = true_vol(slices)[used]
    assert np.allclose(slices.mid_vol[used], true, atol=2e-7)
    assert np.allclose(slices.bid_vol[used], true - 0.002, atol=2e-7)
    assert np.allclose(slices.noise[used], 0.002, atol=2e-7)


@pytest.mark.parametrize("unit", [Unit.LINEAR, Unit.INVERSE])
def test_vols_under_implied_forwards_are_within_what_their_errors_allow(unit: Unit) -> None:
    slices = slices_of(Market(unit=unit, tick=1e-4).chain())
    consistent(slices)
    assert set(slices.forward_source) == {ForwardSource.PARITY}
    two_sided = slices.kind == QuoteKind.TWO_SIDED
    true = true_vol(slices)
    assert np.all(slices.bid_vol[two_sided] < true[two_sided])
    assert np.all(slices.ask_vol[two_sided] > true[two_sided])


@pytest.mark.parametrize("unit", [Unit.LINEAR, Unit.INVERSE])
def test_premiums_in_the_money_serve_parity_only(unit: Unit) -> None:
    market = Market(unit=unit, given=True)
    slices = slices_of(market.chain())
    quotes = slices.chain.quotes
    inside = np.where(quotes.right == 1, slices.log_moneyness < 0.0, slices.log_moneyness > 0.0)
    assert np.array_equal(slices.reason == Reason.IN_THE_MONEY, inside)


def test_at_the_forward_the_call_is_used() -> None:
    market = Market(days=(30.0,), carry=0.0, given=True)
    slices = slices_of(market.chain())
    quotes = slices.chain.quotes
    assert slices.used[rows_of(quotes, 100.0, 1)]
    assert slices.reason[rows_of(quotes, 100.0, 2)] == Reason.IN_THE_MONEY


def test_one_sided_quotes_are_bounds_with_the_noise_of_their_expiry() -> None:
    market = Market(given=True, days=(30.0, 91.0))
    quotes = market.quotes()
    bid, ask = quotes.bid.copy(), quotes.ask.copy()
    lower, upper, none = (rows_of(quotes, k, 1, 1) for k in (110.0, 115.0, 120.0))
    bid[lower] = NAN
    ask[upper] = NAN
    bid[none] = ask[none] = NAN
    half = 0.002 * np.arange(1, len(quotes) + 1) / len(quotes)  # every row another spread
    years = market.years[(quotes.expiry == market.expiry[1]).astype(int)]
    vol = smile(np.log(quotes.strike / quotes.forward), years)
    discount = np.exp(-0.045 * years)
    sign = np.where(quotes.right == 1, 1.0, -1.0)
    spread = [
        discount * black_price(vol + side * half, quotes.forward, quotes.strike, years, sign)
        for side in (-1.0, 1.0)
    ]
    table = edited(
        quotes,
        bid=np.where(np.isnan(bid), NAN, spread[0]),
        ask=np.where(np.isnan(ask), NAN, spread[1]),
    )
    slices = slices_of(chain_of(table))
    consistent(slices)
    assert slices.kind[lower] == QuoteKind.CEILING
    assert slices.ask_vol[lower] > vol[lower]
    assert slices.kind[upper] == QuoteKind.FLOOR
    assert slices.bid_vol[upper] < vol[upper]
    assert slices.reason[none] == Reason.NO_QUOTE
    mates = (slices.kind == QuoteKind.TWO_SIDED) & (slices.slice_index == 1)
    assert slices.noise[lower] == slices.noise[upper] == np.median(slices.noise[mates])


def test_bounds_alone_have_a_noise_all_the_same() -> None:
    quotes = Market(days=(30.0,), given=True).quotes()
    slices = slices_of(chain_of(edited(quotes, bid=np.full(len(quotes), NAN))))
    consistent(slices)
    assert set(slices.kind[slices.used]) == {QuoteKind.CEILING}
    assert set(slices.noise[slices.used]) == {LONE_NOISE}


def test_no_quote_is_worth_more_than_the_floor() -> None:
    slices = slices_of(Market(half_spread=0.0, given=True, rate=0.0).chain())
    consistent(slices)
    assert set(slices.noise[slices.used]) == {NOISE_FLOOR}


def test_sides_without_a_vol_leave_the_other_side_as_a_bound() -> None:
    market = Market(days=(30.0,), given=True, rate=0.0)
    quotes = market.quotes()
    bid, ask = quotes.bid.copy(), quotes.ask.copy()
    rows = [rows_of(quotes, k, 1) for k in (105.0, 110.0, 115.0, 120.0, 125.0)]
    forward = market.forward[0]
    bid[rows[0]] = 5e-324  # a price, but the time value of no vol
    ask[rows[1]] = forward * 1.01  # no vol reaches it
    bid[rows[2]] = ask[rows[2]] = forward * 1.5
    bid[rows[3]] = ask[rows[3]] = 5e-324
    bid[rows[4]], ask[rows[4]] = 5e-324, forward * 1.01
    slices = slices_of(chain_of(edited(quotes, bid=bid, ask=ask)))
    consistent(slices)
    kinds = [QuoteKind(int(slices.kind[row])) for row in rows]
    assert kinds == [QuoteKind.CEILING, QuoteKind.FLOOR, *[QuoteKind.NONE] * 3]
    reasons = [Reason(int(slices.reason[row])) for row in rows[2:]]
    assert reasons == [Reason.ABOVE_MAXIMUM, Reason.BELOW_INTRINSIC, Reason.BELOW_INTRINSIC]


def test_an_option_at_its_maximum_has_no_vol_in_any_unit() -> None:
    """A call is worth less than the forward, a put less than its strike."""
    for unit, call, put in ((Unit.LINEAR, 101.0, 95.5), (Unit.INVERSE, 1.01, 0.955)):
        quotes = Market(days=(30.0,), unit=unit, given=True, rate=0.0, carry=0.0).quotes()
        ask, bid = quotes.ask.copy(), quotes.bid.copy()
        rows = [rows_of(quotes, 105.0, 1), rows_of(quotes, 95.0, 2)]
        bid[rows] = ask[rows] = [call, put]
        slices = slices_of(chain_of(edited(quotes, bid=bid, ask=ask)))
        assert slices.reason[rows].tolist() == [Reason.ABOVE_MAXIMUM] * 2


def test_vols_in_the_money_are_used_where_the_other_right_is_not_quoted() -> None:
    quotes = Market(days=(30.0,), unit=Unit.VOL, given=True).quotes()
    calls = quotes.take(quotes.right == 1)
    alone = slices_of(chain_of(calls))
    consistent(alone)
    assert alone.used.all()
    both = slices_of(chain_of(quotes))
    assert both.used.sum() == len(quotes) / 2
    # A put that cannot be used is no reason to leave its call out.
    bid = quotes.bid.copy()
    bid[rows_of(quotes, 80.0, 2)] = -1.0
    slices = slices_of(chain_of(edited(quotes, bid=bid)))
    assert slices.used[rows_of(quotes, 80.0, 1)]
    assert not slices.used[rows_of(quotes, 85.0, 1)]


def test_vols_that_no_price_has() -> None:
    quotes = Market(days=(365.0,), unit=Unit.VOL, given=True).quotes()
    calls = quotes.take(quotes.right == 1)
    bid, ask = calls.bid.copy(), calls.ask.copy()
    bid[0], ask[0] = 0.3, 1.01 * GREATEST_DEVIATION
    bid[1], ask[1] = 1e200, 1e308
    ask[2] = 0.99 * GREATEST_DEVIATION
    slices = slices_of(chain_of(edited(calls, bid=bid, ask=ask)))
    consistent(slices)
    assert slices.kind[0] == QuoteKind.FLOOR
    assert slices.reason[1] == Reason.ABOVE_MAXIMUM
    assert slices.kind[2] == QuoteKind.TWO_SIDED


def test_a_strike_beyond_all_proportion_to_the_forward_has_no_log_moneyness() -> None:
    quotes = Market(days=(30.0,), unit=Unit.VOL, given=True).quotes()
    calls = quotes.take(quotes.right == 1)
    forward, strike = calls.forward.copy(), calls.strike.copy()
    forward[:] = 1e-5
    strike[0] = 1.7e308
    slices = slices_of(chain_of(edited(replace(calls, strike=strike), forward=forward)))
    consistent(slices)
    assert slices.reason[0] == Reason.BAD_STRIKE
    assert slices.used[1:].all()


def test_venues_with_a_basis_meet_in_vol() -> None:
    """Each under its own forward: the basis of 1 % is in the forwards, not in the vols."""
    here = Market(unit=Unit.INVERSE, given=True)
    there = replace(here, venue="y", spot=101.0, unit=Unit.LINEAR)
    table = there.quotes()
    strikes = table.strike * 1.003  # another grid
    scale = np.exp(-0.045 * there.years)[np.searchsorted(there.expiry, table.expiry)]
    sign = np.where(table.right == 1, 1.0, -1.0)
    years = there.years[np.searchsorted(there.expiry, table.expiry)]
    vol = smile(np.log(strikes / table.forward), years)
    bid, ask = (
        scale * black_price(vol + side * 0.002, table.forward, strikes, years, sign)
        for side in (-1.0, 1.0)
    )
    other = edited(replace(table, strike=strikes), bid=bid, ask=ask)
    slices = slices_of(chain_of(here.quotes(), other))
    consistent(slices)
    assert len(slices.expiry) == 4
    venue = slices.chain.quotes.venue.codes
    for code in (0, 1):
        mine = slices.used & (venue == code)
        assert mine.sum() > 50
        assert np.allclose(slices.mid_vol[mine], true_vol(slices)[mine], atol=1e-3)
    # One forward is published, between the two, with an error as wide as they are apart.
    low, high = here.forward, there.forward
    assert np.all((slices.forward > low) & (slices.forward < high))
    assert np.all(slices.forward_error > 0.3 * (high - low))


def test_the_better_known_of_two_venues_counts_more() -> None:
    tight = Market(half_spread=0.0005, tick=1e-5)
    wide = replace(tight, venue="y", half_spread=0.02, tick=1e-3)
    together = slices_of(chain_of(tight.quotes(), wide.quotes()))
    alone = slices_of(tight.chain())
    assert np.all(together.forward_error <= 1.001 * alone.forward_error)
    assert np.allclose(together.forward, tight.forward, rtol=1e-4)


def test_two_expiries_on_one_date_are_two_slices() -> None:
    slices = slices_of(Market(days=(30.0, 30.25), given=True).chain())
    assert len(slices.expiry) == 2
    counts = np.bincount(slices.slice_index[slices.used])
    assert counts[0] == counts[1] > 10


def test_the_calendar_travels_on_and_decides_over_forwards() -> None:
    quotes = Market(spot_given=False).quotes()
    bid = np.where(quotes.expiry == quotes.expiry[0], NAN, quotes.bid)
    chain = chain_of(edited(quotes, bid=bid))
    slices = slices_of(chain, ExpiryCalendar.INDEPENDENT)
    consistent(slices)
    assert slices.calendar is ExpiryCalendar.INDEPENDENT
    assert slices.forward_source.tolist() == [0, *[ForwardSource.PARITY] * 3]
    bare = slices.slice_index == 0
    assert set(slices.reason[bare]) == {Reason.NO_FORWARD}
    assert slices_of(chain).forward_source[0] == ForwardSource.CURVE


def test_mixed_units_of_one_venue() -> None:
    """Linear and inverse premiums of different strikes: the inverse ones are not discounted."""
    market = Market(days=(91.0,), given=True, rate=0.05)
    inverse = replace(market, unit=Unit.INVERSE)
    even = np.isin(np.arange(2 * len(market.strikes)) % len(market.strikes) % 2, [0])
    table = chain_of(market.quotes().take(even), inverse.quotes().take(~even))
    slices = slices_of(table)
    consistent(slices)
    assert np.allclose(slices.mid_vol[slices.used], true_vol(slices)[slices.used], atol=1e-3)


@pytest.mark.parametrize("unit", UNITS)
def test_a_thousand_rows_of_one_strike(unit: Unit) -> None:
    """Of one option the last counts; of a thousand venues each does."""
    one = Market(days=(30.0,), strikes=(105.0,), unit=unit, given=True).quotes()
    calls = one.take(np.zeros(1_000, np.int64))
    same = slices_of(chain_of(calls))
    consistent(same)
    assert np.flatnonzero(same.used).tolist() == [999]
    assert set(same.reason[:999]) == {Reason.DUPLICATE}
    venues = replace(calls, venue=Labels.of([f"v{i}" for i in range(1_000)]))
    apart = slices_of(chain_of(venues))
    consistent(apart)
    assert apart.used.all()
    assert len(apart.expiry) == 1


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("given", [True, False])
def test_one_strike(unit: Unit, given: bool) -> None:
    market = Market(days=(30.0,), strikes=(105.0,), unit=unit, given=given, rate=0.0)
    slices = slices_of(market.chain())
    consistent(slices)
    assert slices.used.sum() == 1
    assert slices.mid_vol[slices.used] == pytest.approx(true_vol(slices)[slices.used], abs=1e-3)


def test_nothing_at_all_has_no_forward() -> None:
    quotes = Market(unit=Unit.VOL, spot_given=False).quotes()
    slices = slices_of(chain_of(quotes))
    consistent(slices)
    assert set(slices.reason) == {Reason.NO_FORWARD}
    assert np.isnan(slices.forward).all()
    assert slices.spot is None


def test_a_chain_without_rows() -> None:
    empty = Market().quotes().take(np.array([], np.int64))
    slices = slices_of(Chain("ABC", NOW, empty))
    consistent(slices)
    assert len(slices.expiry) == 0


def test_a_chain_of_expired_options_has_no_slices() -> None:
    quotes = Market(days=(7.0,)).quotes()
    slices = slices_of(chain_at(quotes, "ABC", quotes.expiry[0]))
    consistent(slices)
    assert len(slices.expiry) == 0
    assert set(slices.reason) == {Reason.EXPIRED}


EXTREMES = [NAN, 0.0, 5e-324, 1e-300, 1e-12, 0.5, 1.0, 99.0, 100.0, 1e12, 1e300, 1.7e308]
AMOUNTS = st.sampled_from([*EXTREMES, -1.0, np.inf]) | st.floats(1e-6, 1e6)
ODD_ROWS = st.lists(
    st.tuples(
        st.sampled_from(["x", "y", None]),
        st.sampled_from([-5, 0, 1, 60, 86_400 * 30, 86_400 * 30 + 1, 10**9]),  # seconds to live
        st.sampled_from([90.0, 100.0, 110.0]) | AMOUNTS,
        st.sampled_from(["C", "P"]),
        st.sampled_from(["linear", "inverse", "vol"]),
        AMOUNTS,
        AMOUNTS,
        st.sampled_from([NAN, NAN, 100.0, 1e-300, 1e300]),
        st.sampled_from([NAN, 100.0, 1e-5]),
    ),
    max_size=24,
)


@given(ODD_ROWS, st.sampled_from(ExpiryCalendar))
def test_whatever_the_rows_hold_each_is_used_or_has_a_reason(
    rows: list[tuple[Any, ...]], calendar: ExpiryCalendar
) -> None:
    """Nothing raises or warns, and what is used can be fitted."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * 9
    size = len(rows)
    table = validated(
        quote_time=np.full(size, NOW),
        venue=Labels.of(columns[0]),
        underlying=Labels.constant("ABC", size),
        expiry=NOW + np.array(columns[1], "timedelta64[s]"),
        strike=np.array(columns[2], float),
        right=Labels.of(columns[3]),
        unit=Labels.of(columns[4]),
        bid=np.array(columns[5], float),
        ask=np.array(columns[6], float),
        forward=np.array(columns[7], float),
        spot=np.array(columns[8], float),
    )
    slices = slices_of(chain_of(table), calendar)
    consistent(slices)
    known = slices.forward_source > 0
    assert np.array_equal(known, np.isfinite(slices.forward))
    assert np.all(slices.forward[known] > 0.0)
    assert np.all(slices.forward_error[known] > 0.0)
    assert np.all(slices.discount_factor > 0.0)
