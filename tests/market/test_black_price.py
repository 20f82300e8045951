"""Black prices: against 50 digits, against QuantLib, limits and parity."""

from __future__ import annotations

import numpy as np
import pytest
import QuantLib as ql
from hypothesis import given
from hypothesis import strategies as st

import calib
from tests.market.black_reference import EPSILON, options

strikes = st.floats(1.0, 1e4)
forwards = st.floats(1.0, 1e4)
vols = st.floats(0.0, 5.0)
times = st.floats(0.0, 5.0)


def test_out_of_the_money_prices_keep_their_digits() -> None:
    rng = np.random.default_rng(4)
    k = rng.uniform(-1.5, 1.5, 2000)
    k[:100] *= 1e-9
    stdev = rng.uniform(0.02, 4.0, 2000)
    market = options(rng.uniform(50.0, 150.0, 2000), k, stdev, np.where(k > 0, 1.0, -1.0))
    priced = market.price > 1e-290
    price = calib.black_price(stdev, market.forward, market.strike, 1.0, market.sign)
    error = np.abs(market.price_errors(np.where(priced, price, 1.0)))[priced]
    distance = (np.log(market.forward / market.strike) / stdev)[priced]
    # Rounding of d₁ itself moves the price by eps·d₁² or so: no formula in doubles avoids that.
    assert (error / (1 + distance**2)).max() <= 10 * EPSILON
    assert np.all(price[~priced] < 1e-285)


@pytest.mark.parametrize("right", ["C", "P"])
def test_agrees_with_quantlib(right: str) -> None:
    rng = np.random.default_rng(5)
    forward, strike = rng.uniform(50, 150, 300), rng.uniform(50, 150, 300)
    vol, years = rng.uniform(0.05, 1.5, 300), rng.uniform(0.05, 2.0, 300)
    kind = ql.Option.Call if right == "C" else ql.Option.Put
    theirs = [
        ql.blackFormula(kind, k, f, v * np.sqrt(t))
        for k, f, v, t in zip(*(a.tolist() for a in (strike, forward, vol, years)), strict=True)
    ]
    ours = calib.black_price(vol, forward, strike, years, right)
    assert np.abs(ours - theirs).max() <= 1e-12 * 150


@given(vols, forwards, strikes, times)
def test_put_call_parity_and_bounds(vol: float, f: float, k: float, years: float) -> None:
    call, put = calib.black_price(vol, f, k, years, ["C", "P"])
    assert call - put == pytest.approx(f - k, abs=4 * EPSILON * (f + k))
    assert max(f - k, 0.0) <= call <= f
    assert max(k - f, 0.0) <= put <= k


@given(forwards, strikes, st.floats(0.01, 3.0))
def test_limits(f: float, k: float, years: float) -> None:
    for vol, time in ((0.0, years), (0.3, 0.0), (0.0, 0.0)):
        assert calib.black_price(vol, f, k, time, "C") == max(f - k, 0.0)
        assert calib.black_price(vol, f, k, time, "P") == max(k - f, 0.0)
    assert calib.black_price(1e5, f, k, 1.0, "C") == f
    assert calib.black_price(1e5, f, k, 1.0, "P") == k


@given(st.floats(0.01, 3.0), st.floats(0.05, 2.0))
def test_at_the_money_is_the_error_function(vol: float, years: float) -> None:
    from math import erf, sqrt

    expected = 100.0 * erf(vol * sqrt(years) / sqrt(8.0))
    assert calib.black_price(vol, 100.0, 100.0, years, "C") == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(
    ("vol", "forward", "strike", "years"),
    [
        (-0.1, 100.0, 100.0, 1.0),
        (np.nan, 100.0, 100.0, 1.0),
        (np.inf, 100.0, 100.0, 1.0),
        (0.2, 0.0, 100.0, 1.0),
        (0.2, -1.0, 100.0, 1.0),
        (0.2, np.nan, 100.0, 1.0),
        (0.2, 100.0, 0.0, 1.0),
        (0.2, 100.0, np.inf, 1.0),
        (0.2, 100.0, 100.0, -1.0),
        (0.2, 100.0, 100.0, np.nan),
    ],
)
def test_outside_the_domain_is_nan(vol: float, forward: float, strike: float, years: float) -> None:
    assert np.isnan(calib.black_price(vol, forward, strike, years, "C"))
