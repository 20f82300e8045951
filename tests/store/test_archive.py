"""Quotes as Parquet: exact, whole or not there, and the same whatever was merged."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

import numpy as np
import pyarrow.parquet as pq
import pytest

import calib
from calib.errors import Unavailable
from calib.quotes.chain import Chain, chains
from calib.quotes.fingerprint import fingerprint
from calib.quotes.table import QuoteTable
from calib.store import Entry, open_store
from calib.store.archive import QuoteArchive
from calib.store.durable import write_durably
from calib.store.frames import quote_frame
from tests.service.samples import START
from tests.store.samples import at, chain


def files(archive: QuoteArchive) -> list[Path]:
    return sorted(archive.folder.rglob("*.parquet"))


def found(archive: QuoteArchive, one: Chain) -> Chain | None:
    return archive.chain(one.underlying, one.quote_time, fingerprint(one))


def same(first: QuoteTable, second: QuoteTable) -> bool:
    for column in fields(QuoteTable):
        one, two = getattr(first, column.name), getattr(second, column.name)
        if isinstance(one, np.ndarray):
            if one.dtype != two.dtype or one.tobytes() != two.tobytes():
                return False
        elif one.texts() != two.texts():
            return False
    return True


def test_every_chain_of_a_table_comes_back_to_the_bit(tmp_path: Path) -> None:
    archive = QuoteArchive(tmp_path)
    written = [chain(), *chains(calib.read_quotes(calib.sample_quotes()))]
    archive.append(written)
    for one in written:
        back = found(archive, one)
        assert back is not None
        assert (back.underlying, back.quote_time) == (one.underlying, one.quote_time)
        assert same(back.quotes, one.quotes)
    assert archive.chain("BTC", START, "another") is None
    assert archive.chain("XYZ", START, fingerprint(written[0])) is None


@pytest.mark.real_data
def test_real_chains_come_back_to_the_bit(tmp_path: Path) -> None:
    folder = os.environ.get("CALIB_QUOTES_DIR")
    if folder is None:
        pytest.skip("CALIB_QUOTES_DIR is not set")
    path = sorted(Path(folder).rglob("*.parquet"))[0]
    table = calib.read_quotes(path)
    first = np.unique(table.quote_time)[:3]
    written = list(chains(table.take(np.isin(table.quote_time, first))))
    archive = QuoteArchive(tmp_path)
    archive.append(written)
    for one in written:
        back = found(archive, one)
        assert back is not None
        assert same(back.quotes, one.quotes)


@pytest.mark.parametrize("name", ["BTC/USD", "..", ".", "Ö " * 90, "a=b", "%2E", "con:x"])
def test_an_underlying_may_be_called_anything(tmp_path: Path, name: str) -> None:
    archive = QuoteArchive(tmp_path / "quotes")
    archive.append([chain(name), chain("BTC")])
    back = found(archive, chain(name))
    assert back is not None
    assert back.underlying == name
    assert all(archive.folder in path.parents for path in tmp_path.rglob("*.parquet"))
    assert set(archive.table(name)["underlying"].to_pylist()) == {name}


def test_a_file_is_a_quote_table_by_itself(tmp_path: Path) -> None:
    archive = QuoteArchive(tmp_path)
    archive.append([chain()])
    (path,) = files(archive)
    table = calib.read_quotes(path)
    assert table.underlyings == ("BTC",)
    assert len(table) == len(chain().quotes)


def test_writing_again_adds_nothing(tmp_path: Path) -> None:
    archive = QuoteArchive(tmp_path)
    batch = [chain(time=at(i)) for i in range(3)]
    archive.append(batch)
    before = files(archive)
    archive.append(batch)
    assert files(archive) == before


def test_a_chain_is_read_without_the_rest_of_its_file(tmp_path: Path) -> None:
    archive = QuoteArchive(tmp_path)
    written = [chain(time=at(i), strikes=3_000) for i in range(4)]  # 18,000 rows each
    archive.append(written)
    (path,) = files(archive)
    file = pq.ParquetFile(path)
    groups = [file.read_row_group(i)["input_hash"].unique() for i in range(file.num_row_groups)]
    names = [name for group in groups for name in group.to_pylist()]
    assert sorted(names) == sorted(map(fingerprint, written))  # each in one group alone
    assert len(groups) == 2
    for one in written:
        back = found(archive, one)
        assert back is not None
        assert same(back.quotes, one.quotes)


def test_merging_changes_files_and_nothing_else(tmp_path: Path) -> None:
    archive = QuoteArchive(tmp_path)
    written = [
        chain(name, START + np.timedelta64(minutes, "m"), strikes=5)
        for minutes in (*range(0, 40, 2), *range(1_440, 1_480, 2))
        for name in ("BTC", "ETH")
    ]
    for one in written:
        archive.append([one])
    archive.append(written[:2])  # the same, in files of other names or of the same ones
    before = archive.table().to_pandas()
    assert len(files(archive)) == 80
    while archive.tidy():
        pass
    assert len(files(archive)) == 4  # one for an underlying and day
    assert archive.table().to_pandas().equals(before)
    for one in written:
        back = found(archive, one)
        assert back is not None
        assert same(back.quotes, one.quotes)


def test_a_merge_that_was_killed_before_it_cleared_up_shows_every_chain_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = QuoteArchive(tmp_path)
    for minute in range(16):
        archive.append([chain(time=at(minute), strikes=5)])
    before = archive.table().to_pandas()

    def killed(path: Path, missing_ok: bool = False) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            archive.tidy()
    assert len(files(archive)) == 17
    assert archive.table().to_pandas().equals(before)
    while archive.tidy():
        pass
    assert archive.table().to_pandas().equals(before)


def test_bounds_select_chains_by_their_time(tmp_path: Path) -> None:
    archive = QuoteArchive(tmp_path)
    archive.append([chain(name, at(i), strikes=5) for i in range(4) for name in ("BTC", "ETH")])
    frame = quote_frame(archive.table("BTC", at(1), at(3)))
    assert set(frame.underlying) == {"BTC"}
    assert sorted(set(frame.as_of.dt.minute)) == [1, 2]
    assert set(frame.reason) == {"", "BAD_PRICE"}
    assert not archive.table("XYZ").num_rows
    assert quote_frame(archive.table("XYZ")).empty


def test_reading_while_files_are_merged_misses_nothing(tmp_path: Path) -> None:
    archive = QuoteArchive(tmp_path)
    written = [chain(time=at(minute), strikes=3) for minute in range(64)]
    for one in written:
        archive.append([one])
    rows = sum(len(one.quotes) for one in written)
    merging = threading.Thread(target=lambda: [None for _ in iter(archive.tidy, False)])
    merging.start()
    while merging.is_alive():
        assert archive.table().num_rows == rows
    merging.join()


def test_a_file_that_cannot_be_finished_leaves_nothing(tmp_path: Path) -> None:
    def half(file: BinaryIO) -> None:
        file.write(b"half")
        raise ZeroDivisionError

    def whole(file: BinaryIO) -> None:
        file.write(b"whole")

    path = tmp_path / "new" / "file"
    with pytest.raises(ZeroDivisionError):
        write_durably(path, half)
    assert list(path.parent.iterdir()) == []
    write_durably(path, whole)
    assert path.read_bytes() == b"whole"


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    archive = QuoteArchive(tmp_path)
    archive.append([chain()])
    (path,) = files(archive)
    path.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(Unavailable, match=r"QuoteArchive\(.*\)"):
        archive.table()


@contextmanager
def nobody() -> Iterator[None]:
    """As a user who may not read what others keep to themselves."""
    if os.geteuid() != 0:
        pytest.skip("only root becomes another user")
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_that_may_not_be_read_is_unavailable() -> None:
    # Others may not look into pytest's own folders at all.
    with TemporaryDirectory() as place, open_store(f"{place}/calib.db", create=True) as store:
        Path(place).chmod(0o755)
        store.append([Entry(chain=chain())])
        archive = QuoteArchive(Path(place, "calib.quotes"))
        day = archive.folder / "BTC" / "2026-03-02"
        assert len(files(archive)) == 1
        for closed in (Path(place), archive.folder, day.parent, day):
            closed.chmod(0o700)
            with nobody():
                for read in (archive.table, store.quotes, lambda: found(archive, chain())):
                    with pytest.raises(Unavailable, match="Permission denied"):
                        read()
            closed.chmod(0o755)


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 kB."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts a small disk")
    folder = tmp_path / "tiny"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_unavailable_and_goes_on_when_there_is_room(tiny: Path) -> None:
    archive = QuoteArchive(tiny / "quotes")
    archive.append([chain()])
    ballast = tiny / "ballast"
    with pytest.raises(OSError, match="No space"):
        ballast.write_bytes(bytes(2**20))
    later = chain(time=at(1))
    with pytest.raises(Unavailable, match="No space"):
        archive.append([later])
    assert found(archive, chain()) is not None
    assert found(archive, later) is None
    assert not list(tiny.rglob("*.tmp"))
    ballast.unlink()
    archive.append([later])
    assert found(archive, later) is not None
