"""The same store on a real PostgreSQL server, which stops and comes back."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from calib.client import connect
from calib.errors import InvalidRequest, Unavailable
from calib.quotes.fingerprint import fingerprint
from calib.service.server import running
from calib.service.settings import ServiceSettings
from calib.store import Entry, RecordKind, StoreWriter, open_store, schema
from calib.store.audit import Verdict, audit
from tests.cli.processes import eventually
from tests.service.conftest import QUIET
from tests.service.samples import smile_quotes, surface
from tests.store import postgresql
from tests.store.samples import at, chain, fitted, published, record


@pytest.fixture
def url(postgresql_server: postgresql.Server, request: pytest.FixtureRequest) -> str:
    return postgresql_server.new_database(request.node.name.replace("test_", ""))


@pytest.fixture
def own_server() -> Iterator[postgresql.Server]:
    """A server that may be stopped."""
    with postgresql.server() as server:
        yield server


def test_all_of_an_entry_comes_back(url: str, tmp_path: Path) -> None:
    one = chain()
    written = surface("BTC", epoch="e", revision=1, level=1 / 3)
    told = record(1, expiry=at(60), a=math.nan, b=-0.0, c=1 / 3, d="ß", e=True, f=None, g=2**60)
    entry = Entry(written.to_proto(), fitted(one, fingerprint(one)), one, (told,))
    with open_store(url, create=True, quotes=tmp_path / "quotes") as store:
        store.append([entry])
        store.append([entry])  # once more, as after a commit that was not confirmed
        assert list(store.surfaces()) == [written]
        (stored,) = store.published()
        assert stored.provenance == entry.provenance
        (read,), _ = store.records(RecordKind.METRIC, limit=10)
        assert repr(read) == repr(told)
        assert store.surface(stored.key, "BTC", stored.model) == written
        assert len(store.latest()) == 1
        assert len(store.quotes()) == len(one.quotes)


def test_a_reader_sees_one_state_whatever_is_written_and_removed_meanwhile(
    url: str, tmp_path: Path
) -> None:
    for address in (url, str(tmp_path / "calib.db")):
        with open_store(address, create=True) as store, open_store(address) as other:
            store.append(published([surface(epoch="e", revision=1)]))
            query = sa.select(schema.surfaces.c.revision)
            with store._database.reading() as connection:
                assert connection.execute(query).scalars().all() == [1]
                other.append(published([surface(epoch="e", revision=2)]))
                with other._database.writing() as writing:
                    writing.execute(sa.delete(schema.surfaces).where(schema.surfaces.c.id == 1))
                assert connection.execute(query).scalars().all() == [1]
            assert [one.revision for one in store.surfaces()] == [2]


def test_a_job_s_own_error_comes_out_and_a_session_that_is_gone_has_let_go(url: str) -> None:
    ending = sa.text(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    with open_store(url, create=True) as store, open_store(url) as other:

        def robbed() -> None:
            with other._database.reading() as connection:
                assert connection.execute(ending).scalars().all() == [True]
            raise FileNotFoundError("its own")

        with (
            store.alone("drift"),
            pytest.raises(Unavailable, match="another drift"),
            other.alone("drift"),
        ):
            pass
        with pytest.raises(FileNotFoundError, match=r"^its own$"), store.alone("drift"):
            raise FileNotFoundError("its own")
        with pytest.raises(FileNotFoundError, match=r"^its own$"), store.alone("drift"):
            robbed()
        with other.alone("drift"):
            pass


def test_pages_join_to_the_whole_and_epochs_sort_by_code_point(url: str) -> None:
    with open_store(url, create=True) as store:
        epochs = ("a", "B", "_", "Z-1", "Z1")
        store.append(
            published(surface(at=at(i % 2), epoch=e, revision=i) for i in range(4) for e in epochs)
        )
        seen, cursor = [], None
        while True:
            page, cursor = store.page(after=cursor, limit=3)
            seen += [(m.quote_time.ToDatetime(), m.epoch, m.revision) for m in page]
            if cursor is None:
                break
        assert seen == sorted(seen)
        assert len(set(seen)) == 4 * len(epochs)


def test_what_no_server_can_store_is_refused_and_not_tried_for_ever(url: str) -> None:
    with open_store(url, create=True) as store:
        with pytest.raises(InvalidRequest, match="0x00"):
            store.append(published([surface("B\0C", epoch="e", revision=1)]))
        writer = StoreWriter(store)
        for name in ("AAA", "B\0C", "CCC"):
            writer.put(Entry(surface=surface(name, epoch="e", revision=1).to_proto()))
        assert writer.close(30.0)
        assert [one.underlying for one in store.surfaces()] == ["AAA", "CCC"]
        assert writer.state.lost == 1


def test_a_server_that_stops_and_comes_back_gets_what_waited(own_server: postgresql.Server) -> None:
    with open_store(own_server.url, create=True) as store:
        writer = StoreWriter(store)
        writer.put(Entry(surface=surface(epoch="e", revision=1).to_proto()))
        eventually(lambda: writer.state.waiting == 0)
        own_server.stop("immediate")
        for revision in range(2, 20):
            writer.put(Entry(surface=surface(epoch="e", revision=revision).to_proto()))
        eventually(lambda: writer.state.failing_since is not None)
        failing = writer.state
        assert failing.waiting == 18
        assert failing.error
        with pytest.raises(Unavailable, match="127"):
            list(store.surfaces())
        own_server.start()
        eventually(lambda: writer.state.waiting == 0)
        state = writer.state
        assert (state.lost, state.failing_since, state.error) == (0, None, "")
        assert writer.close(30.0)
        assert [one.revision for one in store.surfaces()] == list(range(1, 20))


def test_a_password_is_not_shown() -> None:
    with pytest.raises(Unavailable) as refused:
        open_store("postgresql://calib:secret@127.0.0.1:1/nowhere")
    assert "secret" not in str(refused.value)


def test_a_database_of_another_kind_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="SQLite file or a PostgreSQL database, not mysql"):
        open_store("mysql://host/name")


async def test_a_server_goes_on_publishing_while_its_store_is_down(
    own_server: postgresql.Server, tmp_path: Path
) -> None:
    settings = ServiceSettings(
        listen="127.0.0.1:0",
        store=own_server.url,
        quotes_folder=tmp_path / "quotes",
        warm_up=False,
        model_risk=QUIET,
    )
    async with running(settings) as server, connect(server.address) as client:
        await client.wait_until_serving()
        updates = client.watch(["BTC"])

        async def publish(minutes: int) -> None:
            # Of the size of the sample market, which the audit's tests compile as well.
            days = (7, 14, 30, 60, 90, 180)
            await client.publish(smile_quotes("BTC", at=at(minutes), days=days, strikes=24))
            async for update in updates:
                if update.quote_time == at(minutes):
                    return

        writer = server.writer
        assert writer is not None
        await publish(0)
        assert await asyncio.to_thread(eventually, lambda: writer.state.waiting == 0)
        await asyncio.to_thread(own_server.stop)
        for minutes in (1, 2, 3):
            await publish(minutes)
        assert await asyncio.to_thread(eventually, lambda: writer.state.failing_since is not None)
        with pytest.raises(Unavailable):
            await anext(client.history("BTC"))
        await asyncio.to_thread(own_server.start)
        assert await asyncio.to_thread(eventually, lambda: writer.state.waiting == 0)
        assert [s.quote_time async for s in client.history("BTC")] == [at(i) for i in range(4)]
    with open_store(own_server.url, quotes=tmp_path / "quotes") as store:
        assert {one.verdict for one in audit(store)} == {Verdict.IDENTICAL}


async def test_quotes_of_a_postgresql_store_need_a_folder(url: str) -> None:
    with pytest.raises(ValueError, match="quotes_folder"):
        ServiceSettings(listen="127.0.0.1:0", store=url, warm_up=False)
    without = ServiceSettings(listen="127.0.0.1:0", store=url, store_quotes=False, warm_up=False)
    async with running(without) as server:
        assert server.writer is not None
