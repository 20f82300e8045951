"""Surfaces travel without losing a bit, and what is not a surface is refused by name."""

from __future__ import annotations

import copy
import json
import pickle
import struct
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from math import nan
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format
from hypothesis import given

from calib.errors import InvalidSurface
from calib.surface.surface import SliceDiagnostics, Surface
from calib.v1 import surface_pb2
from tests.surface.markets import QUOTE_TIME, make_slice, make_surface, surfaces, three_expiries


def bits(value: Any) -> Any:
    """Everything in a value, doubles as their bits (one nan is as good as another)."""
    if is_dataclass(value):
        return [bits(getattr(value, f.name)) for f in fields(value)]
    if isinstance(value, tuple):
        return [bits(one) for one in value]
    if isinstance(value, float):
        return struct.pack("d", value) if value == value else "nan"
    return str(value)


@given(surfaces())
def test_protobuf_keeps_every_bit(surface: Surface) -> None:
    message = surface_pb2.Surface.FromString(surface.to_proto().SerializeToString())
    back = Surface.from_proto(message)
    assert back == surface
    assert hash(back) == hash(surface)
    assert bits(back) == bits(surface)


@given(surfaces())
def test_json_keeps_every_bit(surface: Surface) -> None:
    text = surface.to_json()
    back = Surface.from_json(text)
    assert back == surface
    assert bits(back) == bits(surface)
    assert Surface.from_json(text.encode()) == surface
    assert "\n" not in text


@given(surfaces())
def test_pickles_and_copies_are_the_surface(surface: Surface) -> None:
    if surface.expiries:
        surface.total_variance(0.0, surface.expiries[0].years)  # what is cached stays behind
    assert pickle.loads(pickle.dumps(surface)) == surface
    assert copy.deepcopy(surface) == surface


def test_json_is_that_of_the_message() -> None:
    surface = three_expiries()
    message = json_format.Parse(surface.to_json(), surface_pb2.Surface())
    assert message == surface.to_proto()
    shown = json.loads(surface.to_json())
    assert shown["quoteTime"] == "2026-03-06T08:00:00.000123Z"
    assert shown["expiries"][0]["svi"]["rho"] == -0.4
    assert shown["expiries"][0]["diagnostics"]["rmsVolError"] == "NaN"
    assert shown["certificate"]["butterflyMargin"] == "-Infinity"


def test_fields_of_later_versions_are_passed_over() -> None:
    shown = json.loads(three_expiries().to_json()) | {"colour": "blue"}
    assert Surface.from_json(json.dumps(shown)) == three_expiries()


def test_surfaces_that_differ_anywhere_are_not_equal() -> None:
    surface = three_expiries()
    changed: list[Callable[[surface_pb2.Surface], object]] = [
        lambda m: setattr(m, "revision", 7),
        lambda m: m.ClearField("spot"),
        lambda m: setattr(m.certificate, "detail", "x"),
        lambda m: setattr(m.expiries[1].svi, "m", 0.0125),
        lambda m: setattr(m.expiries[1], "forward_error", nan),
        lambda m: setattr(m.expiries[1].diagnostics, "rms_vol_error", 0.01),
        lambda m: m.expiries[1].ClearField("covariance"),
        lambda m: m.calibration_time.FromJsonString("2026-03-06T08:00:01Z"),
        lambda m: m.variance_clock.add(years=0.5, variance_time=0.5),
        lambda m: m.variance_clock.add(years=0.5, variance_time=0.501),
    ]
    seen = {surface}
    for change in changed:
        message = surface.to_proto()
        change(message)
        other = Surface.from_proto(message)
        assert other not in seen
        seen.add(other)
    assert len(seen) == 1 + len(changed)
    assert surface != "a surface"


def test_a_number_that_is_missing_equals_itself() -> None:
    one, other = (SliceDiagnostics(make_slice(1, (1,)).diagnostics.state) for _ in range(2))
    assert one == other
    assert SliceDiagnostics(one.state, rms_vol_error=float("nan")) == one
    assert SliceDiagnostics(one.state, rms_vol_error=0.0) != one


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.ClearField("quote_time"), "without quote_time"),
        (lambda m: m.ClearField("certificate"), "without certificate"),
        (lambda m: m.ClearField("model"), "model is 0"),
        (lambda m: m.ClearField("calendar"), "calendar is 0"),
        (lambda m: m.ClearField("underlying"), "name of its underlying"),
        (lambda m: setattr(m.quote_time, "nanos", 1500), "1500 ns"),
        (lambda m: m.certificate.ClearField("scope"), "certificate.scope is 0"),
        (lambda m: m.expiries[1].ClearField("expiry"), "without expiry"),
        (lambda m: m.expiries[1].ClearField("svi"), "parameters are None, the model is SVI"),
        (lambda m: m.expiries[1].essvi.SetInParent(), "parameters are essvi, the model is SVI"),
        (lambda m: m.expiries[1].ClearField("forward_source"), "forward_source is 0"),
        (lambda m: m.expiries[1].diagnostics.ClearField("state"), "diagnostics.state is 0"),
        (lambda m: m.expiries[1].covariance.ClearField("coordinates"), "coordinates 0"),
        (lambda m: m.expiries[1].covariance.values.append(1.0), "has 25 entries; got 26"),
        (lambda m: m.expiries[1].ClearField("forward"), "forward is 0.0"),
        (lambda m: m.expiries[1].ClearField("years"), "years is 0.0"),
    ],
)
def test_a_message_that_is_no_surface_is_refused_by_name(
    change: Callable[[surface_pb2.Surface], object], said: str
) -> None:
    message = three_expiries().to_proto()
    change(message)
    with pytest.raises(InvalidSurface, match=said):
        Surface.from_proto(message)


@pytest.mark.parametrize("text", ["", "nonsense", "[]", '{"underlying": 3}', b"\xff\xfe", "{}"])
def test_text_that_is_no_surface_is_refused(text: str | bytes) -> None:
    with pytest.raises(InvalidSurface):
        Surface.from_json(text)


def test_an_expiry_is_named_where_its_smile_is_at_fault() -> None:
    message = three_expiries().to_proto()
    message.expiries[2].ClearField("svi")
    with pytest.raises(InvalidSurface, match=r"expiry 2027-03-06T08:00:00\.000123Z"):
        Surface.from_proto(message)


def test_instants_before_1970_travel_too() -> None:
    early = np.datetime64("1969-12-31T23:59:59.999999", "us")
    surface = make_surface(calibration_time=early)
    assert Surface.from_proto(surface.to_proto()).calibration_time == early
    assert Surface.from_json(surface.to_json()).quote_time == QUOTE_TIME
