"""The SQL database under a store: SQLite for one server, PostgreSQL for production."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects import postgresql, sqlite

from calib.errors import InvalidRequest, Unavailable
from calib.store.schema import REVISION, metadata

_log = structlog.get_logger(__name__)

_LOCK_WAIT_MILLISECONDS = 5_000
# A server that no longer answers must not hold the writer for ever; no statement of ours takes
# a tenth of it.
_ANSWER_SECONDS = 30
_MIGRATION_LOCK = 0x63616C6962  # "calib"
_WRITES = "calib_writes"


class Database:
    """A database of surfaces and records; several threads may use it at once."""

    def __init__(self, address: sa.URL) -> None:
        """Raises InvalidRequest where the address or its driver cannot be used."""
        self._address = address
        self._engine = _engine(address)
        self._writer = self._engine.execution_options(**{_WRITES: True})

    def __repr__(self) -> str:
        return _shown(self._address)

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection that sees one state of the database; raises Unavailable."""
        with self._talking(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction: all of it is on disk when the block ends, or nothing where it raises.

        Raises Unavailable where the database cannot be used now, InvalidRequest where it can and
        refuses what it is given.
        """
        with self._talking(), self._writer.begin() as connection:
            yield connection

    def check(self) -> None:
        """Raise Unavailable unless the tables are there, and those of this version."""
        with self.reading() as connection:
            names = set(sa.inspect(connection).get_table_names())
            found = connection.execute(_VERSION).scalar() if "alembic_version" in names else None
        if found is None and not names:
            raise Unavailable(f"{self!r} has no tables; `calib serve --store URL` makes them")
        if found is None:
            raise Unavailable(
                f"{self!r} is no store of this version: it has the tables "
                f"{', '.join(sorted(names))}; give another address, or move it away"
            )
        if found != REVISION:
            raise Unavailable(
                f"{self!r} has tables of version {found}, and this program needs {REVISION}; "
                "start `calib serve` of the newer version once on it"
            )

    def migrate(self) -> None:
        """Bring the tables to this version, all in one transaction, by one process at a time."""
        from alembic import command
        from alembic.config import Config
        from alembic.script.revision import ResolutionError
        from alembic.util.exc import CommandError

        config = Config()
        folder = str(Path(__file__).parent / "migrations")
        config.set_main_option("script_location", folder.replace("%", "%%"))
        with self.writing() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            names = set(sa.inspect(connection).get_table_names())
            if names & set(metadata.tables) and "alembic_version" not in names:
                raise Unavailable(
                    f"{self!r} holds tables of an earlier version; give another address, or move "
                    "it away"
                )
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except (ResolutionError, CommandError) as error:
                raise Unavailable(f"{self!r} is of a later version: {error}") from error

    @contextmanager
    def alone(self, job: str) -> Iterator[None]:
        """Hold the lock of that name while inside; raises Unavailable where another process does,
        or it cannot be had. What is raised inside comes out as it is.

        Of an SQLite file it is a lock on a file beside it, of PostgreSQL one of a session.
        """
        taken = f"{self!r}: another {job} is at work on it; wait for it, or end it"
        path = sqlite_file(self._address)
        if path is not None:
            with self._talking():
                file = path.with_name(f"{path.name}.{job}.lock").open("a")
            with file:
                with self._talking():
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        raise Unavailable(taken) from None
                yield
            return
        number = int.from_bytes(sha256(job.encode()).digest()[:8], "big", signed=True)
        with self._talking():
            connection = self._engine.connect()
        with connection:
            with self._talking():
                if not connection.execute(sa.select(sa.func.pg_try_advisory_lock(number))).scalar():
                    raise Unavailable(taken)
                connection.rollback()  # a session's lock outlives its transaction
            try:
                yield
            finally:
                try:
                    connection.execute(sa.select(sa.func.pg_advisory_unlock(number)))
                except (sa.exc.SQLAlchemyError, OSError) as error:
                    # What is written twice is there once, so that nobody fails for it.
                    connection.invalidate()  # the lock would live as long as the session
                    _log.warning("lock_lost", job=job, store=repr(self), error=str(error))

    def insert_new(
        self, connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Insert rows, in their order; those that are there already are left alone.

        A batch whose commit was not confirmed is written again by whoever repeats it.
        """
        if rows:
            dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
            connection.execute(dialect.insert(table).on_conflict_do_nothing(), list(rows))

    @contextmanager
    def _talking(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.SQLAlchemyError as error:
            cause = _cause(error)
            if _refuses_data(error):
                raise InvalidRequest(f"{self!r} refuses: {cause}") from error
            raise Unavailable(f"{self!r}: {cause}") from error
        except OSError as error:  # pg8000 lets some through
            raise Unavailable(f"{self!r}: {error}") from error


def address_of(url: str) -> sa.URL:
    """The database at ``url``: an SQLAlchemy URL of SQLite or PostgreSQL, or a path for SQLite.

    Raises InvalidRequest for anything else, and for an in-memory database, which no two threads
    could share.
    """
    try:
        address = sa.make_url(url if "://" in url else f"sqlite:///{url}")
    except sa.exc.ArgumentError as error:
        raise InvalidRequest(f"{url!r} is neither a database URL nor a path") from error
    kind = address.get_backend_name()
    if kind == "sqlite" and (address.database or "") in ("", ":memory:"):
        raise InvalidRequest(f"{url!r} would be gone with its connection; give an SQLite file")
    if kind not in ("sqlite", "postgresql"):
        raise InvalidRequest(
            f"{_shown(address)}: a store is an SQLite file or a PostgreSQL database, not {kind}"
        )
    if address.drivername == "postgresql":
        address = address.set(drivername="postgresql+pg8000")
    return address


def sqlite_file(address: sa.URL) -> Path | None:
    """The file of an SQLite database, None for another one."""
    return Path(address.database or "") if address.get_backend_name() == "sqlite" else None


_VERSION: sa.Select[Any] = sa.select(sa.column("version_num")).select_from(
    sa.table("alembic_version")
)


def _engine(address: sa.URL) -> sa.Engine:
    options: dict[str, Any] = {}
    if address.drivername == "postgresql+pg8000":
        options = {"connect_args": {"timeout": _ANSWER_SECONDS}}
    try:
        # A connection that the server closed meanwhile is found out before it is used.
        engine = sa.create_engine(address, pool_pre_ping=True, **options)
    except ImportError as error:
        hint = "pip install 'calib[postgresql]'"
        raise InvalidRequest(f"{_shown(address)} needs a driver ({error}): {hint}") from error
    except sa.exc.SQLAlchemyError as error:
        raise InvalidRequest(f"{_shown(address)} cannot be used as a store: {error}") from error
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    else:
        sa.event.listen(engine, "begin", _begin_postgresql)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # Transactions are begun below, so that making tables is part of one.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={_LOCK_WAIT_MILLISECONDS}")
    # Readers do not wait for the writer.
    cursor.execute("PRAGMA journal_mode=WAL")
    # What is committed survives the end of the process with NORMAL as well; with FULL it survives
    # a loss of power too. It costs a sync for each transaction, on a thread that nobody waits for.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    # A transaction that reads before it writes could not wait for another writer otherwise.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _begin_postgresql(connection: sa.Connection) -> None:
    if not connection.get_execution_options().get(_WRITES):
        # Every statement would see a state of its own otherwise. SQLite gives one in any case.
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")


def _refuses_data(error: sa.exc.SQLAlchemyError) -> bool:
    """Whether the fault lies with what is to be written, so that trying again is of no use."""
    if not isinstance(error, sa.exc.DBAPIError):
        return isinstance(error, sa.exc.StatementError)
    if isinstance(error, (sa.exc.DataError, sa.exc.IntegrityError)):
        return True
    if isinstance(error.orig, (OverflowError, UnicodeError)):
        return True
    state = str(_told_by_server(error).get("C", ""))
    return state[:2] in ("22", "23")  # data exception, integrity constraint violation


def _cause(error: sa.exc.SQLAlchemyError) -> object:
    """What the database said, without what SQLAlchemy adds."""
    return _told_by_server(error).get("M") or getattr(error, "orig", None) or error


def shown_url(url: str) -> str:
    """The URL of a store as it may be shown: without its password."""
    return _shown(address_of(url))


def _told_by_server(error: sa.exc.SQLAlchemyError) -> Mapping[str, Any]:
    """The fields of PostgreSQL's message, which pg8000 hands over as they came."""
    arguments = getattr(getattr(error, "orig", None), "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], Mapping) else {}


def _shown(address: sa.URL) -> str:
    return address.render_as_string(hide_password=True)
