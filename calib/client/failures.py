"""Statuses of failed calls as exceptions of calib."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from calib.errors import CalibError, Forbidden, InvalidRequest, NotFitted, Unavailable

PASSING = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
    }
)
"""Statuses after which the same call may succeed."""

RETRIABLE = PASSING | {
    # What a broken connection or a server that was killed may look like.
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
}
"""Statuses after which the same watch may succeed."""

_KINDS: dict[grpc.StatusCode, type[CalibError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.FAILED_PRECONDITION: InvalidRequest,
    grpc.StatusCode.UNIMPLEMENTED: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFitted,
    grpc.StatusCode.UNAUTHENTICATED: Forbidden,
    grpc.StatusCode.PERMISSION_DENIED: Forbidden,
}

_DETAILS = "grpc-status-details-bin"
"""Where gRPC carries a google.rpc.Status beside code and message."""
_LONGEST_RETRY_SECONDS = 60.0


def failure(error: grpc.aio.AioRpcError, target: str) -> CalibError:
    """The exception that a failed call to ``target`` stands for."""
    code = error.code()
    kind = _KINDS.get(code)
    details = error.details() or code.name
    return kind(details) if kind else Unavailable(f"{target}: {code.name}: {details}")


def retry_seconds(error: BaseException | None) -> float:
    """How long the server asks to wait before the next try, a minute at most; 0 where it does not
    say."""
    if not isinstance(error, grpc.aio.AioRpcError):
        return 0.0
    for key, value in error.trailing_metadata() or ():
        if key != _DETAILS or not isinstance(value, bytes):
            continue
        try:
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.RetryInfo()
                if detail.Unpack(info):
                    asked = info.retry_delay.seconds + 1e-9 * info.retry_delay.nanos
                    return float(min(max(asked, 0.0), _LONGEST_RETRY_SECONDS))
        except DecodeError:  # not a server of calib
            break
    return 0.0


@contextmanager
def calling(target: str) -> Iterator[None]:
    """Raise calib's exceptions instead of gRPC's."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise failure(error, target) from error
    except grpc.aio.UsageError as error:
        raise Unavailable(f"{target}: {error}") from error
    except asyncio.CancelledError as error:
        if was_asked_to_end():
            raise
        raise Unavailable(f"{target}: the connection was closed") from error


def was_asked_to_end() -> bool:
    """Whether this task was cancelled; gRPC also says so where only its channel was closed."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
