"""Handles: closed forms, deltas put back into Black's formula, and errors against random draws."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from math import exp, isnan, nan, sqrt
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf
from scipy.special import ndtr, ndtri

from calib.conventions import ExpiryCalendar
from calib.errors import NotFitted
from calib.models import essvi, svi
from calib.states import ModelName
from calib.surface.handles import DELTAS, Handles, SmileHandles
from calib.surface.surface import ExpirySlice, Surface
from tests.conformance import reference
from tests.surface.laws import cases, one_sabr, two_essvi
from tests.surface.markets import (
    QUOTE_TIME,
    curves,
    make_slice,
    make_surface,
    three_expiries,
)

JUMP_WINGS = ("jw_v", "jw_psi", "jw_p", "jw_c", "jw_v_min")


def _row(surface: Surface, expiry: Any = None) -> SmileHandles:
    (row,) = surface.handle_values(surface.expiries[0].expiry if expiry is None else expiry)
    return row


def test_a_flat_smile_has_its_vol_at_every_delta() -> None:
    surface = make_surface(make_slice(8760, (0.04, 0.0, 0.0, 0.0, 0.1), forward=110.0))
    value = _row(surface).value
    for name in ("atm_vol", *(f"{delta}_vol" for delta in DELTAS)):
        assert getattr(value, name) == pytest.approx(0.2, rel=1e-14)
    for name in ("skew", "curvature", "left_slope", "right_slope"):
        assert getattr(value, name) == 0.0
    for delta in (25, 10):
        assert getattr(value, f"risk_reversal_{delta}") == pytest.approx(0.0, abs=1e-15)
        assert getattr(value, f"butterfly_{delta}") == pytest.approx(0.0, abs=1e-15)
        q = float(ndtri(delta / 100))
        call, put = (110.0 * exp(0.02 + way * 0.2 * q) for way in (-1, 1))
        assert getattr(value, f"call_{delta}_strike") == pytest.approx(call, rel=1e-13)
        assert getattr(value, f"put_{delta}_strike") == pytest.approx(put, rel=1e-13)
    assert value.jw_v == pytest.approx(0.04, rel=1e-14)
    assert value.jw_v_min == pytest.approx(0.04, rel=1e-14)
    assert value.jw_p == value.jw_c == value.jw_psi == 0.0


def _check_deltas(surface: Surface, t: float, value: Handles) -> None:
    forward = surface.forward(t)
    for name, delta in DELTAS.items():
        strike, vol = getattr(value, f"{name}_strike"), getattr(value, f"{name}_vol")
        assert vol == pytest.approx(surface.implied_vol(strike, t), rel=1e-11)
        d1 = np.log(forward / strike) / (vol * sqrt(t)) + 0.5 * vol * sqrt(t)
        found = float(ndtr(d1)) - (0.0 if delta > 0.0 else 1.0)
        assert found == pytest.approx(delta, rel=1e-10)


@pytest.mark.parametrize(("surface", "t"), cases())
def test_deltas_strikes_and_vols_agree_with_blacks_formula(surface: Surface, t: float) -> None:
    value = _row(surface, t).value
    _check_deltas(surface, t, value)
    for delta in (25, 10):
        put, call = (getattr(value, f"{side}_{delta}_vol") for side in ("put", "call"))
        assert getattr(value, f"risk_reversal_{delta}") == call - put
        butterfly = 0.5 * (call + put) - value.atm_vol
        assert getattr(value, f"butterfly_{delta}") == pytest.approx(butterfly, abs=1e-16)
    assert value.put_10_strike < value.put_25_strike < value.call_25_strike < value.call_10_strike


@pytest.mark.parametrize(("surface", "t"), cases())
def test_skew_and_curvature_are_derivatives_of_the_vol(surface: Surface, t: float) -> None:
    width = 0.01 * sqrt(surface.total_variance(0.0, t))
    steps = np.array([-2, -1, 0, 1, 2])
    vols = np.sqrt(surface.total_variance(steps * width, t) / t)
    value = _row(surface, t).value
    assert value.atm_vol == pytest.approx(vols[2], rel=1e-14)
    skew = np.array([1, -8, 0, 8, -1]) @ vols / (12 * width)
    assert value.skew == pytest.approx(skew, rel=1e-5)
    curvature = np.array([-1, 16, -30, 16, -1]) @ vols / (12 * width**2)
    assert value.curvature == pytest.approx(curvature, rel=1e-3)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("svi", (0.01, 0.12, -0.6, 0.05, 0.1)),
        ("essvi", (0.05, -0.7, 0.5)),
        ("sabr", (0.3, 0.5, -0.4, 0.7)),
        ("sabr", (0.2, 1.0, 0.9, 1.1)),
    ],
)
def test_skew_and_curvature_to_all_digits(model: str, parameters: tuple[float, ...]) -> None:
    names = {"svi": ModelName.SVI, "essvi": ModelName.ESSVI, "sabr": ModelName.SABR}
    value = _row(make_surface(make_slice(4380, parameters), model=names[model])).value
    exact, t = list(map(mpf, parameters)), mpf(0.5)
    with mp.workdps(40):

        def vol(k: Any) -> Any:
            return mp.sqrt(reference.total_variance(model, exact, k, t) / t)

        assert value.skew == pytest.approx(float(mp.diff(vol, 0)), rel=1e-12)
        assert value.curvature == pytest.approx(float(mp.diff(vol, 0, 2)), rel=1e-11)


def test_jump_wings_are_those_of_the_paper() -> None:
    """Gatheral & Jacquier (2014), equation 3.5; of eSSVI through its raw SVI."""
    for surface in (three_expiries(), two_essvi()):
        rows = surface.handle_values()
        assert len(rows) == len(surface.expiries)
        for one, row in zip(surface.expiries, rows, strict=True):
            parameters: Sequence[float] = one.parameters
            if surface.model is ModelName.ESSVI:
                parameters = essvi.to_svi(parameters)
            expected = svi.to_jump_wings(parameters, one.years)
            found = [getattr(row.value, name) for name in JUMP_WINGS]
            assert found == pytest.approx(list(expected), rel=1e-12)
            assert row.value.left_slope == -parameters[1] * (1 - parameters[2])
            assert row.value.right_slope == pytest.approx(
                parameters[1] * (1 + parameters[2]), rel=1e-14
            )


def test_between_expiries_the_lowest_variance_is_that_of_the_mixed_smile() -> None:
    surface = three_expiries()
    for t in (0.003, 0.05, 0.5, 3.0):
        value = _row(surface, t).value
        k = np.linspace(-0.5, 0.8, 260_001)
        lowest = float(np.min(surface.total_variance(k, t))) / t
        assert value.jw_v_min == pytest.approx(lowest, rel=1e-9)
        assert value.jw_v == pytest.approx(surface.total_variance(0.0, t) / t, rel=1e-13)
        far = np.array([-1e9, 1e9])
        slopes = surface.total_variance(far, t) / 1e9
        assert -value.left_slope == pytest.approx(slopes[0], rel=1e-7)
        assert value.right_slope == pytest.approx(slopes[1], rel=1e-7)
        root = sqrt(surface.total_variance(0.0, t))
        assert value.jw_p == pytest.approx(-value.left_slope / root, rel=1e-13)
        assert value.jw_c == pytest.approx(value.right_slope / root, rel=1e-13)
        assert value.jw_psi == pytest.approx(value.skew * sqrt(t), rel=1e-13)


def test_sabr_has_the_slopes_of_its_continuation_and_no_jump_wings() -> None:
    steep = make_surface(
        make_slice(8760, (0.9, 1.0, 0.4, 2.2), log_moneyness_min=-3.0, log_moneyness_max=4.0),
        model=ModelName.SABR,
    )
    assert _row(steep).value.right_slope == 1.95
    for row in (*steep.handle_values(), *one_sabr().handle_values()):
        assert all(isnan(getattr(row.value, name)) for name in JUMP_WINGS)
        assert all(isnan(getattr(row.error, name)) for name in JUMP_WINGS)


def test_where_calls_do_not_fall_to_zero_no_delta_has_one_strike() -> None:
    """From a right wing of slope 2 on d₁ turns up again: each value is taken twice, or never."""
    value = _row(make_surface(make_slice(8760, (0.05, 1.3, 0.8, 0.0, 0.5)))).value
    for name in DELTAS:
        assert isnan(getattr(value, f"{name}_strike"))
        assert isnan(getattr(value, f"{name}_vol"))
    assert isnan(value.risk_reversal_10)
    assert isnan(value.butterfly_10)
    assert value.atm_vol > 0.0


def test_where_two_strikes_have_the_delta_there_is_none() -> None:
    """A smile that bends so sharply that d₁ rises again beyond the bend."""
    parameters = (0.0, 1.2, 0.6, 0.3, 0.002)
    surface = make_surface(make_slice(8760, parameters))
    k = np.concatenate([np.linspace(-1.0, 1.0, 20_001), np.geomspace(1.001, 2_000.0, 20_000)])
    root = np.sqrt(surface.total_variance(k, 1.0))
    d1 = -k / root + 0.5 * root
    assert (np.diff(d1) > 0.0).any()
    value = _row(surface).value
    for name, delta in DELTAS.items():
        q = ndtri(delta if delta > 0 else 1 + delta)
        crossings = int(np.count_nonzero(np.diff(np.sign(d1 - q))))
        assert crossings == (3 if name.startswith("call") else 1)
        assert isnan(getattr(value, f"{name}_strike")) == (crossings == 3)


@settings(max_examples=40)
@given(curves(), st.one_of(st.just(0.0), st.floats(1e-6, 3.0)))
def test_every_smile_of_every_model_can_be_read(surface: Surface, stretch: float) -> None:
    t = stretch * surface.expiries[-1].years
    row = _row(surface, t)
    if t == 0.0:
        assert all(map(isnan, (*row.value, *row.error)))
        return
    assert row.value.atm_vol == pytest.approx(sqrt(surface.total_variance(0.0, t) / t), rel=1e-13)
    assert row.value.atm_vol == pytest.approx(
        surface.implied_vol(surface.forward(t), t), rel=1e-9, nan_ok=True
    )
    for name, delta in DELTAS.items():
        vol = getattr(row.value, f"{name}_vol")
        if not isnan(vol):
            strike = getattr(row.value, f"{name}_strike")
            d1 = np.log(surface.forward(t) / strike) / (vol * sqrt(t)) + 0.5 * vol * sqrt(t)
            assert float(ndtr(d1)) - (delta < 0) == pytest.approx(delta, abs=1e-7)


# Error bars ------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(curves(), st.floats(0.01, 3.0))
def test_at_the_forward_the_error_is_the_published_one(surface: Surface, stretch: float) -> None:
    t = stretch * surface.expiries[-1].years
    found = _row(surface, t).error.atm_vol
    expected = surface.vol_error(surface.forward(t), t)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-12, nan_ok=True)


def _spread(surface: Surface, drawn: np.ndarray[Any, Any]) -> Handles:
    """Deviations of the handles over draws, each an expiry of its own a microsecond later."""
    one = surface.expiries[0]
    slices = [
        replace(
            make_slice(8760 * one.years + i / 3.6e9, row),
            forward=one.forward,
            log_moneyness_min=one.log_moneyness_min,
            log_moneyness_max=one.log_moneyness_max,
        )
        for i, row in enumerate(drawn.tolist())
    ]
    many = make_surface(*slices, model=surface.model, calendar=ExpiryCalendar.INDEPENDENT)
    values = np.array([row.value for row in many.handle_values()])
    return Handles(*np.std(values, axis=0).tolist())


def _uncertain(
    model: ModelName, parameters: tuple[float, ...], errors: Sequence[float], seed: int
) -> Surface:
    """A year's smile with correlated errors of its parameters, small: the method is linear."""
    random = np.random.default_rng(seed)
    root = random.normal(size=(len(errors), len(errors))) + 1.5 * np.eye(len(errors))
    correlation = root @ root.T
    scale = np.asarray(errors) / np.sqrt(np.diag(correlation))
    covariance = correlation * scale * scale[:, None]
    one = make_slice(
        8760,
        parameters,
        covariance=tuple(covariance.ravel().tolist()),
        log_moneyness_min=-2.0,
        log_moneyness_max=1.5,
    )
    return make_surface(one, model=model)


@pytest.mark.parametrize(
    ("model", "parameters", "errors"),
    [
        (ModelName.SVI, (0.02, 0.11, -0.4, 0.01, 0.4), (4e-5, 1e-4, 2e-4, 2e-4, 5e-4)),
        (ModelName.ESSVI, (0.05, -0.6, 0.4), (1e-4, 1e-3, 1e-3)),
        (ModelName.SABR, (0.25, 0.7, -0.4, 0.6), (5e-4, 0.0, 1e-3, 1e-3)),
    ],
)
def test_errors_are_the_spread_over_draws_of_the_parameters(
    model: ModelName, parameters: tuple[float, ...], errors: tuple[float, ...]
) -> None:
    surface = _uncertain(model, parameters, errors, seed=11)
    size = len(parameters)
    covariance = np.array(surface.expiries[0].covariance).reshape(size, size)
    random = np.random.default_rng(7)
    drawn = random.multivariate_normal(parameters, covariance, size=1_200, method="svd")
    spread, found = _spread(surface, drawn), _row(surface).error
    for name in Handles._fields:
        expected = getattr(spread, name)
        if not isnan(expected):
            assert getattr(found, name) == pytest.approx(expected, rel=0.09), name


def test_an_error_of_the_forward_moves_the_smile_sideways() -> None:
    """Nothing else is uncertain: each handle moves by its derivative by m, times −σ_F/F."""
    parameters, zero = (0.02, 0.11, -0.4, 0.03, 0.4), (0.0,) * 25
    one = make_slice(8760, parameters, covariance=zero, forward_error=0.5)
    one = replace(one, log_moneyness_min=-5.0, log_moneyness_max=5.0)
    error = _row(make_surface(one)).error
    moved = []
    for shift in (1e-4, -1e-4):
        a, b, rho, m, sigma = parameters
        moved.append(_row(make_surface(replace(one, parameters=(a, b, rho, m + shift, sigma)))))
    for name in Handles._fields:
        up, down = (getattr(row.value, name) for row in moved)
        expected = abs(up - down) / 2e-4 * 0.5 / 100.0
        assert getattr(error, name) == pytest.approx(expected, rel=1e-5, abs=1e-10), name


def test_errors_of_two_expiries_add_up_between_them() -> None:
    surface = three_expiries()
    first, second, _ = surface.expiries
    rows = surface.handle_values()
    for edge, row in zip((first, second), rows, strict=False):
        near = _row(surface, edge.years + 1e-10)
        for name in Handles._fields:
            assert getattr(near.error, name) == pytest.approx(getattr(row.error, name), rel=1e-4)
    middle = 0.5 * (first.years + second.years)
    only = [
        make_surface(
            *(
                replace(e, covariance=(0.0,) * 25, forward_error=0.0) if e is not kept else e
                for e in surface.expiries
            )
        )
        for kept in (first, second)
    ]
    alone = [_row(one, middle).error for one in only]
    for name in Handles._fields:
        both = getattr(_row(replace(surface, spot=None), middle).error, name)
        assert both == pytest.approx(sum(getattr(one, name) for one in alone), rel=1e-9), name


def test_beyond_the_quotes_a_delta_is_no_surer_than_the_error_of_the_vol_says() -> None:
    """At a constant delta δσ is that at the strike over 1 − (√w)′(√w − q)."""
    parameters = (0.02, 0.1, 0.0, 0.0, 0.2)
    strike = _row(make_surface(make_slice(8760, parameters))).value.call_10_strike
    k = np.log(strike / 100.0)
    _, by_b, *_ = svi.parameter_gradient(parameters, k)
    direction = np.array([-by_b, 1.0, 0.0, 0.0, 0.0]) * 0.01 + np.array([1e-5, 0, 0, 0, 0])
    covariance = tuple(np.outer(direction, direction).ravel().tolist())
    narrow, wide = (
        make_surface(
            make_slice(
                8760, parameters, covariance=covariance, log_moneyness_min=-e, log_moneyness_max=e
            )
        )
        for e in (0.1, 5.0)
    )
    w, slope = svi.total_variance(parameters, k), svi.slope(parameters, k)
    q, root = float(ndtri(0.1)), sqrt(w)
    held = 1.0 - slope / (2.0 * root) * (root - q)
    for surface in (narrow, wide):
        expected = surface.vol_error(strike, 1.0) / held
        assert _row(surface).error.call_10_vol == pytest.approx(expected, rel=1e-9)
    assert _row(narrow).error.call_10_vol > 10.0 * _row(wide).error.call_10_vol


def test_what_is_not_known_has_no_error() -> None:
    first, middle, last = three_expiries().expiries
    partly: list[ExpirySlice] = [first, replace(middle, covariance=()), replace(last)]
    partly[2] = replace(last, forward_error=nan)
    surface = make_surface(*partly)
    known, *unknown = surface.handle_values()
    assert not any(map(isnan, known.error))
    for row in (*unknown, _row(surface, 0.05)):
        assert all(map(isnan, row.error))
        assert not any(map(isnan, row.value))
    assert not any(map(isnan, _row(surface, 0.01).error))


# Shape ------------------------------------------------------------------------------------------


def test_the_frame_has_a_row_an_expiry_and_an_error_beside_every_handle() -> None:
    surface = three_expiries()
    frame = surface.handles()
    assert list(frame["expiry"]) == [pd.Timestamp(e.expiry, tz="UTC") for e in surface.expiries]
    assert list(frame["years"]) == [e.years for e in surface.expiries]
    assert list(frame.columns) == [
        "expiry", "years", *(c for name in Handles._fields for c in (name, f"{name}_error"))
    ]  # fmt: skip
    for i, row in enumerate(surface.handle_values()):
        assert frame["risk_reversal_25"][i] == row.value.risk_reversal_25
        assert frame["risk_reversal_25_error"][i] == row.error.risk_reversal_25


def test_expiries_may_be_asked_for_one_by_one_or_together() -> None:
    surface = three_expiries()
    frame = surface.handles(["2026-03-13T08:00:00.000123", "2026-06-01"])
    assert len(frame) == 2
    assert frame["atm_vol"][0] == surface.handles()["atm_vol"][0]
    assert str(frame["expiry"][1]) == "2026-06-01 00:00:00+00:00"
    times = [0.0, 0.3, -1.0, nan, 1e5]
    rows = surface.handle_values(times)
    assert [row.years for row in rows] == pytest.approx([0.0, 0.3, nan, nan, 1e5], nan_ok=True)
    assert rows[1].expiry == QUOTE_TIME + np.timedelta64(round(0.3 * 365 * 86_400_000_000), "us")
    for empty in (0, 2, 3):
        assert all(map(isnan, (*rows[empty].value, *rows[empty].error)))
    assert len(surface.handles(times)) == 5
    assert str(surface.handles(times)["expiry"].dtype) == "datetime64[us, UTC]"


def test_independent_expiries_are_read_where_they_are() -> None:
    surface = two_essvi(calendar=ExpiryCalendar.INDEPENDENT)
    for row, same in zip(surface.handle_values(), two_essvi().handle_values(), strict=True):
        assert row.value == same.value
    with pytest.raises(NotFitted, match="different assets"):
        surface.handles(0.2)
    with pytest.raises(NotFitted, match="no fitted expiry"):
        make_surface().handles()


def test_an_engine_that_reads_handles_loads_neither_jax_nor_pandas() -> None:
    code = """
import sys
from calib.surface.surface import Surface
surface = Surface.from_json(sys.stdin.read())
assert len(surface.handle_values()) == 3
surface.density(95.0, 0.5), surface.distribution(95.0, 0.5)
surface.variance_swap(0.5), surface.variance_swap_error(0.5), surface.vix(60)
assert not {"jax", "pandas"} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        input=three_expiries().to_json(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
