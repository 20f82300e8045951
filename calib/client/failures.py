"""Statuses of failed calls as exceptions of calib."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from calib.errors import CalibError, Forbidden, InvalidRequest, NotFitted, Unavailable

RETRIABLE = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        # What a broken connection or a server that was killed may look like.
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)
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


def failure(error: grpc.aio.AioRpcError, target: str) -> CalibError:
    """The exception that a failed call to ``target`` stands for."""
    code = error.code()
    kind = _KINDS.get(code)
    details = error.details() or code.name
    return kind(details) if kind else Unavailable(f"{target}: {code.name}: {details}")


@contextmanager
def calling(target: str) -> Iterator[None]:
    """Raise calib's exceptions instead of gRPC's."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise failure(error, target) from error
    except grpc.aio.UsageError as error:
        raise Unavailable(f"{target}: {error}") from error
