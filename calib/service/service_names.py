"""The full names of the services, as calls, health and reflection say them."""

from __future__ import annotations

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from calib.v1 import (
    calibration_service_pb2,
    model_risk_service_pb2,
    quote_service_pb2,
    surface_service_pb2,
)

QUOTES = quote_service_pb2.DESCRIPTOR.services_by_name["QuoteService"].full_name
CALIBRATION = calibration_service_pb2.DESCRIPTOR.services_by_name["CalibrationService"].full_name
SURFACES = surface_service_pb2.DESCRIPTOR.services_by_name["SurfaceService"].full_name
MODEL_RISK = model_risk_service_pb2.DESCRIPTOR.services_by_name["ModelRiskService"].full_name
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].full_name
