"""JSON-RPC over one WebSocket: requests with answers, notifications, heartbeats."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Container, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any

import aiohttp
import structlog

from calib.errors import CalibError, InvalidRequest, Unavailable

_HEARTBEAT_SECONDS = 10
_SILENCE_SECONDS = 25.0  # two heartbeats and a half
_CHANNELS_A_REQUEST = 200
_SUBSCRIBE_EVERY_SECONDS = 0.35  # 3,000 credits each of a pool that gains 10,000 a second
_ANSWER_SECONDS = 15.0
NO_SUCH_REQUEST = (-32600, -32601)
"""Codes of JSON-RPC: this is no request, there is no such method."""

_log = structlog.get_logger(__name__)


Hear = Callable[[str, Any], None]


class Lost(Unavailable):
    """The connection is of no use any more; another one may be."""


def refusal(
    what: str,
    error: Any,
    for_ever: Container[int] = NO_SUCH_REQUEST,
    otherwise: type[Lost] = Lost,
) -> CalibError:
    """What to raise for an error that Deribit answers: InvalidRequest where its code is one of
    those that it would answer ``for_ever``, ``otherwise`` where not."""
    code = error.get("code") if isinstance(error, dict) else None
    kind = InvalidRequest if isinstance(code, int) and code in for_ever else otherwise
    return kind(f"{what}: refused: {error}")


class Session:
    """An open connection; ``hear`` is told channel and data of each notification as it comes, so
    that none waits, and ``garbled`` of each message that is none."""

    def __init__(
        self, socket: aiohttp.ClientWebSocketResponse, hear: Hear, garbled: Callable[[], None]
    ) -> None:
        self._socket = socket
        self._hear = hear
        self._garbled = garbled
        self._numbers = count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._ended = asyncio.Event()

    async def request(self, method: str, **params: Any) -> Any:
        """The result of a call; raises Lost where there is none in time or it is an error, and
        InvalidRequest where it will always be one."""
        number = next(self._numbers)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            await self._send(number, method, params)
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await answer
        except TimeoutError:
            raise Lost(f"no answer to {method} within {_ANSWER_SECONDS:g} s") from None
        finally:
            self._answers.pop(number, None)

    async def subscribe(self, channels: Sequence[str]) -> list[str]:
        """Subscribe within the venue's rate; gives the channels that it has not accepted."""
        refused = []
        for start in range(0, len(channels), _CHANNELS_A_REQUEST):
            if start:
                await asyncio.sleep(_SUBSCRIBE_EVERY_SECONDS)
            wanted = list(channels[start : start + _CHANNELS_A_REQUEST])
            accepted = await self.request("public/subscribe", channels=wanted)
            known = accepted if isinstance(accepted, list) else []
            refused += [one for one in wanted if one not in known]
        return refused

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """Be told no more of these channels."""
        for start in range(0, len(channels), _CHANNELS_A_REQUEST):
            wanted = list(channels[start : start + _CHANNELS_A_REQUEST])
            await self.request("public/unsubscribe", channels=wanted)

    async def quiet(self, seconds: float) -> None:
        """Wait so long; raises Lost where the connection ends before."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        if self._ended.is_set():
            raise Lost("the connection has ended")

    async def listen(self) -> None:
        """Read until the connection ends or falls silent; heartbeats are answered."""
        try:
            while True:
                try:
                    message = await self._socket.receive(_SILENCE_SECONDS)
                except TimeoutError:
                    _log.warning("deribit_silent", seconds=_SILENCE_SECONDS)
                    return
                if message.type is not aiohttp.WSMsgType.TEXT:
                    if message.type in _ENDINGS:
                        return
                    self._garbled()
                    continue
                await self._take(message.data)
        finally:
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(Lost("the connection has ended"))
            self._ended.set()

    async def _take(self, text: str) -> None:
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            self._garbled()
            return
        match message:
            case {"method": "subscription", "params": {"channel": str(channel), "data": data}}:
                self._hear(channel, data)
            case {"method": "heartbeat", "params": {"type": "test_request"}}:
                await self._send(next(self._numbers), "public/test", {})
            case {"method": "heartbeat"}:
                pass
            case {"id": int(number), "result": result}:
                if (answer := self._waiting(number)) is not None:
                    answer.set_result(result)
            case {"id": int(number), "error": error}:
                if (answer := self._waiting(number)) is not None:
                    # Invalid parameters may be an option that has gone since it was listed.
                    answer.set_exception(refusal("the WebSocket", error))
            case _:
                self._garbled()

    def _waiting(self, number: int) -> asyncio.Future[Any] | None:
        answer = self._answers.get(number)
        return None if answer is None or answer.done() else answer

    async def _send(self, number: int, method: str, params: Any) -> None:
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        try:
            await self._socket.send_json(message)
        except (ConnectionError, aiohttp.ClientError) as error:
            raise Lost(f"{method} cannot be sent: {error}") from error


_ENDINGS = (
    aiohttp.WSMsgType.CLOSE,
    aiohttp.WSMsgType.CLOSING,
    aiohttp.WSMsgType.CLOSED,
    aiohttp.WSMsgType.ERROR,
)


@asynccontextmanager
async def session(
    http: aiohttp.ClientSession, url: str, hear: Hear, garbled: Callable[[], None]
) -> AsyncIterator[Session]:
    """A connection with heartbeats, open while inside; raises Lost where there is none, and
    InvalidRequest where there can be none at this address."""
    try:
        async with asyncio.timeout(_SILENCE_SECONDS):
            socket = await http.ws_connect(url, max_msg_size=16 * 2**20)
    except ValueError as error:  # aiohttp.InvalidURL is one
        raise InvalidRequest(f"{url!r} is no WebSocket address: {error}") from error
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise Lost(f"{url}: {type(error).__name__} {error}") from error
    opened = Session(socket, hear, garbled)
    listening = asyncio.create_task(opened.listen())
    try:
        await opened.request("public/set_heartbeat", interval=_HEARTBEAT_SECONDS)
        yield opened
    finally:
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening
        await socket.close()
