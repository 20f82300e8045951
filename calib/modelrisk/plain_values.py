"""Frozen values as flat names and plain numbers and words: what a store and a table can hold."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import fields
from enum import Enum, StrEnum
from typing import TypeAlias

import numpy as np

from calib.conventions import iso

Value: TypeAlias = float | int | str | bool | None
"""What a store and a table can hold."""


def plain_values(value: object, skip: Container[str] = ()) -> dict[str, Value]:
    """The fields of a dataclass, in their order: instants as ISO 8601 text, members of a StrEnum as
    their text, those of other enumerations by name."""
    found: dict[str, Value] = {}
    for one in fields(value):  # type: ignore[arg-type]  # dataclasses all
        if one.name not in skip:
            item = getattr(value, one.name)
            if isinstance(item, np.datetime64):
                item = iso(item)
            elif isinstance(item, Enum):
                item = item.value if isinstance(item, StrEnum) else item.name
            found[one.name] = item
    return found
