"""Settings of a fit as plain values for JSON, so that a fit can be repeated from what is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import IntEnum, StrEnum
from typing import Any

import numpy as np

from calib.conventions import ExpiryCalendar, iso
from calib.errors import InvalidRequest
from calib.fitting.least_squares import Tolerances
from calib.fitting.memory import Memory
from calib.fitting.settings import FitSettings
from calib.fitting.smile import LossName
from calib.market.variance_clock import VarianceClock
from calib.states import ModelName


def settings_to_document(settings: FitSettings) -> dict[str, Any]:
    """Every field by its name; `settings_from_document` is the exact inverse."""
    document: dict[str, Any] = _plain(settings)
    return document


def settings_from_document(document: Mapping[str, Any]) -> FitSettings:
    """The settings in a document; raises InvalidRequest where it is of another version."""
    try:
        return FitSettings(
            **{name: _READERS.get(name, _same)(value) for name, value in document.items()}
        )
    except (TypeError, KeyError, ValueError) as error:
        raise InvalidRequest(f"fit settings {dict(document)!r} cannot be read: {error}") from error


def _plain(value: Any) -> Any:
    match value:
        case IntEnum():
            return value.name
        case StrEnum():
            return value.value
        case np.datetime64():
            return iso(value)
        case Mapping():
            return {name: _plain(one) for name, one in value.items()}
        case tuple():
            return [_plain(one) for one in value]
        case _ if is_dataclass(value):
            return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
        case _:
            return value


def _same(value: Any) -> Any:
    return value


def _memory(value: Any) -> Memory | None:
    return None if value is None else Memory(**{**value, "drift": tuple(value["drift"])})


def _clocks(value: Any) -> dict[str, VarianceClock]:
    return {name: VarianceClock.from_table(clock) for name, clock in value.items()}


_READERS: dict[str, Callable[[Any], Any]] = {
    "model": lambda name: ModelName[name],
    "calendar": lambda name: ExpiryCalendar[name],
    "loss": LossName,
    "memory": _memory,
    "clocks": _clocks,
    "tolerances": lambda values: Tolerances(*values),
}
