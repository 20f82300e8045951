"""A surface under moved levels, between two fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import exp, log
from statistics import median

import numpy as np

from calib.arbitrage.certificate import Certificate
from calib.errors import InvalidSurface
from calib.states import ModelName
from calib.surface.surface import ExpirySlice, Surface

_LEAST_SCALE = 0.5
_STEP = 0.01  # of an ATM standard deviation

VARIANCE_PLACES = {ModelName.SVI: (0, 1), ModelName.ESSVI: (0, 2)}
"""Places of the parameters that total variance is proportional to, all taken together."""


def with_levels(
    surface: Surface,
    factors: Sequence[float],
    spot: float | None = None,
    variance_scale: float = 1.0,
) -> Surface:
    """The surface with the forward of expiry i multiplied by ``factors[i]``, a new spot, and all
    total variances multiplied by ``variance_scale``.

    Every smile stays the same function of log-moneyness (sticky moneyness), but for the scale, so
    that what was proved about its arbitrage holds as before, with a scale up to the headroom (see
    `calib.fitting.headroom`). ``quote_time`` stays too: the smiles are as old as they were. Forward
    errors move in proportion; ``spot`` None keeps the one it has.
    Raises InvalidSurface where a factor, the scale or the spot is not positive and finite, where
    their number is not that of the expiries, and for a scale of SABR, which has no parameters for
    it.
    """
    if len(factors) != len(surface.expiries):
        raise InvalidSurface(f"{len(factors)} factors for {len(surface.expiries)} expiries")
    moved = tuple(
        replace(one, forward=one.forward * factor, forward_error=one.forward_error * factor)
        for one, factor in zip(surface.expiries, factors, strict=True)
    )
    certificate = surface.certificate
    if variance_scale != 1.0:
        if surface.model not in VARIANCE_PLACES:
            raise InvalidSurface(f"variance_scale is {variance_scale!r}, must be 1 for SABR")
        if not 0.0 < variance_scale < float("inf"):
            raise InvalidSurface(f"variance_scale is {variance_scale!r}, must be positive")
        moved = tuple(_scaled(one, VARIANCE_PLACES[surface.model], variance_scale) for one in moved)
        certificate = _after(certificate, variance_scale)
    return replace(
        surface,
        expiries=moved,
        spot=surface.spot if spot is None else spot,
        certificate=certificate,
    )


def variance_scale(
    model: ModelName, lean: float, factors: Sequence[float], stickiness: float, headroom: float
) -> float:
    """By what moved forwards scale the variances of a surface, within its ``headroom``; 1 for SABR,
    which has no parameters for a scale.

    With x the median logarithm of the ``factors`` and a ``lean`` of ∂ln σ/∂k at the forward the vol
    at the money moves by dσ/σ = R·lean·x, R the skew-stickiness ratio (Bergomi, Stochastic
    Volatility Modeling, 2016, §9.2); one scale for all expiries, so that calendar margins stay.
    """
    if model not in VARIANCE_PLACES or not factors or headroom < 1.0:
        return 1.0
    wanted = exp(2.0 * stickiness * lean * log(median(factors)))
    return min(max(wanted, _LEAST_SCALE), headroom)


def lean_of(surface: Surface) -> float:
    """∂ln σ/∂k at the forward, the median over expiries; 0 without expiries."""
    if not surface.expiries:
        return 0.0
    years = np.array([one.years for one in surface.expiries])
    step = _STEP * np.sqrt(surface.total_variance(0.0, years))
    low, high = surface.total_variance(-step, years), surface.total_variance(step, years)
    return float(np.median(np.log(high / low) / (4.0 * step)))


def at_time(model: ModelName, one: ExpirySlice, years: float, variance_time: float) -> ExpirySlice:
    """The smile when ``years`` are left to its expiry, its vols held: total variance shrinks like
    the time left. SABR's parameters are those of a vol, and stay."""
    places = VARIANCE_PLACES.get(model, ())
    aged = _scaled(one, places, years / one.years) if places else one
    return replace(aged, years=years, variance_time=variance_time)


def _scaled(one: ExpirySlice, places: tuple[int, ...], scale: float) -> ExpirySlice:
    size = len(one.parameters)
    factor = [scale if place in places else 1.0 for place in range(size)]
    theta, rho, psi = one.anchor or (0.0, 0.0, 0.0)
    return replace(
        one,
        parameters=tuple(value * by for value, by in zip(one.parameters, factor, strict=True)),
        covariance=tuple(
            value * factor[i // size] * factor[i % size] for i, value in enumerate(one.covariance)
        ),
        anchor=(theta * scale, rho, psi * scale) if one.anchor else (),
    )


def _after(certificate: Certificate, scale: float) -> Certificate:
    """g of scaled variances is concave in the scale and not negative at 0: below 1 it is at least
    the scale times its bound, and above, within the headroom, at least 0. What was no bound stays
    none."""
    margin = certificate.butterfly_margin
    return replace(
        certificate, butterfly_margin=min(margin * scale, margin if scale < 1.0 else 0.0)
    )
