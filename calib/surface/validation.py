"""What makes a surface a surface: every check on its construction, named with its value."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import inf, isfinite, isnan, sqrt
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np

from calib.conventions import ExpiryCalendar, iso
from calib.errors import InvalidSurface
from calib.models.essvi import EssviParameters
from calib.models.sabr import SabrParameters
from calib.models.svi import SviParameters
from calib.states import ModelName
from calib.surface.instants import elapsed_years

if TYPE_CHECKING:
    from calib.surface.surface import ExpirySlice, Surface

PARAMETERS: dict[ModelName, type[SviParameters | EssviParameters | SabrParameters]] = {
    ModelName.SVI: SviParameters,
    ModelName.ESSVI: EssviParameters,
    ModelName.SABR: SabrParameters,
}
"""The named tuple that holds a slice's parameters, by model."""

PARAMETER_NAMES: dict[ModelName, tuple[str, ...]] = {
    ModelName.SVI: SviParameters._fields,
    ModelName.ESSVI: EssviParameters._fields,
    ModelName.SABR: SabrParameters._fields,
}
"""Names of the parameters in their order, by model."""

_MINIMUM_SLACK = 8 * float(np.finfo(np.float64).eps)
"""An SVI minimum of exactly 0 comes back from a + bσ√(1−ρ²) as this times the terms."""


def named_parameters(model: ModelName, parameters: Sequence[float]) -> tuple[float, ...]:
    """The parameters as the model's named tuple; raises InvalidSurface for a wrong number."""
    names = PARAMETER_NAMES[model]
    if len(parameters) != len(names):
        raise InvalidSurface(
            f"{model.name} has the {len(names)} parameters {', '.join(names)}; "
            f"got {len(parameters)}: {tuple(parameters)!r}"
        )
    return PARAMETERS[model](*map(float, parameters))


def check_surface(surface: Surface) -> None:
    """Raise InvalidSurface for the first thing that contradicts the meaning of a surface."""
    if not surface.underlying:
        raise InvalidSurface("a surface needs the name of its underlying; got ''")
    if np.isnat(surface.quote_time):
        raise InvalidSurface(f"surface of {surface.underlying} without a quote_time")
    _member(surface.model, ModelName, "model")
    _member(surface.calendar, ExpiryCalendar, "calendar")
    spot = surface.spot
    if spot is not None:
        _require(0.0 < spot < np.inf, "spot", spot, "positive and finite, or None")
    _require(0.0 <= surface.blend <= 1.0, "blend", surface.blend, "from 0 to 1")
    for one in surface.expiries:
        try:
            _check_slice(surface, one)
        except InvalidSurface as error:
            raise InvalidSurface(f"expiry {iso(one.expiry)}: {error}") from None
    for before, after in pairwise(surface.expiries):
        if not after.expiry > before.expiry:
            raise InvalidSurface(
                f"expiries must ascend, without repeats; {iso(after.expiry)} "
                f"stands after {iso(before.expiry)}"
            )
        if not after.variance_time > before.variance_time:
            raise InvalidSurface(
                f"variance time must ascend with expiry; it goes from {before.variance_time!r} "
                f"at {iso(before.expiry)} to {after.variance_time!r} at {iso(after.expiry)}"
            )
    _check_clock(surface)


def _check_clock(surface: Surface) -> None:
    """Knots ascend in years, agree with the expiries that they fall on, and never fall in τ."""
    knots = surface.variance_clock
    if not knots:
        return
    for knot in knots:
        _require(0.0 < knot.years < np.inf, "variance_clock", knot, "at positive and finite years")
        tau = knot.variance_time
        _require(0.0 <= tau < np.inf, "variance_clock", knot, "at a finite variance time ≥ 0")
    for one, later in pairwise(knots):
        if not later.years > one.years:
            raise InvalidSurface(f"variance_clock must ascend in years; {later} follows {one}")
    points = [(t, tau, "a knot of variance_clock") for t, tau in knots]
    points += [(e.years, e.variance_time, f"expiry {iso(e.expiry)}") for e in surface.expiries]
    points.sort(key=itemgetter(0))
    for (t, tau, name), (t_next, tau_next, other) in pairwise(points):
        if tau_next < tau or (t_next == t and tau_next != tau):
            raise InvalidSurface(
                "variance time must not fall, and be one at one time; "
                f"it is {tau!r} at {t!r} years ({name}) and {tau_next!r} at {t_next!r} ({other})"
            )


def _check_slice(surface: Surface, one: ExpirySlice) -> None:
    years = elapsed_years(surface.quote_time, one.expiry)
    if not years > 0.0:
        raise InvalidSurface(f"is not after the quote time {iso(surface.quote_time)}")
    if one.years != years:
        raise InvalidSurface(f"years is {one.years!r}, must be ACT/365F: {years!r}")
    low, high, error = one.log_moneyness_min, one.log_moneyness_max, one.forward_error
    # In one breath where all is well, which is nearly always: a live surface is made every tick.
    if not (
        0.0 < one.variance_time < inf
        and 0.0 < one.forward < inf
        and 0.0 < one.discount_factor < inf
        and (0.0 <= error < inf or isnan(error))
        and -inf < low <= high < inf
    ):
        _check_numbers(one)
    _check_parameters(surface.model, one.parameters)
    _check_covariance(one.covariance, len(one.parameters))
    if one.anchor:
        _check_parameters(ModelName.ESSVI, one.anchor)


def _check_numbers(one: ExpirySlice) -> None:
    """Raise InvalidSurface for the first number that is none."""
    _positive("variance_time", one.variance_time)
    _positive("forward", one.forward)
    _positive("discount_factor", one.discount_factor)
    error = one.forward_error
    _require(isnan(error) or 0.0 <= error < np.inf, "forward_error", error, "≥ 0, or nan")
    low, high = one.log_moneyness_min, one.log_moneyness_max
    _require(
        isfinite(low) and isfinite(high) and low <= high,
        "quoted range of log-moneyness",
        (low, high),
        "finite, lowest first",
    )


def _check_parameters(model: ModelName, parameters: tuple[float, ...]) -> None:
    named = parameters
    if type(named) is not PARAMETERS[model]:
        named = named_parameters(model, parameters)
    _require(all(map(isfinite, named)), "parameters", named, "finite")
    match named:
        case SviParameters(a=a, b=b, rho=rho, sigma=sigma):
            minimum = a + b * sigma * sqrt(max(0.0, (1.0 - rho) * (1.0 + rho)))
            fine = b >= 0.0 and -1.0 < rho < 1.0 and sigma > 0.0
            fine = fine and minimum >= -_MINIMUM_SLACK * (abs(a) + b * sigma)
            domain = "b ≥ 0, −1 < rho < 1, sigma > 0 and a + b·sigma·√(1−rho²) ≥ 0"
        case EssviParameters(theta, rho, psi):
            fine = theta > 0.0 and -1.0 < rho < 1.0 and psi > 0.0
            domain = "theta > 0, −1 < rho < 1 and psi > 0"
        case SabrParameters(alpha, beta, rho, nu):
            fine = alpha > 0.0 and 0.0 <= beta <= 1.0 and -1.0 < rho < 1.0 and nu >= 0.0
            domain = "alpha > 0, 0 ≤ beta ≤ 1, −1 < rho < 1 and nu ≥ 0"
    _require(fine, "parameters", named, domain)


def _check_covariance(covariance: tuple[float, ...], count: int) -> None:
    if not covariance:
        return
    size = count * count
    if len(covariance) != size:
        raise InvalidSurface(
            f"covariance of {count} parameters has {size} entries; got {len(covariance)}"
        )
    _require(all(map(isfinite, covariance)), "covariance", covariance, "finite")
    variances = covariance[:: count + 1]
    _require(min(variances) >= 0.0, "diagonal of covariance", variances, "≥ 0")


def _positive(name: str, value: float) -> None:
    _require(0.0 < value < np.inf, name, value, "positive and finite")


def _member(value: object, kind: type, name: str) -> None:
    _require(isinstance(value, kind), name, value, f"a {kind.__name__}")


def _require(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise InvalidSurface(f"{name} is {value!r}, must be {wanted}")
