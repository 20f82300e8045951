"""`calib replay` and `calib watch` against a real server: quotes in, surfaces out."""

import signal
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from tests.cli.processes import eventually, server_with_store, started
from tests.cli.samples import CommandLine, quotes, written

NOBODY = "127.0.0.1:1"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server_with_store(tmp_path_factory.mktemp("server")) as found:
        yield found


def test_what_is_replayed_can_be_watched(
    calib_command: CommandLine, tmp_path: Path, address: str
) -> None:
    table = written(tmp_path, quotes(("AAA", "BBB"), times=2))
    sent = calib_command("replay", table, "--to", address, "--speed", 0)
    assert sent.code == 0
    assert "sent 4 chains: 72 rows accepted, 0 rejected" in sent.out

    seen = calib_command("watch", "AAA", "--from", address, "--count", 1)
    assert seen.code == 0
    (line,) = seen.out.splitlines()
    assert "AAA" in line
    assert "stale" in line  # the quotes are of another day
    assert "2 expiries" in line
    vol = float(line.partition("ATM  30 d ")[2].partition("%")[0])
    assert vol == pytest.approx(50.0, abs=1.0)  # the half-spread


def test_a_watch_is_ended_by_ctrl_c(address: str) -> None:
    with started("watch", "--from", address) as process:
        assert not eventually(lambda: process.poll() is not None, within=2.0)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert err == ""


def test_rejected_rows_are_counted_by_reason_and_named(
    calib_command: CommandLine, tmp_path: Path, address: str
) -> None:
    frame = quotes(("CCC",))
    frame.loc[3, "strike"] = -5.0
    frame.loc[[7, 8], "unit"] = "barrels"
    frame["underlying"] = frame.underlying.where(frame.index != 5, None)
    ended = calib_command("replay", written(tmp_path, frame), "--to", address, "--speed", 0)
    assert ended.code == 0
    assert "14 rows accepted, 4 rejected" in ended.out
    for text in (
        "the strike must be positive and finite",
        "the unit must be linear, inverse or vol",
        "the underlying is empty",
    ):
        assert text in ended.out
    assert "row 3, strike -5" in ended.out


def test_recorded_times_are_kept(calib_command: CommandLine, tmp_path: Path, address: str) -> None:
    table = written(tmp_path, quotes(("DDD",), times=2))  # an hour apart
    started = monotonic()
    ended = calib_command("replay", table, "--to", address, "--speed", 3600)
    assert ended.code == 0
    assert monotonic() - started >= 1.0


def test_a_server_that_accepts_nothing_needs_a_person(
    calib_command: CommandLine, tmp_path: Path, address: str
) -> None:
    frame = quotes(("EEE",)).assign(exercise="american")
    ended = calib_command("replay", written(tmp_path, frame), "--to", address, "--speed", 0)
    assert ended.code == 1
    assert "accepted none of 18 rows" in ended.err
    assert "American" in ended.out


@pytest.mark.parametrize("command", [["watch", "--from"], ["replay", "QUOTES", "--to"]])
@pytest.mark.parametrize(
    ("target", "message"),
    [(NOBODY, f"no calib server answers at {NOBODY}"), ("nowhere", "'nowhere' is not HOST:PORT")],
)
def test_a_server_that_is_not_there_is_named(
    calib_command: CommandLine, tmp_path: Path, command: list[str], target: str, message: str
) -> None:
    table = str(written(tmp_path, quotes()))
    ended = calib_command(*[table if part == "QUOTES" else part for part in command], target)
    assert ended.code == 2
    assert message in " ".join(ended.err.replace("│", " ").split())
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--speed", "-1"], "--speed"),
        (["--every", "often"], "'often'"),
        (["--max-age", "1h"], "needs `every`"),
        (["--every", "7min", "--max-age", "1ms"], "holds no chain"),
    ],
)
def test_bad_usage_of_replay(
    calib_command: CommandLine, tmp_path: Path, arguments: list[str], message: str
) -> None:
    table = written(tmp_path, quotes())
    ended = calib_command("replay", table, "--to", NOBODY, *arguments)
    assert ended.code == 2
    assert message in ended.err


def test_a_table_without_rows_cannot_be_replayed(
    calib_command: CommandLine, tmp_path: Path
) -> None:
    table = written(tmp_path, quotes().head(0))
    ended = calib_command("replay", table, "--to", NOBODY)
    assert ended.code == 2
    assert "holds no chain" in ended.err
