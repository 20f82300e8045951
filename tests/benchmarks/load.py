"""Many watchers of one server: what a reader process measures, and a bare server beside it.

Run as a script, it is the process of the watchers (``watchers ADDRESS COUNT SECONDS START``) or a
gRPC server with nothing in it but a stream (``bare MESSAGE RATE START COUNT``). The moment of a
tick travels in the spot of its surface, see `spot_at`; processes share the monotonic clock.
"""

from __future__ import annotations

import asyncio
import json
import sys
from array import array
from pathlib import Path
from time import monotonic, process_time
from typing import Any

import grpc
import numpy as np

from calib.v1 import surface_service_pb2, surface_service_pb2_grpc
from tests.service.wire import told_of

NAMES = ("BTC", "ETH", "SPX", "NDX")
METHOD = "WatchSurfaces"
SERVICE = "calib.v1.SurfaceService"
BASE, SCALE = 70_000.0, 1e-3

# A connection for every watcher, with the small window of calib's own client.
OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 65_536),
]


def spot_at(moment: float, start: float) -> float:
    """A spot that tells when it was sent: close to BASE for hours, and exact to microseconds."""
    return BASE + SCALE * (moment - start)


def sent_at(spot: float, start: float) -> float:
    """The moment that a spot tells."""
    return start + (spot - BASE) / SCALE


async def watchers(target: str, count: int, seconds: float, start: float) -> None:
    """Open watches, say `ready` when all have their snapshot, measure, and print what was seen."""
    delays, deliveries, skipped = array("d"), 0, 0
    measuring = asyncio.Event()
    waiting = set(range(count))

    async def watch(number: int) -> None:
        nonlocal deliveries, skipped
        async with grpc.aio.insecure_channel(target, options=OPTIONS) as channel:
            stub = surface_service_pb2_grpc.SurfaceServiceStub(channel)
            request = surface_service_pb2.WatchSurfacesRequest(underlyings=NAMES)
            async for response in stub.WatchSurfaces(request):
                now = monotonic()
                if response.HasField("snapshot_end"):
                    waiting.discard(number)
                    if not waiting:
                        measuring.set()
                elif response.HasField("surface") and not waiting:
                    spot = told_of(response).spot
                    if spot != BASE:  # that of quotes, whose surfaces no tick has moved yet
                        delays.append(now - sent_at(spot, start))
                    deliveries += 1
                    skipped += response.surface.conflated_count

    tasks = [asyncio.create_task(watch(number)) for number in range(count)]
    await measuring.wait()
    print("ready", flush=True)
    await asyncio.sleep(1.0)  # the burst of snapshots is over, and ticks have begun
    del delays[:]
    deliveries, skipped, began, before = 0, 0, monotonic(), process_time()
    await asyncio.sleep(seconds)
    took, processor = monotonic() - began, process_time() - before
    seen = np.sort(np.array(delays))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    quantiles = np.quantile(seen, [0.5, 0.99, 1.0]) if len(seen) else np.full(3, np.nan)
    told = {
        "deliveries": deliveries / took,
        "skipped": skipped / took,
        "milliseconds": [round(1e3 * one, 3) for one in quantiles],
        "processor": processor / took,
    }
    print(json.dumps(told), flush=True)


async def bare(message: bytes, rate: float, start: float, count: int) -> None:
    """Stream messages of this size to ``count`` readers, once all are there: ``rate`` a second, in
    turn for the names, and of each name only the latest to whoever is slow."""
    latest: dict[str, bytes] = {}
    changed = asyncio.Event()
    response = surface_service_pb2.WatchSurfacesResponse.FromString(message)
    end = surface_service_pb2.WatchSurfacesResponse(
        snapshot_end=surface_service_pb2.SnapshotEnd(), epoch="bare", resume_token="bare"
    ).SerializeToString()

    readers = 0
    complete = asyncio.Event()

    async def stream(request: bytes, context: Any) -> None:
        nonlocal readers
        await context.write(end)
        readers += 1
        if readers == count:
            complete.set()
        sent: dict[str, bytes] = {}
        while True:
            event = changed
            for name, current in list(latest.items()):
                if sent.get(name) is not current:
                    sent[name] = current
                    await context.write(current)
            await event.wait()

    handler: Any = grpc.unary_stream_rpc_method_handler(stream)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    await complete.wait()
    turn, due = 0, monotonic()
    while True:
        due += 1.0 / rate
        await asyncio.sleep(max(0.0, due - monotonic()))
        told_of(response).spot = spot_at(monotonic(), start)
        latest[NAMES[turn % len(NAMES)]] = response.SerializeToString()
        turn += 1
        event, changed = changed, asyncio.Event()
        event.set()


if __name__ == "__main__":
    if sys.argv[1] == "watchers":
        asyncio.run(watchers(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5])))
    else:
        asyncio.run(
            bare(
                Path(sys.argv[2]).read_bytes(),
                float(sys.argv[3]),
                float(sys.argv[4]),
                int(sys.argv[5]),
            )
        )
