"""How rows are chosen and ordered, the same for every table."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from calib.states import ModelName
from calib.store.rows import moment


class Cursor(NamedTuple):
    """A place in the order of reading: just behind the row with these four values."""

    quote_time: datetime
    epoch: str
    revision: int
    row: int


def order(table: sa.Table) -> tuple[sa.Column[Any], ...]:
    """The columns of a `Cursor`, by which rows are read."""
    return (table.c.quote_time, table.c.epoch, table.c.revision, table.c.id)


def selected(
    query: sa.Select[Any],
    table: sa.Table,
    underlying: str | None,
    start: Any,
    end: Any,
    model: ModelName | None,
    after: Cursor | None,
) -> sa.Select[Any]:
    """A query in the order of reading, behind ``after``."""
    query = bounded(query, table, underlying, start, end, model).order_by(*order(table))
    if after is not None:
        query = query.where(sa.tuple_(*order(table)) > sa.tuple_(*map(sa.literal, after)))
    return query


def bounded(
    query: sa.Select[Any],
    table: sa.Table,
    underlying: str | None,
    start: Any,
    end: Any,
    model: ModelName | None,
) -> sa.Select[Any]:
    """A query of one underlying, one model, from ``start`` until before ``end``; None: of all."""
    if underlying is not None:
        query = query.where(table.c.underlying == underlying)
    if model is not None:
        query = query.where(table.c.model == int(model))
    if start is not None:
        query = query.where(table.c.quote_time >= moment(start))
    if end is not None:
        query = query.where(table.c.quote_time < moment(end))
    return query
