"""How rows are chosen and ordered, the same for every table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from calib.states import ModelName
from calib.store.rows import moment

JOBS = ("backtest-", "recalibration-")
"""What the epochs of jobs begin with; those of servers begin with their time."""


class Cursor(NamedTuple):
    """A place in the order of reading: just behind the row with these four values."""

    quote_time: datetime
    epoch: str
    revision: int
    row: int


def order(table: sa.Table) -> tuple[sa.Column[Any], ...]:
    """The columns of a `Cursor`, by which rows are read."""
    return (table.c.quote_time, table.c.epoch, table.c.revision, table.c.id)


@dataclass(frozen=True)
class Selection:
    """Which rows: of one underlying, model and revision, and quote times from ``start`` until
    before ``end``, each datetime, ISO text or datetime64; None: of all."""

    underlying: str | None = None
    start: Any = None
    end: Any = None
    model: ModelName | None = None
    revision: int | None = None

    def of(self, query: sa.Select[Any], table: sa.Table) -> sa.Select[Any]:
        """The query with these rows of ``table`` alone."""
        if self.underlying is not None:
            query = query.where(table.c.underlying == self.underlying)
        if self.start is not None:
            query = query.where(table.c.quote_time >= moment(self.start))
        if self.end is not None:
            query = query.where(table.c.quote_time < moment(self.end))
        if self.model is not None:
            query = query.where(table.c.model == int(self.model))
        if self.revision is not None:
            query = query.where(table.c.revision == self.revision)
        return query

    def behind(
        self, query: sa.Select[Any], table: sa.Table, after: Cursor | None
    ) -> sa.Select[Any]:
        """The query with those of these rows that lie behind ``after``, in the order of reading."""
        query = self.of(query, table).order_by(*order(table))
        if after is not None:
            query = query.where(sa.tuple_(*order(table)) > sa.tuple_(*map(sa.literal, after)))
        return query


def last_of(
    table: sa.Table, *alike: str, where: sa.ColumnElement[bool] | None = None
) -> sa.Select[tuple[int]]:
    """The numbers of the last rows of ``table``: of those that are alike in these columns, and of
    those ``where`` something holds, the one that a server wrote last. Where no server wrote any, it
    is that of the latest quote time, of one time the last written.

    A server's own time may go back, when the clock of a venue is set right. A job writes history
    into a store that a server writes to, in any order.
    """
    is_job = sa.or_(*(table.c.epoch.startswith(name, autoescape=True) for name in JOBS))
    by_job = sa.case((is_job, 1), else_=0)
    last_first = (by_job, sa.case((is_job, table.c.quote_time)).desc(), table.c.id.desc())
    place = sa.func.row_number().over(
        partition_by=[table.c[name] for name in alike], order_by=last_first
    )
    ranked = sa.select(table.c.id, place.label("place"))
    if where is not None:
        ranked = ranked.where(where)
    found = ranked.subquery()
    return sa.select(found.c.id).where(found.c.place == 1)
