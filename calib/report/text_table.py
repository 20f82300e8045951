"""A table as text, the same for a terminal and for a page."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TextTable:
    """Headings and rows of text; the first ``words`` columns and those in ``left`` are words."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1
    left: tuple[str, ...] = ()

    def is_left(self, place: int) -> bool:
        """Whether a column is set to the left."""
        return place < self.words or self.headings[place] in self.left
