"""Of a held expiry the last good smile stands, proved beside the others, and says where from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.arbitrage.sabr import certify_sabr_surfaces
from calib.conventions import ExpiryCalendar, micros_of
from calib.errors import InvalidSurface
from calib.fitting.blend import certify_all
from calib.market.closures import WeeklyClosure
from calib.market.variance_clock import VarianceClock
from calib.modelrisk.holds import apply_holds, good_smiles
from calib.states import ModelName
from calib.surface.hold import Hold
from calib.surface.surface import Surface
from tests.arbitrage.dense import bending_points, raw_svi
from tests.fitting.surface_samples import TRUTH, chain_of, true_smiles, true_svi
from tests.modelrisk.samples import earlier, fit_of

KEY = ("epoch", 7)
HELD = 2

Make = Callable[[float], Surface]


def surface(raised: float = 1.0) -> Surface:
    """The true surface with its total variances times ``raised``."""
    smiles = true_svi().copy()
    smiles[:2] *= raised
    (certificate,) = certify_all([smiles], [True])
    assert certificate.arbitrage_free
    covariance = np.diag([1e-8, 1e-6, 1e-4, 1e-6, 1e-5])
    return fit_of(
        chain_of(true_smiles()), smiles, certificate=certificate, covariance=covariance
    ).surface


def essvi_surface(raised: float = 1.0) -> Surface:
    parameters = np.array(TRUTH)
    parameters[[0, 2]] *= raised
    one = surface()
    expiries = (
        replace(each, parameters=tuple(column), covariance=())
        for each, column in zip(one.expiries, parameters.T.tolist(), strict=True)
    )
    return replace(one, model=ModelName.ESSVI, expiries=tuple(expiries))


def sabr_surface(raised: float = 1.0) -> Surface:
    one = surface()
    years = np.array([each.years for each in one.expiries])
    alpha, few = 0.4 * np.sqrt(raised), np.ones_like(years)
    parameters = np.stack([alpha * few, few, -0.3 * few, 0.5 / np.sqrt(1.0 + 20.0 * years)])
    reach = 1.5 * alpha * np.sqrt(years)
    (certificate,) = certify_sabr_surfaces(parameters, years, -reach, reach, [len(years)])
    assert certificate.arbitrage_free
    expiries = (
        replace(
            each,
            parameters=tuple(column),
            covariance=(),
            log_moneyness_min=-float(far),
            log_moneyness_max=float(far),
        )
        for each, column, far in zip(one.expiries, parameters.T.tolist(), reach, strict=True)
    )
    return replace(one, model=ModelName.SABR, expiries=tuple(expiries), certificate=certificate)


def held(new: Surface, old: Surface, *numbers: int) -> Surface:
    moments = [micros_of(old.expiries[number].expiry) for number in numbers]
    good = good_smiles(old, KEY)
    return apply_holds(new, {moment: good.get(moment) for moment in moments})


@pytest.mark.parametrize("make", [surface, essvi_surface, sabr_surface])
def test_the_last_good_smile_stands_among_the_new_ones_as_it_was(make: Make) -> None:
    old, new = make(1.0), make(1.02)
    found = held(new, old, HELD)
    assert found.certificate.arbitrage_free
    assert found.certificate.scope is new.certificate.scope
    for number, (mine, theirs) in enumerate(zip(found.expiries, new.expiries, strict=True)):
        if number != HELD:
            assert mine == theirs
    smile = found.expiries[HELD]
    assert smile.hold == Hold(old.quote_time, *KEY, 1.0)
    assert replace(smile, hold=None) == old.expiries[HELD]


def test_its_vols_are_held_while_time_passes_and_its_forward_goes_with_the_others() -> None:
    old = earlier(surface(), hours=12.0)
    smile = old.expiries[HELD]
    new = surface(1.01)
    moved = [1.03 * one.forward for one in new.expiries]
    moved[HELD] *= 1.01  # its own is not believed
    new = replace(
        new,
        expiries=tuple(
            replace(one, forward=forward) for one, forward in zip(new.expiries, moved, strict=True)
        ),
    )
    found = held(new, old, HELD)
    mine = found.expiries[HELD]
    assert mine.hold == Hold(old.quote_time, *KEY, 1.0)
    assert mine.years == new.expiries[HELD].years < smile.years
    assert mine.forward == pytest.approx(1.03 * smile.forward, rel=1e-15)
    assert mine.forward_error == pytest.approx(1.03 * smile.forward_error, rel=1e-15)
    k = np.linspace(-0.15, 0.15, 13)  # within the quotes
    before = np.sqrt(old.total_variance(k, smile.expiry) / smile.years)
    after = np.sqrt(found.total_variance(k, smile.expiry) / mine.years)
    assert after == pytest.approx(before, rel=1e-12)
    assert found.vol_error(mine.forward * np.exp(k), smile.expiry) == pytest.approx(
        old.vol_error(smile.forward * np.exp(k), smile.expiry), rel=1e-9
    )


def test_one_held_already_says_where_it_is_from_at_first() -> None:
    old = surface()
    once = held(surface(1.01), old, HELD)
    again = held(surface(1.02), once, HELD)
    assert once.expiries[HELD].hold is not None
    assert again.expiries[HELD].hold == Hold(old.quote_time, *KEY, 1.0)
    assert again.expiries[HELD].parameters == old.expiries[HELD].parameters


@given(st.floats(1.3, 1.9), st.sampled_from([(HELD,), (1, 2), (3,), (0, 4)]))
def test_what_cannot_stand_whole_is_drawn_to_the_newest_fit_and_says_by_how_much(
    raised: float, numbers: tuple[int, ...]
) -> None:
    """A market that has risen so far that old smiles lie below the new ones before them."""
    old, new = surface(), surface(raised)
    found = held(new, old, *numbers)
    assert found.certificate.arbitrage_free
    parameters = np.array([one.parameters for one in found.expiries])
    k = bending_points(parameters)
    for here, there in pairwise(parameters):
        at = k.reshape(1, -1)
        assert (raw_svi([there], at).w >= raw_svi([here], at).w - 1e-12).all()
    (share,) = {one.hold.share for one in found.expiries if one.hold}
    for number in numbers:
        if not share:
            assert found.expiries[number] == replace(new.expiries[number], hold=Hold())
            continue
        assert share >= 0.25
        between = (1.0 - share) * np.array(new.expiries[number].parameters) + share * np.array(
            old.expiries[number].parameters
        )
        assert found.expiries[number].parameters == pytest.approx(between, rel=1e-12)
    for number, one in enumerate(found.expiries):
        if number not in numbers:
            assert one == new.expiries[number]


def test_some_of_it_stands_where_not_all_can() -> None:
    found = held(surface(1.6), surface(), HELD)
    hold = found.expiries[HELD].hold
    assert hold is not None
    assert 0.0 < hold.share < 1.0


@pytest.mark.parametrize("make", [essvi_surface, sabr_surface])
def test_other_models_are_drawn_too(make: Make) -> None:
    found = held(make(2.5), make(1.0), HELD)
    hold = found.expiries[HELD].hold
    assert hold is not None
    assert 0.0 < hold.share < 1.0
    assert found.certificate.arbitrage_free


def test_an_expiry_that_was_not_fitted_stands_as_long_as_it_can() -> None:
    old, new = surface(), surface(1.01)
    lacking = replace(new, expiries=new.expiries[:HELD] + new.expiries[HELD + 1 :])
    found = held(lacking, old, HELD)
    assert [one.expiry for one in found.expiries] == [one.expiry for one in new.expiries]
    assert replace(found.expiries[HELD], hold=None) == old.expiries[HELD]
    risen = surface(1.9)
    lacking = replace(risen, expiries=risen.expiries[:HELD] + risen.expiries[HELD + 1 :])
    assert held(lacking, old, HELD) == lacking


def test_one_that_never_had_a_good_smile_says_that_it_is_as_newly_fitted() -> None:
    new = surface()
    found = apply_holds(new, {micros_of(new.expiries[HELD].expiry): None})
    assert found.expiries[HELD] == replace(new.expiries[HELD], hold=Hold())
    assert HELD not in [place for place, one in enumerate(found.expiries) if one.hold is None]
    assert micros_of(new.expiries[HELD].expiry) not in good_smiles(found, KEY)


def test_its_variance_time_is_that_of_the_clock() -> None:
    new = surface(1.01)
    clock = VarianceClock(weekly=(WeeklyClosure("Saturday 00:00", "Monday 00:00", 0.2),))
    times = clock.times(new.quote_time, np.array([one.expiry for one in new.expiries]))
    expiries = tuple(
        replace(one, variance_time=float(time))
        for one, time in zip(new.expiries, times.variance_time, strict=True)
    )
    new = replace(new, expiries=expiries, variance_clock=times.knots)
    lacking = replace(new, expiries=new.expiries[:HELD] + new.expiries[HELD + 1 :])
    found = held(lacking, surface(), HELD)
    assert found.expiries[HELD].variance_time == pytest.approx(
        new.expiries[HELD].variance_time, rel=1e-12
    )


def test_nothing_stands_beyond_its_expiry() -> None:
    old = surface()
    late = old.expiries[0].expiry
    moved = tuple(
        replace(one, years=years, variance_time=years)
        for one in old.expiries[1:]
        for years in [float((one.expiry - late).astype(np.int64)) / (365 * 86_400 * 1e6)]
    )
    new = replace(old, quote_time=late, expiries=moved)
    assert held(new, old, 0) == new
    assert apply_holds(new, {}) is new


def test_expiries_that_hang_together_by_nothing_are_held_each_by_itself() -> None:
    old = replace(surface(), calendar=ExpiryCalendar.INDEPENDENT)
    new = replace(surface(1.9), calendar=ExpiryCalendar.INDEPENDENT)
    hold = held(new, old, HELD).expiries[HELD].hold
    assert hold is not None
    assert hold.share == 1.0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"quote_time": np.datetime64("NaT", "us")}, "quote time"),
        ({"epoch": ""}, "epoch ''"),
        ({"revision": 0}, "revision 0"),
        ({"share": -0.1}, "share is -0.1"),
        ({"share": float("nan")}, "share is nan"),
    ],
)
def test_a_hold_that_says_nothing_is_refused(wrong: dict[str, object], message: str) -> None:
    usual = {"quote_time": np.datetime64("2026-03-02T12:00:00", "us"), "epoch": "e"}
    usual |= {"revision": 1, "share": 0.5}
    with pytest.raises(InvalidSurface, match=message):
        Hold(**(usual | wrong))  # type: ignore[arg-type]
