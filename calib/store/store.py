"""The store: published surfaces written once, and read back in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import sqlalchemy as sa
import structlog
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from calib.conventions import to_instant
from calib.errors import InvalidRequest, InvalidSurface, Unavailable
from calib.states import ModelName
from calib.store.schema import metadata, surfaces
from calib.surface.surface import Surface
from calib.v1 import surface_pb2

_log = structlog.get_logger(__name__)

_ROWS_PER_READ = 500
_LOCK_WAIT_MILLISECONDS = 5_000


class Cursor(NamedTuple):
    """A place in the order of reading: just behind the surface with these four values."""

    quote_time: datetime
    epoch: str
    revision: int
    row: int


def open_store(url: str, *, create: bool = False) -> Store:
    """The store at ``url``, an SQLAlchemy database URL or the path of an SQLite file.

    ``create`` makes an SQLite file and the tables where they are missing.
    Raises InvalidRequest for a URL that is none, or an in-memory database, which no two threads
    could share; Unavailable where the store is missing or cannot be used.
    """
    address = _address(url)
    if address.get_backend_name() == "sqlite":
        path = Path(address.database or "")
        if not create and not path.exists():
            raise Unavailable(f"there is no store at {path}; `calib serve --store {url}` makes one")
    try:
        engine = sa.create_engine(address)
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        raise InvalidRequest(f"{_shown(address)} cannot be used as a store: {error}") from error
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _prepare_sqlite)
    store = Store(engine)
    with store.closed_on_error():
        store.check(create=create)
    return store


class Store:
    """An open store; several threads may use it at once. Close it, or use it in a ``with``."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

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
        return f"Store({_shown(self._engine.url)})"

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()

    def check(self, *, create: bool) -> None:
        """Raise Unavailable unless the tables are there; ``create`` makes them."""
        with self._talking():
            if create:
                metadata.create_all(self._engine)
            missing = set(metadata.tables) - set(sa.inspect(self._engine).get_table_names())
        if missing:
            raise Unavailable(f"{self!r} is no store of calib: it has no table {sorted(missing)}")

    def append(self, messages: Sequence[surface_pb2.Surface]) -> None:
        """Write published surfaces, in their order; those that are there already are left alone.

        One transaction: after Unavailable nothing of it was written.
        """
        if not messages:
            return
        rows = [_row(message) for message in messages]
        with self._talking():
            try:
                with self._engine.begin() as connection:
                    connection.execute(sa.insert(surfaces), rows)
            except sa.exc.IntegrityError:
                # A batch whose commit was not confirmed is written again by whoever repeats it.
                with self._engine.begin() as connection:
                    fresh = [row for row in rows if not _holds(connection, row)]
                    if fresh:
                        connection.execute(sa.insert(surfaces), fresh)

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
        order = (surfaces.c.quote_time, surfaces.c.epoch, surfaces.c.revision, surfaces.c.id)
        query = sa.select(surfaces.c.message, *order).order_by(*order).limit(limit + 1)
        if underlying is not None:
            query = query.where(surfaces.c.underlying == underlying)
        if model is not None:
            query = query.where(surfaces.c.model == int(model))
        if start is not None:
            query = query.where(surfaces.c.quote_time >= _moment(start))
        if end is not None:
            query = query.where(surfaces.c.quote_time < _moment(end))
        if after is not None:
            query = query.where(sa.tuple_(*order) > sa.tuple_(*map(sa.literal, after)))
        with self._talking(), self._engine.connect() as connection:
            rows = connection.execute(query).all()
        sizes = accumulate(len(row.message) for row in rows)
        fitting = max(1, sum(size <= most_bytes for size in sizes))
        taken = rows[: min(limit, fitting)]
        behind = Cursor(*taken[-1][1:]) if len(taken) < len(rows) else None
        return [_message(row.id, row.message) for row in taken], behind

    def latest(self) -> list[surface_pb2.Surface]:
        """The surface of each underlying and model that was written last.

        One that cannot be read is logged and left out.
        """
        last = sa.select(sa.func.max(surfaces.c.id)).group_by(
            surfaces.c.underlying, surfaces.c.model
        )
        query = (
            sa.select(surfaces.c.id, surfaces.c.message)
            .where(surfaces.c.id.in_(last))
            .order_by(surfaces.c.id)
        )
        with self._talking(), self._engine.connect() as connection:
            rows = connection.execute(query).all()
        found = []
        for row, stored in rows:
            try:
                found.append(_message(row, stored))
            except InvalidSurface as error:
                _log.error("stored_surface_unreadable", error=str(error))
        return found

    @contextmanager
    def closed_on_error(self) -> Iterator[None]:
        """Close the store if what is inside fails."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    @contextmanager
    def _talking(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            raise Unavailable(f"{self!r}: {cause}") from error


def _address(url: str) -> sa.URL:
    try:
        address = sa.make_url(url if "://" in url else f"sqlite:///{url}")
    except sa.exc.ArgumentError as error:
        raise InvalidRequest(f"{url!r} is neither a database URL nor a path") from error
    database = address.database or ""
    if address.get_backend_name() == "sqlite" and database in ("", ":memory:"):
        raise InvalidRequest(f"{url!r} would be gone with its connection; give an SQLite file")
    return address


def _shown(address: sa.URL) -> str:
    return address.render_as_string(hide_password=True)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    # Readers do not wait for the writer; what is committed survives the end of the process.
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute(f"PRAGMA busy_timeout={_LOCK_WAIT_MILLISECONDS}")
    cursor.close()


def _moment(value: Any) -> datetime:
    moment: datetime = to_instant(value).astype(datetime)
    return moment


def _row(message: surface_pb2.Surface) -> dict[str, Any]:
    return {
        "underlying": message.underlying,
        "model": int(message.model),
        "quote_time": _naive(message.quote_time),
        "calibration_time": (
            _naive(message.calibration_time) if message.HasField("calibration_time") else None
        ),
        "epoch": message.epoch,
        "revision": message.revision,
        "input_hash": message.input_hash,
        "code_version": message.code_version,
        "message": message.SerializeToString(deterministic=True),
    }


def _naive(moment: Timestamp) -> datetime:
    return moment.ToDatetime()


def _holds(connection: sa.Connection, row: dict[str, Any]) -> bool:
    names = ("epoch", "underlying", "model", "revision")
    same = sa.and_(*(surfaces.c[name] == row[name] for name in names))
    return connection.execute(sa.select(surfaces.c.id).where(same)).first() is not None


def _message(row: int, stored: bytes) -> surface_pb2.Surface:
    try:
        return surface_pb2.Surface.FromString(stored)
    except DecodeError as error:
        raise InvalidSurface(f"the stored surface with id {row} is damaged: {error}") from error
