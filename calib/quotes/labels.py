"""A text column held as codes into a short list of names, so that comparing rows is cheap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Kind = TypeVar("_Kind", bound=np.generic)


def read_only(values: NDArray[_Kind]) -> NDArray[_Kind]:
    """The same values in an array that cannot be written to."""
    view = values.view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True)
class Labels:
    """``names[codes[i]]`` is the text of row i; code -1 is an absent text."""

    codes: NDArray[np.int32]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "codes", read_only(self.codes))

    @classmethod
    def constant(cls, name: str, rows: int) -> Labels:
        """The same text in every row."""
        return cls(np.zeros(rows, np.int32), (name,))

    @classmethod
    def of(cls, texts: Sequence[str | None]) -> Labels:
        """From one text a row; None and blank text are absent."""
        names: dict[str, int] = {}
        codes = [names.setdefault(t, len(names)) if t and t.strip() else -1 for t in texts]
        return cls(np.array(codes, np.int32), tuple(names))

    @classmethod
    def join(cls, parts: Sequence[Labels]) -> Labels:
        """The rows of all parts, one after another."""
        names: dict[str, int] = {}
        codes = []
        for part in parts:
            lookup = [names.setdefault(name, len(names)) for name in part.names]
            codes.append(np.array([*lookup, -1], np.int32)[part.codes])
        return cls(np.concatenate(codes) if codes else np.empty(0, np.int32), tuple(names))

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, row: int) -> str:
        """The text of one row, empty where absent."""
        code = int(self.codes[row])
        return self.names[code] if code >= 0 else ""

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Labels:
        """The rows selected by indices or a mask."""
        return Labels(self.codes[rows], self.names)

    def lookup(self, values: dict[str, int], default: int = 0) -> NDArray[np.int8]:
        """Each row's text by ``values`` (keys in lower case), ``default`` where it is unknown."""
        table = [values.get(name.strip().lower(), default) for name in self.names]
        return np.array([*table, default], np.int8)[self.codes]

    def equal(self, text: str) -> NDArray[np.bool_]:
        """Which rows have this text."""
        return np.isin(self.codes, [code for code, name in enumerate(self.names) if name == text])

    def texts(self) -> list[str]:
        """One text a row, empty where absent."""
        names = [*self.names, ""]
        return [names[code] for code in self.codes]
