"""The right that each RPC asks for, and to which underlyings: what is not listed, nobody may call.

Rules look only at the request. A request that names no underlying and means all of them needs the
right to all; a watch is narrowed to those that its caller may read instead.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from calib.errors import Forbidden
from calib.service.protection.identity import EVERY, Identity, Right
from calib.v1 import (
    calibration_service_pb2,
    model_risk_service_pb2,
    quote_service_pb2,
    surface_service_pb2,
)

_QUOTES = quote_service_pb2.DESCRIPTOR.services_by_name["QuoteService"].full_name
_CALIBRATION = calibration_service_pb2.DESCRIPTOR.services_by_name["CalibrationService"].full_name
_SURFACES = surface_service_pb2.DESCRIPTOR.services_by_name["SurfaceService"].full_name
_RISK = model_risk_service_pb2.DESCRIPTOR.services_by_name["ModelRiskService"].full_name
_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].full_name


def _nothing(request: Any) -> Collection[str]:
    return ()


def _no_rows(request: Any) -> int:
    return 0


@dataclass(frozen=True)
class Rule:
    """What a caller needs.

    ``right`` None: to be known suffices. ``underlyings`` are those that a request is about,
    ``rows`` what it costs of the limit of rows. ``narrowed``: it lists underlyings, and an empty
    list means all that the caller may have. ``open``: whoever calls may ask about no underlying.
    """

    right: Right | None
    underlyings: Callable[[Any], Collection[str]] = _nothing
    rows: Callable[[Any], int] = _no_rows
    narrowed: bool = False
    open: bool = False

    def check(self, caller: Identity, request: Any) -> None:
        """Raise Forbidden unless this caller may ask for this; narrows a watch of everything."""
        if self.right is None or (self.open and not self.underlyings(request)):
            return
        if not caller.names(self.right):
            raise Forbidden(f"{caller.name!r} may {self.right} no underlying")
        if self.narrowed and not request.underlyings and not caller.may(self.right, EVERY):
            request.underlyings.extend(caller.names(self.right))
        for underlying in self.underlyings(request):
            if not caller.may(self.right, underlying):
                raise Forbidden(self._refusal(caller, self.right, underlying))

    def _refusal(self, caller: Identity, right: Right, underlying: str) -> str:
        if underlying != EVERY:
            return f"{caller.name!r} may not {right} {underlying!r}"
        names = ", ".join(caller.names(right))
        return f"{caller.name!r} may not {right} all underlyings; name one of {names}"


def _one(request: Any) -> Collection[str]:
    return (request.underlying,)


def _one_or_all(request: Any) -> Collection[str]:
    return (request.underlying or EVERY,)


def _listed(request: Any) -> Collection[str]:
    return set(request.underlyings) or (EVERY,)


def _payload(request: Any) -> Collection[str]:
    kind = request.WhichOneof("payload")
    if kind is None:
        return ()
    named = getattr(request, kind).underlying
    # A venue's sign of life may be for all of its underlyings.
    return (named or EVERY,) if kind == "heartbeat" else (named,)


def _payload_rows(request: Any) -> int:
    match request.WhichOneof("payload"):
        case "quotes":
            return len(request.quotes.strike)
        case "ticks":
            return len(request.ticks.forward) + 1
        case _:
            return 0


def _batches(request: Any) -> Collection[str]:
    return {batch.underlying for batch in request.batches}


def _batch_rows(request: Any) -> int:
    return sum(len(batch.strike) for batch in request.batches)


def _points(request: Any) -> int:
    return len(request.strike)


def _probed(request: Any) -> Collection[str]:
    _, slash, underlying = request.service.partition("/")
    return (underlying,) if slash else ()


_PUBLISH = Rule(Right.PUBLISH, _payload, _payload_rows)
_READ_ONE = Rule(Right.READ, _one)
_READ_PAGE = Rule(Right.READ, _one_or_all)
_WATCH = Rule(Right.READ, _listed, narrowed=True)
_OPERATE = Rule(Right.OPERATE, _one)
_PROBE = Rule(Right.READ, _probed, open=True)

RULES = {
    f"/{_QUOTES}/PublishQuotes": _PUBLISH,
    f"/{_QUOTES}/PublishQuoteBatch": _PUBLISH,
    f"/{_QUOTES}/WatchQuotes": _WATCH,
    f"/{_CALIBRATION}/Calibrate": Rule(Right.PUBLISH, _batches, _batch_rows),
    f"/{_SURFACES}/GetSurface": _READ_ONE,
    f"/{_SURFACES}/ListSurfaces": _READ_PAGE,
    f"/{_SURFACES}/WatchSurfaces": _WATCH,
    f"/{_SURFACES}/EvaluateSurface": Rule(Right.READ, _one, _points),
    f"/{_RISK}/GetModelRisk": _READ_ONE,
    f"/{_RISK}/ListMetrics": _READ_PAGE,
    f"/{_RISK}/ListAlarms": _READ_PAGE,
    f"/{_RISK}/ListTransitions": _READ_PAGE,
    f"/{_RISK}/ListMarks": _READ_PAGE,
    f"/{_RISK}/WatchModelRisk": _WATCH,
    f"/{_RISK}/ForceBreaker": _OPERATE,
    f"/{_RISK}/ReleaseBreaker": _OPERATE,
    f"/{_RISK}/SetMark": _OPERATE,
    f"/{_RISK}/ClearMark": _OPERATE,
    f"/{_HEALTH}/Check": _PROBE,
    f"/{_HEALTH}/Watch": _PROBE,
    f"/{_HEALTH}/List": Rule(Right.READ, lambda request: (EVERY,)),
    f"/{_REFLECTION}/ServerReflectionInfo": Rule(None),
}
"""By the full name of the method."""
