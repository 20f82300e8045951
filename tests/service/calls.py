"""Raw calls to a server, and what their failures say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from calib.quotes.reasons import Reason
from calib.v1 import (
    calibration_service_pb2_grpc,
    model_risk_service_pb2_grpc,
    quote_service_pb2,
    quote_service_pb2_grpc,
    surface_service_pb2_grpc,
)


class Stubs:
    """All services of one server."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.quotes = quote_service_pb2_grpc.QuoteServiceStub(channel)
        self.calibration = calibration_service_pb2_grpc.CalibrationServiceStub(channel)
        self.risks = model_risk_service_pb2_grpc.ModelRiskServiceStub(channel)
        self.surfaces = surface_service_pb2_grpc.SurfaceServiceStub(channel)


@dataclass
class Refusal:
    """The status of a refused call, taken apart."""

    code: grpc.StatusCode = grpc.StatusCode.OK
    message: str = ""
    reason: str = ""
    domain: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    fields: list[str] = field(default_factory=list)
    retry_seconds: float | None = None


@contextmanager
def refused() -> Iterator[Refusal]:
    """Expects the calls inside to be refused, with the standard details."""
    refusal = Refusal()
    try:
        yield refusal
    except grpc.aio.AioRpcError as error:
        refusal.code, refusal.message = error.code(), error.details() or ""
        for key, value in error.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                assert isinstance(value, bytes)
                _read(status_pb2.Status.FromString(value), refusal)
    else:
        raise AssertionError("the call was not refused")


async def ending(call: Any, heard: Callable[[Any], object] = lambda response: None) -> Refusal:
    """What a stream ends with, once all that came before was heard."""
    with refused() as refusal:
        while (response := await call.read()) is not grpc.aio.EOF:
            heard(response)
    return refusal


def counts(ack: quote_service_pb2.QuoteAck) -> dict[Reason, int]:
    """How many rows each reason rejected."""
    return {Reason(int(one.reason)): one.rows for one in ack.reject_counts}


def _read(status: status_pb2.Status, refusal: Refusal) -> None:
    assert status.code == refusal.code.value[0]
    assert status.message == refusal.message
    for detail in status.details:
        info, bad, retry = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.BadRequest(),
            error_details_pb2.RetryInfo(),
        )
        if detail.Unpack(info):
            refusal.reason, refusal.domain = info.reason, info.domain
            refusal.metadata = dict(info.metadata)
        elif detail.Unpack(bad):
            refusal.fields = [violation.field for violation in bad.field_violations]
        elif detail.Unpack(retry):
            delay = retry.retry_delay
            refusal.retry_seconds = delay.seconds + delay.nanos * 1e-9
