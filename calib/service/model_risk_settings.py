"""The thresholds of model risk as a table of settings: what it names replaces a default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from math import isfinite
from typing import Any, TypeVar

from calib.modelrisk.breakers import Limits, Trigger
from calib.modelrisk.monitor import MonitorSettings

_Value = TypeVar("_Value")

_VENUE_LIMITS = (
    "silent_seconds",
    "behind_seconds",
    "stuck_seconds",
    "forward",
    "apart",
    "apart_vol",
)
_AGE = "quote_max_age_seconds"


def monitor_settings(table: object) -> MonitorSettings:
    """The defaults with what ``table`` names in their place; names are those of the fields.

    ``breakers.limits`` goes by trigger, like ``{"stale_feed": {"held": 3.0}}``; inf: never.
    Raises ValueError, naming the place and its value, for a name that does not exist, a value of
    another type, and thresholds that contradict each other.
    """
    if isinstance(table, MonitorSettings):
        return table
    if isinstance(table, Mapping) and _AGE in table:
        raise ValueError(f"{_AGE} follows the setting quote_max_age; set that")
    tuned = _tuned(MonitorSettings(), table, "")
    problems = list(_problems(tuned))
    if problems:
        raise ValueError("; ".join(problems))
    return tuned


def _tuned(default: _Value, given: object, place: str) -> _Value:
    if is_dataclass(default) and not isinstance(default, type):
        known = {one.name: getattr(default, one.name) for one in fields(default)}
        changes = {
            name: _tuned(known[name], value, f"{place}{name}.")
            for name, value in _table(given, known, place).items()
        }
        tuned: _Value = replace(default, **changes)
        return tuned
    if isinstance(default, Mapping):
        named = {trigger.name.lower(): trigger for trigger in Trigger}
        limits: dict[Any, Any] = dict(default)
        for name, value in _table(given, named, place).items():
            before = default.get(named[name], Limits())
            limits[named[name]] = _tuned(before, value, f"{place}{name}.")
        return limits  # type: ignore[return-value]  # the one mapping there is
    name = place.removesuffix(".")
    if isinstance(default, bool) or not isinstance(default, (int, float)):
        raise ValueError(f"{name} cannot be set")
    whole = isinstance(default, int)
    if isinstance(given, bool) or not isinstance(given, int if whole else (int, float)):
        kind = "a whole number" if whole else "a number"
        raise ValueError(f"{name} must be {kind}, not {given!r}")
    return type(default)(given)


def _table(given: object, known: Mapping[str, object], place: str) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise ValueError(f"{place.removesuffix('.') or 'it'} must be a table, not {given!r}")
    for name in given:
        if name not in known:
            raise ValueError(f"there is no {place}{name}; choose {', '.join(known)}")
    return given


def _problems(settings: MonitorSettings) -> Iterator[str]:
    breakers, charts = settings.breakers, settings.charts
    for trigger, limits in breakers.limits.items():
        levels = (limits.widened, limits.held, limits.halted)
        given = [limit for limit in levels if isfinite(limit)]
        if not all(limit > 0.0 for limit in levels) or given != sorted(given):
            yield (
                f"breakers.limits.{trigger.name.lower()} = {levels} must be positive and ascend "
                "from widened to halted"
            )
    for place, one in (("breakers", breakers), ("venues", settings.venues)):
        if not 0.0 < one.release <= 1.0:
            yield f"{place}.release = {one.release} must be above 0 and at most 1"
        if one.probation < 1:
            yield f"{place}.probation = {one.probation} must be at least 1"
        if not one.probation_seconds >= 0.0:
            yield f"{place}.probation_seconds = {one.probation_seconds} must not be negative"
    for name in _VENUE_LIMITS:
        limit = getattr(settings.venues, name)
        if not limit > 0.0:
            yield f"venues.{name} = {limit} must be positive; inf: never"
    if not 1.0 <= breakers.least_multiplier <= breakers.greatest_multiplier:
        yield (
            f"breakers.least_multiplier = {breakers.least_multiplier} must be at least 1 and at "
            f"most greatest_multiplier = {breakers.greatest_multiplier}"
        )
    if not 0.0 < charts.ewma.weight <= 1.0:
        yield f"charts.ewma.weight = {charts.ewma.weight} must be above 0 and at most 1"
    for name, limit in (("ewma", charts.ewma.limit), ("cusum", charts.cusum.limit)):
        if not limit > 0.0:
            yield f"charts.{name}.limit = {limit} must be positive"
    if not 0.0 < settings.usual_weight <= 1.0:
        yield f"usual_weight = {settings.usual_weight} must be above 0 and at most 1"
