"""How a call fails: domain errors become statuses with details, everything else keeps quiet.

The one place where exceptions meet gRPC statuses.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NoReturn, TypeAlias
from uuid import uuid4

import grpc
import structlog
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from calib.errors import CalibError, Forbidden, InvalidRequest, NotFitted, Unavailable

DOMAIN = "calib"

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_DETAILS = "grpc-status-details-bin"
"""Where gRPC carries a google.rpc.Status beside code and message."""
_MOST_BYTES = 1_200
"""Of what is said in a status. It goes twice or thrice, escaped, into metadata of which clients
take 8 KiB, and requests hold names of any length."""
_PATIENCE_SECONDS = 1.0
_UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

_log = structlog.get_logger(__name__)


class InvalidField(InvalidRequest):
    """A field of a request that cannot be read."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class Refused(CalibError):
    """What is asked is well formed, and cannot be had as things stand."""


class Unauthenticated(Forbidden):
    """Nothing that is accepted says who calls."""


class Overloaded(Unavailable):
    """Too much is asked at once; a later try may succeed."""

    def __init__(self, what: str, retry_seconds: float) -> None:
        super().__init__(what)
        self.retry_seconds = retry_seconds


class Interrupted(Unavailable):
    """The server ends a call that can be taken up again; ``reason`` is for machines."""

    def __init__(self, reason: str, what: str) -> None:
        super().__init__(what)
        self.reason = reason


@asynccontextmanager
async def answering(context: Context, method: str) -> AsyncIterator[None]:
    """Run a handler; what it raises becomes the status of its call."""
    try:
        yield
    except grpc.aio.AbortError:
        raise
    except CalibError as error:
        await _abort(context, status_of(error))
    except asyncio.CancelledError:
        raise
    except Exception as error:
        if _gone(context, error):
            raise
        if isinstance(error, NotImplementedError) and context.code() is _UNIMPLEMENTED:
            # A method that a service of gRPC's own declares and does not have.
            await _abort(context, _packed(_UNIMPLEMENTED, f"{method} is not implemented", []))
        correlation = uuid4().hex
        _log.exception("internal_error", method=method, correlation_id=correlation)
        await _abort(context, _internal(correlation))


def status_of(error: CalibError) -> status_pb2.Status:
    """The status, with its details, that a domain error stands for."""
    match error:
        case InvalidField():
            violation = error_details_pb2.BadRequest.FieldViolation(
                field=error.field, description=_short(error.problem)
            )
            details: list[Message] = [error_details_pb2.BadRequest(field_violations=[violation])]
            return _status(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", error, details)
        case InvalidRequest():
            return _status(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", error)
        case NotFitted():
            return _status(grpc.StatusCode.NOT_FOUND, "NOT_FITTED", error)
        case Unauthenticated():
            return _status(grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", error)
        case Forbidden():
            return _status(grpc.StatusCode.PERMISSION_DENIED, "FORBIDDEN", error)
        case Overloaded():
            retry = [_retry(error.retry_seconds)]
            return _status(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", error, retry)
        case Interrupted():
            return _status(grpc.StatusCode.UNAVAILABLE, error.reason, error, [_retry(0.1)])
        case Unavailable():
            return _status(grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE", error, [_retry(1.0)])
        case _:
            return _status(grpc.StatusCode.FAILED_PRECONDITION, "REFUSED", error)


async def _abort(context: Context, status: status_pb2.Status) -> NoReturn:
    trailing = ((_DETAILS, status.SerializeToString()),)
    # The status queues behind what the other side has not read; it gets there without being waited
    # for, and a reader that does not read must not hold the handler.
    async with asyncio.timeout(_PATIENCE_SECONDS):
        await context.abort(_CODES[status.code], status.message, trailing)
    raise AssertionError("abort raises")


def _internal(correlation: str) -> status_pb2.Status:
    info = error_details_pb2.ErrorInfo(
        reason="INTERNAL", domain=DOMAIN, metadata={"correlation_id": correlation}
    )
    message = f"internal error; the server's log has it under correlation id {correlation}"
    return _packed(grpc.StatusCode.INTERNAL, message, [info])


def _status(
    code: grpc.StatusCode, reason: str, error: Exception, details: Sequence[Message] = ()
) -> status_pb2.Status:
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN)
    return _packed(code, str(error), [info, *details])


def _packed(code: grpc.StatusCode, message: str, details: Sequence[Message]) -> status_pb2.Status:
    message, packed = _short(message), []
    for detail in details:
        one = any_pb2.Any()
        one.Pack(detail)
        packed.append(one)
    number: int = code.value[0]
    return status_pb2.Status(code=number, message=message, details=packed)


def _short(text: str) -> str:
    """As much of a text as a status has room for."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= _MOST_BYTES:
        return text
    return encoded[:_MOST_BYTES].decode("utf-8", "ignore") + "…"


def _retry(seconds: float) -> error_details_pb2.RetryInfo:
    delay = Duration()
    delay.FromNanoseconds(round(seconds * 1e9))
    return error_details_pb2.RetryInfo(retry_delay=delay)


def _gone(context: Context, error: Exception) -> bool:
    """Whether the error only says that the other side has left."""
    return context.done() or type(error).__name__ == "ExecuteBatchError"
