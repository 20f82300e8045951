"""The right that each RPC asks for, and to which underlyings: what is not listed, nobody may call.

Rules look only at the request. A request that names no underlying and means all of them needs the
right to all; a watch is narrowed to those that its caller may read instead.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from calib.errors import Forbidden
from calib.service.protection.identity import EVERY, Identity, Right
from calib.service.service_names import (
    CALIBRATION,
    HEALTH,
    MODEL_RISK,
    QUOTES,
    REFLECTION,
    SURFACES,
)


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
    f"/{QUOTES}/PublishQuotes": _PUBLISH,
    f"/{QUOTES}/PublishQuoteBatch": _PUBLISH,
    f"/{QUOTES}/WatchQuotes": _WATCH,
    f"/{CALIBRATION}/Calibrate": Rule(Right.PUBLISH, _batches, _batch_rows),
    f"/{SURFACES}/GetSurface": _READ_ONE,
    f"/{SURFACES}/ListSurfaces": _READ_PAGE,
    f"/{SURFACES}/WatchSurfaces": _WATCH,
    f"/{SURFACES}/EvaluateSurface": Rule(Right.READ, _one, _points),
    f"/{MODEL_RISK}/GetModelRisk": _READ_ONE,
    f"/{MODEL_RISK}/ListMetrics": _READ_PAGE,
    f"/{MODEL_RISK}/ListAlarms": _READ_PAGE,
    f"/{MODEL_RISK}/ListTransitions": _READ_PAGE,
    f"/{MODEL_RISK}/ListMarks": _READ_PAGE,
    f"/{MODEL_RISK}/WatchModelRisk": _WATCH,
    f"/{MODEL_RISK}/ForceBreaker": _OPERATE,
    f"/{MODEL_RISK}/ReleaseBreaker": _OPERATE,
    f"/{MODEL_RISK}/SetMark": _OPERATE,
    f"/{MODEL_RISK}/ClearMark": _OPERATE,
    f"/{HEALTH}/Check": _PROBE,
    f"/{HEALTH}/Watch": _PROBE,
    f"/{HEALTH}/List": Rule(Right.READ, lambda request: (EVERY,)),
    f"/{REFLECTION}/ServerReflectionInfo": Rule(None),
}
"""By the full name of the method."""
