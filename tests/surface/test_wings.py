"""Outside the quoted range: SABR goes on in straight lines, and error bars do not shrink."""

from __future__ import annotations

from math import exp, isnan, log, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.conventions import Floats
from calib.models import sabr, svi
from calib.states import ModelName
from calib.surface.surface import ExpirySlice, Surface
from tests.surface.markets import curves, make_slice, make_surface, three_expiries

OUTWARD = np.linspace(0.0, 6.0, 121)


def _sabr(parameters: tuple[float, ...], low: float, high: float, **fields: Any) -> Surface:
    one = make_slice(8760, parameters, log_moneyness_min=low, log_moneyness_max=high, **fields)
    return make_surface(one, model=ModelName.SABR)


def _sides(one: ExpirySlice) -> list[tuple[Floats, Floats]]:
    """Log-moneyness going out on either side."""
    return [(one.log_moneyness_min - OUTWARD, -OUTWARD), (one.log_moneyness_max + OUTWARD, OUTWARD)]


def test_sabr_is_its_formula_within_the_quoted_range_and_straight_outside() -> None:
    parameters = (0.6, 1.0, -0.3, 1.2)
    surface = _sabr(parameters, -0.8, 0.5)
    inside = np.linspace(-0.8, 0.5, 27)
    assert (
        surface.total_variance(inside, 1.0) == sabr.total_variance(parameters, inside, 1.0)
    ).all()
    for edge, way in ((-0.8, -1), (0.5, 1)):
        slope = sabr.slope(parameters, np.float64(edge), 1.0)
        assert 0 < way * slope < 1.95
        expected = sabr.total_variance(parameters, np.float64(edge), 1.0) + slope * way * OUTWARD
        found = surface.total_variance(edge + way * OUTWARD, 1.0)
        np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_sabr_slopes_stop_at_lees_bound_and_never_turn_down() -> None:
    steep = _sabr((0.9, 1.0, 0.4, 2.2), -3.0, 4.0)
    assert sabr.slope((0.9, 1.0, 0.4, 2.2), np.float64(4.0), 1.0) > 1.95
    rise = steep.total_variance(7.0, 1.0) - steep.total_variance(6.0, 1.0)
    assert rise == pytest.approx(1.95, rel=1e-12)
    one_sided = _sabr((0.5, 1.0, -0.4, 1.2), -0.6, -0.25)
    assert sabr.slope((0.5, 1.0, -0.4, 1.2), np.float64(-0.25), 1.0) < 0
    edge = one_sided.total_variance(-0.25, 1.0)
    assert one_sided.total_variance(3.0, 1.0) == edge
    assert one_sided.total_variance(-0.6, 1.0) > edge


@given(curves())
def test_total_variance_is_positive_everywhere(surface: Surface) -> None:
    for one in surface.expiries:
        w = surface.total_variance(np.concatenate([K for K, _ in _sides(one)]), one.expiry)
        assert (w > 0).all()


@given(curves())
def test_error_bars_never_shrink_on_the_way_out(surface: Surface) -> None:
    for one in surface.expiries:
        for k, _ in _sides(one):
            error = surface.vol_error(one.forward * np.exp(k), one.expiry)
            if not one.covariance or isnan(one.forward_error):
                assert np.isnan(error).all()
                continue
            assert np.isfinite(error).all()
            assert (np.diff(error) >= -1e-12 * error[1:]).all()


@given(share=st.floats(0.001, 0.999))
def test_nor_do_they_between_expiries_beyond_both_quoted_ranges(share: float) -> None:
    surface = three_expiries()
    for one, other in zip(surface.expiries, surface.expiries[1:], strict=False):
        t = one.years + share * (other.years - one.years)
        low = min(one.log_moneyness_min, other.log_moneyness_min)
        high = max(one.log_moneyness_max, other.log_moneyness_max)
        for k in (low - OUTWARD, high + OUTWARD):
            error = surface.vol_error(surface.forward(t) * np.exp(k), t)
            assert (np.diff(error) >= -1e-12 * error[1:]).all()


def test_a_jacobian_that_turns_does_not_make_a_wing_look_known() -> None:
    """Two parameters whose errors cancel at one strike: the plain delta method falls there."""
    parameters = (0.02, 0.1, 0.0, 0.0, 0.2)
    _, by_b, *_ = svi.parameter_gradient(parameters, np.float64(0.6))
    direction = np.array([-by_b, 1.0, 0.0, 0.0, 0.0]) * 0.01
    covariance = tuple(np.outer(direction, direction).ravel().tolist())
    one = make_slice(
        8760, parameters, log_moneyness_min=-0.1, log_moneyness_max=0.1, covariance=covariance
    )
    wide = make_slice(
        8760, parameters, log_moneyness_min=-2, log_moneyness_max=2, covariance=covariance
    )
    strikes = 100.0 * np.exp([0.1, 0.35, 0.6])
    plain = make_surface(wide).vol_error(strikes, 1.0)
    assert plain[2] < 1e-9 < plain[1] < plain[0]
    guarded = make_surface(one).vol_error(strikes, 1.0)
    assert guarded[0] == pytest.approx(plain[0], rel=1e-12)
    assert (guarded == guarded[0]).all()


def test_error_is_the_spread_of_vols_over_draws_of_the_parameters() -> None:
    surface = three_expiries()
    one = surface.expiries[2]
    strikes = one.forward * np.exp([-0.6, -0.1, 0.0, 0.2, 0.5])
    covariance = 1e-4 * np.array(one.covariance).reshape(5, 5)  # small, for the method is linear
    random = np.random.default_rng(5)
    drawn = random.multivariate_normal(one.parameters, covariance, size=40_000, method="cholesky")
    forwards = one.forward + 1e-2 * one.forward_error * random.normal(size=40_000)
    k = np.log(strikes[:, None] / forwards)
    vols = np.sqrt(svi.total_variance(drawn.T, k) / one.years)
    spread = 100 * vols.std(axis=1)
    assert surface.vol_error(strikes, one.expiry) == pytest.approx(spread, rel=0.02)


def test_an_error_of_the_forward_alone_moves_the_smile_sideways() -> None:
    parameters, zero = (0.02, 0.1, -0.5, 0.0, 0.2), (0.0,) * 25
    one = make_slice(8760, parameters, covariance=zero, forward_error=0.5)
    surface = make_surface(one)
    for strike in (80.0, 100.0, 120.0):
        up, down = (
            sqrt(float(svi.total_variance(parameters, log(strike / forward))))
            for forward in (100.0 + 1e-4, 100.0 - 1e-4)
        )
        expected = abs(up - down) / 2e-4 * 0.5
        assert surface.vol_error(strike, 1.0) == pytest.approx(expected, rel=1e-6)


def test_error_of_vol_is_constant_before_the_first_and_beyond_the_last_expiry() -> None:
    surface = three_expiries()
    for edge, times in ((0, (1e-4, 0.01)), (-1, (1.5, 9.0))):
        one = surface.expiries[edge]
        for k in (-1.5, -0.2, 0.0, 0.3, 2.0):
            here = surface.vol_error(one.forward * exp(k), one.years)
            for t in times:
                there = surface.vol_error(surface.forward(t) * exp(k), t)
                assert there == pytest.approx(here, rel=1e-9)


def test_what_is_not_known_at_one_expiry_is_not_known_on_the_way_to_it() -> None:
    first, middle, last = three_expiries().expiries
    unknown = make_slice(
        24 * 30, middle.parameters, forward=middle.forward, discount_factor=middle.discount_factor
    )
    surface = make_surface(first, unknown, last)
    assert isnan(surface.vol_error(100.0, unknown.expiry))
    for t in (0.05, 0.5):
        assert isnan(surface.vol_error(100.0, t))
    known = [surface.vol_error(100.0, t) for t in (0.01, first.years, last.years, 3.0)]
    assert (np.array(known) > 0).all()
    together = surface.vol_error(100.0, np.array([first.years, unknown.years, last.years]))
    assert list(np.isnan(together)) == [False, True, False]
