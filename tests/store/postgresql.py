"""A real PostgreSQL server for tests, as Debian installs it; tests skip clearly without one."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_USER = "nobody"  # the server refuses to run as root


class Server:
    """A server with its data in ``folder``, listening on the loopback interface."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries = binaries
        self._data = folder / "data"
        self._log = folder / "log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = int(free.getsockname()[1])
        self._run("initdb", "-D", self._data, "-U", "calib", "--auth=trust", "--no-sync")

    @property
    def url(self) -> str:
        """Its database for tests."""
        return f"postgresql://calib@127.0.0.1:{self._port}/postgres"

    def new_database(self, name: str) -> str:
        """The address of an empty database."""
        name = name.lower()[:60]
        self._run("createdb", "-h", "127.0.0.1", "-p", self._port, "-U", "calib", name)
        return f"postgresql://calib@127.0.0.1:{self._port}/{name}"

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        self._run("pg_ctl", "-D", self._data, "-l", self._log, "-w", "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop: ``fast`` ends its connections, ``immediate`` is as good as a kill."""
        self._run("pg_ctl", "-D", self._data, "-m", mode, "-w", "stop")

    def _run(self, program: str, *arguments: object) -> None:
        # Not as a user of `subprocess`: that forks, and gRPC's threads do not survive it.
        other = ("setpriv", "--reuid", _USER, "--clear-groups") if os.geteuid() == 0 else ()
        command = [*other, str(self._binaries / program), *map(str, arguments)]
        # Its children keep what it is given for output, and would keep a pipe open for ever.
        with (self._data.parent / "commands").open("ab") as output:
            done = subprocess.run(
                command, stdout=output, stderr=output, cwd="/", timeout=60, check=False
            )
        assert done.returncode == 0, (self._data.parent / "commands").read_text()


def _binaries() -> Path | None:
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3])
    )
    if found:
        return found[-1].parent
    beside = shutil.which("initdb")
    return Path(beside).parent if beside else None


@contextmanager
def server() -> Iterator[Server]:
    """A server that runs inside, skipped where PostgreSQL is not installed.

    Its folder is none of pytest's, which only their owner may enter.
    """
    binaries = _binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with tempfile.TemporaryDirectory(prefix="calib-postgresql-") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            os.chown(folder, pwd.getpwnam(_USER).pw_uid, -1)
        running = Server(binaries, folder)
        running.start()
        try:
            yield running
        finally:
            if (folder / "data" / "postmaster.pid").exists():  # a test may have stopped it
                running.stop("immediate")
