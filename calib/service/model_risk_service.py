"""ModelRiskService: judgements out, now, as history and as they come; operators' actions in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from calib.errors import NotFitted
from calib.modelrisk.alarms import Alarm
from calib.modelrisk.breakers import BreakerLevel
from calib.service.board import Board, Notice
from calib.service.desk import Desk, Standing
from calib.service.journal import Signature
from calib.service.model_risk_messages import (
    alarm_of,
    alarm_to_proto,
    metrics_of,
    transition_of,
)
from calib.service.paging import PageRequest, moment_of, offset_of, offset_token, page_of
from calib.service.protection.identity import ANONYMOUS, CALLER
from calib.service.readiness import Readiness
from calib.service.refusals import InvalidField, Refused
from calib.service.settings import ServiceSettings
from calib.service.watching import Writing, check_underlyings, silence_of
from calib.store import Record, RecordKind, Store
from calib.surface.marks import MarkHandle
from calib.surface.messages import mark_to_proto
from calib.v1 import model_risk_pb2, model_risk_service_pb2, model_risk_service_pb2_grpc

_Rpc = model_risk_service_pb2


class ModelRiskServicer(model_risk_service_pb2_grpc.ModelRiskServiceServicer):
    """Reads from the board, history from the store, and acts through the desk."""

    def __init__(
        self,
        settings: ServiceSettings,
        board: Board,
        desk: Desk,
        store: Store | None,
        readiness: Readiness,
        *,
        store_alarm: Callable[[], Alarm | None],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._board = board
        self._desk = desk
        self._store = store
        self._readiness = readiness
        self._store_alarm = store_alarm
        self._clock = clock

    async def GetModelRisk(
        self, request: _Rpc.GetModelRiskRequest, context: Any
    ) -> _Rpc.GetModelRiskResponse:
        """The last judgement."""
        self._readiness.require_open()
        underlying = _text(request, "underlying")
        notice = self._board.get(underlying)
        if notice is None:
            raise NotFitted(f"nothing of {underlying!r} was judged yet")
        alarm = self._store_alarm()
        return _Rpc.GetModelRiskResponse(
            assessment=notice.message,
            store_alarm=None if alarm is None else alarm_to_proto(alarm),
        )

    async def ListMetrics(
        self, request: _Rpc.ListMetricsRequest, context: Any
    ) -> _Rpc.ListMetricsResponse:
        """A page of metrics."""
        found, token = await self._page(RecordKind.METRIC, request)
        return _Rpc.ListMetricsResponse(metrics=map(metrics_of, found), next_page_token=token)

    async def ListAlarms(
        self, request: _Rpc.ListAlarmsRequest, context: Any
    ) -> _Rpc.ListAlarmsResponse:
        """A page of alarms."""
        found, token = await self._page(RecordKind.ALARM, request)
        return _Rpc.ListAlarmsResponse(alarms=map(alarm_of, found), next_page_token=token)

    async def ListTransitions(
        self, request: _Rpc.ListTransitionsRequest, context: Any
    ) -> _Rpc.ListTransitionsResponse:
        """A page of transitions."""
        found, token = await self._page(RecordKind.TRANSITION, request)
        return _Rpc.ListTransitionsResponse(
            transitions=map(transition_of, found), next_page_token=token
        )

    # A coroutine instead of a generator, so that each write can have a time limit.
    async def WatchModelRisk(  # type: ignore[override]
        self, request: _Rpc.WatchModelRiskRequest, context: Any
    ) -> None:
        """Snapshot, its end, then assessments and heartbeats until the call ends."""
        self._readiness.require_open()
        underlyings = check_underlyings(request.underlyings)
        heartbeat = silence_of(request, self._settings.heartbeat).total_seconds()
        limit = self._settings.write_timeout.total_seconds()
        with (
            self._readiness.long_call(),
            self._board.reading(underlyings) as reader,
            Writing(context, limit) as writing,
        ):
            for notice in reader.snapshot:
                await writing.write(_event(notice, 0))
            end = _Rpc.AssessmentsEnd(assessment_count=len(reader.snapshot))
            await writing.write(_Rpc.WatchModelRiskResponse(snapshot_end=end))
            while True:
                notices = await reader.take(heartbeat)
                for notice, missed in notices:
                    await writing.write(_event(notice, missed))
                if not notices:
                    await writing.write(self._heartbeat())

    async def ForceBreaker(
        self, request: _Rpc.ForceBreakerRequest, context: Any
    ) -> _Rpc.ForceBreakerResponse:
        """Set a level by hand."""
        self._readiness.require_open()
        risk = await self._desk.force(
            _text(request, "underlying"),
            _optional_moment(request, "expiry"),
            _level(request.level),
            _signature(request),
            _optional_moment(request, "until"),
        )
        return _Rpc.ForceBreakerResponse(model_risk=risk)

    async def ReleaseBreaker(
        self, request: _Rpc.ReleaseBreakerRequest, context: Any
    ) -> _Rpc.ReleaseBreakerResponse:
        """Let the evidence hold again."""
        self._readiness.require_open()
        risk = await self._desk.release(
            _text(request, "underlying"),
            _optional_moment(request, "expiry"),
            _signature(request),
        )
        return _Rpc.ReleaseBreakerResponse(model_risk=risk)

    async def SetMark(self, request: _Rpc.SetMarkRequest, context: Any) -> _Rpc.SetMarkResponse:
        """Pin or shift a handle."""
        self._readiness.require_warm()  # its proof is compiled code
        if not np.isfinite(request.value):
            raise InvalidField("value", f"{request.value} is not finite")
        mark, revision = await self._desk.set_mark(
            _text(request, "underlying"),
            _moment(request, "expiry"),
            _handle(request.handle),
            request.value,
            pinned=request.pinned,
            by=_signature(request),
            until=_moment(request, "until"),
        )
        return _Rpc.SetMarkResponse(mark=mark_to_proto(mark), revision=revision)

    async def ClearMark(
        self, request: _Rpc.ClearMarkRequest, context: Any
    ) -> _Rpc.ClearMarkResponse:
        """Take a mark away."""
        self._readiness.require_warm()
        mark = await self._desk.clear_mark(
            _text(request, "underlying"),
            _moment(request, "expiry"),
            _handle(request.handle),
            _signature(request),
        )
        return _Rpc.ClearMarkResponse(mark=mark_to_proto(mark))

    async def ListMarks(
        self, request: _Rpc.ListMarksRequest, context: Any
    ) -> _Rpc.ListMarksResponse:
        """A page of the marks that are set."""
        self._readiness.require_open()
        first, size = offset_of(request)
        marks = self._desk.marks(request.underlying or None)
        more = len(marks) > first + size
        return _Rpc.ListMarksResponse(
            marks=map(_standing, marks[first : first + size]),
            next_page_token=offset_token(request, first + size) if more else "",
        )

    async def _page(self, kind: RecordKind, request: PageRequest) -> tuple[list[Record], str]:
        self._readiness.require_open()
        page, store = page_of(request), self._store
        if store is None:
            raise Refused("this server keeps no history: it was started without a store")
        found, cursor = await asyncio.to_thread(
            lambda: store.records(
                kind, page.underlying, page.start, page.end, after=page.after, limit=page.size
            )
        )
        return found, "" if cursor is None else page.token(cursor)

    def _heartbeat(self) -> _Rpc.WatchModelRiskResponse:
        now = Timestamp()
        now.FromDatetime(self._clock())
        return _Rpc.WatchModelRiskResponse(heartbeat=_Rpc.AssessmentsHeartbeat(server_time=now))


def _event(notice: Notice, missed: int) -> _Rpc.WatchModelRiskResponse:
    return _Rpc.WatchModelRiskResponse(assessment=notice.message, conflated_count=missed)


def _standing(one: Standing) -> _Rpc.SetMark:
    return _Rpc.SetMark(
        underlying=one.underlying, mark=mark_to_proto(one.mark), refusal=one.refusal
    )


def _signature(request: Any) -> Signature:
    """Who acts, as the request says, and as whom the server knows the caller, and why."""
    operator, caller = _text(request, "operator"), CALLER.get()
    signed = operator if caller in (operator, ANONYMOUS) else f"{operator} ({caller})"
    return Signature(signed, _text(request, "reason"))


def _text(request: Any, name: str) -> str:
    value: str = getattr(request, name)
    if not value.strip():
        raise InvalidField(name, "is empty")
    return value


def _moment(request: Any, name: str) -> np.datetime64:
    if not request.HasField(name):
        raise InvalidField(name, "is missing")
    return moment_of(getattr(request, name), name)


def _optional_moment(request: Any, name: str) -> np.datetime64 | None:
    return _moment(request, name) if request.HasField(name) else None


def _level(number: int) -> BreakerLevel:
    if number not in model_risk_pb2.BreakerLevel.values() or number == 0:
        raise InvalidField("level", f"{number} is not a level of this version")
    return BreakerLevel(number - 1)


def _handle(number: int) -> MarkHandle:
    if number not in [int(handle) for handle in MarkHandle]:
        raise InvalidField("handle", f"{number} is not a handle of this version")
    return MarkHandle(number)
