"""What the gate and TLS cost a call and a message of a stream, beside a server without either.

One process, one event loop, loopback: client and server share a core, so that only ratios count.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import grpc
import numpy as np
from prometheus_client import CollectorRegistry

from calib.client import Credentials
from calib.client.credentials import open_channel
from calib.service.protection.callers import Callers
from calib.service.protection.gate import Gate
from calib.service.protection.identity import Grant, Limits
from calib.service.protection.tls import TlsFiles, server_credentials
from calib.service.protection.tokens import Tokens
from calib.service.rpc_meters import RpcMeters
from calib.v1 import quote_service_pb2, quote_service_pb2_grpc
from tests.service.certificates import Authority, needs_openssl
from tests.service.test_doors import good_batch

pytestmark = needs_openssl

ROUNDS, CALLS = 20, 50
TOKEN = "a-token-for-benchmarks-only"
AMPLE = Limits(messages_per_second=1e9, bytes_per_second=1e12, rows_per_second=1e12)


class Echo(quote_service_pb2_grpc.QuoteServiceServicer):
    async def PublishQuoteBatch(self, request: Any, context: Any) -> Any:
        return quote_service_pb2.PublishQuoteBatchResponse()

    async def PublishQuotes(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        async for _ in request_iterator:
            yield quote_service_pb2.PublishQuotesResponse()

    def WatchQuotes(self, request: Any, context: Any) -> Any:
        raise NotImplementedError


class Way(NamedTuple):
    name: str
    gate: Gate | None
    files: TlsFiles | None
    credentials: Credentials | None


def ways(folder: Path) -> Iterator[Way]:
    authority = Authority(folder)
    pair = authority.server()
    tls = TlsFiles(pair.certificate, pair.key)
    tokens = folder / "tokens"
    tokens.touch(0o600)
    tokens.write_text(f"feed {TOKEN}\n")
    grants = {"feed": Grant(publish=frozenset("*"))}
    named = Callers(grants, AMPLE, Tokens(tokens, grants))
    yield Way("neither", None, None, None)
    yield Way("gate, everybody", Gate(Callers({}, AMPLE), _meters()), None, None)
    yield Way("TLS", None, tls, authority.trusted())
    yield Way("TLS, token, gate", Gate(named, _meters()), tls, authority.trusted(token=TOKEN))


@asynccontextmanager
async def stub(way: Way) -> AsyncIterator[Any]:
    server = grpc.aio.server(interceptors=[] if way.gate is None else [way.gate])
    quote_service_pb2_grpc.add_QuoteServiceServicer_to_server(Echo(), server)
    if way.files is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", server_credentials(way.files))
    await server.start()
    async with open_channel(f"127.0.0.1:{port}", way.credentials, ()) as channel:
        yield quote_service_pb2_grpc.QuoteServiceStub(channel)
    await server.stop(None)


async def test_what_protection_costs(tmp_path: Path) -> None:
    batch = good_batch()
    call = quote_service_pb2.PublishQuoteBatchRequest(quotes=batch)
    message = quote_service_pb2.PublishQuotesRequest(quotes=batch)
    took: dict[str, tuple[list[float], list[float]]] = {}
    every = list(ways(tmp_path))
    for _ in range(ROUNDS):  # in turn, so that a machine's moods hit all of them
        for way in every:
            calls, messages = took.setdefault(way.name, ([], []))
            async with stub(way) as quotes:
                await quotes.PublishQuoteBatch(call)
                started = perf_counter()
                for _ in range(CALLS):
                    await quotes.PublishQuoteBatch(call)
                calls.append((perf_counter() - started) / CALLS)
                stream = quotes.PublishQuotes()
                await stream.write(message)
                await stream.read()
                started = perf_counter()
                for _ in range(CALLS):
                    await stream.write(message)
                    await stream.read()
                messages.append((perf_counter() - started) / CALLS)
                await stream.done_writing()
    bare = [float(np.median(one)) for one in took["neither"]]
    print(f"\n{'':<18} {'µs a call':>10} {'ratio':>6} {'µs a message':>13} {'ratio':>6}")
    for name, both in took.items():
        call_seconds, message_seconds = (float(np.median(one)) for one in both)
        print(
            f"{name:<18} {1e6 * call_seconds:>10.0f} {call_seconds / bare[0]:>6.2f} "
            f"{1e6 * message_seconds:>13.0f} {message_seconds / bare[1]:>6.2f}"
        )


def _meters() -> RpcMeters:
    return RpcMeters(CollectorRegistry())
