"""Simulated markets: quotes that a venue could have sent, and a truth free of arbitrage."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import pytest

from calib.errors import InvalidRequest
from calib.feeds.simulated.bates import Bates
from calib.feeds.simulated.noise import MidNoise
from calib.feeds.simulated.snapshot import Simulation, Snapshot, collected
from calib.feeds.simulated.ticks import TickSchedule
from calib.feeds.simulated.underlying import default_underlyings
from calib.feeds.simulator import SimulatorSettings, simulate, snapshots
from calib.market.black import black_price, implied_vol
from calib.quotes.reading import quotes_from_frame
from calib.quotes.reasons import Reason

COLUMNS = [
    *("quote_time", "venue", "underlying", "expiry", "strike", "right", "unit", "bid", "ask"),
    *("bid_size", "ask_size", "forward", "spot", "exercise"),
]
SMALL = SimulatorSettings(
    seed=3, underlyings=default_underlyings(4), expiries=6, strikes=21, snapshots=3
)


@pytest.fixture(scope="module")
def market() -> Simulation:
    return simulate(SMALL)


@pytest.fixture(scope="module")
def rows(market: Simulation) -> pd.DataFrame:
    """Quotes and truth side by side, with k and years."""
    truth = market.truth.rename(columns={"forward": "true_forward"})
    joined = pd.concat([market.quotes, truth.iloc[:, 5:]], axis=1)
    life = joined.expiry - joined.quote_time
    return joined.assign(
        k=np.log(joined.strike / joined.true_forward),
        years=life.dt.total_seconds() / (365 * 86_400),
    )


@pytest.fixture(scope="module")
def three_days() -> Simulation:
    return simulate(replace(SMALL, snapshots=13, interval=timedelta(hours=6), strikes=11))


def slices(rows: pd.DataFrame) -> Any:
    return rows.groupby(["quote_time", "underlying", "expiry"])


def test_the_quotes_are_a_quote_table_without_fault(market: Simulation) -> None:
    assert list(market.quotes.columns) == COLUMNS
    assert str(market.quotes.quote_time.dtype) == "datetime64[us, UTC]"
    assert str(market.quotes.expiry.dtype) == "datetime64[us, UTC]"
    assert len(market.quotes) == 3 * 4 * 6 * 21 * 2
    table = quotes_from_frame(market.quotes)
    assert set(table.reason_counts()) <= {Reason.NO_QUOTE}
    assert np.mean(table.usable) > 0.95
    keys = ["quote_time", "underlying", "expiry", "strike", "right"]
    assert not market.quotes.duplicated(keys).any()
    pd.testing.assert_frame_equal(market.quotes[keys], market.truth[keys])


def test_the_units_are_those_of_the_underlyings(rows: pd.DataFrame) -> None:
    units = rows.groupby("underlying").unit.unique().map(list).to_dict()
    inverse, linear = ["inverse"], ["linear"]
    assert units == {"BTC": inverse, "ETH": inverse, "SPX": linear, "SIM4": inverse}
    assert (rows.exercise == "european").all()


def test_put_call_parity_holds_in_each_unit(rows: pd.DataFrame) -> None:
    wide = rows.pivot_table(
        index=["quote_time", "underlying", "unit", "expiry", "strike", "true_forward"],
        columns="right",
        values=["true_price", "discount_factor"],
    ).reset_index()
    difference = wide.true_price.C - wide.true_price.P
    discount = wide.discount_factor.C
    inverse = discount * (1.0 - wide.strike / wide.true_forward)
    linear = discount * (wide.true_forward - wide.strike)
    expected = np.where(wide.unit == "inverse", inverse, linear)
    scale = np.where(wide.unit == "inverse", 1.0, wide.true_forward)
    np.testing.assert_allclose(difference / scale, expected / scale, atol=1e-14)
    spx = wide.underlying == "SPX"
    assert np.all(discount[spx] < 1.0)
    assert np.all(discount[~spx] == 1.0)


def test_true_vols_give_the_true_prices(rows: pd.DataFrame) -> None:
    black = black_price(rows.true_vol, rows.true_forward, rows.strike, rows.years, rows.right)
    inverse = black / rows.true_forward
    premium = rows.discount_factor * np.where(rows.unit == "inverse", inverse, black)
    scale = np.where(rows.unit == "inverse", 1.0, rows.true_forward)
    assert rows.true_vol.notna().all()
    np.testing.assert_allclose(premium / scale, rows.true_price / scale, atol=1e-14)


def test_true_prices_admit_no_static_arbitrage(rows: pd.DataFrame) -> None:
    for _, part in slices(rows[rows.right == "C"]):
        strike = part.strike.to_numpy() / part.true_forward.to_numpy()
        scale = 1.0 if part.unit.iloc[0] == "inverse" else part.true_forward.to_numpy()
        call = part.true_price.to_numpy() / scale / part.discount_factor.to_numpy()
        slope = np.diff(call) / np.diff(strike)
        assert np.all((slope < 0) & (slope > -1))
        assert np.all(np.diff(slope) > 0)


def test_true_total_variance_grows_with_expiry(rows: pd.DataFrame) -> None:
    calls = rows[rows.right == "C"]
    for _, chain in calls.groupby(["quote_time", "underlying"]):
        earlier = None
        for _, part in chain.groupby("expiry"):
            k, w = part.k.to_numpy(), (part.true_vol**2 * part.years).to_numpy()
            if earlier is not None:
                grid = earlier[0][np.abs(earlier[0]) < 0.6 * np.abs(k).max()]
                assert np.all(np.interp(grid, k, w) > np.interp(grid, *earlier))
            earlier = k, w


def test_prices_stand_on_the_venues_ticks(rows: pd.DataFrame) -> None:
    inverse = rows.unit == "inverse"
    for side in (rows.bid, rows.ask):
        low = np.where(inverse, side < 0.005, side < 3.0)
        tick = np.where(inverse, np.where(low, 1e-4, 5e-4), np.where(low, 0.05, 0.1))
        count = (side.to_numpy() / tick)[side.notna()]
        assert np.all(count > 0.9)
        np.testing.assert_allclose(count, np.rint(count), atol=1e-6)


def test_bids_stay_below_asks_and_the_truth_mostly_between(rows: pd.DataFrame) -> None:
    both = rows[rows.bid.notna() & rows.ask.notna()]
    assert (both.bid < both.ask).all()
    inside = (both.bid <= both.true_price) & (both.true_price <= both.ask)
    assert inside.mean() > 0.98


def test_sides_are_missing_in_the_wings_and_here_and_there(rows: pd.DataFrame) -> None:
    scale = np.where(rows.unit == "inverse", 1.0, rows.true_forward)
    worth = rows.true_price.to_numpy() / scale
    assert rows.bid[worth < 1e-6].isna().all()
    assert rows.ask[worth < 1e-6].notna().mean() > 0.8
    near = rows[np.abs(rows.k) < 0.3 * rows.true_vol * np.sqrt(rows.years)]
    for side in ("bid", "ask"):
        assert 0.0 < near[side].isna().mean() < 0.05
        assert near[side].isna().equals(near[f"{side}_size"].isna())


def test_forwards_are_shown_as_each_venue_does(rows: pd.DataFrame) -> None:
    shown = rows.groupby("underlying").forward.apply(lambda column: column.notna().mean())
    assert shown["BTC"] == 1.0
    assert 0.0 < shown["ETH"] < 1.0
    assert shown["SPX"] == 0.0
    given = rows.forward.notna()
    assert (rows.forward[given] == rows.true_forward[given]).all()
    ether = rows[(rows.underlying == "ETH") & given]
    assert ((ether.expiry + pd.Timedelta(days=7)).dt.month != ether.expiry.dt.month).all()


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not(market: Simulation) -> None:
    again, other = simulate(SMALL), simulate(replace(SMALL, seed=4))
    for name in ("quotes", "truth"):
        first, second = getattr(market, name), getattr(again, name)
        assert first.to_csv().encode() == second.to_csv().encode()
    assert not other.truth.true_price.equals(market.truth.true_price)
    assert not other.quotes.bid.equals(market.quotes.bid)


def test_more_underlyings_and_snapshots_leave_the_others_as_they_were(market: Simulation) -> None:
    fewer = simulate(replace(SMALL, underlyings=default_underlyings(2), snapshots=2))
    first = market.quotes[market.quotes.underlying.isin(["BTC", "ETH"])]
    early = first[first.quote_time < first.quote_time.max()].reset_index(drop=True)
    pd.testing.assert_frame_equal(fewer.quotes, early)


def test_more_strikes_leave_the_path_as_it_was() -> None:
    few, many = (
        simulate(replace(SMALL, strikes=n, snapshots=4)).quotes.spot.unique() for n in (3, 9)
    )
    assert list(few) == list(many)
    assert len(few) > 4


def test_expiries_roll_off_and_are_replaced(three_days: Simulation) -> None:
    quotes = three_days.quotes
    assert (quotes.expiry > quotes.quote_time).all()
    for _, chain in quotes.groupby("underlying"):
        listed = [set(part.expiry) for _, part in chain.groupby("quote_time")]
        assert {len(expiries) for expiries in listed} == {6}
        assert listed[-1] - listed[0]
        times = sorted(chain.quote_time.unique())
        for now, before, after in zip(times[1:], listed, listed[1:], strict=False):
            assert before - after == {expiry for expiry in before if expiry <= now}


def test_spot_and_vol_move_and_the_smile_with_them(three_days: Simulation) -> None:
    for _, chain in three_days.truth.groupby("underlying"):
        first_listed = chain[chain.quote_time == chain.quote_time.min()]
        last = chain[chain.expiry == first_listed.expiry.max()]
        calls = last[last.right == "C"].assign(k=lambda t: np.log(t.strike / t.forward))
        levels = calls.groupby("quote_time").apply(
            lambda part: pd.Series(
                {"forward": part.forward.iloc[0], "vol": np.interp(0.0, part.k, part.true_vol)}
            )
        )
        moves = np.log(levels).diff().dropna()
        assert len(moves) == 12
        assert (moves.forward.abs() > 1e-5).all()
        assert (moves.vol.abs() > 1e-6).all()
        assert moves.abs().max().max() < 0.5


def test_errors_of_mids_have_the_stated_deviation() -> None:
    (plain,) = default_underlyings(1)
    fine = replace(
        plain.dealer,
        ticks=TickSchedule(((0.0, 1e-9),)),
        missing_side=0.0,
        noise=MidNoise(memory_seconds=0.05),
    )
    settings = SimulatorSettings(
        underlyings=(replace(plain, dealer=fine),), expiries=8, strikes=9, snapshots=120
    )
    result = simulate(settings)
    quotes, truth = result.quotes, result.truth
    years = (quotes.expiry - quotes.quote_time).dt.total_seconds() / (365 * 86_400)
    sides = [
        implied_vol(side * truth.forward, truth.forward, quotes.strike, years, quotes.right)
        for side in (quotes.bid, quotes.ask)
    ]
    k = np.log(quotes.strike / truth.forward)
    central = (np.abs(k) < truth.true_vol * np.sqrt(years)) & ((k < 0) == (quotes.right == "P"))
    error = ((0.5 * (sides[0] + sides[1]) - truth.true_vol) / truth.noise_vol)[central]
    assert len(error) > 2000
    assert error.std() == pytest.approx(1.0, abs=0.05)
    assert abs(error.mean()) < 0.1


def test_a_long_simulation_streams() -> None:
    endless = snapshots(replace(SMALL, snapshots=10**9, interval=timedelta(milliseconds=250)))
    first, second, third = islice(endless, 3)
    assert third.quote_time - second.quote_time == np.timedelta64(250, "ms")
    assert first.quotes.underlyings == ("BTC", "ETH", "SIM4", "SPX")
    assert len(first.quotes) == len(first.truth.true_vol) == 4 * 6 * 21 * 2
    assert list(first.quotes_frame().columns) == COLUMNS
    assert list(first.truth_frame().columns[:5]) == [*COLUMNS[:1], *COLUMNS[2:6]]


def test_a_market_through_a_storm_and_past_its_last_second() -> None:
    """Strikes are added as spot runs away, and options with a second to live are still priced."""
    (plain,) = default_underlyings(1)
    stormy = replace(plain, model=Bates(2.0, 4.0, 3.0, -0.3, 60.0, -0.02, 0.2), variance=6.0)
    settings = SimulatorSettings(
        underlyings=(stormy,),
        expiries=4,
        strikes=12,
        snapshots=40,
        interval=timedelta(hours=12),
        start=datetime(2026, 1, 5, 19, 59, 59, tzinfo=UTC),
    )
    counts = []
    for snapshot in snapshots(settings):
        frame = snapshot.quotes_frame()
        counts.append(int(frame.groupby("expiry").strike.nunique().max()))
        for _, part in frame.groupby("expiry"):
            forward = part.forward.iloc[0]
            assert (part.strike < forward).sum() >= 3
            assert (part.strike > forward).sum() >= 3
        assert set(snapshot.quotes.reason_counts()) <= {Reason.NO_QUOTE}
    assert counts[0] == 12
    assert max(counts) > 12
    soon = replace(settings, snapshots=1, start=datetime(2026, 1, 6, 7, 59, 59, tzinfo=UTC))
    (last_second,) = snapshots(soon)
    assert np.all(last_second.truth.true_price >= 0.0)
    assert np.isfinite(last_second.truth.true_vol).mean() > 0.9


def test_faults_are_maps_over_snapshots() -> None:
    def without_asks(snapshot: Snapshot) -> Snapshot:
        nothing = np.full(len(snapshot.quotes), np.nan)
        return replace(snapshot, quotes=replace(snapshot.quotes, ask=nothing))

    faulty = collected(map(without_asks, snapshots(SMALL)))
    assert faulty.quotes.ask.isna().all()
    assert faulty.quotes.bid.equals(simulate(SMALL).quotes.bid)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"expiries": 0}, "expiries=0"),
        ({"strikes": 0}, "strikes=0"),
        ({"snapshots": -1}, "snapshots=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"interval": timedelta(0)}, "interval=0:00:00"),
        ({"underlyings": ()}, "at least one"),
        ({"underlyings": default_underlyings(1) * 2}, "each name once"),
    ],
)
def test_impossible_settings_are_refused_by_name(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        replace(SMALL, **changes)


def test_the_default_underlyings_are_as_many_as_asked_for() -> None:
    names = [each.name for each in default_underlyings(6)]
    assert names == ["BTC", "ETH", "SPX", "SIM4", "SIM5", "SIM6"]
    assert default_underlyings(6) == default_underlyings(6)
    with pytest.raises(InvalidRequest, match="underlyings=0"):
        default_underlyings(0)


def test_importing_the_simulator_is_cheap() -> None:
    code = (
        "import sys, calib.feeds.simulator\n"
        "calib.feeds.simulator.SimulatorSettings()\n"
        "print({'jax', 'pandas', 'scipy', 'matplotlib', 'grpc'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert (done.stdout.strip(), done.stderr) == ("set()", "")
