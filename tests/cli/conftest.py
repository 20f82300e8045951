"""The command line as a fixture."""

import pytest

from tests.cli.backtest_run import Run, climbing_run
from tests.cli.samples import CommandLine


@pytest.fixture
def calib_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


@pytest.fixture(scope="package")
def climbing(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A backtest of a vol that climbs, with its store and its page."""
    return climbing_run(tmp_path_factory.mktemp("climbing"))
