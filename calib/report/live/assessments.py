"""What ModelRiskService says of an underlying, as it comes: the judgement, alarms, venues."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from math import nan
from typing import TypeAlias

import grpc
import numpy as np
from google.protobuf.duration_pb2 import Duration

from calib.client.credentials import ChannelOpener
from calib.client.failures import RETRIABLE, failure, retry_seconds
from calib.client.retrying import Backoff
from calib.client.risk import ModelRisk, risk_of
from calib.surface.messages import instant, timestamp
from calib.v1 import model_risk_pb2, model_risk_service_pb2, model_risk_service_pb2_grpc

HEARTBEAT_SECONDS = 1.0
PATIENCE_SECONDS = 3.0
"""A server that says nothing for so long counts as lost."""
RECALLED = np.timedelta64(1, "D")
"""How far back events are asked for when a watch begins."""

_log = logging.getLogger(__name__)


class EventKind(StrEnum):
    """What an event is: a number beyond its limit, or a change of a breaker's level."""

    ALARM = "alarm"
    LEVEL = "level"


@dataclass(frozen=True)
class Event:
    """An alarm, or a change of level; ``what`` names the chart, or the levels before and after.

    ``expiry`` None: the underlying, or the tenor bucket, as a whole. ``value`` and ``limit`` are in
    the unit of what signals, nan where nothing was measured.
    """

    at: np.datetime64
    underlying: str
    kind: EventKind
    what: str
    cause: str
    expiry: np.datetime64 | None = None
    value: float = nan
    limit: float = nan

    @property
    def key(self) -> tuple[object, ...]:
        """What tells it from all others, however often it is told."""
        return (self.at, self.underlying, self.kind, self.what, self.expiry)


@dataclass(frozen=True)
class Venue:
    """How a venue stands: ages and silence in seconds, ``basis`` of its forward against the other
    venues' as a logarithm, ``gap`` of its vols in half-spreads; nan where there is no such number.

    ``trouble`` says why it has no part in fits; empty where it has.
    """

    name: str
    quotes_used: int
    age_seconds: float
    silent_seconds: float
    basis: float
    gap_half_spreads: float
    trouble: str = ""


@dataclass(frozen=True)
class Assessed:
    """The last assessment of an underlying, with the events of this step.

    ``rms_vol_error`` (a decimal) and ``in_spread_share`` are of the last fit as a whole, nan before
    there is one.
    """

    underlying: str
    risk: ModelRisk
    rms_vol_error: float = nan
    in_spread_share: float = nan
    venues: tuple[Venue, ...] = ()
    events: tuple[Event, ...] = ()


@dataclass(frozen=True)
class Recalled:
    """Events of the last day, from the server's store."""

    events: tuple[Event, ...]


@dataclass(frozen=True)
class Alive:
    """A sign of life, with nothing in it."""


@dataclass(frozen=True)
class Lost:
    """The connection is gone, for this reason; it is being made again."""

    reason: str


Told: TypeAlias = Assessed | Recalled | Alive


async def watch_assessments(
    server: str, open_channel: ChannelOpener, underlyings: Iterable[str], backoff: Backoff
) -> AsyncIterator[Told | Lost]:
    """Every assessment, events that were missed, signs of life and losses, for as long as they are
    asked for.

    Raises the exception of calib that stands for it where the server refuses the watch itself.
    """
    heartbeat = Duration()
    heartbeat.FromNanoseconds(round(HEARTBEAT_SECONDS * 1e9))
    request = model_risk_service_pb2.WatchModelRiskRequest(
        underlyings=underlyings, heartbeat_interval=heartbeat
    )
    pauses = backoff.pauses()
    while True:
        heard, asked = False, 0.0
        try:
            async with aclosing(_connection(server, open_channel, request)) as connection:
                async for told in connection:
                    heard, pauses = True, backoff.pauses()
                    yield told
            lost = "the server ended the watch"
        except grpc.aio.AioRpcError as error:
            # What was let in and no longer is may have been exchanged: a new call tells.
            withdrawn = heard and error.code() is grpc.StatusCode.UNAUTHENTICATED
            if error.code() not in RETRIABLE and not withdrawn:
                raise failure(error, server) from error
            lost, asked = f"{error.code().name}: {error.details()}", retry_seconds(error)
        except TimeoutError:
            lost = f"nothing heard for {PATIENCE_SECONDS:g} s"
        yield Lost(lost)
        await asyncio.sleep(max(next(pauses), asked))


async def _connection(
    server: str,
    open_channel: ChannelOpener,
    request: model_risk_service_pb2.WatchModelRiskRequest,
) -> AsyncGenerator[Told, None]:
    """What is told over one connection; raises TimeoutError when it is silent."""
    async with open_channel(server) as channel:
        stub = model_risk_service_pb2_grpc.ModelRiskServiceStub(channel)
        call = stub.WatchModelRisk(request)
        present: dict[str, np.datetime64] = {}
        try:
            while True:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    response = await call.read()
                if not isinstance(response, model_risk_service_pb2.WatchModelRiskResponse):
                    return
                if not response.HasField("assessment"):
                    yield Alive()
                    if response.HasField("snapshot_end"):
                        yield Recalled(await _events_before(stub, present))
                    continue
                assessed = assessed_of(response.assessment)
                present[assessed.underlying] = assessed.risk.assess_time
                yield assessed
                if response.conflated_count:
                    last = {assessed.underlying: assessed.risk.assess_time}
                    yield Recalled(await _events_before(stub, last))
        finally:
            call.cancel()


async def _events_before(
    stub: model_risk_service_pb2_grpc.ModelRiskServiceAsyncStub,
    present: Mapping[str, np.datetime64],
) -> tuple[Event, ...]:
    """What the server's store knows of the day before the ``present`` of each underlying; nothing
    where it has no store, or cannot read it now."""
    found: list[Event] = []
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            for name, now in present.items():
                start = timestamp(now - RECALLED)
                alarms = model_risk_service_pb2.ListAlarmsRequest(
                    underlying=name, start_time=start, page_size=1_000
                )
                changes = model_risk_service_pb2.ListTransitionsRequest(
                    underlying=name, start_time=start, page_size=1_000
                )
                found += map(_alarm, (await stub.ListAlarms(alarms)).alarms)
                found += map(_transition, (await stub.ListTransitions(changes)).transitions)
    except (grpc.aio.AioRpcError, TimeoutError) as error:
        _log.info("earlier alarms cannot be had: %s", error)
    return tuple(found)


def assessed_of(message: model_risk_service_pb2.Assessment) -> Assessed:
    """The assessment in a message."""
    whole = next((one for one in message.metrics if not one.HasField("expiry")), None)
    numbers = {} if whole is None else {one.name: one.number for one in whole.values}
    events = [*map(_alarm, message.alarms), *map(_transition, message.transitions)]
    return Assessed(
        underlying=message.underlying,
        risk=risk_of(message.model_risk),
        rms_vol_error=numbers.get("rms_vol_error", nan),
        in_spread_share=numbers.get("in_spread_share", nan),
        venues=tuple(map(_venue, message.venues)),
        events=tuple(events),
    )


def _alarm(message: model_risk_pb2.Alarm) -> Event:
    has_expiry = message.HasField("expiry")
    return Event(
        at=instant(message.quote_time, "alarms.quote_time"),
        underlying=message.underlying,
        kind=EventKind.ALARM,
        what=" ".join(part for part in (message.chart, message.metric, message.tenor) if part),
        cause=message.cause,
        expiry=instant(message.expiry, "alarms.expiry") if has_expiry else None,
        value=message.value,
        limit=message.limit,
    )


def _transition(message: model_risk_pb2.Transition) -> Event:
    has_expiry = message.HasField("expiry")
    return Event(
        at=instant(message.at, "transitions.at"),
        underlying=message.underlying,
        kind=EventKind.LEVEL,
        what=f"{_level_name(message.before)} → {_level_name(message.after)}",
        cause=message.cause,
        expiry=instant(message.expiry, "transitions.expiry") if has_expiry else None,
        value=message.value,
        limit=message.limit,
    )


def _level_name(number: model_risk_pb2.BreakerLevel.ValueType) -> str:
    known = number in model_risk_pb2.BreakerLevel.values()
    name = model_risk_pb2.BreakerLevel.Name(number) if known else "BREAKER_LEVEL_HALTED"
    return name.removeprefix("BREAKER_LEVEL_")


def _venue(message: model_risk_pb2.VenueStanding) -> Venue:
    return Venue(
        name=message.venue,
        quotes_used=message.quotes_used,
        age_seconds=message.age_seconds,
        silent_seconds=message.silent_seconds,
        basis=message.basis,
        gap_half_spreads=message.gap_half_spreads,
        trouble=message.cause,
    )
