"""`calib demo`: it runs the whole way by itself, and leaves files but no process."""

import re
import signal
import socket
from pathlib import Path

import pytest

import calib
from tests.cli.processes import eventually, started


def answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=1.0):
            return True
    except OSError:
        return False


def address_in(log: Path) -> str:
    found = re.search(r'"address": "([^"]+)"', log.read_text("utf-8") if log.exists() else "")
    return found[1] if found else ""


@pytest.mark.timeout(300)
def test_it_ends_by_itself_with_a_page(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    with started("demo", "--folder", folder, "--seconds", 4) as process:
        out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    assert err == ""
    assert str(folder / "page.html") in out
    assert "chains: 4,608 rows accepted, 0 rejected" in out
    assert not answers(address_in(folder / "server.log"))

    with calib.open_store(str(folder / "surfaces.db")) as store:
        surfaces = list(store.surfaces())
    assert {surface.underlying for surface in surfaces} == {"BTC", "ETH", "SPX"}
    for surface in surfaces:
        assert f"rev {surface.revision} " in out
    page = (folder / "page.html").read_text("utf-8")
    for surface in {surface.underlying: surface for surface in surfaces}.values():
        assert all(str(each.expiry)[:10] in page for each in surface.expiries)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_however_it_ends_no_server_is_left(tmp_path: Path, number: signal.Signals) -> None:
    log = tmp_path / "server.log"
    with started("demo", "--folder", tmp_path, "--seconds", 60) as process:
        try:
            assert eventually(lambda: bool(address_in(log)))
            address = address_in(log)
            assert eventually(lambda: answers(address))
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode != 0
    assert "Traceback" not in err
    assert eventually(lambda: not answers(address))
