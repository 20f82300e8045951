"""The files of one underlying and UTC day in a recording: written one by one, and merged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from calib.quotes.part import Part, replaced
from calib.quotes.table import QuoteTable
from calib.store import chain_columns
from calib.store.chain_columns import FLOATS, INSTANTS, instants_to_arrow, texts_to_arrow
from calib.store.durable import write_durably

if TYPE_CHECKING:
    import pyarrow as pa

TEXTS = {name: field for name, field in chain_columns.TEXTS.items() if name != "underlying"}
"""The folder's name says what the underlying is."""
_ROWS_A_GROUP = 100_000


class DayFolder:
    """The folder at ``path``, whose names say underlying and day; it need not be there yet. Files
    are whole or not there, and never change. All here may raise OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    def files(self) -> list[Path]:
        """The files that hold its rows, each row once, in the order in which they were written."""
        return sorted(self._files() - self._replaced())

    def write(self, quotes: QuoteTable) -> None:
        """Add rows as another file; it is on disk when this returns."""
        import pyarrow.parquet as pq

        number = max((one.last for one in self._parts().values()), default=0) + 1
        path = self.path / f"{number:06}.parquet"
        write_durably(path, lambda file: pq.write_table(_columns(quotes), file, compression="zstd"))

    def merge(self) -> None:
        """Put the rows of all parts into one file, bit for bit and in their order; the parts stay
        for `remove_replaced`. Raises ValueError where one of them cannot be read."""
        import pyarrow.parquet as pq

        parts = self._parts()
        paths = [path for path in self.files() if path in parts]
        if len(paths) < 2:
            return
        whole = replace(parts[paths[0]], last=parts[paths[-1]].last)

        def fill(file: BinaryIO) -> None:
            schema = pq.read_schema(paths[0])
            with pq.ParquetWriter(file, schema, compression="zstd") as writer:
                for table in _grouped(paths):
                    writer.write_table(table)

        write_durably(Path(str(whole)), fill)

    def remove_replaced(self) -> None:
        """Remove the parts that were merged."""
        for path in self._replaced():
            path.unlink()

    def _files(self) -> set[Path]:
        return set(self.path.glob("*.parquet"))

    def _parts(self) -> dict[Path, Part]:
        found = {path: Part.at(str(path)) for path in self._files()}
        return {path: part for path, part in found.items() if part is not None}

    def _replaced(self) -> set[Path]:
        return set(map(Path, replaced(map(str, self._files()))))


def _grouped(paths: Iterable[Path]) -> Iterator[pa.Table]:
    """The rows of these files, so many at a time that a reader can skip the others well."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    waiting: list[pa.Table] = []
    for path in paths:
        with pq.ParquetFile(path) as file:
            waiting.append(file.read())
        if sum(map(len, waiting)) >= _ROWS_A_GROUP:
            yield pa.concat_tables(waiting)
            waiting.clear()
    if waiting:
        yield pa.concat_tables(waiting)


def _columns(quotes: QuoteTable) -> pa.Table:
    import pyarrow as pa

    columns: dict[str, Any] = {name: instants_to_arrow(getattr(quotes, name)) for name in INSTANTS}
    columns |= {name: texts_to_arrow(getattr(quotes, field)) for name, field in TEXTS.items()}
    # What is absent is null, as in any quote table.
    columns |= {name: pa.array(getattr(quotes, name), from_pandas=True) for name in FLOATS}
    return pa.table(columns)
