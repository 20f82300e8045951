"""What tests of the store share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.samples import CommandLine
from tests.store import postgresql


@pytest.fixture
def calib_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[postgresql.Server]:
    """One server for all tests that do not stop it; each takes a database of its own."""
    with postgresql.server() as server:
        yield server
