"""TLS: the server's certificate, and the authorities of its clients', read again as they change."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from stat import S_IROTH, S_IWOTH

import grpc
import structlog

from calib.errors import InvalidRequest
from calib.files import content_of

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class TlsFiles:
    """PEM files: the certificate with its chain, its key, and the authorities of client
    certificates; with these every client needs a certificate of theirs."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True)
class _Pems:
    certificate: bytes
    key: bytes
    client_ca: bytes | None

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration(
            [(self.key, self.certificate)], self.client_ca
        )


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Credentials that read the files anew for every connection.

    Files that do not fit together at that time are logged, and the last good ones stay in use.
    Raises InvalidRequest where the files cannot be used from the start.
    """
    in_use = refused = _read(files)

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal in_use, refused
        try:
            found = _pems(files)
            if found in (in_use, refused):
                return None
            refused = found  # said once
            _check(files)
            if _pems(files) != found:  # in the middle of a change; the next connection will see it
                return None
        except InvalidRequest as error:
            _log.error("certificate_not_read", error=str(error))
            return None
        in_use = refused = found
        _log.info("certificate_read", path=str(files.certificate))
        return found.configuration()

    credentials: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
        in_use.configuration(),
        fetch,  # type: ignore[arg-type]  # None, which the stubs leave out, is: as before
        require_client_authentication=files.client_ca is not None,
    )
    return credentials


def _read(files: TlsFiles) -> _Pems:
    pems = _pems(files)
    _check(files)
    return pems


def _pems(files: TlsFiles) -> _Pems:
    return _Pems(
        content_of(files.certificate),
        content_of(files.key),
        None if files.client_ca is None else content_of(files.client_ca),
    )


def _check(files: TlsFiles) -> None:
    """Raise InvalidRequest, with OpenSSL's reason, for what gRPC would only fail on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def no_password() -> str:
        raise InvalidRequest(f"the key {files.key} is encrypted; the server needs it in the clear")

    try:
        mode = files.key.stat().st_mode
        context.load_cert_chain(files.certificate, files.key, no_password)
    except (ssl.SSLError, OSError) as error:
        raise InvalidRequest(
            f"certificate {files.certificate} and key {files.key} cannot be used: {_said(error)}"
        ) from error
    if mode & (S_IROTH | S_IWOTH):
        raise InvalidRequest(f"every user can read or write {files.key}: chmod 600 {files.key}")
    if files.client_ca is None:
        return
    try:
        context.load_verify_locations(files.client_ca)
    except (ssl.SSLError, OSError) as error:
        raise InvalidRequest(
            f"client authorities {files.client_ca} cannot be used: {_said(error)}"
        ) from error


def _said(error: OSError) -> str:
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    return str(reason).replace("_", " ").lower()
