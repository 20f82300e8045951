"""Forwards and discount factors against markets whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.conventions import ExpiryCalendar, Floats, Unit
from calib.feeds.simulated.underlying import default_underlyings
from calib.feeds.simulator import SimulatorSettings, snapshots
from calib.market.curves import BASIS_VOL, RATE_PRIOR, SPOT_ERROR, forward_curve, smooth_rates
from calib.market.forwards import VENUE_FLOOR, Forwards, implied_forwards
from calib.market.groups import group_quantiles
from calib.quotes.chain import Chain, chains
from calib.quotes.labels import Labels
from calib.states import ForwardSource
from tests.market.black_chains import (
    NAN,
    NOW,
    STRIKES,
    Market,
    chain_of,
    edited,
    one_sided,
)

PREMIUMS = [Unit.LINEAR, Unit.INVERSE]
_HOURS = timedelta(hours=5)


def log_error(found: Floats, true: Floats) -> Floats:
    error: Floats = np.log(found / true)
    return error


def assert_within_errors(forwards: Forwards, true: Floats, deviations: float = 3.0) -> None:
    assert np.all(np.abs(forwards.forward - true) <= deviations * forwards.forward_error)


@pytest.mark.parametrize("unit", PREMIUMS)
@pytest.mark.parametrize("carry", [-0.2, 0.0, 0.15])
def test_parity_gives_forwards_and_discount_factors_back(unit: Unit, carry: float) -> None:
    market = Market(unit=unit, carry=carry, half_spread=1e-5)
    forwards = implied_forwards(market.chain())
    assert forwards.expiry.tolist() == market.expiry.tolist()
    assert forwards.source.tolist() == [ForwardSource.PARITY] * 4
    assert np.abs(log_error(forwards.forward, market.forward)).max() < 1e-6
    assert np.abs(log_error(forwards.discount_factor, market.discount)).max() < 1e-5
    assert_within_errors(forwards, market.forward)
    assert forwards.spot == 100.0


@pytest.mark.parametrize("unit", PREMIUMS)
def test_wide_spreads_widen_the_error_and_truth_stays_within_it(unit: Unit) -> None:
    tight = Market(unit=unit, half_spread=0.0005, tick=1e-4)
    wide = replace(tight, half_spread=0.02, tick=1e-3)
    errors = [implied_forwards(market.chain()).forward_error for market in (tight, wide)]
    assert np.all(errors[1] > 2.0 * errors[0])
    assert_within_errors(implied_forwards(wide.chain()), wide.forward)


@pytest.mark.parametrize("unit", PREMIUMS)
def test_venue_forwards_are_taken_as_they_are(unit: Unit) -> None:
    market = Market(unit=unit, given=True)
    shifted = edited(market.quotes(), forward=market.quotes().forward * 1.001)
    forwards = implied_forwards(chain_of(shifted))
    assert forwards.source.tolist() == [ForwardSource.VENUE] * 4
    assert np.array_equal(forwards.forward, market.forward * 1.001)
    assert np.allclose(forwards.forward_error, VENUE_FLOOR * forwards.forward, rtol=1e-12)
    if unit is Unit.LINEAR:  # premiums disagree with this forward by 10 bp, and D leans with it
        assert np.abs(log_error(forwards.discount_factor, market.discount)).max() < 3e-3
    else:
        assert forwards.discount_factor.tolist() == [1.0] * 4


def test_a_venue_forward_that_moves_within_the_chain_is_its_median() -> None:
    market = Market(days=(30.0,), given=True)
    quotes = market.quotes()
    rng = np.random.default_rng(1)
    forward = quotes.forward * (1.0 + 1e-3 * rng.standard_normal(len(quotes)))
    forward[:5] = NAN
    forward[5] = 1e6  # a slip
    forwards = implied_forwards(chain_of(edited(quotes, forward=forward)))
    assert forwards.forward.tolist() == [np.median(forward[5:])]
    assert forwards.forward_error / forwards.forward == pytest.approx([1e-3], rel=0.4)


def test_an_expiry_without_pairs_lies_on_the_curve_of_the_others() -> None:
    market = Market(days=(7.0, 30.0, 60.0, 91.0, 182.0))
    quotes = market.quotes()
    bare = np.isin(quotes.expiry, market.expiry[[2, 4]])
    forwards = implied_forwards(chain_of(one_sided(quotes, bare)))
    sources = [ForwardSource.PARITY] * 5
    sources[2] = sources[4] = ForwardSource.CURVE
    assert forwards.source.tolist() == sources
    assert_within_errors(forwards, market.forward)
    assert np.abs(log_error(forwards.forward, market.forward)).max() < 2e-4
    # Between two known ones it is better known than beyond the last.
    relative = forwards.forward_error / forwards.forward
    assert relative[4] > relative[2] > relative[[1, 3]].max()
    assert np.abs(log_error(forwards.discount_factor, market.discount)).max() < 1e-3


def test_the_spot_stands_in_where_nothing_else_is_seen() -> None:
    market = Market()
    quotes = market.quotes()
    forwards = implied_forwards(chain_of(one_sided(quotes, np.ones(len(quotes), bool))))
    assert forwards.source.tolist() == [ForwardSource.SPOT] * 4
    assert np.allclose(forwards.forward, market.spot, rtol=1e-12)
    assert np.all(np.diff(forwards.forward_error) > 0.0)
    assert np.all(forwards.forward_error > SPOT_ERROR * market.spot)
    assert_within_errors(forwards, market.forward)


def test_with_nothing_at_all_there_is_no_forward() -> None:
    quotes = Market(spot_given=False).quotes()
    forwards = implied_forwards(chain_of(one_sided(quotes, np.ones(len(quotes), bool))))
    assert forwards.source.tolist() == [0] * 4
    assert np.isnan(forwards.forward).all()
    assert np.isnan(forwards.forward_error).all()
    assert forwards.discount_factor.tolist() == [1.0] * 4
    assert forwards.spot is None


@pytest.mark.parametrize("half_spread", [0.0005, 0.02])
def test_every_venue_keeps_its_own_forwards(half_spread: float) -> None:
    """Also where spreads are so wide that either venue's quotes allow the other's forward."""
    here = Market(unit=Unit.INVERSE, half_spread=half_spread, tick=0.1 * half_spread)
    there = replace(here, venue="y", spot=100.4, unit=Unit.LINEAR, rate=0.0)
    forwards = implied_forwards(chain_of(there.quotes(), here.quotes()))
    names = chain_of(there.quotes(), here.quotes()).quotes.venue.names
    assert [names[code] for code in forwards.venue] == ["y", "x"] * 4
    for market, mine in ((there, slice(0, None, 2)), (here, slice(1, None, 2))):
        error = np.abs(forwards.forward[mine] - market.forward)
        assert np.all(error <= 3.0 * forwards.forward_error[mine])
        assert np.all(error < 0.25 * 0.4)  # the basis is 40 bp


def test_a_venue_that_shows_nothing_follows_the_others() -> None:
    here = Market(half_spread=0.0005)
    mute = replace(here, venue="y", spot_given=False)
    quotes = mute.quotes()
    forwards = implied_forwards(
        chain_of(here.quotes(), one_sided(quotes, np.ones(len(quotes), bool)))
    )
    assert forwards.source.tolist() == [ForwardSource.PARITY, ForwardSource.CURVE] * 4
    assert np.allclose(forwards.forward[1::2], forwards.forward[::2], rtol=2e-5)
    assert np.all(forwards.forward_error[1::2] > 5e-4 * here.forward)


def test_expiries_that_are_assets_of_their_own_share_no_curve() -> None:
    """Forwards that jump from expiry to expiry are kept; an expiry without pairs has none."""
    days = (30.0, 60.0, 90.0)
    parts = [
        Market(days=(day,), spot=spot, half_spread=0.01, spot_given=False)
        for day, spot in zip(days, (100.0, 110.0, 95.0), strict=True)
    ]
    tables = [part.quotes() for part in parts]
    chain = chain_of(*tables[:2], one_sided(tables[2], np.ones(len(tables[2]), bool)))
    apart = implied_forwards(chain, ExpiryCalendar.INDEPENDENT)
    assert apart.source.tolist() == [ForwardSource.PARITY, ForwardSource.PARITY, 0]
    true = np.concatenate([part.forward for part in parts])
    assert np.abs(log_error(apart.forward, true))[:2].max() < 1e-4
    assert np.isnan(apart.forward[2])
    together = implied_forwards(chain)
    assert together.source[2] == ForwardSource.CURVE


@pytest.mark.parametrize("unit", PREMIUMS)
def test_an_implied_forward_allows_no_trade_against_the_quotes(unit: Unit) -> None:
    """Every pair's C − P lies between its bid and its ask, whatever spot and curve say."""
    market = Market(unit=unit, half_spread=0.004)
    wrong = edited(market.quotes(), spot=np.full(len(market.quotes()), 80.0))
    forwards = implied_forwards(chain_of(wrong))
    assert_within_errors(forwards, market.forward, 60.0)
    q = wrong
    size = len(STRIKES)
    for i, forward in enumerate(forwards.forward):
        call = np.arange(size) + 2 * size * i
        put = call + size
        low, high = q.bid[call] - q.ask[put], q.ask[call] - q.bid[put]
        if unit is Unit.INVERSE:
            parity = 1.0 - STRIKES / forward
        else:
            parity = forwards.discount_factor[i] * (forward - STRIKES)
        assert np.all((low <= parity + 1e-12) & (parity <= high + 1e-12))


@pytest.mark.parametrize("unit", PREMIUMS)
@pytest.mark.parametrize(("strike", "by"), [(100.0, 0.02), (60.0, 0.02), (140.0, 0.05)])
def test_a_stale_pair_moves_next_to_nothing(unit: Unit, strike: float, by: float) -> None:
    """As if one call's market had stood some per cent higher; unnoticed it is worth 20 bp."""
    market = Market(unit=unit, tick=2e-4)
    quotes = market.quotes()
    stale = (quotes.strike == strike) & (quotes.right == 1)
    premium = by * (market.spot if unit is Unit.LINEAR else 1.0)
    bid, ask = quotes.bid.copy(), quotes.ask.copy()
    bid[stale] += premium
    ask[stale] += premium
    forwards = implied_forwards(chain_of(edited(quotes, bid=bid, ask=ask)))
    assert np.abs(log_error(forwards.forward, market.forward)).max() < 1e-4
    assert np.abs(log_error(forwards.discount_factor, market.discount)).max() < 1e-4
    assert_within_errors(forwards, market.forward)


def test_two_pairs_of_which_one_is_stale_do_not_make_a_rate() -> None:
    market = Market(days=(91.0,), strikes=(80.0, 120.0), rate=0.0, tick=1e-4)
    quotes = market.quotes()
    stale = (quotes.strike == 120.0) & (quotes.right == 1)
    ask, bid = quotes.ask + 2.0 * stale, quotes.bid + 2.0 * stale
    forwards = implied_forwards(chain_of(edited(quotes, bid=bid, ask=ask)))
    assert forwards.discount_factor.tolist() == [1.0]


def test_few_pairs_near_the_money_do_not_make_a_rate() -> None:
    """The slope over three strikes of one week is worth tens of per cent a year."""
    rng = np.random.default_rng(2)
    near = Market(days=(7.0,), strikes=(98.0, 100.0, 102.0), half_spread=0.005)
    quotes = near.quotes()
    rates = []
    for _ in range(50):
        lean = rng.uniform(-0.5, 0.5, len(quotes)) * (quotes.ask - quotes.bid)
        leaning = edited(quotes, bid=quotes.bid + lean, ask=quotes.ask + lean)
        forwards = implied_forwards(chain_of(leaning))
        rates.append(-np.log(forwards.discount_factor[0]) / near.years[0])
    assert np.abs(rates).max() < 2.0 * RATE_PRIOR
    # Beside expiries with many strikes the same quotes lean on those.
    wide = Market(days=(30.0, 91.0)).quotes()
    forwards = implied_forwards(chain_of(quotes, wide))
    assert -np.log(forwards.discount_factor[0]) / near.years[0] == pytest.approx(0.045, abs=0.01)


@pytest.mark.parametrize("strikes", [[100.0], [100.0, 105.0], [100.0, 100.0 + 1e-9, 100.0 + 2e-9]])
@pytest.mark.parametrize("unit", PREMIUMS)
def test_a_strike_or_two_give_a_forward_all_the_same(unit: Unit, strikes: list[float]) -> None:
    market = Market(days=(30.0,), strikes=strikes, unit=unit, rate=0.0)
    forwards = implied_forwards(market.chain())
    assert forwards.source.tolist() == [ForwardSource.PARITY]
    assert np.abs(log_error(forwards.forward, market.forward)) < 1e-3
    assert np.abs(np.log(forwards.discount_factor)) < 1e-3


@given(st.integers(0, 2**32 - 1))
def test_the_order_of_the_rows_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    here = Market(half_spread=0.003)
    quotes = chain_of(here.quotes(), replace(here, venue="y", spot=99.0).quotes()).quotes
    keep = rng.random(len(quotes)) < 0.4
    some = quotes.take(keep)
    order = rng.permutation(len(some))
    one = implied_forwards(Chain("ABC", NOW, some))
    other = implied_forwards(Chain("ABC", NOW, some.take(order)))
    assert np.array_equal(one.group[order], other.group)
    for name in ("expiry", "venue", "source"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    for name in ("forward", "forward_error", "discount_factor"):
        left, right = getattr(one, name), getattr(other, name)
        assert np.allclose(left, right, rtol=1e-9, atol=0.0, equal_nan=True)


def test_rows_that_cannot_be_read_or_have_expired_belong_to_no_group() -> None:
    quotes = Market(days=(30.0,)).quotes()
    broken = replace(
        quotes,
        venue=Labels.of([None, *["x"] * (len(quotes) - 1)]),
        expiry=np.r_[quotes.expiry[:1], [np.datetime64("NaT", "us"), NOW], quotes.expiry[3:]],
    )
    strike = broken.strike.copy()
    strike[3] = -1.0
    table = edited(replace(broken, strike=strike))
    forwards = implied_forwards(chain_of(table))
    assert forwards.group[:4].tolist() == [-1] * 4
    assert set(forwards.group[4:]) == {0}


def test_expired_rows_do_not_disturb_the_rest_whatever_else_is_wrong_with_them() -> None:
    """A row without prices keeps that reason after its expiry."""
    quotes = Market().quotes()
    gone = np.flatnonzero(quotes.expiry == quotes.expiry[0])
    bid, ask = quotes.bid.copy(), quotes.ask.copy()
    bid[gone], ask[gone] = NAN, NAN
    late = quotes.expiry[0]
    chain = replace(chain_of(edited(quotes, bid=bid, ask=ask)), quote_time=late)
    forwards = implied_forwards(chain)
    assert forwards.group[gone].tolist() == [-1] * len(gone)
    assert len(forwards.forward) == 3
    assert np.isfinite(forwards.forward).all()


def test_no_rows_no_groups() -> None:
    empty = Market().quotes().take(np.array([], np.int64))
    forwards = implied_forwards(Chain("ABC", NOW, empty))
    assert all(len(column) == 0 for column in forwards[:7])
    assert forwards.spot is None


class TestSimulatedMarkets:
    """Bates markets quoted by a dealer on ticks: SPX shows no forwards, ETH those of month ends."""

    @staticmethod
    def standardised(name: str) -> tuple[Floats, Floats, Floats]:
        """Errors of implied forwards in their own errors and in bp, and of ln D in bp."""
        settings = SimulatorSettings(
            seed=11,
            underlyings=tuple(u for u in default_underlyings(3) if u.name == name),
            expiries=10,
            strikes=31,
            snapshots=12,
            interval=_HOURS,
        )
        z, bp, discount = [], [], []
        for snapshot in snapshots(settings):
            (chain,) = chains(snapshot.quotes)
            forwards = implied_forwards(chain)
            first = np.unique(forwards.group, return_index=True)[1]
            true, true_discount = (
                snapshot.truth.forward[first],
                snapshot.truth.discount_factor[first],
            )
            implied = forwards.source != ForwardSource.VENUE
            error = (forwards.forward - true)[implied]
            z.append(error / forwards.forward_error[implied])
            bp.append(1e4 * error / true[implied])
            discount.append(1e4 * np.log(forwards.discount_factor / true_discount))
            assert set(forwards.source) <= {ForwardSource.VENUE, ForwardSource.PARITY}
            shown = ~implied
            assert np.array_equal(forwards.forward[shown], true[shown])
        return np.concatenate(z), np.concatenate(bp), np.concatenate(discount)

    @pytest.mark.parametrize(("name", "median_bp"), [("ETH", 0.5), ("SPX", 0.05)])
    def test_errors_of_implied_forwards_are_no_greater_than_stated(
        self, name: str, median_bp: float
    ) -> None:
        """Here they are much smaller: this dealer's error is the same for put and call."""
        z, bp, _ = self.standardised(name)
        assert len(z) > 50
        assert np.median(np.abs(bp)) < median_bp
        assert np.sqrt(np.mean(z * z)) < 1.0
        assert np.abs(z).max() < 4.0

    def test_discount_factors_of_linear_premiums(self) -> None:
        _, _, discount = self.standardised("SPX")
        assert np.median(np.abs(discount)) < 0.1
        assert np.abs(discount).max() < 1.0


class TestCurves:
    """The posterior of forwards and rates over expiries."""

    def test_a_straight_line_is_given_back(self) -> None:
        years = np.array([0.02, 0.1, 0.5, 1.0])
        true = 50.0 * np.exp(0.07 * years)
        seen = np.array([True, True, False, True])
        curve, error = forward_curve(years, np.where(seen, true, NAN), 1e-6 * true, None)
        assert np.abs(log_error(curve, true)).max() < 3e-4
        assert error[2] > 100.0 * error[seen].max()

    def test_at_no_time_to_expiry_the_forward_is_the_spot(self) -> None:
        curve, error = forward_curve(np.array([1e-6]), np.array([NAN]), np.array([NAN]), 80.0)
        assert curve == pytest.approx([80.0])
        assert error == pytest.approx([SPOT_ERROR * 80.0], rel=0.02)

    def test_between_two_known_forwards_the_error_is_that_of_a_bridge(self) -> None:
        """√(t(1−t)/1) of the walk's deviation, halfway through a year between exact forwards."""
        years = np.array([1.0, 1.5, 2.0])
        forward = np.array([100.0, NAN, 100.0])
        _, error = forward_curve(years, forward, np.full(3, 1e-8), None)
        assert error[1] / 100.0 == pytest.approx(BASIS_VOL * np.sqrt(0.25), rel=1e-3)

    def test_venues_at_one_expiry_share_it(self) -> None:
        years, forward = np.array([0.5, 0.5]), np.array([100.0, 101.0])
        curve, _ = forward_curve(years, forward, np.array([1e-3, 1e-3]), None)
        assert curve == pytest.approx([100.5, 100.5], rel=1e-4)

    @pytest.mark.parametrize("apart", [3.2e-14, 1e-12, 1e-6, 1e-3])  # from one microsecond
    def test_expiries_however_close_are_told_apart_by_what_is_seen(self, apart: float) -> None:
        years = np.array([0.25, 0.25 + apart, 0.5])
        curve, error = forward_curve(years, np.array([100.0, 100.0, NAN]), np.full(3, 0.01), 100.0)
        assert curve == pytest.approx(100.0, rel=1e-6)
        assert np.all(np.isfinite(error) & (error > 0.0))
        rates = smooth_rates(years, np.array([0.03, 0.03, NAN]), np.full(3, 1e-3))
        assert rates == pytest.approx([0.03] * 3, abs=1e-4)

    def test_a_thousand_expiries(self) -> None:
        years = np.linspace(1e-3, 5.0, 1_000)
        true = 100.0 * np.exp(0.02 * years)
        forward = np.where(np.arange(1_000) % 7 == 0, true, NAN)
        curve, _ = forward_curve(years, forward, 1e-5 * true, 100.0)
        assert np.abs(log_error(curve, true)).max() < 1e-4
        assert smooth_rates(years, np.full(1_000, 0.05), np.full(1_000, 1e-3)) == pytest.approx(
            0.05, abs=1e-4
        )

    def test_rates_without_any_sight_are_nil(self) -> None:
        nothing = np.full(3, NAN)
        assert smooth_rates(np.array([0.1, 1.0, 0.5]), nothing, nothing).tolist() == [0.0] * 3

    def test_a_poor_sight_of_a_rate_gives_way_to_a_good_one_nearby(self) -> None:
        years, rate = np.array([0.02, 0.05, 1.0]), np.array([0.5, 0.04, NAN])
        smooth = smooth_rates(years, rate, np.array([0.3, 0.001, NAN]))
        assert smooth == pytest.approx([0.04, 0.04, 0.04], abs=1e-3)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(-1e6, 1e6)), max_size=30),
    st.floats(0.0, 1.0),
)
def test_quantiles_of_groups_are_those_of_numpy(
    pairs: list[tuple[int, float]], share: float
) -> None:
    group = np.array([g for g, _ in pairs], np.int64)
    values = np.array([v for _, v in pairs])
    found = group_quantiles(values, group, 5, share, 0.5)
    for result, q in zip(found, (share, 0.5), strict=True):
        for g in range(5):
            mine = values[group == g]
            expected = np.quantile(mine, q) if len(mine) else NAN
            assert result[g] == pytest.approx(expected, rel=1e-12, abs=1e-9, nan_ok=True)
