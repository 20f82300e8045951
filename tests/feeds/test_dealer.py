"""How a dealer quotes: noise of the stated size and correlation, spreads, gaps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from calib.conventions import Floats
from calib.errors import InvalidRequest
from calib.feeds.simulated.dealer import Dealer, DealerQuotes, TrueOptions, dealer_quotes
from calib.feeds.simulated.noise import MidNoise
from calib.feeds.simulated.ticks import TickSchedule
from calib.market.black import black_price, implied_vol

FINE = TickSchedule(((0.0, 1e-9),))
COARSE = TickSchedule(((0.0, 0.0001), (0.005, 0.0005)))


def options(vol: float, years: float, x: Floats, noise: Floats | float = 0.0) -> TrueOptions:
    deviation = np.full(x.shape, vol * np.sqrt(years))
    return TrueOptions(
        k=x * deviation,
        years=np.full(x.shape, years),
        vol=np.full(x.shape, vol),
        deviation=deviation,
        common_noise=np.broadcast_to(np.asarray(noise, np.float64), x.shape),
        premium_scale=np.ones(x.shape),
    )


def quoted(dealer: Dealer, truth: TrueOptions, seed: int = 5) -> DealerQuotes:
    return dealer_quotes(dealer, truth, np.random.default_rng(seed))


def vols(prices: Floats, truth: TrueOptions) -> Floats:
    strike = np.exp(truth.k)[:, None]
    return implied_vol(prices, 1.0, strike, truth.years[:, None], np.array([1.0, -1.0]))


def test_without_noise_the_mid_is_the_truth_and_the_spread_the_stated_one() -> None:
    dealer = Dealer(FINE, 0.01, 0.1, hedge_cost=0.002, mid_noise=0.0, missing_side=0.0)
    x = np.linspace(-2.0, 2.0, 9)
    truth = options(0.5, 0.1, x)
    quotes = quoted(dealer, truth)
    half = (0.01 + 0.002 / np.sqrt(0.1)) * (1.0 + 0.1 * x * x)
    out_of_the_money = np.where(x < 0.0, 1, 0), range(len(x))
    bid_vol = vols(quotes.bid, truth).T[out_of_the_money]
    ask_vol = vols(quotes.ask, truth).T[out_of_the_money]
    spread_of_the_other = (quotes.ask - quotes.bid).T[np.where(x < 0.0, 0, 1), range(len(x))]
    spread = (quotes.ask - quotes.bid).T[out_of_the_money]
    np.testing.assert_allclose(bid_vol, 0.5 - half, atol=1e-6)
    np.testing.assert_allclose(ask_vol, 0.5 + half, atol=1e-6)
    far = np.abs(x) > 0.4
    assert np.all(spread_of_the_other[far] > spread[far] + 0.0005)


def test_mids_err_by_the_stated_deviation_and_put_and_call_mostly_together() -> None:
    dealer = Dealer(FINE, 0.01, 0.1, 0.0, mid_noise=0.5, own_noise=0.2, missing_side=0.0)
    random = np.random.default_rng(3)
    x = np.tile([-1.5, 0.0, 1.5], 20_000)
    truth = options(0.5, 0.1, x, random.standard_normal(x.shape))
    quotes = quoted(dealer, truth)
    mid = 0.5 * (vols(quotes.bid, truth) + vols(quotes.ask, truth))
    error = (mid - 0.5) / quotes.noise_vol
    for moneyness in (-1.5, 0.0, 1.5):
        call, put = error[x == moneyness].T
        assert call.std() == pytest.approx(1.0, abs=0.02)
        assert put.std() == pytest.approx(1.0, abs=0.02)
        assert np.corrcoef(call, put)[0, 1] == pytest.approx(0.8, abs=0.02)
    np.testing.assert_allclose(quotes.noise_vol[:, 0], 0.5 * 0.01 * (1.0 + 0.1 * x * x))


def test_spreads_in_vol_widen_in_the_wings_and_near_expiry() -> None:
    dealer = Dealer(FINE, mid_noise=0.0, missing_side=0.0)
    x = np.array([0.0, 2.0])
    spreads = {}
    for years in (1.0 / 365.0, 30.0 / 365.0):
        truth = options(0.5, years, x)
        quotes = quoted(dealer, truth)
        spreads[years] = (vols(quotes.ask, truth) - vols(quotes.bid, truth))[:, 0]
    near, far = spreads.values()
    assert np.all(near > 1.3 * far)
    assert near[1] > near[0]
    assert far[1] > far[0]


def test_worthless_options_have_no_bid_and_ask_one_tick() -> None:
    dealer = replace(Dealer(COARSE), missing_side=0.0)
    truth = options(0.5, 0.01, np.array([-7.5, 7.5]))
    truth = truth._replace(vol=np.array([np.nan, 0.5]))
    quotes = quoted(dealer, truth)
    put, call = (0, 1), (1, 0)
    for cell in (put, call):
        assert np.isnan(quotes.bid[cell])
        assert np.isnan(quotes.bid_size[cell])
        assert quotes.ask[cell] == 0.0001
        assert quotes.ask_size[cell] > 0


def test_sides_go_missing_as_often_as_stated() -> None:
    dealer = replace(Dealer(FINE), missing_side=0.05)
    quotes = quoted(dealer, options(0.5, 0.2, np.repeat([0.0, 2.0], 20_000)))
    for side in (quotes.bid, quotes.ask):
        absent = np.isnan(side)
        assert absent[:20_000].mean() == pytest.approx(0.05, abs=0.005)
        assert absent[20_000:].mean() == pytest.approx(0.15, abs=0.008)
    assert np.array_equal(np.isnan(quotes.bid), np.isnan(quotes.bid_size))
    sizes = quotes.bid_size[~np.isnan(quotes.bid_size)]
    np.testing.assert_allclose(sizes / dealer.lot, np.rint(sizes / dealer.lot), atol=1e-6)


def test_bids_stay_below_asks_and_prices_on_ticks() -> None:
    truth = options(0.7, 0.05, np.linspace(-6.0, 6.0, 301), 2.0)
    quotes = quoted(Dealer(COARSE), truth)
    both = ~np.isnan(quotes.bid) & ~np.isnan(quotes.ask)
    assert np.all(quotes.bid[both] < quotes.ask[both])
    for side in (quotes.bid, quotes.ask):
        shown = side[~np.isnan(side)]
        ticks = np.where(shown < 0.005, 0.0001, 0.0005)
        np.testing.assert_allclose(shown / ticks, np.rint(shown / ticks), atol=1e-6)
    sign = np.array([1.0, -1.0])
    worth = black_price(0.7, 1.0, np.exp(truth.k)[:, None], truth.years[:, None], sign)
    assert np.mean((quotes.bid <= worth)[both] & (worth <= quotes.ask)[both]) > 0.98


class TestNoise:
    field = MidNoise(length=1.5, memory_seconds=600.0)

    def draws(self, count: int) -> Floats:
        random = np.random.default_rng(8)
        return np.stack([self.field.fresh(random) for _ in range(count)])

    def test_variance_is_one_and_correlation_the_stated_one(self) -> None:
        coefficients = self.draws(40_000)
        x = np.array([-3.0, 0.0, 0.7, 2.5])
        values = np.stack([self.field.at(coefficients, np.full(40_000, each)) for each in x])
        np.testing.assert_allclose(values.std(axis=1), 1.0, atol=0.015)
        stated = self.field.correlation(x[:, None] - x)
        np.testing.assert_allclose(np.corrcoef(values), stated, atol=0.02)

    def test_correlation_is_near_the_gaussian_kernel(self) -> None:
        distance = np.linspace(0.0, 6.0, 61)
        kernel = np.exp(-0.5 * (distance / 1.5) ** 2)
        np.testing.assert_allclose(self.field.correlation(distance), kernel, atol=0.09)

    def test_it_forgets_at_the_stated_rate_and_stays_stationary(self) -> None:
        before = self.draws(40_000)
        after = self.field.moved(before, 300.0, np.random.default_rng(9))
        x = np.full(40_000, 0.4)
        pair = np.corrcoef(self.field.at(before, x), self.field.at(after, x))
        assert pair[0, 1] == pytest.approx(np.exp(-0.5), abs=0.02)
        assert self.field.at(after, x).std() == pytest.approx(1.0, abs=0.015)


@pytest.mark.parametrize(
    "changes",
    [{"own_noise": 1.5}, {"missing_side": -0.1}, {"half_spread_vol": -1.0}, {"mid_noise": np.nan}],
)
def test_impossible_habits_are_refused_by_name(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=next(iter(changes))):
        Dealer(FINE, **changes)
