"""The command line as a fixture."""

import pytest

from tests.cli.samples import CommandLine


@pytest.fixture
def calib_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    return CommandLine(monkeypatch, capsys)
