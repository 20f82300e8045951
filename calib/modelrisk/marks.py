"""Operator marks on a surface: applied, proved like any other, refused where they cannot be.

A raw SVI smile is one to one with its value, slope and curvature at the money and its two wing
slopes: with w, w′, w″ at k = 0 and β_L, β_R,

    b = (β_L + β_R)/2,  ρ = (β_R − β_L)/(β_R + β_L),  β = m/R = ρ − w′/b,  R = b(1 − β²)/w″,
    m = βR,  σ = R√(1 − β²),  a = w − b(R − ρm),

from w = a + b(R − ρm), w′ = b(ρ − m/R), w″ = bσ²/R³ and R² = m² + σ² (Gatheral & Jacquier 2014,
equation 3.1, at k = 0). A mark moves one of the five and holds the others, but for the vol at the
money, which moves the smile in proportion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite, sqrt
from typing import NamedTuple

import numpy as np

from calib.conventions import iso, micros_of
from calib.errors import InvalidSurface
from calib.models import svi
from calib.models.svi import SviParameters
from calib.states import ModelName
from calib.surface.marks import Mark, MarkHandle
from calib.surface.surface import Surface


class AtmHandles(NamedTuple):
    """w, dw/dk and d²w/dk² at k = 0 and the slopes of the wings, all of total variance."""

    w: float
    slope: float
    curvature: float
    left: float
    right: float


@dataclass(frozen=True)
class Refusal:
    """A mark that is not in the surface, and why."""

    mark: Mark
    reason: str


@dataclass(frozen=True)
class Marked:
    """A surface with the marks that it could take, which it names, and those that it could not."""

    surface: Surface
    refused: tuple[Refusal, ...] = ()


def to_atm_handles(parameters: Sequence[float]) -> AtmHandles:
    """The handles of raw SVI parameters (a, b, ρ, m, σ)."""
    _, b, rho, _, _ = parameters
    p = SviParameters(*parameters)
    return AtmHandles(
        float(svi.total_variance(p, 0.0)),
        float(svi.slope(p, 0.0)),
        float(svi.curvature(p, 0.0)),
        b * (1.0 - rho),
        b * (1.0 + rho),
    )


def from_atm_handles(handles: AtmHandles) -> SviParameters:
    """Their inverse; raises InvalidSurface where no smile has them: a slope at the money outside
    those of the wings, wings that fall or are steeper than 1.95, variance or curvature not
    positive."""
    w, slope, curvature, left, right = handles
    if not (w > 0.0 and curvature > 0.0 and isfinite(curvature)):
        raise InvalidSurface(
            f"variance {w:.3g} and curvature {curvature:.3g} at the money must be positive"
        )
    for name, wing in (("left", left), ("right", right)):
        if not 0.0 < wing < svi.WING_CAP:
            raise InvalidSurface(
                f"the {name} wing must rise by less than {svi.WING_CAP}, not {wing:.3g}"
            )
    if not -left < slope < right:
        raise InvalidSurface(
            f"a slope of {slope:.3g} at the money lies outside those of the wings, "
            f"{-left:.3g} to {right:.3g}"
        )
    b, rho = 0.5 * (left + right), (right - left) / (right + left)
    beta = rho - slope / b
    flat = (1.0 - beta) * (1.0 + beta)
    radius = b * flat / curvature
    m = beta * radius
    return SviParameters(w - b * (radius - rho * m), b, rho, m, radius * sqrt(flat))


def apply_marks(surface: Surface, marks: Sequence[Mark], now: np.datetime64) -> Marked:
    """The surface under the marks in force at ``now``.

    Of one expiry the vol at the money is marked first, then the skew, then the wings. Where the
    surface with all of them has no proof, each is added in turn and kept if there is one with it.
    Covariances stay: what a mark is worth is not told by the quotes.
    """
    # An expiry's marks in the order of their handles, so that a later one holds the earlier.
    live = sorted((mark for mark in marks if mark.in_force(now)), key=lambda mark: mark.handle)
    if not live:
        return Marked(surface)
    if surface.model is not ModelName.SVI:
        reason = f"marks are made on SVI surfaces, this one is {surface.model.name}"
        return Marked(surface, tuple(Refusal(mark, reason) for mark in live))
    try:
        return Marked(_certified(surface, live))
    except InvalidSurface:
        pass  # one of them cannot be had: which?
    kept: list[Mark] = []
    best, refused = surface, []
    for mark in live:
        try:
            best = _certified(surface, [*kept, mark])
        except InvalidSurface as error:
            refused.append(Refusal(mark, str(error)))
        else:
            kept.append(mark)
    return Marked(best, tuple(refused))


def _certified(surface: Surface, marks: Sequence[Mark]) -> Surface:
    """The surface under these marks; raises InvalidSurface where it cannot be had or proved."""
    from calib.fitting.proof import proof_of  # compiles on first use

    parameters = {micros_of(one.expiry): one.parameters for one in surface.expiries}
    years = {micros_of(one.expiry): one.years for one in surface.expiries}
    for mark in marks:
        moment = micros_of(mark.expiry)
        if moment not in parameters:
            raise InvalidSurface(f"there is no expiry {iso(mark.expiry)}")
        parameters[moment] = _marked(parameters[moment], years[moment], mark)
    moved = tuple(parameters.values())
    certificate = proof_of(surface, surface.expiries, np.array(moved, np.float64).T)
    if not certificate.arbitrage_free:
        raise InvalidSurface(
            f"the marked surface is not proved free of arbitrage: {certificate.detail}"
        )
    expiries = tuple(
        replace(one, parameters=p) for one, p in zip(surface.expiries, moved, strict=True)
    )
    return replace(surface, expiries=expiries, certificate=certificate, marks=tuple(marks))


def _marked(parameters: Sequence[float], years: float, mark: Mark) -> tuple[float, ...]:
    handles = to_atm_handles(parameters)
    vol = sqrt(handles.w / years)
    skew = handles.slope / (2.0 * vol * years)
    match mark.handle:
        case MarkHandle.ATM_VOL:
            target = mark.value if mark.pinned else vol + mark.value
            if not target > 0.0:
                raise InvalidSurface(f"the vol at the money would be {target:.4g}")
            a, b, *rest = parameters
            scale = (target / vol) ** 2
            return (scale * a, scale * b, *rest)
        case MarkHandle.SKEW:
            target = mark.value if mark.pinned else skew + mark.value
            # The curvature of the vol is held, not that of its square.
            bend = handles.curvature + 2.0 * years * (target * target - skew * skew)
            moved = handles._replace(slope=2.0 * vol * years * target, curvature=bend)
        case MarkHandle.LEFT_WING:
            moved = handles._replace(left=mark.value + (0.0 if mark.pinned else handles.left))
        case MarkHandle.RIGHT_WING:
            moved = handles._replace(right=mark.value + (0.0 if mark.pinned else handles.right))
    return from_atm_handles(moved)
