"""The command as a whole: help, unknown commands, and what a process ends with."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.samples import CommandLine, quotes, written

COMMANDS = ("serve", "replay", "watch", "fit", "simulate", "demo")


def test_help_lists_every_command(calib_command: CommandLine) -> None:
    ended = calib_command("--help")
    assert ended.code == 0
    for name in COMMANDS:
        assert f" {name} " in ended.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(calib_command: CommandLine, name: str) -> None:
    ended = calib_command(name, "--help")
    assert ended.code == 0
    assert f"Usage: calib {name}" in ended.out


@pytest.mark.parametrize("arguments", [[], ["ship"], ["fit"], ["--loud"]])
def test_bad_usage_ends_with_2(calib_command: CommandLine, arguments: list[str]) -> None:
    assert calib_command(*arguments).code == 2


def test_the_module_is_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "calib", "fit", str(tmp_path / "missing.csv")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"calib: {tmp_path}/missing.csv: no such file\n"


def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    table = written(tmp_path, quotes())
    done = subprocess.run(
        f"{sys.executable} -m calib fit {table} | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert "Traceback" not in done.stderr
