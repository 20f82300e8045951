"""The input quotes of stored surfaces, as Parquet files in folders by underlying and UTC day.

A file holds whole chains and never changes. It is written under another name, brought to the disk
and renamed, so that what is there is whole. Small files become larger ones, and those of a day
that is over one; when a process is killed in between, a chain may lie in two files, and is read
once.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote

import numpy as np

from calib.conventions import to_instant
from calib.errors import Unavailable
from calib.quotes.chain import Chain
from calib.quotes.fingerprint import fingerprint
from calib.store.chain_columns import chain_tables, chain_to_arrow, chains_from_arrow
from calib.store.durable import remove_abandoned, write_durably

if TYPE_CHECKING:
    import pyarrow as pa

_FAN_IN = 16
_FULL_BYTES = 64 * 2**20
_ROWS_A_GROUP = 32_768
_READS = 50
_LONGEST_NAME = 160  # of the 255 bytes that a folder's name may have
_T = TypeVar("_T")


class Part(NamedTuple):
    """A file of chains from ``first`` to ``last``, as its name tells.

    ``level``: how often what is in it was merged.
    """

    level: int
    first: str
    last: str
    path: Path

    @classmethod
    def of(cls, path: Path) -> Part:
        """The part at ``path``."""
        level, first, last, _ = path.stem.split("_")
        return cls(int(level), first, last, path)


class QuoteArchive:
    """Chains under a folder; one process writes, any may read meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"QuoteArchive({self.folder})"

    @property
    def exists(self) -> bool:
        """Whether anything was ever put in it. Raises Unavailable."""
        with self._at_work():
            return self.folder.is_dir()

    def append(self, chains: Sequence[Chain]) -> None:
        """Write chains; when this returns they are on disk. Raises Unavailable.

        The same chains again are the same files again, so that repeating it adds nothing.
        """
        places: dict[Path, dict[str, Chain]] = {}
        for chain in chains:
            if len(chain.quotes):
                place = self._underlying(chain.underlying) / _day(chain.quote_time)
                places.setdefault(place, {})[fingerprint(chain)] = chain
        with self._at_work():
            for place, found in places.items():
                tables = (chain_to_arrow(chain, name) for name, chain in found.items())
                times = [chain.quote_time for chain in found.values()]
                path = place / _name(0, _text(min(times)), _text(max(times)), found)
                self._write(path, _grouped(tables))

    def chain(self, underlying: str, quote_time: np.datetime64, input_hash: str) -> Chain | None:
        """The chain with this hash, proved to be it; None where it is not there. Raises
        Unavailable."""
        moment = to_instant(quote_time)
        place = self._underlying(underlying) / _day(moment)

        def found(parts: Sequence[Part]) -> Chain | None:
            for part in parts:
                if part.first <= _text(moment) <= part.last:
                    table = _read(part.path, moment, input_hash)
                    for _, chain in chains_from_arrow(table):
                        if fingerprint(chain) == input_hash:
                            return chain
            return None

        return self._reading(place, found)

    def table(self, underlying: str | None = None, start: Any = None, end: Any = None) -> pa.Table:
        """The rows of all stored chains from ``start`` until before ``end``, each chain once.

        By underlying, then chain by chain in order of time. Raises Unavailable.
        """
        import pyarrow as pa

        low = None if start is None else _text(to_instant(start))
        high = None if end is None else _text(to_instant(end))

        def wanted(part: Part) -> bool:
            return (low is None or part.last >= low) and (high is None or part.first < high)

        def found(parts: Sequence[Part]) -> list[pa.Table]:
            seen: set[str] = set()
            chosen = [_read(part.path) for part in parts if wanted(part)]
            pieces = [piece for table in chosen for piece in _apart(table, seen)]
            # Stable: chains of one time stay in the order in which they were written.
            return sorted(pieces, key=lambda piece: piece["as_of"][0].as_py())

        with self._at_work():
            days = [day for folder in self._folders(underlying) for day in _days(folder)]
        tables = [table for day in days for table in self._reading(day, found)]
        if not tables:
            return pa.table({})
        table = pa.concat_tables(tables)
        return _between(table, start, end)

    def tidy(self) -> bool:
        """Merge some small files into one; whether there was anything to do. Raises Unavailable.

        At most the bytes of a full file and one more are read: this takes about a second.
        """
        with self._at_work():
            for folder in self._folders(None):
                days = _days(folder)
                for day in days:
                    chosen = _mergeable(_parts(day), over=day != days[-1])
                    if chosen:
                        self._merge(day, chosen)
                        return True
            if self.folder.is_dir():
                remove_abandoned(self.folder)
        return False

    def forget(self, before: np.datetime64) -> bool:
        """Remove the days that end before an instant; whether there were any."""
        limit = _day(before)
        with self._at_work():
            old = [
                day for folder in self._folders(None) for day in _days(folder) if day.name < limit
            ]
            for day in old:
                shutil.rmtree(day)
        return bool(old)

    def _merge(self, day: Path, parts: Sequence[Part]) -> None:
        seen: set[str] = set()
        tables = (table for part in parts for table in _apart(_read(part.path), seen))
        first, last = min(part.first for part in parts), max(part.last for part in parts)
        level = 1 + max(part.level for part in parts)
        names = {part.path.name: None for part in parts}
        self._write(day / _name(level, first, last, names), _grouped(tables))
        for part in parts:
            part.path.unlink()

    def _write(self, path: Path, groups: Iterator[pa.Table]) -> None:
        """A row group for each table, so that a chain lies in one of them."""
        import pyarrow.parquet as pq

        def write(file: Any) -> None:
            writer = None
            for table in groups:
                if writer is None:
                    writer = pq.ParquetWriter(file, table.schema, compression="zstd")
                writer.write_table(table, row_group_size=len(table))
            if writer is not None:
                writer.close()

        write_durably(path, write)

    def _underlying(self, name: str) -> Path:
        """The folder of an underlying, which may be called anything."""
        text = quote(name, safe="").replace(".", "%2E")
        if len(text) > _LONGEST_NAME:
            text = f"{text[:_LONGEST_NAME]}-{sha256(name.encode()).hexdigest()[:16]}"
        return self.folder / text

    def _folders(self, underlying: str | None) -> list[Path]:
        if underlying is not None:
            return [self._underlying(underlying)]
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if path.is_dir())

    def _reading(self, day: Path, read: Callable[[Sequence[Part]], _T]) -> _T:
        """Read a day's files; once more where they were merged meanwhile."""
        for _ in range(_READS):
            with self._at_work(), suppress(FileNotFoundError):
                parts = _parts(day)
                result = read(parts)
                # The list itself may have missed files that went, and the one that they became.
                if {part for part in _parts(day) if part.level} <= set(parts):
                    return result
        raise Unavailable(f"{self!r}: {day} changed {_READS} times while it was read")

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Raises Unavailable for whatever files and folders refuse."""
        try:
            yield
        except (OSError, _arrow_error()) as error:
            raise Unavailable(f"{self!r}: {error}") from error


def _arrow_error() -> type[Exception]:
    import pyarrow as pa

    kind: type[Exception] = pa.ArrowException
    return kind


def _mergeable(parts: Sequence[Part], *, over: bool) -> list[Part]:
    """Files to merge: so many of one level, or, of a day that is over, all that are not full."""
    small = [part for part in parts if part.path.stat().st_size < _FULL_BYTES]
    if over:
        return _up_to_full(small) if len(small) > 1 else []
    for level in sorted({part.level for part in small}):
        same = [part for part in small if part.level == level]
        if len(same) >= _FAN_IN:
            return _up_to_full(same)
    return []


def _up_to_full(parts: Sequence[Part]) -> list[Part]:
    """The first of them, two at least, that together are little more than a full file."""
    chosen: list[Part] = []
    size = 0
    for part in parts:
        if len(chosen) >= 2 and size >= _FULL_BYTES:
            break
        chosen.append(part)
        size += part.path.stat().st_size
    return chosen


def _days(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _parts(day: Path) -> list[Part]:
    """The day's files, in order of time."""
    # Unlike `Path.glob`, this says so where the folder may not be read.
    paths = list(day.iterdir()) if day.is_dir() else []
    found = [Part.of(path) for path in paths if fnmatchcase(path.name, "[0-9]*.parquet")]
    return sorted(found, key=lambda part: (part.first, part.last, part.path.name))


def _name(level: int, first: str, last: str, content: Any) -> str:
    digest = sha256("\0".join(content).encode()).hexdigest()[:16]
    return f"{level}_{first}_{last}_{digest}.parquet"


def _day(moment: np.datetime64) -> str:
    return str(to_instant(moment).astype("datetime64[D]"))


def _text(moment: np.datetime64) -> str:
    """An instant as part of a file's name, which sorts as the instants do."""
    return str(to_instant(moment)).replace("-", "").replace(":", "") + "Z"


def _read(
    path: Path, moment: np.datetime64 | None = None, input_hash: str | None = None
) -> pa.Table:
    """The rows of a file, or of one chain in it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    filters = None
    if moment is not None:
        # Groups follow each other in time, so that it is the time that tells which to read.
        instant = pa.scalar(moment.astype(object), pa.timestamp("us", "UTC"))
        filters = [("as_of", "==", instant), ("input_hash", "==", input_hash)]
    return pq.read_table(path, partitioning=None, filters=filters)


def _apart(table: pa.Table, seen: set[str]) -> Iterator[pa.Table]:
    """Each chain of a table that was not seen before."""
    for chain in chain_tables(table):
        name = chain["input_hash"][0].as_py()
        if name not in seen:
            seen.add(name)
            yield chain


def _grouped(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Whole chains together, each group as many as one that is read at once should hold."""
    import pyarrow as pa

    group: list[pa.Table] = []
    rows = 0
    for table in tables:
        group.append(table)
        rows += len(table)
        if rows >= _ROWS_A_GROUP:
            yield pa.concat_tables(group)
            group, rows = [], 0
    if group:
        yield pa.concat_tables(group)


def _between(table: pa.Table, start: Any, end: Any) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = table.schema.field("as_of").type
    mask = None
    for bound, compare in ((start, pc.greater_equal), (end, pc.less)):
        if bound is not None:
            limit = pa.scalar(to_instant(bound).astype(object), pa.timestamp("us")).cast(kind)
            one = compare(table["as_of"], limit)
            mask = one if mask is None else pc.and_(mask, one)
    return table if mask is None else table.filter(mask)
