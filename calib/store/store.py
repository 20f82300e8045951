"""The store: what was published and found, written once, and read back in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import sqlalchemy as sa
import structlog

from calib.errors import InvalidSurface, Unavailable
from calib.quotes.chain import Chain
from calib.states import ModelName
from calib.store import schema
from calib.store.archive import QuoteArchive
from calib.store.database import Database, address_of, sqlite_file
from calib.store.entry import Entry
from calib.store.provenance import Fitted, Member, SurfaceKey
from calib.store.published import StoredSurface, published
from calib.store.queries import Cursor, Selection, last_of, order
from calib.store.records import Record, RecordKind
from calib.store.retention import KEEP_ALL, Retention, forget
from calib.store.rows import batch_row, message_of, record_of, record_row, surface_row
from calib.surface.surface import Surface
from calib.v1 import surface_pb2

if TYPE_CHECKING:
    import pandas as pd

_log = structlog.get_logger(__name__)

_ROWS_PER_READ = 500


def open_store(url: str, *, create: bool = False, quotes: str | Path | bool | None = None) -> Store:
    """The store at ``url``: an SQLAlchemy URL of SQLite or PostgreSQL, or an SQLite file's path.

    ``create`` makes an SQLite file where it is missing, and brings the tables to this version.
    ``quotes``: the folder of the input quotes, or False for none; beside an SQLite file where it
    is not given, calib.quotes for calib.db.
    Raises InvalidRequest for a URL that is none, or an in-memory database, which no two threads
    could share; Unavailable where the store is missing or cannot be used.
    """
    address = address_of(url)
    path = sqlite_file(address)
    if path is not None and not create and not path.exists():
        raise Unavailable(f"there is no store at {path}; `calib serve --store {url}` makes one")
    store = Store(Database(address), _archive(path, quotes))
    with store.closed_on_error():
        store.check(create=create)
    return store


def _archive(path: Path | None, quotes: str | Path | bool | None) -> QuoteArchive | None:
    if quotes is False:
        return None
    if quotes is None or quotes is True:
        return None if path is None else QuoteArchive(path.with_suffix(".quotes"))
    return QuoteArchive(Path(quotes))


class Store:
    """An open store; several threads may use it at once. Close it, or use it in a ``with``."""

    def __init__(self, database: Database, archive: QuoteArchive | None = None) -> None:
        self._database = database
        self._archive = archive

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({self._database!r})"

    def close(self) -> None:
        """Give all connections back."""
        self._database.close()

    def check(self, *, create: bool) -> None:
        """Raise Unavailable unless the tables are there; ``create`` makes them."""
        if create:
            self._database.migrate()
        self._database.check()

    def append(self, entries: Sequence[Entry]) -> None:
        """Write entries, in their order; what is there already is left alone.

        When this returns, all of it is on disk. Rows are one transaction: after Unavailable none
        of them was written. Quotes are written before the surfaces that were fitted to them.
        Raises Unavailable, or InvalidRequest where the database refuses what it is given.
        """
        if self._archive is not None:
            chains = [entry.chain for entry in entries if entry.chain is not None]
            if chains:
                self._archive.append(chains)
        made = [entry for entry in entries if entry.surface is not None]
        sources = [entry.provenance for entry in made]
        batches = {one.batch.digest: one.batch for one in sources if isinstance(one, Fitted)}
        told = [record for entry in entries for record in entry.records]
        if not (made or told):
            return
        insert = self._database.insert_new
        with self._database.writing() as connection:
            insert(connection, schema.batches, [batch_row(one) for one in batches.values()])
            insert(connection, schema.surfaces, [surface_row(entry) for entry in made])
            for kind, table in schema.records.items():
                insert(connection, table, [record_row(one) for one in told if one.kind is kind])

    def surfaces(
        self,
        underlying: str | None = None,
        start: Any = None,
        end: Any = None,
        *,
        model: ModelName | None = None,
    ) -> Iterator[Surface]:
        """Stored surfaces by quote time, then epoch and revision.

        ``start`` (inclusive) and ``end`` (exclusive) bound the quote time: datetime, ISO text or
        datetime64, UTC where they name no zone. Surfaces that are written while this iterates may
        or may not be among them. Raises Unavailable where the store cannot be read, InvalidSurface
        for a surface in it that is damaged.
        """
        cursor: Cursor | None = None
        while True:
            page, cursor = self.page(
                underlying, start, end, model=model, after=cursor, limit=_ROWS_PER_READ
            )
            yield from map(Surface.from_proto, page)
            if cursor is None:
                return

    def page(
        self,
        underlying: str | None = None,
        start: Any = None,
        end: Any = None,
        *,
        model: ModelName | None = None,
        after: Cursor | None = None,
        limit: int,
        most_bytes: int = 8 * 2**20,
    ) -> tuple[list[surface_pb2.Surface], Cursor | None]:
        """Messages behind ``after``, and where to go on; None at the end.

        At most ``limit`` of them, and no more (but one) than ``most_bytes`` hold together.
        """
        table = schema.surfaces
        chosen = Selection(underlying, start, end, model)
        query = chosen.behind(sa.select(table.c.message, *order(table)), table, after)
        with self._database.reading() as connection:
            rows = connection.execute(query.limit(limit + 1)).all()
        sizes = accumulate(len(row.message) for row in rows)
        fitting = max(1, sum(size <= most_bytes for size in sizes))
        taken = rows[: min(limit, fitting)]
        behind = Cursor(*taken[-1][1:]) if len(taken) < len(rows) else None
        return [message_of(row.id, row.message) for row in taken], behind

    def latest(self) -> list[surface_pb2.Surface]:
        """The surface of each underlying and model that a server wrote last, or, where none did,
        that of the latest quote time. One that cannot be read is logged and left out."""
        surfaces = schema.surfaces
        last = last_of(surfaces, "underlying", "model")
        query = (
            sa.select(surfaces.c.id, surfaces.c.message)
            .where(surfaces.c.id.in_(last))
            .order_by(surfaces.c.id)
        )
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        found = []
        for row, stored in rows:
            try:
                found.append(message_of(row, stored))
            except InvalidSurface as error:
                _log.error("stored_surface_unreadable", error=str(error))
        return found

    def metrics(
        self,
        underlying: str | None = None,
        start: Any = None,
        end: Any = None,
        *,
        model: ModelName | None = None,
    ) -> pd.DataFrame:
        """Stored metrics by quote time, then epoch and revision; see `calib.store.frames`.

        Bounds are those of `surfaces`.
        """
        return self._frame(RecordKind.METRIC, underlying, start, end, model)

    def alarms(
        self,
        underlying: str | None = None,
        start: Any = None,
        end: Any = None,
        *,
        model: ModelName | None = None,
    ) -> pd.DataFrame:
        """Stored alarms, like `metrics`."""
        return self._frame(RecordKind.ALARM, underlying, start, end, model)

    def transitions(
        self,
        underlying: str | None = None,
        start: Any = None,
        end: Any = None,
        *,
        model: ModelName | None = None,
    ) -> pd.DataFrame:
        """Stored transitions of the breakers, like `metrics`."""
        return self._frame(RecordKind.TRANSITION, underlying, start, end, model)

    def actions(
        self,
        underlying: str | None = None,
        start: Any = None,
        end: Any = None,
        *,
        model: ModelName | None = None,
    ) -> pd.DataFrame:
        """Stored actions of operators, like `metrics`."""
        return self._frame(RecordKind.ACTION, underlying, start, end, model)

    def quotes(
        self, underlying: str | None = None, start: Any = None, end: Any = None
    ) -> pd.DataFrame:
        """The rows of all stored chains, chain by chain; see `calib.store.frames.quote_frame`.

        ``start`` (inclusive) and ``end`` (exclusive) bound the chain's quote time. Raises
        Unavailable where the store keeps no quotes.
        """
        from calib.store.frames import quote_frame

        return quote_frame(self._quotes().table(underlying, start, end))

    def records(
        self,
        kind: RecordKind,
        underlying: str | None = None,
        start: Any = None,
        end: Any = None,
        *,
        model: ModelName | None = None,
        after: Cursor | None = None,
        limit: int,
    ) -> tuple[list[Record], Cursor | None]:
        """At most ``limit`` records behind ``after``, and where to go on; None at the end."""
        table = schema.records[kind]
        query = Selection(underlying, start, end, model).behind(sa.select(table), table, after)
        with self._database.reading() as connection:
            rows = connection.execute(query.limit(limit + 1)).mappings().all()
        taken = rows[:limit]
        last = taken[-1] if len(taken) < len(rows) else None
        behind = None if last is None else Cursor(*(last[one.name] for one in order(table)))
        return [record_of(kind, row) for row in taken], behind

    def last_records(self, kind: RecordKind) -> list[Record]:
        """The record of each underlying and expiry that a server wrote last, or, where none did,
        that of the latest quote time."""
        table = schema.records[kind]
        last = last_of(table, "underlying", "expiry")
        query = sa.select(table).where(table.c.id.in_(last)).order_by(table.c.id)
        with self._database.reading() as connection:
            rows = connection.execute(query).mappings().all()
        return [record_of(kind, row) for row in rows]

    def published(
        self,
        underlying: str | None = None,
        start: Any = None,
        end: Any = None,
        *,
        model: ModelName | None = None,
        revision: int | None = None,
    ) -> Iterator[StoredSurface]:
        """What `surfaces` gives, each as it is stored and with where it comes from."""
        yield from published(self._database, Selection(underlying, start, end, model, revision))

    def count(
        self,
        underlying: str | None = None,
        start: Any = None,
        end: Any = None,
        *,
        model: ModelName | None = None,
        revision: int | None = None,
    ) -> int:
        """How many surfaces `published` gives."""
        chosen, table = Selection(underlying, start, end, model, revision), schema.surfaces
        query = chosen.of(sa.select(sa.func.count()).select_from(table), table)
        with self._database.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def surface(self, key: SurfaceKey, underlying: str, model: ModelName) -> Surface | None:
        """The surface that was published under this key, None where it is not stored."""
        table = schema.surfaces
        query = sa.select(table.c.id, table.c.message).where(
            table.c.epoch == key.epoch,
            table.c.revision == key.revision,
            table.c.underlying == underlying,
            table.c.model == int(model),
        )
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else Surface.from_proto(message_of(*row))

    @contextmanager
    def alone(self, job: str) -> Iterator[None]:
        """Be the only process that does ``job`` on this store while inside; a process that dies
        lets go. Raises Unavailable where another one does it already, or that cannot be told."""
        with self._database.alone(job):
            yield

    def chain(self, member: Member) -> Chain | None:
        """The quotes that a member of a batch was fitted to, None where they are not stored."""
        if self._archive is None:
            return None
        return self._archive.chain(member.underlying, member.quote_time, member.input_hash)

    def tidy(self, retention: Retention = KEEP_ALL) -> bool:
        """Do a piece of what can wait; whether anything was there to do. Raises Unavailable.

        Removes what is older than it has to be kept, and merges files of quotes. A piece takes
        about a second at most.
        """
        if retention != KEEP_ALL and forget(self._database, self._archive, retention):
            return True
        return self._archive is not None and self._archive.tidy()

    def _frame(
        self, kind: RecordKind, underlying: str | None, start: Any, end: Any, model: Any
    ) -> pd.DataFrame:
        from calib.store.frames import record_frame

        return record_frame(self._every(kind, underlying, start, end, model))

    def _every(
        self, kind: RecordKind, underlying: str | None, start: Any, end: Any, model: Any
    ) -> Iterator[Record]:
        cursor: Cursor | None = None
        while True:
            page, cursor = self.records(
                kind, underlying, start, end, model=model, after=cursor, limit=_ROWS_PER_READ
            )
            yield from page
            if cursor is None:
                return

    def _quotes(self) -> QuoteArchive:
        if self._archive is None or not self._archive.exists:
            where = "no folder of them was named" if self._archive is None else self._archive.folder
            raise Unavailable(
                f"{self!r} keeps no quotes: {where}; see open_store(…, quotes=FOLDER)"
            )
        return self._archive

    @contextmanager
    def closed_on_error(self) -> Iterator[None]:
        """Close the store if what is inside fails."""
        try:
            yield
        except BaseException:
            self.close()
            raise
