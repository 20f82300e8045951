"""Faults in quote tables: each does what, where and when it says, and nothing else."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta
from math import exp
from typing import Any

import numpy as np
import pytest

from calib.conventions import Bools, Floats
from calib.errors import InvalidRequest
from calib.feeds.hostile import Fault, FaultName, hostile
from calib.feeds.hostile.programme import fault_names, programme
from calib.feeds.hostile.second_venue import with_second_venue
from calib.feeds.simulated.underlying import default_underlyings
from calib.feeds.simulator import SimulatorSettings, simulate
from calib.market.slicing import slices_of
from calib.quotes.chain import chain_at
from calib.quotes.labels import Labels
from calib.quotes.reading import quotes_from_frame
from calib.quotes.reasons import Reason
from calib.quotes.table import QuoteTable
from tests.quotes.tables import assert_same

MINUTE = np.timedelta64(60, "s")


@pytest.fixture(scope="module")
def quotes() -> QuoteTable:
    settings = SimulatorSettings(
        seed=2,
        underlyings=default_underlyings(3),
        expiries=3,
        strikes=15,
        snapshots=5,
        interval=timedelta(minutes=1),
    )
    return quotes_from_frame(simulate(settings).quotes)


def fault(quotes: QuoteTable, name: FaultName, **changes: Any) -> Fault:
    """On the second of BTC's expiries, from the third moment to before the fifth."""
    start = np.unique(quotes.quote_time)[2]
    expiry = np.unique(quotes.expiry[quotes.underlying.codes == quotes.underlying.codes[0]])[1]
    usual = Fault(name, "BTC", start, start + 2 * MINUTE, name.usual_size, expiry=expiry)
    return replace(usual, **changes)


def changed(before: QuoteTable, after: QuoteTable) -> Bools:
    """Which rows differ in any column."""
    differ = np.zeros(len(before), bool)
    for column in fields(QuoteTable):
        one, other = getattr(before, column.name), getattr(after, column.name)
        if isinstance(one, Labels):
            one, other = one.codes, other.codes
        same = one == other
        if one.dtype.kind == "f":
            same |= np.isnan(one) & np.isnan(other)
        differ |= ~same
    return differ


def vols(quotes: QuoteTable, underlying: str, time: np.datetime64) -> tuple[Floats, Floats]:
    """Bid and ask vols of the rows of one moment."""
    rows = (quotes.quote_time == time) & quotes.underlying.equal(underlying)
    slices = slices_of(chain_at(quotes.take(rows), underlying, time))
    return slices.bid_vol, slices.ask_vol


@pytest.mark.parametrize("name", FaultName)
def test_a_fault_keeps_to_its_place_and_time(quotes: QuoteTable, name: FaultName) -> None:
    one = fault(quotes, name)
    after = hostile(quotes, [one]).quotes
    touched = changed(quotes, after)
    assert touched.any()
    assert not (touched & ~one.befalls(quotes)).any()
    assert len(after) == len(quotes)
    assert set(np.unique(quotes.quote_time[touched])) == {one.start, one.start + MINUTE}
    assert_same(after, hostile(quotes, [one]).quotes)


def test_without_faults_a_table_is_what_it_was(quotes: QuoteTable) -> None:
    assert_same(hostile(quotes, []).quotes, quotes)


def test_a_stale_venue_shows_what_it_sent_last(quotes: QuoteTable) -> None:
    one = fault(quotes, FaultName.STALE_VENUE)
    after, hit = hostile(quotes, [one]).quotes, one.befalls(quotes)
    before = one.place(quotes) & (quotes.quote_time == one.start - MINUTE)
    for name in ("quote_time", "strike", "right", "bid", "ask", "forward", "spot"):
        twice = np.tile(getattr(quotes, name)[before], 2)
        np.testing.assert_array_equal(getattr(after, name)[hit], twice)


def test_what_a_silent_venue_never_sent_it_does_not_quote(quotes: QuoteTable) -> None:
    first = np.unique(quotes.quote_time)[0]
    one = fault(quotes, FaultName.STALE_VENUE, start=first, end=first + MINUTE)
    after, hit = hostile(quotes, [one]).quotes, one.befalls(quotes)
    assert (after.reason[hit] == Reason.NO_QUOTE).all()


@pytest.mark.parametrize("underlying", ["BTC", "SPX"])  # inverse, linear without forwards
@pytest.mark.parametrize("name", [FaultName.SHIFTED_VENUE, FaultName.VOL_JUMP])
def test_vols_move_by_the_size(quotes: QuoteTable, underlying: str, name: FaultName) -> None:
    one = fault(quotes, name, underlying=underlying, expiry=None, size=0.03)
    after = hostile(quotes, [one]).quotes
    for old, new in zip(
        vols(quotes, underlying, one.start), vols(after, underlying, one.start), strict=True
    ):
        moved = (new - old)[np.isfinite(old) & np.isfinite(new)]
        # Where forwards are implied from the quotes, wider noise in the money moves them a little.
        assert np.median(moved) == pytest.approx(0.03, abs=1e-6 if underlying == "BTC" else 1e-3)
        assert len(moved) > 20


def test_a_vol_quote_moves_by_the_size(quotes: QuoteTable) -> None:
    rows = np.flatnonzero(fault(quotes, FaultName.VOL_JUMP).befalls(quotes))[:1]
    told = replace(
        quotes.take(rows), unit=np.array([3], np.int8), unit_text=Labels.of(["vol"]),
        bid=np.array([0.5]), ask=np.array([0.52]),
    )  # fmt: skip
    after = hostile(told, [fault(quotes, FaultName.VOL_JUMP, size=0.05)]).quotes
    assert (after.bid[0], after.ask[0]) == pytest.approx((0.55, 0.57))


def test_spot_and_forwards_jump_and_options_keep_their_vols(quotes: QuoteTable) -> None:
    one = fault(quotes, FaultName.SPOT_JUMP, expiry=None, size=-0.01)
    after, hit = hostile(quotes, [one]).quotes, one.befalls(quotes)
    for name in ("forward", "spot"):
        np.testing.assert_allclose(
            getattr(after, name)[hit], exp(-0.01) * getattr(quotes, name)[hit], rtol=1e-12
        )
    for old, new in zip(vols(quotes, "BTC", one.start), vols(after, "BTC", one.start), strict=True):
        both = np.isfinite(old) & np.isfinite(new)
        assert both.sum() > 20
        np.testing.assert_allclose(new[both], old[both], rtol=1e-7)


def test_a_fat_finger_is_one_option_near_the_money(quotes: QuoteTable) -> None:
    one = fault(quotes, FaultName.FAT_FINGER, expiry=None)
    after = hostile(quotes, [one]).quotes
    touched = np.flatnonzero(changed(quotes, after))
    assert len(touched) == 2  # at two moments
    assert len({(quotes.expiry[i], quotes.strike[i], quotes.right[i]) for i in touched}) == 1
    np.testing.assert_allclose(after.ask[touched], 2.0 * quotes.ask[touched])
    assert abs(np.log(quotes.strike[touched[0]] / quotes.forward[touched[0]])) < 0.2


@pytest.mark.parametrize(
    ("name", "share"), [(FaultName.CROSSED_CHAIN, 0.4), (FaultName.MISSING_STRIKES, 0.5)]
)
def test_the_share_of_what_is_hit(quotes: QuoteTable, name: FaultName, share: float) -> None:
    one = fault(quotes, name)
    after, hit = hostile(quotes, [one]).quotes, one.befalls(quotes)
    crossed = name is FaultName.CROSSED_CHAIN
    reason = hit & (after.reason == (Reason.CROSSED if crossed else Reason.NO_QUOTE))
    able = hit & np.isfinite(quotes.bid + quotes.ask) if crossed else hit
    assert (reason & able).sum() == pytest.approx(share * able.sum(), abs=3)
    # The same options at both moments.
    strikes = [
        set(quotes.strike[reason & (quotes.quote_time == one.start + i * MINUTE)]) for i in (0, 1)
    ]
    assert len(strikes[0] ^ strikes[1]) <= (2 if crossed else 0)


def test_sides_go_missing_and_spreads_open(quotes: QuoteTable) -> None:
    sides = hostile(quotes, [one := fault(quotes, FaultName.MISSING_SIDES)]).quotes
    hit = one.befalls(quotes)
    assert np.isnan(sides.bid[hit]).mean() >= 0.7
    np.testing.assert_array_equal(sides.ask[hit], quotes.ask[hit])
    wide = hostile(quotes, [fault(quotes, FaultName.WIDE_MARKET, size=2.0)]).quotes
    both = hit & np.isfinite(quotes.bid + quotes.ask)
    np.testing.assert_allclose((wide.bid + wide.ask)[both], (quotes.bid + quotes.ask)[both])
    ratio = (wide.ask - wide.bid)[both] / (quotes.ask - quotes.bid)[both]
    assert ratio.max() == pytest.approx(2.0)
    assert (wide.bid[both] > 0.0).all()


def test_a_wrong_forward_is_shown_even_where_none_was(quotes: QuoteTable) -> None:
    expiry = np.unique(quotes.expiry[quotes.underlying.equal("SPX")])[1]
    one = fault(quotes, FaultName.WRONG_FORWARD, underlying="SPX", expiry=expiry)
    after, hit = hostile(quotes, [one]).quotes, one.befalls(quotes)
    assert np.isnan(quotes.forward[hit]).all()
    assert np.log(after.forward[hit] / quotes.spot[hit]) == pytest.approx(0.01, abs=0.002)


def test_a_second_venue_quotes_the_same_market(quotes: QuoteTable) -> None:
    both = with_second_venue(quotes, "BTC", "other", seed=1)
    other = both.take(both.venue.equal("other"))
    first = quotes.take(other.row)
    assert set(other.underlying.texts()) == {"BTC"}
    np.testing.assert_array_equal(other.strike, first.strike)
    off = other.ask - first.ask
    share = off / (0.5 * (first.ask - first.bid))
    assert 0.15 < np.nanstd(share) < 0.35  # the tighter of call and put has all of it
    call = first.right == 1  # of a strike, rows follow each other
    apart = off[call] - off[~call]
    assert np.nanmax(np.abs(apart)) < 1e-9
    assert (np.diff(both.quote_time.astype(np.int64)) >= 0).all()


def test_a_programme_puts_calm_around_every_fault(quotes: QuoteTable) -> None:
    names = (FaultName.STALE_VENUE, FaultName.FAT_FINGER)
    market = programme(quotes, names, seed=3)
    moments = np.unique(quotes.quote_time)
    assert [fault.start for fault in market.faults] == [moments[1], moments[3]]
    assert [fault.end for fault in market.faults] == [moments[2], moments[4]]
    assert [fault.underlying for fault in market.faults] == ["BTC", "ETH"]
    calm = with_second_venue(replace(quotes, row=np.arange(len(quotes))), "BTC", "simulated-2", 3)
    hit = np.logical_or(*(fault.befalls(calm) for fault in market.faults))
    touched = changed(calm, market.quotes)
    assert touched.any()
    assert not (touched & ~hit).any()


def test_a_programme_needs_no_expiry_that_outlives_a_fault(quotes: QuoteTable) -> None:
    brief = replace(quotes, expiry=quotes.quote_time + np.timedelta64(1, "s"))
    (only,) = programme(brief, [FaultName.MISSING_STRIKES]).faults
    assert only.expiry is None


def test_causes_are_on_record(quotes: QuoteTable) -> None:
    faults = [fault(quotes, FaultName.FAT_FINGER), fault(quotes, FaultName.SPOT_JUMP, expiry=None)]
    frame = hostile(quotes, faults).causes_frame()
    columns = ["start", "end", "underlying", "venue", "expiry", "cause", "size"]
    assert list(frame.columns) == columns
    assert frame.cause.tolist() == ["fat-finger", "spot-jump"]
    assert frame["size"].tolist() == [2.0, -0.08]
    assert frame.expiry.isna().tolist() == [False, True]
    assert frame.start[0].to_numpy() == faults[0].start


@pytest.mark.parametrize(
    ("name", "size"),
    [
        (FaultName.STALE_VENUE, 1.1),
        (FaultName.MISSING_SIDES, 0.0),
        (FaultName.FAT_FINGER, 0.0),
        (FaultName.WRONG_FORWARD, -1.0),
        (FaultName.VOL_JUMP, float("nan")),
    ],
)
def test_a_size_out_of_range_is_refused(quotes: QuoteTable, name: FaultName, size: float) -> None:
    with pytest.raises(InvalidRequest, match="out of its range"):
        fault(quotes, name, size=size)


def test_what_makes_no_sense_is_refused(quotes: QuoteTable) -> None:
    one = fault(quotes, FaultName.VOL_JUMP)
    with pytest.raises(InvalidRequest, match="has no time"):
        replace(one, end=one.start)
    with pytest.raises(InvalidRequest, match="'earthquake' is no fault"):
        fault_names("fat-finger,earthquake")
    with pytest.raises(InvalidRequest, match="need 7 snapshots, not 5"):
        programme(quotes, list(FaultName)[:3])
