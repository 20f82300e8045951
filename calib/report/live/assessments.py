"""What ModelRiskService says of an underlying, as it comes: the judgement, alarms, venues."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from math import nan
from typing import TypeAlias

import grpc
import numpy as np

from calib.client.lasting import Call, Heartbeats, lasting
from calib.client.retrying import Backoff
from calib.client.risk import ModelRisk, risk_of
from calib.client.servers import Servers
from calib.report.live.events import SPAN, Event, alarm_event, level_event
from calib.v1 import model_risk_pb2, model_risk_service_pb2, model_risk_service_pb2_grpc

HEARTBEATS = Heartbeats(heartbeat_seconds=1.0)


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
class Missed:
    """Events of an underlying since then were perhaps not told; the server's store has them."""

    underlying: str
    since: np.datetime64


@dataclass(frozen=True)
class Alive:
    """A sign of life, with nothing in it."""


Told: TypeAlias = Assessed | Missed | Alive


async def watch_assessments(
    servers: Servers,
    underlyings: Iterable[str],
    backoff: Backoff,
    interrupted: Callable[[str], None],
) -> AsyncGenerator[Told, None]:
    """Every assessment, what was missed and signs of life, for as long as they are asked for;
    ``interrupted`` is told why a connection was lost.

    Raises the exception of calib that stands for it where the server refuses the watch itself.
    """
    request = model_risk_service_pb2.WatchModelRiskRequest(
        underlyings=underlyings, heartbeat_interval=HEARTBEATS.interval
    )
    last: dict[str, np.datetime64] = {}
    known: set[str] = set()  # over this connection

    def opened(
        server: str, channel: grpc.aio.Channel
    ) -> Call[model_risk_service_pb2.WatchModelRiskResponse]:
        known.clear()
        return model_risk_service_pb2_grpc.ModelRiskServiceStub(channel).WatchModelRisk(request)

    calls = lasting(servers, HEARTBEATS.patience_seconds, backoff, opened, interrupted=interrupted)
    async with aclosing(calls) as responses:
        async for response in responses:
            if not response.HasField("assessment"):
                yield Alive()
                continue
            assessed = assessed_of(response.assessment)
            name, now = assessed.underlying, assessed.risk.assess_time
            before = last.get(name)
            last[name] = now
            yield assessed
            if name not in known or response.conflated_count:
                known.add(name)
                yield Missed(name, missed_since(before, now))


def missed_since(before: np.datetime64 | None, now: np.datetime64) -> np.datetime64:
    """From when events may be missing, after an assessment at ``before`` (None: there was none) and
    the next that was told at ``now``: no earlier than events are listed."""
    earliest = now - SPAN
    # A market that has gone back begins anew.
    return earliest if before is None or before > now else max(before, earliest)


def assessed_of(message: model_risk_service_pb2.Assessment) -> Assessed:
    """The assessment in a message."""
    whole = next((one for one in message.metrics if not one.HasField("expiry")), None)
    numbers = {} if whole is None else {one.name: one.number for one in whole.values}
    events = [*map(alarm_event, message.alarms), *map(level_event, message.transitions)]
    return Assessed(
        underlying=message.underlying,
        risk=risk_of(message.model_risk),
        rms_vol_error=numbers.get("rms_vol_error", nan),
        in_spread_share=numbers.get("in_spread_share", nan),
        venues=tuple(map(_venue, message.venues)),
        events=tuple(events),
    )


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
