"""The names of a recording's files: numbered parts of a day, and a file that holds several."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np

_NAME = re.compile(
    r"(?P<folder>(?:.*/)?underlying=[^/]+/day=(?P<day>\d{4}-\d\d-\d\d))/"
    r"(?P<first>\d{6})(?:-(?P<last>\d{6}))?\.parquet"
)


@dataclass(frozen=True)
class Part:
    """The parts ``first`` to ``last`` of what was recorded of an underlying on a UTC day, in the
    order in which it came: ``underlying=BTC/day=2026-03-01/000003.parquet``, or ``000001-000057``
    where they are merged."""

    folder: str
    day: np.datetime64
    first: int
    last: int

    @classmethod
    def at(cls, path: str) -> Self | None:
        """What the file at ``path`` is of a recording; None where it is none."""
        found = _NAME.fullmatch(path)
        if found is None:
            return None
        try:
            day = np.datetime64(found["day"], "D")
        except ValueError:  # no day of the calendar
            return None
        return cls(found["folder"], day, int(found["first"]), int(found["last"] or found["first"]))

    def __str__(self) -> str:
        numbers = (self.first,) if self.first == self.last else (self.first, self.last)
        return f"{self.folder}/{'-'.join(f'{one:06}' for one in numbers)}.parquet"


def replaced(paths: Iterable[str]) -> set[str]:
    """Those of the paths whose rows are in another one of them: files that were merged, and not
    removed yet."""
    parts = {path: part for path in paths if (part := Part.at(path)) is not None}
    merged: dict[str, list[Part]] = {}
    for part in parts.values():
        if part.first < part.last:
            merged.setdefault(part.folder, []).append(part)
    return {
        path
        for path, part in parts.items()
        if any(
            one != part and one.first <= part.first and part.last <= one.last
            for one in merged.get(part.folder, ())
        )
    }
