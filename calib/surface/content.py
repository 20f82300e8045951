"""Equality by content for frozen dataclasses: nan equals nan, as it must for a round trip."""

from __future__ import annotations

from dataclasses import fields
from functools import cached_property
from typing import Any

import numpy as np


def _comparable(value: Any) -> Any:
    if isinstance(value, float):
        return value if value == value else "nan"
    if isinstance(value, np.datetime64):
        return int(value.astype("datetime64[us]").astype(np.int64))  # NaT has a number of its own
    if isinstance(value, tuple):
        return tuple(map(_comparable, value))
    return value


class ByContent:
    """Equality and hash of a frozen dataclass (declared with ``eq=False``) by its fields.

    What a subclass derives from its fields and caches is neither compared nor pickled.
    """

    @cached_property
    def _content(self) -> tuple[Any, ...]:
        return tuple(_comparable(getattr(self, f.name)) for f in fields(self))  # type: ignore[arg-type]

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(self) is not type(other) or not isinstance(other, ByContent):
            return NotImplemented
        return self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
