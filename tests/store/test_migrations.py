"""Tables are made by the migrations, and are those that the code reads and writes."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import calib.store
from calib.errors import Unavailable
from calib.store import open_store
from calib.store.schema import REVISION, metadata
from tests.store import postgresql

FOLDER = Path(calib.store.__file__).parent / "migrations"


def differences(engine: sa.Engine) -> list[object]:
    with engine.connect() as connection:
        found: list[object] = compare_metadata(MigrationContext.configure(connection), metadata)
    engine.dispose()
    return found


def test_migrations_make_the_tables_of_the_code(tmp_path: Path) -> None:
    open_store(str(tmp_path / "calib.db"), create=True).close()
    assert differences(sa.create_engine(f"sqlite:///{tmp_path / 'calib.db'}")) == []


def test_they_do_on_postgresql(postgresql_server: postgresql.Server) -> None:
    url = postgresql_server.new_database("migrations")
    open_store(url, create=True).close()
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+pg8000:"))
    assert differences(engine) == []


def test_the_code_names_the_last_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    assert ScriptDirectory.from_config(config).get_heads() == [REVISION]


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "calib.db"
    open_store(str(path), create=True).close()
    before = path.read_bytes()
    open_store(str(path), create=True).close()
    assert path.read_bytes() == before


def test_several_processes_may_make_one_store_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "calib.db")
    script = f"from calib.store import open_store; open_store({path!r}, create=True).close()"
    processes = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]


def test_a_store_of_another_version_is_refused_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "calib.db"
    open_store(str(path), create=True).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    for create in (False, True):
        with pytest.raises(Unavailable, match="9999"):
            open_store(str(path), create=create)


def test_tables_of_before_the_migrations_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "calib.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE surfaces (id INTEGER)")
    connection.close()
    with pytest.raises(Unavailable, match="earlier version"):
        open_store(str(path), create=True)
    with sqlite3.connect(path) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
    connection.close()
    assert tables == [("surfaces",)]


def test_reading_needs_no_alembic(tmp_path: Path) -> None:
    path = str(tmp_path / "calib.db")
    open_store(path, create=True).close()
    script = (
        "import sys; from calib.store import open_store\n"
        f"open_store({path!r}).close(); assert 'alembic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
