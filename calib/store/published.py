"""Surfaces as they lie in the store, each with where it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from google.protobuf.message import DecodeError

from calib.errors import InvalidSurface
from calib.states import ModelName
from calib.store import schema
from calib.store.database import Database
from calib.store.provenance import Batch, Fitted, Moved, Provenance, SurfaceKey
from calib.store.queries import Cursor, Selection, order
from calib.surface.surface import Surface
from calib.v1 import surface_pb2

_ROWS_PER_READ = 500


@dataclass(frozen=True)
class StoredSurface:
    """A surface as it was published, and where it comes from, None where that was not recorded."""

    underlying: str
    model: ModelName
    quote_time: np.datetime64
    key: SurfaceKey
    message: bytes
    provenance: Provenance | None

    def surface(self) -> Surface:
        """The surface; raises InvalidSurface where it is damaged, or not that of its row."""
        name = f"{self.underlying} {self.model.name} revision {self.key.revision}"
        try:
            surface = Surface.from_proto(surface_pb2.Surface.FromString(self.message))
        except (DecodeError, InvalidSurface) as error:
            raise InvalidSurface(f"the stored {name} is damaged: {error}") from error
        key = SurfaceKey(surface.epoch, surface.revision)
        told = (surface.underlying, surface.model, surface.quote_time, key)
        if told != (self.underlying, self.model, self.quote_time, self.key):
            raise InvalidSurface(f"the row of {name} holds another surface: {surface!r}, {key}")
        return surface


def published(database: Database, chosen: Selection) -> Iterator[StoredSurface]:
    """Chosen surfaces in the order of reading."""
    table = schema.surfaces
    wanted = ("message", "batch", "place", "move", "underlying", "model")
    query = sa.select(*(table.c[name] for name in wanted), *order(table)).limit(_ROWS_PER_READ)
    batches: dict[str, Batch] = {}
    cursor: Cursor | None = None
    while True:
        with database.reading() as connection:
            rows = connection.execute(chosen.behind(query, table, cursor)).all()
            needed = {row.batch for row in rows if row.batch}
            batches = _batches(connection, needed, batches)
        for row in rows:
            yield StoredSurface(
                row.underlying,
                ModelName(row.model),
                np.datetime64(row.quote_time, "us"),
                SurfaceKey(row.epoch, row.revision),
                row.message,
                _provenance(row, batches),
            )
        if len(rows) < _ROWS_PER_READ:
            return
        cursor = Cursor(*rows[-1][-4:])


def _batches(
    connection: sa.Connection, needed: set[str], known: Mapping[str, Batch]
) -> dict[str, Batch]:
    """Batches by their digest, each read once though many surfaces were fitted in it."""
    table = schema.batches
    found = {name: known[name] for name in needed if name in known}
    query = sa.select(table.c.digest, table.c.document)
    rows = connection.execute(query.where(table.c.digest.in_(needed - set(found)))).all()
    return found | {digest: Batch.from_document(document) for digest, document in rows}


def _provenance(row: Any, batches: Mapping[str, Batch]) -> Provenance | None:
    if row.move is not None:
        return Moved.from_document(row.move)
    if row.batch not in batches:
        return None
    return Fitted(batches[row.batch], row.place)
