"""Surfaces under moved levels: forwards, spot and a scale of all variances."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log

import numpy as np
import pytest

import calib
from calib.errors import InvalidSurface
from calib.states import ModelName
from calib.surface.surface import Surface
from calib.surface.transport import lean_of, variance_scale, with_levels
from tests.service.samples import surface

K = np.linspace(-0.8, 0.8, 33)


@pytest.fixture(scope="module", params=["svi", "essvi"])
def fitted(request: pytest.FixtureRequest) -> Surface:
    return calib.fit_many(calib.read_quotes(calib.sample_quotes()), model=request.param)[0].surface


def test_scaled_variances_are_scaled_everywhere(fitted: Surface) -> None:
    moved = with_levels(fitted, [1.02] * len(fitted.expiries), None, 0.9)
    for years in (0.5 * fitted.expiries[0].years, fitted.expiries[1].years, 0.3, 5.0):
        np.testing.assert_allclose(
            moved.total_variance(K, years), 0.9 * fitted.total_variance(K, years), rtol=1e-12
        )


def test_errors_of_scaled_vols_are_scaled_like_the_vols(fitted: Surface) -> None:
    still = [1.0] * len(fitted.expiries)
    moved = with_levels(fitted, still, None, 0.81)
    one = fitted.expiries[2]
    # Beyond the quotes the distances that errors grow with are deviations, which are scaled too.
    strike = one.forward * np.exp(np.linspace(one.log_moneyness_min, one.log_moneyness_max, 9))
    np.testing.assert_allclose(
        moved.vol_error(strike, one.expiry), 0.9 * fitted.vol_error(strike, one.expiry), rtol=1e-9
    )


def test_lean_is_the_skew_of_the_log_vol() -> None:
    one = surface(model=ModelName.ESSVI)  # w(k) of eSSVI: w'(0) = rho psi
    ratios = [x.parameters[1] * x.parameters[2] / (2.0 * x.parameters[0]) for x in one.expiries]
    assert lean_of(one) == pytest.approx(np.median(ratios), rel=1e-4)
    assert lean_of(replace(one, expiries=())) == 0.0


def test_sticky_strike_keeps_the_vol_of_the_strike() -> None:
    """To first order in the move: R = 1 moves the vol at the money along the smile."""
    one = surface(model=ModelName.ESSVI)
    up = 1.0005
    scale = variance_scale(one.model, lean_of(one), [up] * 3, 1.0, 1.02)
    moved = with_levels(one, [up] * 3, None, scale)
    middle = one.expiries[1]
    strike = middle.forward * up
    assert moved.implied_vol(strike, middle.expiry) == pytest.approx(
        one.implied_vol(strike, middle.expiry), abs=1e-6
    )


def test_scale_stays_within_its_bounds() -> None:
    assert variance_scale(ModelName.SVI, -1.0, [0.8] * 3, 1.0, 1.02) == 1.02
    assert variance_scale(ModelName.SVI, -1.0, [9.0] * 3, 1.0, 1.02) == 0.5
    assert variance_scale(ModelName.SVI, -1.0, [0.9] * 3, 0.0, 1.02) == 1.0
    assert variance_scale(ModelName.SVI, -1.0, [1.1] * 3, 0.5, 0.0) == 1.0  # nothing is proved
    assert variance_scale(ModelName.SVI, -1.0, [1.01], 0.5, 1.02) == pytest.approx(exp(-log(1.01)))


@pytest.mark.parametrize(
    ("factors", "scale", "said"),
    [
        ([1.0], 1.0, "1 factors for 3 expiries"),
        ([1.0] * 3, 0.0, "variance_scale is 0.0"),
        ([1.0] * 3, float("inf"), "variance_scale is inf"),
        ([0.0] * 3, 1.0, "forward"),
    ],
)
def test_what_makes_no_surface_is_named(factors: list[float], scale: float, said: str) -> None:
    with pytest.raises(InvalidSurface, match=said):
        with_levels(surface(), factors, None, scale)


def test_sabr_has_no_scale_and_follows_its_forwards_up_and_down() -> None:
    sabr = surface(model=ModelName.SABR)
    assert lean_of(sabr) < 0.0
    with pytest.raises(InvalidSurface, match="SABR"):
        with_levels(sabr, [1.0] * 3, None, 0.99)
    for factor in (0.99, 1.01):
        scale = variance_scale(sabr.model, lean_of(sabr), [factor] * 3, 0.5, 1.0)
        moved = with_levels(sabr, [factor] * 3, None, scale)
        assert moved.expiries[0].forward == factor * sabr.expiries[0].forward


def test_what_was_not_proved_is_not_proved_by_a_scale() -> None:
    margin = surface().certificate.butterfly_margin
    assert margin == -np.inf
    for scale in (0.9, 1.01):
        moved = with_levels(surface(), [1.0] * 3, None, scale)
        assert moved.certificate.butterfly_margin == margin
        assert not moved.certificate.arbitrage_free
