"""Model risk as messages: judgements, alarms, transitions and metrics of ``calib.v1``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from calib.conventions import to_instant
from calib.modelrisk.alarms import Alarm
from calib.modelrisk.breakers import BreakerLevel, Transition
from calib.modelrisk.monitor import Assessment, ExpiryAssessment
from calib.modelrisk.venues import VenueState
from calib.store import Record
from calib.store.records import Scalar
from calib.surface.messages import timestamp
from calib.v1 import model_risk_pb2, model_risk_service_pb2, quotes_pb2, surface_pb2


def level_to_proto(level: BreakerLevel) -> model_risk_pb2.BreakerLevel.ValueType:
    """The level on the wire, where 0 says nothing."""
    return model_risk_pb2.BreakerLevel.ValueType(level + 1)


def risk_to_proto(assessment: Assessment) -> model_risk_pb2.ModelRisk:
    """The judgement that goes with a surface."""
    breaker = assessment.breaker
    return model_risk_pb2.ModelRisk(
        level=level_to_proto(breaker.level),
        cause=_cause(breaker.cause, None if breaker.force is None else str(breaker.force.reason)),
        forced=breaker.force is not None,
        probing=breaker.probing,
        multiplier=breaker.multiplier,
        assess_time=timestamp(assessment.at),
        expiries=map(_expiry_risk, assessment.expiries),
    )


def levels_of(risk: model_risk_pb2.ModelRisk) -> tuple[object, ...]:
    """What of a judgement is news to a quoter by itself."""
    return (
        risk.level,
        risk.forced,
        *((one.expiry.seconds, one.expiry.nanos, one.level) for one in risk.expiries),
    )


def assessment_to_proto(
    assessment: Assessment, measured: Sequence[Record]
) -> model_risk_service_pb2.Assessment:
    """One step of the monitor, with the metrics that were recorded of it."""
    return model_risk_service_pb2.Assessment(
        underlying=assessment.underlying,
        model_risk=risk_to_proto(assessment),
        alarms=map(alarm_to_proto, assessment.alarms),
        transitions=map(transition_to_proto, assessment.transitions),
        metrics=map(metrics_of, measured),
        venues=map(venue_to_proto, sorted(assessment.venues, key=lambda one: one.venue)),
    )


def venue_to_proto(state: VenueState) -> model_risk_pb2.VenueStanding:
    """How a venue stands."""
    reading, since = state.reading, state.since
    return model_risk_pb2.VenueStanding(
        venue=state.venue,
        quotes_used=reading.quotes,
        age_seconds=reading.age_seconds,
        basis=reading.basis,
        gap=reading.gap,
        gap_half_spreads=reading.gap_half_spreads,
        offset_seconds=reading.offset_seconds,
        silent_seconds=reading.silent_seconds,
        missed_count=reading.missed,
        repeated_count=reading.repeated,
        restart_count=reading.restarts,
        left_out=quotes_pb2.RejectReason.ValueType(state.left_out or 0),
        left_out_time=None if np.isnat(since) else timestamp(since),
        confirmed=state.confirmed,
        good_count=state.good,
        cause=state.cause,
    )


def alarm_to_proto(alarm: Alarm) -> model_risk_pb2.Alarm:
    """An alarm."""
    return model_risk_pb2.Alarm(
        underlying=alarm.underlying,
        quote_time=timestamp(alarm.quote_time),
        expiry=None if alarm.expiry is None else timestamp(alarm.expiry),
        tenor="" if alarm.tenor is None else alarm.tenor.value,
        chart=alarm.chart,
        metric=alarm.metric,
        cause=alarm.cause,
        value=alarm.value,
        limit=alarm.limit,
    )


def transition_to_proto(change: Transition) -> model_risk_pb2.Transition:
    """A transition."""
    return model_risk_pb2.Transition(
        underlying=change.underlying,
        expiry=None if change.expiry is None else timestamp(change.expiry),
        at=timestamp(change.at),
        before=level_to_proto(change.before),
        after=level_to_proto(change.after),
        cause=change.cause,
        trigger="" if change.trigger is None else change.trigger.value,
        value=change.value,
        limit=change.limit,
        operator=change.actor,
    )


def alarm_of(record: Record) -> model_risk_pb2.Alarm:
    """A stored alarm."""
    values = record.values
    return model_risk_pb2.Alarm(
        underlying=record.underlying,
        quote_time=timestamp(record.quote_time),
        expiry=None if record.expiry is None else timestamp(record.expiry),
        tenor=_text(values, "tenor"),
        chart=_text(values, "chart"),
        metric=_text(values, "metric"),
        cause=_text(values, "cause"),
        value=_number(values, "value"),
        limit=_number(values, "limit"),
    )


def transition_of(record: Record) -> model_risk_pb2.Transition:
    """A stored transition."""
    values = record.values
    return model_risk_pb2.Transition(
        underlying=record.underlying,
        expiry=None if record.expiry is None else timestamp(record.expiry),
        at=timestamp(to_instant(_text(values, "at"))),
        before=level_to_proto(BreakerLevel[_text(values, "before")]),
        after=level_to_proto(BreakerLevel[_text(values, "after")]),
        cause=_text(values, "cause"),
        trigger=_text(values, "trigger"),
        value=_number(values, "value"),
        limit=_number(values, "limit"),
        operator=_text(values, "actor"),
    )


def metrics_of(record: Record) -> model_risk_pb2.Metrics:
    """Stored metrics, values in order of their names."""
    return model_risk_pb2.Metrics(
        underlying=record.underlying,
        quote_time=timestamp(record.quote_time),
        expiry=None if record.expiry is None else timestamp(record.expiry),
        model=surface_pb2.Model.ValueType(record.model or 0),
        epoch=record.epoch,
        revision=record.revision,
        values=_named(sorted(record.values.items())),
    )


def _expiry_risk(one: ExpiryAssessment) -> model_risk_pb2.ExpiryRisk:
    breaker = one.breaker
    return model_risk_pb2.ExpiryRisk(
        expiry=timestamp(one.expiry),
        level=level_to_proto(one.level),
        cause=_cause(breaker.cause, None if breaker.force is None else str(breaker.force.reason)),
        forced=breaker.force is not None,
        probing=breaker.probing,
        multiplier=one.multiplier,
        min_half_spread=one.min_half_spread,
        finding=one.findings[0].cause.value if one.findings else "",
    )


def _cause(found: str, said: str | None) -> str:
    """What an operator says goes before what the evidence has come to."""
    return found if said is None else f"by hand: {said}"


def _named(values: Iterable[tuple[str, Scalar]]) -> list[model_risk_pb2.Metric]:
    return [_metric(name, value) for name, value in values]


def _metric(name: str, value: Scalar) -> model_risk_pb2.Metric:
    match value:
        case None:
            return model_risk_pb2.Metric(name=name)
        case bool():
            return model_risk_pb2.Metric(name=name, flag=value)
        case int():
            return model_risk_pb2.Metric(name=name, count=value)
        case float():
            return model_risk_pb2.Metric(name=name, number=value)
        case _:
            return model_risk_pb2.Metric(name=name, text=value)


def _text(values: Mapping[str, Scalar], name: str) -> str:
    value = values.get(name)
    return "" if value is None else str(value)


def _number(values: Mapping[str, Scalar], name: str) -> float:
    value = values.get(name)
    return float(value) if isinstance(value, (int, float)) else float(np.nan)
