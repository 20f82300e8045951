"""What is recorded beside surfaces: metrics, alarms, breaker transitions, operator actions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from calib.conventions import to_instant
from calib.errors import InvalidRequest
from calib.states import ModelName
from calib.store.documents import canonical, scalars_to_document

Scalar: TypeAlias = float | int | str | bool | None


class RecordKind(StrEnum):
    """What a record tells; the value is the table that it lies in."""

    METRIC = "metrics"
    ALARM = "alarms"
    TRANSITION = "breaker_transitions"
    ACTION = "operator_actions"


@dataclass(frozen=True)
class Record:
    """One thing that was found, decided or done about an underlying, or one expiry of it.

    ``epoch`` and ``revision`` are those of the surface that it belongs to, or that was in force.
    ``values`` hold what the kind of record tells, by name; they come back exactly, nan included.
    Records that are equal in all of it are one record, however often they are written.
    Raises InvalidRequest for a value that is none of float, int, str, bool and None.
    """

    kind: RecordKind
    underlying: str
    quote_time: np.datetime64
    expiry: np.datetime64 | None
    model: ModelName | None
    epoch: str
    revision: int
    values: Mapping[str, Scalar]

    def __post_init__(self) -> None:
        object.__setattr__(self, "quote_time", to_instant(self.quote_time))
        if np.isnat(self.quote_time):
            raise InvalidRequest(f"a record in {self.kind.value} needs a quote time, not NaT")
        if self.expiry is not None:
            object.__setattr__(self, "expiry", to_instant(self.expiry))
        for name, value in self.values.items():
            if not isinstance(value, (float, int, str, type(None))):
                raise InvalidRequest(
                    f"{name} = {value!r} of a record in {self.kind.value} is a "
                    f"{type(value).__name__}; give a float, int, str, bool or None"
                )
        object.__setattr__(self, "values", MappingProxyType(dict(self.values)))

    def __reduce__(self) -> tuple[type[Record], tuple[Any, ...]]:
        """What is read only is not to be pickled as it is."""
        told = {**vars(self), "values": dict(self.values)}
        return Record, tuple(told.values())

    @property
    def digest(self) -> str:
        """A hash of all of it."""
        told = [
            self.kind.value,
            self.underlying,
            str(self.quote_time),
            None if self.expiry is None else str(self.expiry),
            None if self.model is None else int(self.model),
            self.epoch,
            self.revision,
            dict(sorted(scalars_to_document(self.values).items())),
        ]
        return sha256(canonical(told).encode()).hexdigest()
