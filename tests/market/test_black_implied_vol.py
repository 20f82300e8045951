"""Implied vols: against 50 digits, against others, round trips, and what has no vol."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import QuantLib as ql
from hypothesis import given
from hypothesis import strategies as st

import calib
from calib.market.black import VolState, implied_vol_and_state
from tests.market.black_reference import EPSILON, Options, options, random_options


@pytest.fixture(scope="module")
def market() -> Options:
    return random_options(np.random.default_rng(20150101), 3000)


def test_every_option_is_inverted_or_tagged(market: Options) -> None:
    stdev, state = implied_vol_and_state(
        market.price, market.forward, market.strike, 1.0, market.sign
    )
    # Where rounding to a double has left no time value there is nothing to invert; nowhere else.
    assert np.array_equal(state == VolState.OK, market.has_vol())
    assert np.all(state[~market.has_vol()] == VolState.BELOW_INTRINSIC)
    assert np.array_equal(np.isfinite(stdev), state == VolState.OK)
    assert market.has_vol().mean() > 0.95


def test_vol_is_the_exact_inverse_of_the_rounded_price(market: Options) -> None:
    stdev = calib.implied_vol(market.price, market.forward, market.strike, 1.0, market.sign)
    error = np.abs(market.stdev_errors(stdev))[market.has_vol()]
    assert error.max() <= 1e-10  # what is asked for
    assert (error / market.stdev[market.has_vol()]).max() <= 10 * EPSILON  # what is reached


def test_vol_comes_back_as_far_as_the_price_knows_it(market: Options) -> None:
    years = np.random.default_rng(1).uniform(0.01, 3.0, len(market.price))
    vol = calib.implied_vol(market.price, market.forward, market.strike, years, market.sign)
    error = np.abs(vol - market.stdev / np.sqrt(years))
    # One unit of rounding of the price, in vol; beyond 1e-3 the price is no longer linear in it.
    conditioned = market.has_vol() & (market.condition < 1e-3 * market.stdev)
    floor = market.condition / np.sqrt(years)
    assert conditioned.mean() > 0.95
    assert np.all(error[conditioned] <= np.maximum(1e-10, floor)[conditioned])
    # Well-conditioned: the price's rounding is worth less than 1e-10.
    well = conditioned & (floor < 1e-10)
    assert well.mean() > 0.9
    assert error[well].max() <= 1e-10


def test_far_beyond_any_market() -> None:
    rng = np.random.default_rng(2)
    count = 600
    xi = 10 ** rng.uniform(-12, 2, count) * (rng.random(count) < 0.95)
    distance = 10 ** rng.uniform(-2, 1.5, count)
    stdev = np.where(rng.random(count) < 0.5, xi / distance, 10 ** rng.uniform(-6, 1, count))
    stdev = np.clip(stdev, 1e-6, 10.0)
    k = xi * rng.choice([-1.0, 1.0], count)
    market = options(np.full(count, 1.0), k, stdev, np.where(k > 0, 1.0, -1.0))
    priced = market.price > 0  # the others lie below the least double
    vol, state = implied_vol_and_state(market.price, 1.0, market.strike, 1.0, market.sign)
    invertible = priced & market.has_vol()
    assert invertible.sum() > 400
    assert np.all(state[invertible] == VolState.OK)
    assert np.all(state[~invertible] != VolState.OK)
    error = np.abs(market.stdev_errors(vol))[invertible]
    assert (error / vol[invertible]).max() <= 10 * EPSILON


def test_agrees_with_quantlib() -> None:
    rng = np.random.default_rng(3)
    for _ in range(200):
        forward, stdev, k = rng.uniform(50, 150), rng.uniform(0.1, 1.5), rng.uniform(-0.5, 0.5)
        strike = float(forward * np.exp(k))
        kind, right = (ql.Option.Call, "C") if k > 0 else (ql.Option.Put, "P")
        price = ql.blackFormula(kind, strike, forward, stdev)
        theirs = ql.blackFormulaImpliedStdDev(
            kind, strike, forward, price, 1.0, 0.0, 0.9 * stdev, 1e-13, 1000
        )
        assert calib.implied_vol(price, forward, strike, 1.0, right) == pytest.approx(
            theirs, rel=1e-11
        )


log_moneyness = st.floats(-1.5, 1.5)
stdevs = st.floats(0.02, 2.0)
signs = st.sampled_from([-1, 1])


@given(log_moneyness, stdevs, st.floats(1e-3, 30.0), st.floats(1e-6, 1e6), signs)
def test_round_trip(k: float, stdev: float, years: float, forward: float, sign: int) -> None:
    strike, vol = forward * np.exp(k), stdev / np.sqrt(years)
    price = calib.black_price(vol, forward, strike, years, sign)
    vega = forward * np.sqrt(years / (2 * np.pi)) * np.exp(-0.5 * (k / stdev - stdev / 2) ** 2)
    back, state = implied_vol_and_state(price, forward, strike, years, sign)
    if state == VolState.OK:
        again = calib.black_price(back, forward, strike, years, sign)
        # A change of vol by some units in its last place, and some units in that of the price.
        allowed = 40 * EPSILON * (vol * vega + price)
        assert abs(again - price) <= allowed
    else:  # no time value is left in double precision
        assert state == VolState.BELOW_INTRINSIC
        assert vega * vol <= 1e-14 * price or price == 0


@given(log_moneyness, st.floats(0.05, 2.0), st.floats(1e-3, 30.0))
def test_put_and_call_have_one_vol(k: float, stdev: float, years: float) -> None:
    forward, strike = 100.0, float(100.0 * np.exp(k))
    vol = stdev / np.sqrt(years)
    outside = "C" if strike > forward else "P"
    inside = "P" if outside == "C" else "C"
    price = calib.black_price(vol, forward, strike, years, outside)
    dear = price + abs(forward - strike)
    vega = 100.0 * np.sqrt(years / (2 * np.pi)) * np.exp(-0.5 * (k / stdev - stdev / 2) ** 2)
    knows = 2 * EPSILON * dear / vega
    if knows < 1e-6:
        error = calib.implied_vol(dear, forward, strike, years, inside) - calib.implied_vol(
            price, forward, strike, years, outside
        )
        assert abs(error) <= knows + 20 * EPSILON * vol


@given(log_moneyness, stdevs, st.integers(-60, 60), signs)
def test_units_do_not_matter(k: float, stdev: float, power: int, sign: int) -> None:
    unit, strike = 2.0**power, float(np.exp(k))
    price = float(calib.black_price(stdev, 1.0, strike, 1.0, sign))
    one = calib.implied_vol(price, 1.0, strike, 1.0, sign)
    other = calib.implied_vol(price * unit, unit, strike * unit, 1.0, sign)
    assert np.array_equal(one, other, equal_nan=True)


@given(log_moneyness, st.floats(0.02, 1.9))
def test_dearer_means_more_vol(k: float, stdev: float) -> None:
    right = "C" if k > 0 else "P"
    prices = calib.black_price(stdev * (1 + np.arange(6) / 100), 1.0, np.exp(k), 1.0, right)
    vols = calib.implied_vol(prices[prices > 0], 1.0, np.exp(k), 1.0, right)
    assert np.all(np.diff(vols) > 0)


@pytest.mark.parametrize(
    ("price", "forward", "strike", "years", "right", "state"),
    [
        (5.0, 100.0, 100.0, 1.0, "C", VolState.OK),
        (0.0, 100.0, 110.0, 1.0, "C", VolState.BELOW_INTRINSIC),  # on it: no vol either
        (10.0, 110.0, 100.0, 1.0, "C", VolState.BELOW_INTRINSIC),
        (9.0, 110.0, 100.0, 1.0, "C", VolState.BELOW_INTRINSIC),
        (-1.0, 100.0, 110.0, 1.0, "C", VolState.BELOW_INTRINSIC),
        (10.0, 100.0, 110.0, 1.0, "P", VolState.BELOW_INTRINSIC),
        (0.75, 0.25, 1.0, 1.0, "P", VolState.BELOW_INTRINSIC),
        (0.0, 1e-9, 2e-9, 1.0, "C", VolState.BELOW_INTRINSIC),
        (np.nextafter(10.0, 11.0), 110.0, 100.0, 1.0, "C", VolState.OK),
        (5e-310, 100.0, 110.0, 1.0, "C", VolState.BELOW_INTRINSIC),  # below the normal doubles
        (100.0, 100.0, 110.0, 1.0, "C", VolState.ABOVE_MAXIMUM),
        (101.0, 100.0, 110.0, 1.0, "C", VolState.ABOVE_MAXIMUM),
        (110.0, 100.0, 110.0, 1.0, "P", VolState.ABOVE_MAXIMUM),
        (np.nextafter(100.0, 99.0), 100.0, 110.0, 1.0, "C", VolState.OK),
        (5.0, 100.0, 100.0, 0.0, "C", VolState.NO_TIME),
        (5.0, 100.0, 100.0, -0.1, "C", VolState.NO_TIME),
        (np.nan, 100.0, 100.0, 1.0, "C", VolState.BAD_INPUT),
        (np.inf, 100.0, 100.0, 1.0, "C", VolState.BAD_INPUT),
        (5.0, np.nan, 100.0, 1.0, "C", VolState.BAD_INPUT),
        (5.0, 0.0, 100.0, 1.0, "C", VolState.BAD_INPUT),
        (5.0, -100.0, 100.0, 1.0, "P", VolState.BAD_INPUT),
        (5.0, np.inf, 100.0, 1.0, "C", VolState.BAD_INPUT),
        (5.0, 100.0, np.nan, 1.0, "C", VolState.BAD_INPUT),
        (5.0, 100.0, 0.0, 1.0, "C", VolState.BAD_INPUT),
        (5.0, 100.0, -100.0, 1.0, "C", VolState.BAD_INPUT),
        (5.0, 100.0, np.inf, 1.0, "C", VolState.BAD_INPUT),
        (5.0, 100.0, 1e-302, 1.0, "P", VolState.BAD_INPUT),
        (5.0, 100.0, 100.0, np.nan, "C", VolState.BAD_INPUT),
        (5.0, 100.0, 100.0, np.inf, "C", VolState.BAD_INPUT),
        (-5.0, 100.0, 100.0, 0.0, "C", VolState.NO_TIME),  # the order of the questions
        (np.nan, 100.0, 100.0, 0.0, "C", VolState.BAD_INPUT),
    ],
)
def test_states(
    price: float, forward: float, strike: float, years: float, right: str, state: VolState
) -> None:
    arguments: tuple[Any, ...] = (price, forward, strike, years, right)
    assert calib.implied_vol_state(*arguments) == state
    assert np.isfinite(calib.implied_vol(*arguments)) == (state == VolState.OK)


def test_a_bad_element_leaves_its_neighbours_alone() -> None:
    price = np.array([5.0, np.nan, 5.0, -1.0, 5.0, np.inf, 5.0])
    vols = calib.implied_vol(price, 100.0, 100.0, 1.0, "C")
    alone = calib.implied_vol(5.0, 100.0, 100.0, 1.0, "C")
    assert np.all(vols[[0, 2, 4, 6]] == alone)
    assert np.all(np.isnan(vols[[1, 3, 5]]))
