"""The value: what it refuses, that it does not change, and how it is shown."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime
from math import inf, nan, sqrt
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given

from calib.conventions import ExpiryCalendar
from calib.errors import InvalidSurface
from calib.models.essvi import EssviParameters
from calib.models.sabr import SabrParameters
from calib.models.svi import SviParameters
from calib.states import ModelName
from calib.surface.surface import Surface
from tests.surface.markets import QUOTE_TIME, make_slice, make_surface, surfaces, three_expiries

SVI = (0.01, 0.1, -0.3, 0.0, 0.2)
ESSVI = (0.04, -0.3, 0.2)
SABR = (0.3, 1.0, -0.3, 0.5)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"forward": 0.0}, "forward is 0.0, must be positive and finite"),
        ({"forward": nan}, "forward is nan"),
        ({"discount_factor": inf}, "discount_factor is inf"),
        ({"variance_time": -0.1}, "variance_time is -0.1"),
        ({"forward_error": -1.0}, "forward_error is -1.0"),
        ({"log_moneyness_min": 0.6}, r"\(0.6, 0.5\), must be finite, lowest first"),
        ({"log_moneyness_max": nan}, "quoted range"),
        ({"covariance": (1.0,) * 9}, "covariance of 5 parameters has 25 entries; got 9"),
        ({"covariance": (nan,) * 25}, "covariance is"),
        ({"covariance": (-1.0,) * 25}, "diagonal of covariance"),
    ],
)
def test_a_slice_that_contradicts_itself_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidSurface, match=f"expiry 2026-03-07T08:00:00.000123Z: .*{said}"):
        make_surface(make_slice(24, SVI, **fields))


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        (ModelName.SVI, (0.01, -0.1, -0.3, 0.0, 0.2)),
        (ModelName.SVI, (0.01, 0.1, 1.0, 0.0, 0.2)),
        (ModelName.SVI, (0.01, 0.1, 0.0, 0.0, 0.0)),
        (ModelName.SVI, (-0.03, 0.1, 0.0, 0.0, 0.2)),  # negative minimum
        (ModelName.SVI, (0.01, 0.1, 0.0, nan, 0.2)),
        (ModelName.ESSVI, (0.0, -0.3, 0.2)),
        (ModelName.ESSVI, (0.04, -1.0, 0.2)),
        (ModelName.ESSVI, (0.04, -0.3, 0.0)),
        (ModelName.SABR, (0.0, 1.0, -0.3, 0.5)),
        (ModelName.SABR, (0.3, 1.1, -0.3, 0.5)),
        (ModelName.SABR, (0.3, 1.0, 1.0, 0.5)),
        (ModelName.SABR, (0.3, 1.0, -0.3, -0.5)),
        (ModelName.SABR, (inf, 1.0, -0.3, 0.5)),
    ],
)
def test_parameters_outside_the_models_domain_are_refused(
    model: ModelName, parameters: tuple[float, ...]
) -> None:
    with pytest.raises(InvalidSurface, match="parameters is"):
        make_surface(make_slice(24, parameters), model=model)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [(ModelName.SVI, ESSVI), (ModelName.ESSVI, SABR), (ModelName.SABR, SVI)],
)
def test_a_wrong_number_of_parameters_is_refused(
    model: ModelName, parameters: tuple[float, ...]
) -> None:
    with pytest.raises(InvalidSurface, match=f"{model.name} has the .* got {len(parameters)}"):
        make_surface(make_slice(24, parameters), model=model)


def test_expiries_come_in_order_once_each_after_the_quotes() -> None:
    day, week = make_slice(24, SVI), make_slice(168, SVI)
    with pytest.raises(InvalidSurface, match=r"expiries must ascend.*07T08.*13T08"):
        make_surface(week, day)
    with pytest.raises(InvalidSurface, match="expiries must ascend"):
        make_surface(day, day)
    with pytest.raises(InvalidSurface, match="variance time must ascend"):
        make_surface(day, replace(week, variance_time=day.variance_time))
    for hours in (0, -1):
        with pytest.raises(InvalidSurface, match="not after the quote time"):
            make_surface(make_slice(hours, SVI))


def test_years_are_those_of_the_expiry_to_the_last_bit() -> None:
    one = make_slice(24, SVI)
    with pytest.raises(InvalidSurface, match=r"must be ACT/365F: 0\.0027397260273972603"):
        make_surface(replace(one, years=np.nextafter(one.years, 1.0)))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"underlying": ""}, "name of its underlying"),
        ({"quote_time": np.datetime64("NaT")}, "without a quote_time"),
        ({"spot": 0.0}, "spot is 0.0"),
        ({"spot": nan}, "spot is nan"),
        ({"model": "svi"}, "model is 'svi'"),
        ({"calendar": 7}, "calendar is 7"),
    ],
)
def test_a_surface_that_contradicts_itself_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidSurface, match=said):
        make_surface(**fields)


def test_a_minimum_of_zero_is_a_minimum() -> None:
    b, rho, sigma = 0.37, -0.61, 0.13
    a = -b * sigma * sqrt((1 - rho) * (1 + rho))
    surface = make_surface(make_slice(24, (a, b, rho, 0.0, sigma)))
    assert abs(surface.total_variance(-sigma * rho / sqrt((1 - rho) * (1 + rho)), 1 / 365)) < 1e-16


def test_parameters_go_by_their_names() -> None:
    for model, parameters, kind in (
        (ModelName.SVI, SVI, SviParameters),
        (ModelName.ESSVI, ESSVI, EssviParameters),
        (ModelName.SABR, SABR, SabrParameters),
    ):
        surface = make_surface(make_slice(24, np.array(parameters)), model=model)  # type: ignore[arg-type]
        named: Any = surface.expiries[0].parameters
        assert isinstance(named, kind)
        assert named == parameters
        assert named.rho == -0.3
        assert all(type(one) is float for one in named)


@given(surfaces())
def test_nothing_changes_by_being_used(surface: Surface) -> None:
    before, number = surface.to_json(), hash(surface)
    for one in surface.expiries:
        surface.implied_vol(np.array([90.0, 110.0]), one.years)
        surface.vol_error(90.0, one.expiry)
        surface.is_extrapolated(90.0, one.expiry)
    assert surface.to_json() == before
    assert hash(surface) == number
    with pytest.raises(FrozenInstanceError):
        surface.revision = 3  # type: ignore[misc]


def test_instants_may_come_as_datetimes_in_any_unit() -> None:
    moment = datetime(2026, 3, 6, 8, 0, 0, 123, tzinfo=UTC)
    slices = three_expiries().expiries
    for quote_time in (moment, QUOTE_TIME.astype("datetime64[ns]"), pd.Timestamp(moment)):
        other: Any = quote_time
        assert three_expiries(quote_time=other) == three_expiries()
    day: Any = slices[0].expiry.astype("datetime64[h]")
    assert replace(slices[0], expiry=day).expiry.dtype == np.dtype("datetime64[us]")


def test_it_shows_itself_in_a_line() -> None:
    shown = repr(three_expiries())
    assert shown == "Surface(ABC 2026-03-06T08:00:00.000123Z, SVI, 3 expiries, NOT_CHECKED)"


def test_frame_has_a_row_an_expiry_with_parameters_by_name() -> None:
    surface = three_expiries()
    frame = surface.to_frame()
    assert list(frame["expiry"]) == [pd.Timestamp(e.expiry, tz="UTC") for e in surface.expiries]
    assert list(frame["rho"]) == [-0.4] * 3
    assert list(frame["forward"]) == [100.4, 101.1, 106.0]
    assert list(frame["state"]) == ["CONVERGED"] * 3
    assert frame["rms_vol_error"].isna().all()
    for i, one in enumerate(surface.expiries):
        assert frame["atm_vol"][i] == pytest.approx(surface.implied_vol(one.forward, one.years))


@pytest.mark.parametrize(
    ("model", "names"),
    [(ModelName.ESSVI, {"theta", "rho", "psi"}), (ModelName.SABR, {"alpha", "beta", "rho", "nu"})],
)
def test_frame_of_no_expiries_has_the_same_columns(model: ModelName, names: set[str]) -> None:
    empty = make_surface(model=model).to_frame()
    parameters = ESSVI if model is ModelName.ESSVI else SABR
    full = make_surface(make_slice(24, parameters), model=model).to_frame()
    assert len(empty) == 0
    assert list(empty.columns) == list(full.columns)
    assert names < set(full.columns)
    assert str(empty["expiry"].dtype) == str(full["expiry"].dtype) == "datetime64[us, UTC]"


def test_independent_expiries_may_fall_in_total_variance() -> None:
    high, low = (0.09, 0.1, 0.3, 0.0, 0.2), (0.01, 0.1, 0.3, 0.0, 0.2)
    surface = make_surface(
        make_slice(24, high), make_slice(168, low), calendar=ExpiryCalendar.INDEPENDENT
    )
    w = [surface.total_variance(0.0, one.expiry) for one in surface.expiries]
    assert w[1] < w[0]


def test_a_quoter_needs_neither_jax_nor_pandas_and_protobuf_only_for_messages() -> None:
    code = """
import sys
import numpy as np
from calib.surface.surface import Surface
heavy = ("jax", "pandas", "scipy", "google.protobuf")
assert not [name for name in heavy if name in sys.modules], "on import"
surface = Surface.from_json(sys.stdin.read())
surface.implied_vol(np.array([90.0, 110.0]), "2026-04-01")
surface.vol_error(95.0, 0.5)
surface.to_proto()
assert not [name for name in heavy[:3] if name in sys.modules], "in use"
"""
    text = three_expiries().to_json()
    done = subprocess.run(
        [sys.executable, "-c", code], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
