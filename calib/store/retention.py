"""How long what is stored stays."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import sqlalchemy as sa

from calib.store import schema
from calib.store.archive import QuoteArchive
from calib.store.database import Database
from calib.store.queries import last_of
from calib.store.records import RecordKind

_ROWS_PER_DELETE = 5_000


@dataclass(frozen=True)
class Retention:
    """How long rows and quotes are kept, counted back from the latest stored surface; None: always.

    So that a recording that is replayed is kept as if it happened now. Operator actions are kept
    always: they are few, and the trail of who changed what. So is what stood when the time that is
    kept began, which a restart may need: of each underlying and model the last surface before, and
    the last one that was fitted, from which it may have been moved, and of each breaker the last
    transition, unless its expiry is over.
    """

    rows: timedelta | None = None
    quotes: timedelta | None = None


KEEP_ALL = Retention()


def forget(database: Database, archive: QuoteArchive | None, retention: Retention) -> bool:
    """Remove some of what need not be kept; whether there was any. Raises Unavailable."""
    with database.reading() as connection:
        last = connection.execute(sa.select(sa.func.max(schema.surfaces.c.quote_time))).scalar()
    if last is None:
        return False
    removed = False
    if retention.quotes is not None and archive is not None:
        removed = archive.forget(np.datetime64(last - retention.quotes, "us"))
    if retention.rows is not None:
        kept = schema.records[RecordKind.ACTION]
        for table in schema.metadata.sorted_tables:
            if table is not kept:
                removed = _delete(database, table, last - retention.rows) or removed
    return removed


def _delete(database: Database, table: sa.Table, before: datetime) -> bool:
    """Some rows at a time, so that no transaction is long."""
    old = _old(table, before).limit(_ROWS_PER_DELETE)
    with database.writing() as connection:
        done = connection.execute(sa.delete(table).where(table.c.id.in_(old)))
        return done.rowcount > 0


def _old(table: sa.Table, before: datetime) -> sa.Select[tuple[int]]:
    """The numbers of the rows that need not be kept."""
    old = sa.select(table.c.id).where(table.c.quote_time < before)
    if table is schema.surfaces:
        is_old = table.c.quote_time < before
        fitted = is_old & table.c.batch.is_not(None)
        for among in (is_old, fitted):
            last = last_of(table, "underlying", "model", where=among)
            old = old.where(table.c.id.not_in(last))
        return old
    if table is schema.batches:  # surfaces go first
        surfaces = schema.surfaces.c
        kept = sa.select(surfaces.batch).where(
            surfaces.quote_time < before, surfaces.batch.is_not(None)
        )
        return old.where(table.c.digest.not_in(kept))
    if table is schema.records[RecordKind.TRANSITION]:
        standing = last_of(table, "underlying", "expiry", where=table.c.quote_time < before)
        return old.where(table.c.id.not_in(standing) | (table.c.expiry <= before))
    return old
