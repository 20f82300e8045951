"""Calls that no client would make: random messages, broken bytes, and broken HTTP/2."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any

import grpc
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2

from calib.v1 import (
    calibration_service_pb2,
    model_risk_service_pb2,
    quote_service_pb2,
    surface_service_pb2,
)

FILES = (
    calibration_service_pb2,
    model_risk_service_pb2,
    quote_service_pb2,
    surface_service_pb2,
    health_pb2,
)
PATIENCE = 20.0
FIRST_ANSWER = 0.2
"""How long a stream is listened to that may have nothing to say."""
# What a call may end with whatever it holds. UNKNOWN is what an exception becomes that nobody
# mapped, INTERNAL what one becomes that nobody expected.
ANSWERS = frozenset(grpc.StatusCode) - {
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.DATA_LOSS,
}
TELLTALES = ("Traceback", 'File "', ".py", "<class", "Exception", "object at 0x")

_TEXTS = (
    "",
    "BTC",
    "ETH",
    " ",
    "\0",
    "\u202eBTC",
    "x" * 300,
    "é" * 40,
    "'; DROP TABLE surfaces;--",
)
_NUMBERS = (0.0, -0.0, 1.0, -1.0, 0.5, 7e4, 1e308, -1e308, 5e-324, float("inf"), float("nan"))
_INTEGERS = (0, 1, 2, 3, 7, -1, 1_000, 1_772_438_400)
_EDGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


@dataclass(frozen=True)
class Rpc:
    """A method of the server, by what the protocol says of it."""

    path: str
    request: type[Message]
    streams_in: bool
    streams_out: bool


@dataclass(frozen=True)
class Answer:
    """How a call ended, with all text that came back."""

    code: grpc.StatusCode
    text: str

    @property
    def proper(self) -> bool:
        """Whether it is an answer that a client can act on, and tells nothing of the inside."""
        return self.code in ANSWERS and not any(word in self.text for word in TELLTALES)


def rpcs() -> list[Rpc]:
    """Every method of every service."""
    return [
        _rpc(method)
        for file in FILES
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]


def _rpc(method: MethodDescriptor) -> Rpc:
    return Rpc(
        f"/{method.containing_service.full_name}/{method.name}",
        GetMessageClass(method.input_type),
        method.client_streaming,
        method.server_streaming,
    )


def random_message(kind: Any, draw: Random, depth: int = 0) -> Message:
    """A message of a descriptor, some of its fields set to what is usual, at an edge or absurd."""
    message = GetMessageClass(kind)()
    for field in kind.fields:
        if draw.random() < 0.3:
            continue
        if not field.is_repeated:
            _set(message, field, draw, depth)
            continue
        values = getattr(message, field.name)
        for _ in range(draw.choice((0, 1, 2, 2, 2, 5))):
            if field.message_type is None:
                values.append(_value(field, draw))
            elif depth < 6:
                values.add().MergeFrom(random_message(field.message_type, draw, depth + 1))
    return message


def _set(message: Message, field: FieldDescriptor, draw: Random, depth: int) -> None:
    if field.message_type is None:
        setattr(message, field.name, _value(field, draw))
    elif depth < 6:
        inner = random_message(field.message_type, draw, depth + 1)
        getattr(message, field.name).CopyFrom(inner)


def _value(field: FieldDescriptor, draw: Random) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            text = draw.choice(_TEXTS)
            return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return draw.choice((*_NUMBERS, draw.uniform(0.0, 100.0)))
        case FieldDescriptor.CPPTYPE_BOOL:
            return draw.random() < 0.5
        case FieldDescriptor.CPPTYPE_ENUM:
            return draw.choice((*range(6), -1, 99, 2**31 - 1))
        case kind:
            low, high = _EDGES[kind]
            return min(max(draw.choice((*_INTEGERS, low, high)), low), high)


def mutated(payload: bytes, draw: Random) -> bytes:
    """The bytes with a few of them changed, dropped, repeated or put in."""
    data = bytearray(payload)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        at = draw.randrange(len(data) + 1)
        match draw.randrange(5):
            case 0 if at < len(data):
                data[at] ^= 1 << draw.randrange(8)
            case 1:
                del data[at : at + draw.randrange(1, 9)]
            case 2:
                data[at:at] = data[at : at + draw.randrange(1, 33)]
            case 3:
                data[at:at] = draw.randbytes(draw.randrange(1, 9))
            case _:
                # A varint, which protobuf takes for a tag or a length, larger than all there is.
                data[at:at] = b"\xff" * draw.randrange(1, 10) + b"\x7f"
    return bytes(data)


async def ask(channel: grpc.aio.Channel, rpc: Rpc, payloads: Sequence[bytes]) -> Answer:
    """Call a method with raw bytes; of a watch the first answer counts."""
    raw: Any = channel
    if rpc.streams_in:
        call = raw.stream_stream(rpc.path)(timeout=PATIENCE)
    elif rpc.streams_out:
        call = raw.unary_stream(rpc.path)(payloads[0], timeout=PATIENCE)
    else:
        call = raw.unary_unary(rpc.path)(payloads[0], timeout=PATIENCE)
    try:
        if rpc.streams_in:
            for payload in payloads:
                await call.write(payload)
                if await call.read() is grpc.aio.EOF:
                    break
            else:
                await call.done_writing()
        elif rpc.streams_out:
            with suppress(TimeoutError):
                await asyncio.wait_for(call.read(), FIRST_ANSWER)
        else:
            await call
    except grpc.aio.AioRpcError as error:
        trailing = b"".join(
            value if isinstance(value, bytes) else value.encode()
            for _, value in error.trailing_metadata() or ()
        )
        return Answer(error.code(), f"{error.details()} {trailing.decode(errors='replace')}")
    except asyncio.InvalidStateError:  # the stream ended before what was written
        return Answer(await call.code(), str(await call.details()))
    finally:
        call.cancel()
    return Answer(grpc.StatusCode.OK, "")


async def at_once(work: Iterator[Callable[[], Awaitable[None]]], *, hands: int = 32) -> None:
    """Run what comes of an iterator, so many at a time."""

    async def hand() -> None:
        for one in work:
            await one()

    async with asyncio.TaskGroup() as group:
        for _ in range(hands):
            group.create_task(hand())


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of HTTP/2."""
    head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
    return head + payload


def headers(path: str | bytes) -> bytes:
    """The header block of a call, every field a literal that is not indexed."""
    fields = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": path if isinstance(path, bytes) else path.encode(),
        b":authority": b"localhost",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
    }
    return b"".join(
        b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value
        for name, value in fields.items()
    )


def conversation(rpc: Rpc, payload: bytes, draw: Random) -> bytes:
    """What a client says over one connection: a call, and what does not belong there."""
    message = b"\x00" + len(payload).to_bytes(4, "big") + payload
    call = [frame(1, 4, 1, headers(rpc.path)), frame(0, 1, 1, message)]
    odd = [
        frame(0, 0, 0, b"data on no stream"),
        frame(1, 4, 2, headers(rpc.path)),  # an even stream
        frame(1, 0, 3, headers(rpc.path)[:20]),  # never continued
        frame(1, 4, 5, draw.randbytes(40)),  # no header block
        frame(2, 0, 1, b"\0" * 3),
        frame(3, 0, 9, b"\0" * 4),  # an end to what never began
        frame(4, 0, 0, b"\0\4\xff\xff\xff\xff"),  # a window that cannot be
        frame(4, 0, 0, b"\0" * 5),
        frame(4, 1, 0, b"acknowledged with words"),
        frame(5, 4, 1, b"\0\0\0\2" + headers(rpc.path)),  # a promise from a client
        *[frame(6, 0, 0, draw.randbytes(8))] * draw.choice((1, 50)),
        frame(7, 0, 0, b"\0" * 8 + b"goodbye"),
        frame(8, 0, 0, b"\0\0\0\0"),
        frame(8, 0, 1, b"\x7f\xff\xff\xff"),
        frame(9, 4, 1, b"continued from nowhere"),
        frame(draw.randrange(10, 256), draw.randrange(256), draw.randrange(9), draw.randbytes(9)),
        b"\xff\xff\xff\0\0\0\0\0\1" + draw.randbytes(64),  # longer than it is
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        draw.randbytes(draw.randrange(1, 200)),
    ]
    said = [frame(4, 0, 0, b""), *call, *draw.sample(odd, draw.randrange(1, 5))]
    if draw.random() < 0.3:
        draw.shuffle(said)
    stream = (b"" if draw.random() < 0.1 else PREFACE) + b"".join(said)
    if draw.random() < 0.4:
        broken = mutated(stream, draw)
        # What a path that is no text does to gRPC has a test of its own; with many calls on their
        # way it can end the process, in gRPC's own code.
        return broken if all(map(_is_text, _paths(broken))) else stream
    return stream


def _paths(stream: bytes) -> Iterator[bytes]:
    """The paths of the calls in a conversation."""
    for found in re.finditer(rb":path", stream):
        length, *rest = stream[found.end() :] or b"\0"
        yield bytes(rest[:length])


def _is_text(path: bytes) -> bool:
    try:
        path.decode()
    except UnicodeDecodeError:
        return False
    return True


async def say(address: str, stream: bytes, *, listen_seconds: float = 0.02) -> bytes:
    """Send raw bytes to the port and hang up; gives what came back meanwhile."""
    host, _, port = address.rpartition(":")
    try:
        reader, writer = await asyncio.open_connection(host, int(port))
    except ConnectionError:  # the server is putting a new listener in the place of a failed one
        return b""
    heard = b""
    try:
        writer.write(stream)
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(listen_seconds):
                await writer.drain()
                while chunk := await reader.read(65_536):
                    heard += chunk
    finally:
        # Without the wait of an orderly close: ports would run out.
        linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
        with suppress(OSError):  # the server may have hung up first
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
    return heard
