"""`calib serve`: it says where it listens, ends when asked to, and refuses what it cannot use."""

import signal
from pathlib import Path

import pytest

from tests.cli.processes import server_with_store, started
from tests.cli.samples import CommandLine


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_asked_to(tmp_path: Path, number: signal.Signals) -> None:
    with started("serve", "--listen", "127.0.0.1:0", "--store", tmp_path / "s.db") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("listening on 127.0.0.1:")
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out == ""
    assert "Traceback" not in err


def test_a_port_that_is_taken_is_named(calib_command: CommandLine, tmp_path: Path) -> None:
    with server_with_store(tmp_path) as address:
        ended = calib_command("serve", "--listen", address, "--store", tmp_path / "other.db")
    assert ended.code == 2
    assert f"cannot listen on {address}" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "missing.toml"], "missing.toml"),
        (["--config", "unknown.toml"], "'colour'"),
        (["--listen", "everywhere"], "everywhere"),
        (["--store", "carrier-pigeon://loft"], "carrier-pigeon"),
        (["--store", "no/such/folder/s.db"], "no/such/folder/s.db"),
        (["--listen", "0.0.0.0:50051"], "beyond loopback, without TLS"),
        (["--check-config", "--listen", "0.0.0.0:50051"], "insecure = true (--insecure)"),
        (["--check-config", "--config", "unknown.toml"], "'colour'"),
        (["--check-config", "--config", "tls.toml"], "absent.pem cannot be read"),
    ],
)
def test_settings_that_cannot_be_used_are_named(
    calib_command: CommandLine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "unknown.toml").write_text("colour = 'blue'\n", encoding="utf-8")
    tls = "tls_certificate = 'absent.pem'\ntls_key = 'absent.key'\n"
    (tmp_path / "tls.toml").write_text(tls, encoding="utf-8")
    ended = calib_command("serve", *arguments)
    assert ended.code == 2
    assert message in ended.err
    assert "Traceback" not in ended.err


def test_settings_can_be_checked_without_a_start(
    calib_command: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CALIB_MODEL", "sabr")
    ended = calib_command("serve", "--check-config", "--listen", "0.0.0.0:1", "--insecure")
    assert ended.code == 0
    assert 'listen = "0.0.0.0:1"  # --listen' in ended.out
    assert 'model = "sabr"  # CALIB_MODEL' in ended.out
    assert list(tmp_path.iterdir()) == []
