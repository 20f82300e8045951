"""How a client shows who it is, and checks whom it talks to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Self, TypeAlias

import grpc

from calib.errors import InvalidRequest
from calib.files import content_of, stamp_of

File: TypeAlias = "str | PathLike[str]"


@dataclass(frozen=True)
class Credentials:
    """What makes a connection a TLS connection, and says who calls.

    ``ca``: PEM file of the authorities that the server's certificate is checked by; None: those
    that gRPC brings. ``certificate`` and ``key``: PEM files of the client's own. ``token`` or
    ``token_file``: a bearer token; the file is read again when it has changed, so that a token can
    be exchanged under an open connection. ``server_name``: the name to look for in the server's
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


Options: TypeAlias = "Sequence[tuple[str, Any]]"


def open_channel(
    target: str, credentials: Credentials | None, options: Options
) -> grpc.aio.Channel:
    """A channel to ``target``, in the clear without credentials.

    Raises InvalidRequest where one of their files cannot be read.
    """
    return ChannelOpener(credentials, options)(target)


class ChannelOpener:
    """Opens channels with the same credentials, to any target.

    Their files are read again for each; those that cannot be read then, because they are just being
    exchanged, change nothing. Raises InvalidRequest where they cannot be read the first time.
    """

    def __init__(self, credentials: Credentials | None, options: Options) -> None:
        self._credentials = credentials
        self._options = options
        self._files: tuple[bytes | None, ...] | None = None
        self._token: Callable[[], str] | None = None

    def __call__(self, target: str) -> grpc.aio.Channel:
        """A new channel; nothing is sent yet."""
        given = self._credentials
        if given is None:
            return grpc.aio.insecure_channel(target, options=self._options)
        options = list(self._options)
        if given.server_name is not None:
            options.append(("grpc.ssl_target_name_override", given.server_name))
        if self._files is None:
            self._token = _token_of(given)
        try:
            self._files = tuple(map(_content, (given.ca, given.key, given.certificate)))
        except InvalidRequest:
            if self._files is None:
                raise
        tls = grpc.ssl_channel_credentials(*self._files)
        channel = grpc.aio.secure_channel(target, tls, options=options)
        return channel if self._token is None else _Bearing(channel, self._token)


def _token_of(credentials: Credentials) -> Callable[[], str] | None:
    if credentials.token_file is not None:
        return _TokenFile(Path(credentials.token_file)).token
    if credentials.token is None:
        return None
    token = _word(credentials.token, "the token")
    return lambda: token


class _TokenFile:
    """The token in a file, read again when it has changed; one that cannot be read changes
    nothing. Raises InvalidRequest where there is none at the start."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = stamp_of(path)
        self._token = self._read()

    def token(self) -> str:
        stamp = stamp_of(self._path)
        if stamp != self._stamp:
            with suppress(InvalidRequest):
                self._token, self._stamp = self._read(), stamp
        return self._token

    def _read(self) -> str:
        return _word(content_of(self._path).decode("utf-8", "replace"), f"{self._path}")


class _Bearing(grpc.aio.Channel):
    """A channel, of TLS, whose every call carries a token.

    gRPC's own credentials of calls start a thread for each, which takes longer than the call.
    """

    def __init__(self, channel: grpc.aio.Channel, token: Callable[[], str]) -> None:
        self._channel = channel
        self._token = token

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        return self._bearing(self._channel.unary_unary(*args, **kwargs))

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        return self._bearing(self._channel.unary_stream(*args, **kwargs))

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        return self._bearing(self._channel.stream_unary(*args, **kwargs))

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        return self._bearing(self._channel.stream_stream(*args, **kwargs))

    def _bearing(self, start: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, metadata: Any = None, **kwargs: Any) -> Any:
            sent = (*(metadata or ()), ("authorization", f"Bearer {self._token()}"))
            return start(*args, metadata=sent, **kwargs)

        return call

    async def close(self, grace: float | None = None) -> None:
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._channel.channel_ready()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *ended: object) -> None:
        await self.close()


def _content(path: File | None) -> bytes | None:
    return None if path is None else content_of(path)


def _word(text: str, name: str) -> str:
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidRequest(f"{name} must be one word of printable characters")
    return token
