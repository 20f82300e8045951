"""Values of a surface for readers that do not evaluate it themselves."""

from __future__ import annotations

import numpy as np

from calib.conventions import ExpiryCalendar, Floats, years_between
from calib.service.conversion import instants_of
from calib.service.hub import Published
from calib.service.refusals import InvalidField
from calib.surface.surface import Surface
from calib.v1 import surface_service_pb2

MOST_POINTS, MOST_EXPIRIES = 100_000, 10_000
"""Points and expiries of one request, as the protocol states."""


def evaluated(
    published: Published, request: surface_service_pb2.EvaluateSurfaceRequest
) -> surface_service_pb2.EvaluateSurfaceResponse:
    """The values at the points of a request.

    Raises InvalidField for columns of different length, too many points or expiries, or an index
    that points at no expiry.
    """
    points = len(request.strike)
    if points > MOST_POINTS:
        raise InvalidField("strike", f"{points} points are more than {MOST_POINTS}")
    if len(request.expiries) > MOST_EXPIRIES:
        raise InvalidField("expiries", f"{len(request.expiries)} are more than {MOST_EXPIRIES}")
    if len(request.expiry_index) != points:
        raise InvalidField(
            "expiry_index", f"has {len(request.expiry_index)} entries, strike {points}"
        )
    index = np.array(request.expiry_index, np.int64)
    astray = np.flatnonzero((index < 0) | (index >= len(request.expiries)))
    if len(astray):
        i = int(astray[0])
        raise InvalidField(
            f"expiry_index[{i}]", f"{index[i]} points at none of {len(request.expiries)} expiries"
        )
    surface, message = published.surface, published.update.surface
    strike = np.array(request.strike, np.float64)
    years = years_between(surface.quote_time, instants_of(request.expiries))[index]
    known = np.flatnonzero(_has_value(surface, years))
    strike_there, years_there = strike[known], years[known]

    def spread(values: Floats) -> list[float]:
        column = np.full(points, np.nan)
        column[known] = values
        return list(column.tolist())

    extrapolated = np.ones(points, bool)
    extrapolated[known] = surface.is_extrapolated(strike_there, years_there)
    with np.errstate(divide="ignore", invalid="ignore"):
        forward = surface.forward(years_there)
        k = np.where(strike_there > 0.0, np.log(np.abs(strike_there) / forward), np.nan)
    return surface_service_pb2.EvaluateSurfaceResponse(
        epoch=message.epoch,
        revision=message.revision,
        quote_time=message.quote_time,
        state=published.update.state,
        level=published.update.risk.level,
        vol=spread(surface.implied_vol(strike_there, years_there)),
        total_variance=spread(surface.total_variance(k, years_there)),
        forward=spread(forward),
        discount_factor=spread(surface.discount_factor(years_there)),
        vol_error=spread(surface.vol_error(strike_there, years_there)),
        extrapolated=extrapolated.tolist(),
    )


def _has_value(surface: Surface, years: Floats) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Points at which asking makes sense: between independent expiries there is nothing."""
    there = np.isfinite(years) & (years > 0.0)
    if surface.calendar is ExpiryCalendar.INDEPENDENT:
        there &= np.isin(years, [one.years for one in surface.expiries])
    return there
