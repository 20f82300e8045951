"""Surfaces as messages: ``calib.v1.Surface`` in protobuf and in the proto3 JSON mapping.

The one module that knows both the message and the value. Both ways are exact: every double keeps
its bits (JSON writes the shortest decimal that reads back the same), instants their microsecond.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeVar

import numpy as np
from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp

from calib.arbitrage.certificate import Certificate, CertificateScope
from calib.conventions import NO_INSTANT, ExpiryCalendar, iso
from calib.errors import InvalidSurface
from calib.market.variance_clock import VarianceKnot
from calib.states import FitState, ForwardSource, ModelName
from calib.surface.hold import Hold
from calib.surface.marks import Mark, MarkHandle
from calib.surface.surface import ExpirySlice, SliceDiagnostics, Surface
from calib.surface.validation import PARAMETER_NAMES, PARAMETERS
from calib.v1 import surface_pb2

_State = TypeVar("_State", bound=IntEnum)

_FIELDS = {ModelName.SVI: "svi", ModelName.ESSVI: "essvi", ModelName.SABR: "sabr"}
"""The member of the message's ``oneof parameters`` that belongs to a model."""

_MICROSECONDS = 1_000_000


def surface_to_proto(surface: Surface) -> surface_pb2.Surface:
    """The message of a surface."""
    certificate = surface.certificate
    message = surface_pb2.Surface(
        underlying=surface.underlying,
        quote_time=timestamp(surface.quote_time),
        model=surface_pb2.Model.ValueType(surface.model),
        calendar=surface_pb2.ExpiryCalendar.ValueType(surface.calendar),
        expiries=[_slice_to_proto(surface.model, one) for one in surface.expiries],
        certificate=surface_pb2.Certificate(
            arbitrage_free=certificate.arbitrage_free,
            scope=surface_pb2.CertificateScope.ValueType(certificate.scope),
            butterfly_margin=certificate.butterfly_margin,
            calendar_margin=certificate.calendar_margin,
            detail=certificate.detail,
        ),
        spot=surface.spot,
        epoch=surface.epoch,
        revision=surface.revision,
        input_hash=surface.input_hash,
        code_version=surface.code_version,
        blend=surface.blend,
        variance_clock=[
            surface_pb2.VarianceKnot(years=years, variance_time=variance_time)
            for years, variance_time in surface.variance_clock
        ],
        marks=[mark_to_proto(mark) for mark in surface.marks],
    )
    if not np.isnat(surface.calibration_time):
        message.calibration_time.CopyFrom(timestamp(surface.calibration_time))
    return message


def surface_from_proto(message: surface_pb2.Surface) -> Surface:
    """The surface in a message; raises InvalidSurface for a missing or contradictory field."""
    if not message.HasField("quote_time"):
        raise InvalidSurface("message without quote_time")
    if not message.HasField("certificate"):
        raise InvalidSurface("message without certificate")
    certificate = message.certificate
    model = _known(ModelName, message.model, "model")
    return Surface(
        underlying=message.underlying,
        quote_time=instant(message.quote_time, "quote_time"),
        model=model,
        calendar=_known(ExpiryCalendar, message.calendar, "calendar"),
        certificate=Certificate(
            arbitrage_free=certificate.arbitrage_free,
            scope=_known(CertificateScope, certificate.scope, "certificate.scope"),
            butterfly_margin=certificate.butterfly_margin,
            calendar_margin=certificate.calendar_margin,
            detail=certificate.detail,
        ),
        expiries=tuple(_slice_from_proto(model, one) for one in message.expiries),
        spot=message.spot if message.HasField("spot") else None,
        calibration_time=(
            instant(message.calibration_time, "calibration_time")
            if message.HasField("calibration_time")
            else NO_INSTANT
        ),
        epoch=message.epoch,
        revision=message.revision,
        input_hash=message.input_hash,
        code_version=message.code_version,
        blend=message.blend,
        variance_clock=tuple(
            VarianceKnot(knot.years, knot.variance_time) for knot in message.variance_clock
        ),
        marks=tuple(map(mark_from_proto, message.marks)),
    )


def surface_to_json(surface: Surface) -> str:
    """The message in proto3 JSON on one line, fields that hold a default included."""
    return json_format.MessageToJson(
        surface_to_proto(surface), always_print_fields_with_no_presence=True, indent=None
    )


def surface_from_json(text: str | bytes) -> Surface:
    """The surface in proto3 JSON; fields of later versions are passed over, as in protobuf."""
    message = surface_pb2.Surface()
    try:
        json_format.Parse(text, message, ignore_unknown_fields=True)
    except (json_format.ParseError, UnicodeDecodeError) as error:
        raise InvalidSurface(f"not a calib.v1.Surface in JSON: {error}") from error
    return surface_from_proto(message)


def timestamp(instant: np.datetime64) -> Timestamp:
    """An instant, which must not be NaT, as a protobuf timestamp."""
    micros = int(instant.astype("datetime64[us]").astype(np.int64))
    seconds, rest = divmod(micros, _MICROSECONDS)
    return Timestamp(seconds=seconds, nanos=rest * 1_000)


def instant(stamp: Timestamp, name: str) -> np.datetime64:
    """A protobuf timestamp as an instant; raises InvalidSurface if it has parts of microseconds."""
    micros, rest = divmod(stamp.nanos, 1_000)
    if rest:
        raise InvalidSurface(f"{name} has {stamp.nanos} ns, must be whole microseconds")
    return np.datetime64(stamp.seconds * _MICROSECONDS + micros, "us")


def diagnostics_to_proto(fit: SliceDiagnostics) -> surface_pb2.SliceDiagnostics:
    """The message of how one expiry was fitted."""
    return surface_pb2.SliceDiagnostics(
        state=surface_pb2.FitState.ValueType(fit.state),
        rms_vol_error=fit.rms_vol_error,
        chi2_reduced=fit.chi2_reduced,
        in_spread_share=fit.in_spread_share,
        max_abs_residual=fit.max_abs_residual,
        quotes_used=fit.quotes_used,
        quotes_rejected=fit.quotes_rejected,
        steps=fit.steps,
        quote_share=fit.quote_share,
        memory_share=fit.memory_share,
        noise_scale=fit.noise_scale,
        covariance_scale=fit.covariance_scale,
    )


def mark_to_proto(mark: Mark) -> surface_pb2.Mark:
    """The message of a mark."""
    return surface_pb2.Mark(
        expiry=timestamp(mark.expiry),
        handle=surface_pb2.MarkHandle.ValueType(mark.handle),
        pinned=mark.pinned,
        value=mark.value,
        author=mark.author,
        reason=mark.reason,
        at=timestamp(mark.at),
        until=timestamp(mark.until),
    )


def mark_from_proto(message: surface_pb2.Mark) -> Mark:
    """The mark in a message; raises InvalidSurface for a missing or contradictory field."""
    for name in ("expiry", "at", "until"):
        if not message.HasField(name):
            raise InvalidSurface(f"a mark without {name}")
    return Mark(
        expiry=instant(message.expiry, "marks.expiry"),
        handle=_known(MarkHandle, message.handle, "marks.handle"),
        pinned=message.pinned,
        value=message.value,
        author=message.author,
        reason=message.reason,
        at=instant(message.at, "marks.at"),
        until=instant(message.until, "marks.until"),
    )


def _slice_to_proto(model: ModelName, one: ExpirySlice) -> surface_pb2.ExpirySlice:
    message = surface_pb2.ExpirySlice(
        expiry=timestamp(one.expiry),
        years=one.years,
        variance_time=one.variance_time,
        forward=one.forward,
        forward_error=one.forward_error,
        forward_source=surface_pb2.ForwardSource.ValueType(one.forward_source),
        discount_factor=one.discount_factor,
        log_moneyness_min=one.log_moneyness_min,
        log_moneyness_max=one.log_moneyness_max,
        diagnostics=diagnostics_to_proto(one.diagnostics),
    )
    parameters = getattr(message, _FIELDS[model])
    parameters.SetInParent()  # parameters that are all 0 are parameters still
    for name, value in zip(PARAMETER_NAMES[model], one.parameters, strict=True):
        setattr(parameters, name, value)
    if one.covariance:
        message.covariance.coordinates = surface_pb2.COVARIANCE_COORDINATES_PARAMETERS
        message.covariance.values.extend(one.covariance)
    if one.anchor:
        theta, rho, psi = one.anchor
        message.anchor.CopyFrom(surface_pb2.EssviParameters(theta=theta, rho=rho, psi=psi))
    if one.hold:
        message.hold.CopyFrom(_hold_to_proto(one.hold))
    return message


def _hold_to_proto(hold: Hold) -> surface_pb2.Hold:
    message = surface_pb2.Hold(epoch=hold.epoch, revision=hold.revision, share=hold.share)
    if not np.isnat(hold.quote_time):
        message.quote_time.CopyFrom(timestamp(hold.quote_time))
    return message


def _slice_from_proto(model: ModelName, message: surface_pb2.ExpirySlice) -> ExpirySlice:
    if not message.HasField("expiry"):
        raise InvalidSurface("a smile without expiry")
    expiry = instant(message.expiry, "expiry")
    try:
        return _smile_from_proto(model, expiry, message)
    except InvalidSurface as error:
        raise InvalidSurface(f"expiry {iso(expiry)}: {error}") from None


def _smile_from_proto(
    model: ModelName, expiry: np.datetime64, message: surface_pb2.ExpirySlice
) -> ExpirySlice:
    present = message.WhichOneof("parameters")
    if present != _FIELDS[model]:
        raise InvalidSurface(f"parameters are {present}, the model is {model.name}")
    if message.HasField("covariance"):
        coordinates = message.covariance.coordinates
        if coordinates != surface_pb2.COVARIANCE_COORDINATES_PARAMETERS:
            raise InvalidSurface(
                f"covariance in coordinates {coordinates}, "
                "must be COVARIANCE_COORDINATES_PARAMETERS"
            )
    parameters = getattr(message, _FIELDS[model])
    fit = message.diagnostics
    return ExpirySlice(
        expiry=expiry,
        years=message.years,
        variance_time=message.variance_time,
        forward=message.forward,
        discount_factor=message.discount_factor,
        parameters=PARAMETERS[model](*(getattr(parameters, n) for n in PARAMETER_NAMES[model])),
        log_moneyness_min=message.log_moneyness_min,
        log_moneyness_max=message.log_moneyness_max,
        forward_error=message.forward_error,
        forward_source=_known(ForwardSource, message.forward_source, "forward_source"),
        covariance=tuple(message.covariance.values),
        anchor=(
            (message.anchor.theta, message.anchor.rho, message.anchor.psi)
            if message.HasField("anchor")
            else ()
        ),
        diagnostics=SliceDiagnostics(
            state=_known(FitState, fit.state, "diagnostics.state"),
            rms_vol_error=fit.rms_vol_error,
            chi2_reduced=fit.chi2_reduced,
            in_spread_share=fit.in_spread_share,
            max_abs_residual=fit.max_abs_residual,
            quotes_used=fit.quotes_used,
            quotes_rejected=fit.quotes_rejected,
            steps=fit.steps,
            quote_share=fit.quote_share,
            memory_share=fit.memory_share,
            noise_scale=fit.noise_scale,
            covariance_scale=fit.covariance_scale,
        ),
        hold=_hold_from_proto(message.hold) if message.HasField("hold") else None,
    )


def _hold_from_proto(message: surface_pb2.Hold) -> Hold:
    return Hold(
        instant(message.quote_time, "hold.quote_time")
        if message.HasField("quote_time")
        else NO_INSTANT,
        message.epoch,
        message.revision,
        message.share,
    )


def _known(kind: type[_State], number: int, name: str) -> _State:
    """The member with this number; UNSPECIFIED, and numbers of later versions, are refused."""
    try:
        member = kind(number)
    except ValueError:
        member = None
    if not member:
        raise InvalidSurface(f"{name} is {number}, must be one of {[m.name for m in kind if m]}")
    return member
