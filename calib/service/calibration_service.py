"""CalibrationService: one chain in, its surface, residuals and outcomes out; nothing published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from calib.conventions import ExpiryCalendar
from calib.quotes.chain import chain_at
from calib.quotes.table import joined
from calib.service.conversion import quotes_of
from calib.service.engine import Engine
from calib.service.fit_thread import FitJob
from calib.service.readiness import Readiness
from calib.service.refusals import InvalidField
from calib.states import ModelName
from calib.surface.messages import diagnostics_to_proto, timestamp
from calib.v1 import calibration_service_pb2, calibration_service_pb2_grpc

if TYPE_CHECKING:
    from calib.fitting.fit_value import Fit

MOST_ROWS = 100_000
"""Rows of one request, as the protocol states."""


class CalibrationServicer(calibration_service_pb2_grpc.CalibrationServiceServicer):
    """Fits on the engine's thread, in turn with the live surfaces."""

    def __init__(self, engine: Engine, readiness: Readiness) -> None:
        self._engine = engine
        self._readiness = readiness

    async def Calibrate(
        self, request: calibration_service_pb2.CalibrateRequest, context: Any
    ) -> calibration_service_pb2.CalibrateResponse:
        """Fit one chain."""
        self._readiness.require_warm()
        check(request)
        return await self._engine.calibrate(lambda: job_of(request), response_of)


def check(request: calibration_service_pb2.CalibrateRequest) -> None:
    """Raise InvalidField for what can be told wrong without reading the rows."""
    if not request.batches:
        raise InvalidField("batches", "there is none; send the quotes of one underlying")
    names = {batch.underlying for batch in request.batches}
    if len(names) > 1:
        raise InvalidField("batches", f"name several underlyings: {', '.join(sorted(names))}")
    if not names.pop().strip():
        raise InvalidField("batches[0].underlying", "is empty")
    rows = sum(len(batch.strike) for batch in request.batches)
    if rows > MOST_ROWS:
        raise InvalidField("batches", f"{rows} rows together are more than {MOST_ROWS}")
    if request.model and request.model not in [int(model) for model in ModelName]:
        raise InvalidField("model", f"{request.model} is not a model that this server fits")
    if request.calendar and request.calendar not in [int(one) for one in ExpiryCalendar]:
        raise InvalidField("calendar", f"{request.calendar} is not a calendar of this version")


def job_of(request: calibration_service_pb2.CalibrateRequest) -> FitJob:
    """The chain of a checked request, at the latest of its quote times.

    Raises InvalidField where a batch cannot be read as a whole, or no row has a quote time.
    """
    tables = [quotes_of(batch, f"batches[{i}]") for i, batch in enumerate(request.batches)]
    quotes = joined(tables)
    times = quotes.quote_time[~np.isnat(quotes.quote_time)]
    if not len(times):
        raise InvalidField("batches", "no row has a quote time")
    chain = chain_at(quotes, request.batches[0].underlying, times.max())
    model = ModelName(request.model) if request.model else ModelName.SVI
    calendar = ExpiryCalendar(request.calendar) if request.calendar else ExpiryCalendar.SAME_ASSET
    return FitJob(chain, model, calendar)


def response_of(fit: Fit) -> calibration_service_pb2.CalibrateResponse:
    """Surface, residuals and outcomes as a message; the surface only where it has an expiry."""
    response = calibration_service_pb2.CalibrateResponse(
        residuals=residuals_of(fit),
        outcomes=[
            calibration_service_pb2.ExpiryOutcome(
                expiry=timestamp(expiry), diagnostics=diagnostics_to_proto(diagnostics)
            )
            for expiry, diagnostics in zip(fit.slices.expiry, fit.slice_diagnostics, strict=True)
        ],
    )
    if fit.surface.expiries:
        response.surface.CopyFrom(fit.surface.to_proto())
    return response


def residuals_of(fit: Fit) -> calibration_service_pb2.Residuals:
    """How each row was used."""
    slices, quotes, used = fit.slices, fit.slices.chain.quotes, fit.used
    mid_vol = slices.mid_vol
    listed = np.unique(quotes.expiry[~np.isnat(quotes.expiry)])
    index = np.where(np.isnat(quotes.expiry), -1, np.searchsorted(listed, quotes.expiry))
    weight = np.zeros(len(quotes))
    weight[used] = slices.noise[used] ** -2.0
    return calibration_service_pb2.Residuals(
        expiries=[timestamp(moment) for moment in listed],
        expiry_index=index.tolist(),
        strike=quotes.strike.tolist(),
        right=quotes.right.tolist(),
        bid_vol=slices.bid_vol.tolist(),
        mid_vol=mid_vol.tolist(),
        ask_vol=slices.ask_vol.tolist(),
        model_vol=fit.model_vol.tolist(),
        residual=(fit.model_vol - mid_vol).tolist(),
        weight=weight.tolist(),
        used=used.tolist(),
        reason=fit.reason.tolist(),
    )
