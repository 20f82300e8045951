"""Commands to a server that wants to know who calls: TLS and tokens by options or environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

import pytest

import calib
from tests.cli.processes import eventually, server, started
from tests.cli.samples import CommandLine
from tests.service.certificates import Authority, needs_openssl

pytestmark = needs_openssl


class Guarded(NamedTuple):
    address: str
    folder: Path

    def token(self, name: str) -> Path:
        path = self.folder / f"{name}.token"
        path.write_text(f"the-token-of-the-{name}\n")
        return path


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A server, in a process, that its readers and feeds have to tell who they are."""
    folder = tmp_path_factory.mktemp("guarded")
    Authority(folder, "ca").server()
    (folder / "tokens").touch(0o600)
    (folder / "tokens").write_text("reader the-token-of-the-reader\nfeed the-token-of-the-feed\n")
    (folder / "calib.toml").write_text(
        f"""
listen = "127.0.0.1:0"
store = "none"
tls_certificate = "{folder}/server.pem"
tls_key = "{folder}/server.key"
tokens = "{folder}/tokens"
[identities.reader]
read = ["*"]
[identities.feed]
publish = ["*"]
"""
    )
    with server("--config", folder / "calib.toml") as address:
        yield Guarded(address, folder)


def test_a_feed_and_a_reader(
    calib_command: CommandLine, guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca = guarded.folder / "ca.pem"
    to = ("replay", calib.sample_quotes(), "--speed", 0, "--to", guarded.address)
    sent = calib_command(*to, "--ca", ca, "--token-file", guarded.token("feed"))
    assert sent.code == 0, sent.err
    assert " 0 rejected" in sent.out
    monkeypatch.setenv("CALIB_CA", str(ca))
    monkeypatch.setenv("CALIB_TOKEN_FILE", str(guarded.token("reader")))
    seen = calib_command("watch", "BTC", "--from", guarded.address, "--count", 1)
    assert seen.code == 0, seen.err
    assert "BTC" in seen.out
    refused = calib_command(*to)
    assert refused.code == 2
    assert "'reader' may publish no underlying" in refused.err


def test_whoever_is_not_known_is_told_so(calib_command: CommandLine, guarded: Guarded) -> None:
    ca, at = guarded.folder / "ca.pem", ("watch", "--from", guarded.address, "--count", 1)
    for options, said in (
        ((), "in the clear"),
        (("--ca", Authority(guarded.folder, "another").ca), "over TLS"),
        (("--ca", ca), "Send a bearer token"),
        (("--ca", ca, "--token-file", guarded.token("nobody")), "this token is not known"),
        (("--ca", ca, "--certificate", ca), "certificate and key belong together"),
        (("--ca", guarded.folder / "absent.pem"), "absent.pem cannot be read"),
    ):
        ended = calib_command(*at, *options)
        assert ended.code == 2, (options, ended)
        assert said in ended.err, (options, ended)
        assert "Traceback" not in ended.err
        assert "the-token-of" not in ended.err


def test_a_live_page_shows_what_its_identity_may_read(guarded: Guarded) -> None:
    usual = (
        *("dashboard", "--from", guarded.address, "--listen", "127.0.0.1:0"),
        *("--ca", guarded.folder / "ca.pem"),
    )
    with started(*usual, "--token-file", guarded.token("reader")) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip().removeprefix("listening on ")

            def connected() -> bool:
                with urlopen(url) as page:
                    return b"CONNECTED" in page.read()

            assert eventually(connected)
        finally:
            process.terminate()
    assert process.returncode == 0
    with started(*usual, "--token-file", guarded.token("feed")) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "'feed' may read no underlying" in said
