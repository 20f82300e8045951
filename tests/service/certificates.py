"""Authorities and certificates for tests, made by the openssl command."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from calib.client import Credentials

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="the openssl command makes the certificates"
)

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, PEM files."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates; its own is what others trust."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self.pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
        self.ca = self.pair.certificate
        openssl("req", "-x509", *_NEW_KEY, *_out(self.pair), "-subj", f"/CN={name}")

    def signs(self, name: str, *, common_name: str = "", alternatives: str = "") -> Pair:
        """A new pair in files called ``name``, with these names in it."""
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        extension = ("-addext", f"subjectAltName={alternatives}") if alternatives else ()
        signed = ("-CA", str(self.pair.certificate), "-CAkey", str(self.pair.key))
        subject = ("-subj", f"/CN={common_name or name}")
        openssl("req", "-x509", *_NEW_KEY, *_out(pair), *subject, *extension, *signed)
        return pair

    def serves(self, name: str = "server") -> dict[str, Path]:
        """The settings of a server on this machine with a pair of this name."""
        pair = self.server(name)
        return {"tls_certificate": pair.certificate, "tls_key": pair.key}

    def server(self, name: str = "server") -> Pair:
        """A pair for a server on this machine."""
        return self.signs(name, alternatives="DNS:localhost,IP:127.0.0.1")

    def trusted(self, **more: object) -> Credentials:
        """Credentials of a client that trusts this authority."""
        return Credentials(ca=self.ca, **more)  # type: ignore[arg-type]

    def shown(self, pair: Pair, **more: object) -> Credentials:
        """Credentials of a client that trusts this authority, and has this certificate."""
        return self.trusted(certificate=pair.certificate, key=pair.key, **more)


def _out(pair: Pair) -> tuple[str, ...]:
    return ("-out", str(pair.certificate), "-keyout", str(pair.key))


def openssl(*arguments: str) -> None:
    """Run the command."""
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
