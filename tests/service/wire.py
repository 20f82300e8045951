"""The events of a watch as they come over the wire, whole surfaces and moves alike."""

from __future__ import annotations

from calib.v1 import surface_pb2, surface_service_pb2


def told_of(
    response: surface_service_pb2.WatchSurfacesResponse,
) -> surface_pb2.Surface | surface_service_pb2.SurfaceMove:
    """What a surface event tells: both kinds have an underlying, a model, a revision and a spot."""
    update = response.surface
    return update.move if update.HasField("move") else update.surface
