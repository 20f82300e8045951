"""Pages of the history: what a request asks for, and tokens that know where to go on."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from calib.service.refusals import InvalidField
from calib.states import ModelName
from calib.store.queries import Cursor
from calib.v1 import surface_service_pb2

DEFAULT_SIZE, LARGEST_SIZE = 100, 1_000
"""Surfaces of a page, as the protocol states."""

_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799


@dataclass(frozen=True)
class Page:
    """A page of surfaces; None is no limit."""

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


def page_of(request: surface_service_pb2.ListSurfacesRequest) -> Page:
    """The page that is asked for; raises InvalidField where that makes no sense."""
    if request.page_size < 0:
        raise InvalidField("page_size", f"{request.page_size} is negative")
    if request.model and request.model not in [int(model) for model in ModelName]:
        raise InvalidField("model", f"{request.model} is not a model of this version")
    start = _moment(request, "start_time")
    end = _moment(request, "end_time")
    if start is not None and end is not None and end < start:
        raise InvalidField("end_time", f"{end} lies before start_time {start}")
    asked = (request.underlying, int(request.model), str(start), str(end))
    question = blake2b(json.dumps(asked).encode(), digest_size=6).hexdigest()
    return Page(
        underlying=request.underlying or None,
        model=ModelName(request.model) if request.model else None,
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


def _moment(request: surface_service_pb2.ListSurfacesRequest, name: str) -> np.datetime64 | None:
    if not request.HasField(name):  # type: ignore[arg-type]
        return None
    stamp: Timestamp = getattr(request, name)
    if not (_FIRST_SECOND <= stamp.seconds <= _LAST_SECOND and 0 <= stamp.nanos < 10**9):
        raise InvalidField(name, "lies outside the years 1 to 9999")
    return np.datetime64(stamp.seconds * 10**6 + stamp.nanos // 1_000, "us")
