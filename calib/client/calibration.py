"""A calibration on request: its message, and its answer as columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calib.conventions import Bools, ExpiryCalendar, Floats, Instants, Ints
from calib.quotes.table import QuoteTable
from calib.service.conversion import batches_of, instants_of
from calib.states import FitState
from calib.surface.surface import Surface
from calib.v1 import calibration_service_pb2, surface_pb2


@dataclass(frozen=True)
class Residuals:
    """How each row was used, a row of the request an entry; vols are decimals, nan where missing.

    ``residual`` is model minus mid; ``weight`` that of its square in the fit, 0 where the row was
    not used; ``reason`` a :class:`calib.quotes.reasons.Reason`; ``expiry`` NaT where it had none.
    """

    expiry: Instants
    strike: Floats
    right: NDArray[np.int8]
    bid_vol: Floats
    mid_vol: Floats
    ask_vol: Floats
    model_vol: Floats
    residual: Floats
    weight: Floats
    used: Bools
    reason: NDArray[np.int8]


@dataclass(frozen=True)
class Calibration:
    """What a chain gave: the surface (None: no expiry could be fitted), and how each row and each
    expiry fared."""

    surface: Surface | None
    residuals: Residuals
    expiries: Instants
    states: tuple[FitState, ...]


def calibration_request(
    quotes: QuoteTable, model: surface_pb2.Model.ValueType, calendar: ExpiryCalendar
) -> tuple[calibration_service_pb2.CalibrateRequest, Ints]:
    """The request, and the position in the table of each of its rows."""
    parts = list(batches_of(quotes))
    request = calibration_service_pb2.CalibrateRequest(
        batches=[batch for batch, _ in parts],
        model=model,
        calendar=surface_pb2.ExpiryCalendar.ValueType(calendar),
    )
    return request, np.concatenate([rows for _, rows in parts] or [np.empty(0, np.int64)])


def calibration_of(
    response: calibration_service_pb2.CalibrateResponse, position: Ints
) -> Calibration:
    """The answer in a message, with its rows put where they stood in the table."""
    rows = response.residuals
    order = np.argsort(position)
    listed = np.append(instants_of(rows.expiries), np.datetime64("NaT", "us"))
    return Calibration(
        surface=Surface.from_proto(response.surface) if response.HasField("surface") else None,
        residuals=Residuals(
            expiry=listed[np.array(rows.expiry_index, np.int64)][order],
            strike=np.array(rows.strike)[order],
            right=np.array(rows.right, np.int8)[order],
            bid_vol=np.array(rows.bid_vol)[order],
            mid_vol=np.array(rows.mid_vol)[order],
            ask_vol=np.array(rows.ask_vol)[order],
            model_vol=np.array(rows.model_vol)[order],
            residual=np.array(rows.residual)[order],
            weight=np.array(rows.weight)[order],
            used=np.array(rows.used, bool)[order],
            reason=np.array(rows.reason, np.int8)[order],
        ),
        expiries=instants_of([one.expiry for one in response.outcomes]),
        states=tuple(FitState(one.diagnostics.state) for one in response.outcomes),
    )
