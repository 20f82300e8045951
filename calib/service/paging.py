"""Pages of the history: what a request asks for, and tokens that know where to go on."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import TypeAlias

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from calib.service.refusals import InvalidField
from calib.states import ModelName
from calib.store.queries import Cursor
from calib.v1 import model_risk_service_pb2, surface_service_pb2

DEFAULT_SIZE, LARGEST_SIZE = 100, 1_000
"""Entries of a page, as the protocol states."""

PageRequest: TypeAlias = (
    surface_service_pb2.ListSurfacesRequest
    | model_risk_service_pb2.ListMetricsRequest
    | model_risk_service_pb2.ListAlarmsRequest
    | model_risk_service_pb2.ListTransitionsRequest
)

_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799


@dataclass(frozen=True)
class Page:
    """A page of the history; None is no limit."""

    underlying: str | None
    model: ModelName | None
    start: np.datetime64 | None
    end: np.datetime64 | None
    size: int
    after: Cursor | None
    question: str
    """A hash of everything but size and place: a token only continues what it was given for."""

    def token(self, cursor: Cursor) -> str:
        """The token of the page behind ``cursor``."""
        place = [self.question, cursor.quote_time.isoformat(), *cursor[1:]]
        return urlsafe_b64encode(json.dumps(place).encode()).decode()


def page_of(request: PageRequest) -> Page:
    """The page that is asked for; raises InvalidField where that makes no sense."""
    if request.page_size < 0:
        raise InvalidField("page_size", f"{request.page_size} is negative")
    model = 0
    if isinstance(request, surface_service_pb2.ListSurfacesRequest):
        model = int(request.model)
    if model and model not in [int(each) for each in ModelName]:
        raise InvalidField("model", f"{model} is not a model of this version")
    start = _moment(request, "start_time")
    end = _moment(request, "end_time")
    if start is not None and end is not None and end < start:
        raise InvalidField("end_time", f"{end} lies before start_time {start}")
    asked = (request.DESCRIPTOR.name, request.underlying, model, str(start), str(end))
    question = blake2b(json.dumps(asked).encode(), digest_size=6).hexdigest()
    return Page(
        underlying=request.underlying or None,
        model=ModelName(model) if model else None,
        start=start,
        end=end,
        size=min(request.page_size or DEFAULT_SIZE, LARGEST_SIZE),
        after=_cursor(request.page_token, question) if request.page_token else None,
        question=question,
    )


def _cursor(token: str, question: str) -> Cursor:
    try:
        asked, time, epoch, revision, row = json.loads(urlsafe_b64decode(token))
        cursor = Cursor(datetime.fromisoformat(time), str(epoch), int(revision), int(row))
    except (ValueError, TypeError):
        raise InvalidField("page_token", "is not one of this server's") from None
    if asked != question:
        raise InvalidField("page_token", "was given for a request with other fields")
    return cursor


def _moment(request: PageRequest, name: str) -> np.datetime64 | None:
    if not request.HasField(name):  # type: ignore[arg-type]
        return None
    return moment_of(getattr(request, name), name)


def moment_of(stamp: Timestamp, name: str) -> np.datetime64:
    """The instant in a field of a request; raises InvalidField outside the calendar."""
    if not (_FIRST_SECOND <= stamp.seconds <= _LAST_SECOND and 0 <= stamp.nanos < 10**9):
        raise InvalidField(name, "lies outside the years 1 to 9999")
    return np.datetime64(stamp.seconds * 10**6 + stamp.nanos // 1_000, "us")


def offset_of(request: model_risk_service_pb2.ListMarksRequest) -> tuple[int, int]:
    """First place and size of a page of a list that is held in memory."""
    if request.page_size < 0:
        raise InvalidField("page_size", f"{request.page_size} is negative")
    size = min(request.page_size or DEFAULT_SIZE, LARGEST_SIZE)
    if not request.page_token:
        return 0, size
    try:
        underlying, first = json.loads(urlsafe_b64decode(request.page_token))
        place = int(first)
    except (ValueError, TypeError):
        raise InvalidField("page_token", "is not one of this server's") from None
    if underlying != request.underlying or place < 0:
        raise InvalidField("page_token", "was given for a request with other fields")
    return place, size


def offset_token(request: model_risk_service_pb2.ListMarksRequest, first: int) -> str:
    """The token of the page that begins at ``first``."""
    return urlsafe_b64encode(json.dumps([request.underlying, first]).encode()).decode()
