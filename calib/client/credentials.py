"""How a client shows who it is, and checks whom it talks to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from calib.errors import InvalidRequest

File: TypeAlias = "str | PathLike[str]"


@dataclass(frozen=True)
class Credentials:
    """What makes a connection a TLS connection, and says who calls.

    ``ca``: PEM file of the authorities that the server's certificate is checked by; None: those
    that gRPC brings. ``certificate`` and ``key``: PEM files of the client's own. ``token`` or
    ``token_file``: a bearer token; the file is read for every call, so that a token can be
    exchanged under an open connection. ``server_name``: the name to look for in the server's
    certificate where that is not the host of the target.
    Raises InvalidRequest where these do not go together.
    """

    ca: File | None = None
    certificate: File | None = None
    key: File | None = None
    token: str | None = field(default=None, repr=False)
    token_file: File | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InvalidRequest("certificate and key belong together: give both, or neither")
        if self.token is not None and self.token_file is not None:
            raise InvalidRequest("give token or token_file, not both")


def open_channel(
    target: str, credentials: Credentials | None, options: Sequence[tuple[str, Any]]
) -> grpc.aio.Channel:
    """A channel to ``target``, in the clear without credentials.

    Raises InvalidRequest where one of their files cannot be read.
    """
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=options)
    if credentials.server_name is not None:
        options = [*options, ("grpc.ssl_target_name_override", credentials.server_name)]
    return grpc.aio.secure_channel(target, _composed(credentials), options=options)


def _composed(given: Credentials) -> grpc.ChannelCredentials:
    channel = grpc.ssl_channel_credentials(
        _content(given.ca), _content(given.key), _content(given.certificate)
    )
    if given.token is not None:
        calls = grpc.access_token_call_credentials(_token(given.token, "the token"))
    elif given.token_file is not None:
        bearer = _TokenFile(Path(given.token_file))
        bearer.read()
        calls = grpc.metadata_call_credentials(bearer, "bearer")
    else:
        return channel
    return grpc.composite_channel_credentials(channel, calls)


class _TokenFile(grpc.AuthMetadataPlugin):
    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> str:
        content = _content(self._path) or b""
        return _token(content.decode("utf-8", "replace"), f"{self._path}")

    def __call__(
        self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback
    ) -> None:
        try:
            callback((("authorization", f"Bearer {self.read()}"),), None)
        except InvalidRequest as error:
            callback((), error)


def _content(path: File | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror or error}") from error


def _token(text: str, name: str) -> str:
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidRequest(f"{name} must be one word of printable characters")
    return token
