"""A client that knows of calib only what the server says by reflection.

Run as a script with the server's address; prints what it received as JSON. It imports nothing of
the project: messages and methods come from the descriptors that the server hands out.
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

START = 1_772_438_400  # seconds since the epoch
WEEK = 7 * 86_400


def main(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        services = sorted(database.get_services())
        pool = DescriptorPool(database)

        def call(service: str, method: str) -> tuple[Any, Any]:
            found = pool.FindServiceByName(f"calib.v1.{service}").FindMethodByName(method)
            request = GetMessageClass(found.input_type)
            answer = GetMessageClass(found.output_type)
            kind = channel.unary_stream if found.server_streaming else channel.unary_unary
            path = f"/calib.v1.{service}/{method}"
            return request, kind(
                path,
                request_serializer=request.SerializeToString,
                response_deserializer=answer.FromString,
            )

        new_watch, watch = call("SurfaceService", "WatchSurfaces")
        events = watch(new_watch(underlyings=["COFFEE"]), timeout=60.0)
        kinds = [next(events).WhichOneof("event")]

        new_batch, publish = call("QuoteService", "PublishQuoteBatch")
        acknowledged = publish(chain(new_batch()), timeout=10.0).ack
        event = next(events)
        while event.WhichOneof("event") == "heartbeat":
            event = next(events)
        kinds.append(event.WhichOneof("event"))
        surface = event.surface.surface
        events.cancel()

        new_get, get = call("SurfaceService", "GetSurface")
        again = get(new_get(underlying="COFFEE"), timeout=10.0).update.surface
        smile = surface.expiries[0]
        json.dump(
            {
                "services": services,
                "accepted": acknowledged.accepted_rows,
                "rejected": [(row.row, row.column, row.value) for row in acknowledged.rejected],
                "sequence": acknowledged.sequence,
                "events": kinds,
                "same": again == surface,
                "revision": surface.revision,
                "epoch_matches": surface.epoch == event.epoch,
                "model": smile.WhichOneof("parameters"),
                "expiries": len(surface.expiries),
                "vol": volatility(smile, 200.0),
            },
            sys.stdout,
        )


def chain(request: Any) -> Any:
    """Two expiries of a smile in vol at a forward of 200, and one row that cannot be used."""
    batch = request.quotes
    batch.venue, batch.underlying, batch.sequence = "exchange", "COFFEE", 11
    batch.quote_time.seconds = START
    batch.unit = 3  # volatility
    batch.snapshot_complete = True
    for weeks in (2, 8):
        batch.expiries.add(seconds=START + weeks * WEEK)
    for index in (0, 1):
        for step in range(-6, 7):
            k = 0.05 * step
            vol = 0.35 - 0.1 * k + 0.5 * k * k
            add(batch, index, 200.0 * math.exp(k), 2 if k < 0.0 else 1, vol - 0.005, vol + 0.005)
    add(batch, 0, -7.0, 1, 0.3, 0.4)
    return request


def add(batch: Any, index: int, strike: float, right: int, bid: float, ask: float) -> None:
    batch.expiry_index.append(index)
    batch.strike.append(strike)
    batch.right.append(right)
    batch.bid.append(bid)
    batch.ask.append(ask)
    batch.forward.append(200.0)


def volatility(smile: Any, strike: float) -> float:
    """The vol at a fitted expiry, by the rule in the comments of the protocol."""
    p, k = smile.svi, math.log(strike / smile.forward)
    w = p.a + p.b * (p.rho * (k - p.m) + math.hypot(k - p.m, p.sigma))
    return math.sqrt(w / smile.years)


if __name__ == "__main__":
    main(sys.argv[1])
