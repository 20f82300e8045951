"""TLS and client certificates: who gets a connection, and certificates exchanged under load."""

from __future__ import annotations

import asyncio
import shutil
from itertools import groupby
from pathlib import Path

import pytest
from structlog.testing import capture_logs

import calib
from calib.client import Credentials
from calib.errors import InvalidRequest, Unavailable
from calib.service.protection.tls import TlsFiles, server_credentials
from calib.service.server import Running
from tests.service.certificates import Authority, Pair, needs_openssl, openssl
from tests.service.conftest import serving
from tests.service.samples import smile_quotes

pytestmark = needs_openssl


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def reached(server: Running, credentials: Credentials | None) -> bool:
    """Whether a new connection with these comes about."""
    async with calib.connect(server.address, credentials, timeout_seconds=5.0) as client:
        try:
            await client.get("NONE")
        except calib.NotFitted:
            return True
        except Unavailable:
            return False
    raise AssertionError("there is a surface of NONE")


async def test_a_client_checks_the_server_and_talks_in_the_clear_to_none(
    authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "stranger")
    async with serving(**authority.serves()) as server:
        assert await reached(server, authority.trusted())
        assert not await reached(server, stranger.trusted())
        assert not await reached(server, Credentials())
        assert not await reached(server, None)
    other = authority.signs("other", alternatives="DNS:other.example")
    files = {"tls_certificate": other.certificate, "tls_key": other.key}
    async with serving(**files) as server:
        assert not await reached(server, authority.trusted())
        assert await reached(server, authority.trusted(server_name="other.example"))


async def test_a_certificate_says_who_calls(authority: Authority, tmp_path: Path) -> None:
    identities = {
        "quoter": {"certificates": ["quoter.desk", "spiffe://desk/quoter"], "read": ["BTC"]},
        "feed": {"certificates": ["feed"], "publish": ["*"]},
    }
    names = {
        "by-dns": ("x", "DNS:quoter.desk"),
        "by-uri": ("x", "URI:spiffe://desk/quoter"),
        "by-common-name": ("feed", ""),
        # An authority may not look at a common name beside the names that it vouches for.
        "by-neither": ("feed", "DNS:elsewhere.desk"),
    }
    pairs = {
        file: authority.signs(file, common_name=common, alternatives=alternatives)
        for file, (common, alternatives) in names.items()
    }
    forged = Authority(tmp_path, "forger").signs("forged", alternatives="DNS:quoter.desk")
    settings = {"tls_client_ca": authority.ca, "identities": identities}
    async with serving(**authority.serves(), **settings) as server:

        async def said(pair: Pair, underlying: str) -> str:
            given = authority.shown(pair)
            async with calib.connect(server.address, given, timeout_seconds=5.0) as client:
                with pytest.raises(calib.CalibError) as caught:
                    await client.get(underlying)
            return str(caught.value)

        for file in ("by-dns", "by-uri"):
            assert "no SVI surface of 'BTC'" in await said(pairs[file], "BTC")
            assert "'quoter' may not read 'ETH'" in await said(pairs[file], "ETH")
        assert "'feed' may read no underlying" in await said(pairs["by-common-name"], "BTC")
        assert "no identity has a certificate of elsewhere.desk" in await said(
            pairs["by-neither"], "BTC"
        )
        assert not await reached(server, authority.shown(forged))
        assert not await reached(server, authority.trusted())


async def test_a_certificate_is_exchanged_while_clients_come_and_go(
    authority: Authority, tmp_path: Path
) -> None:
    new = Authority(tmp_path, "new-authority")
    settings, next_one = authority.serves(), new.server("next")
    in_use = Pair(settings["tls_certificate"], settings["tls_key"])
    both = tmp_path / "both.pem"
    both.write_bytes(authority.ca.read_bytes() + new.ca.read_bytes())
    with capture_logs() as lines:
        async with serving(**settings) as server:
            trusting = Credentials(ca=both)
            done = asyncio.Event()

            async def come_and_go() -> int:
                came = 0
                while not done.is_set():
                    assert await reached(server, trusting)
                    came += 1
                return came

            async with calib.connect(server.address, authority.trusted()) as early:
                await early.publish(smile_quotes("BTC"))
                watch = early.watch(["BTC"])
                assert (await anext(watch)).surface.expiries
                busy = asyncio.create_task(come_and_go())
                # The one file is there before the other: until both fit, the old pair is served.
                shutil.copy(next_one.key, in_use.key)
                assert await reached(server, authority.trusted())
                assert not await reached(server, new.trusted())
                shutil.copy(next_one.certificate, in_use.certificate)
                assert await reached(server, new.trusted())
                assert not await reached(server, authority.trusted())
                in_use.certificate.write_text("no certificate at all")
                assert await reached(server, new.trusted())
                done.set()
                assert await busy > 0
                # What was open stays open.
                await early.publish(smile_quotes("BTC", vol=0.7))
                assert (await anext(watch)).surface.expiries
    told = [line["event"] for line in lines if line["event"].startswith("certificate_")]
    assert [event for event, _ in groupby(told)] == [
        "certificate_not_read",
        "certificate_read",
        "certificate_not_read",
    ]


@pytest.mark.parametrize(
    ("certificate", "key", "said"),
    [
        ("server.pem", "other.key", "cannot be used"),
        ("server.pem", "absent.key", "absent.key cannot be read"),
        ("text.pem", "server.key", "cannot be used"),
        ("server.pem", "locked.key", "is encrypted"),
    ],
)
def test_files_that_cannot_be_served_are_refused_at_the_start(
    authority: Authority, tmp_path: Path, certificate: str, key: str, said: str
) -> None:
    authority.server()
    authority.server("other")
    (tmp_path / "text.pem").write_text("text")
    locked = (tmp_path / "locked.key").resolve()
    openssl(
        "ec",
        "-in",
        str(tmp_path / "server.key"),
        "-aes256",
        "-passout",
        "pass:secret-word",
        "-out",
        str(locked),
    )
    with pytest.raises(InvalidRequest, match=said) as caught:
        server_credentials(TlsFiles(tmp_path / certificate, tmp_path / key))
    assert "secret-word" not in str(caught.value)
    assert "PRIVATE" not in str(caught.value)


def test_credentials_that_do_not_go_together() -> None:
    with pytest.raises(InvalidRequest, match="certificate and key belong together"):
        Credentials(certificate="client.pem")
    with pytest.raises(InvalidRequest, match="token or token_file, not both"):
        Credentials(token="a", token_file="b")
    assert "hush" not in repr(Credentials(token="hush"))


async def test_files_of_a_client_that_cannot_be_read_are_named() -> None:
    for given in (Credentials(ca="absent.pem"), Credentials(token_file="absent.pem")):
        with pytest.raises(InvalidRequest, match=r"absent\.pem cannot be read"):
            async with calib.connect("127.0.0.1:1", given):
                pass
    with pytest.raises(InvalidRequest, match="one word of printable characters"):
        async with calib.connect("127.0.0.1:1", Credentials(token="two words")):
            pass
