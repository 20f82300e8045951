"""How far a smile has moved since the last surface: in handles, and against its own error bars."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, nan, sqrt

import numpy as np

from calib.conventions import Floats, micros_of
from calib.models import svi
from calib.states import ModelName
from calib.surface.smiles import FORMULAS
from calib.surface.surface import ExpirySlice, Surface
from calib.surface.transport import VARIANCE_PLACES
from calib.surface.validation import PARAMETER_NAMES


@dataclass(frozen=True)
class ParameterMove:
    """The move of one smile, nan where there is none to compare with.

    ``forward`` is ln(F′/F); ``atm_vol``, ``skew`` and ``curvature`` are differences of σ, dσ/dk and
    d²σ/dk² at k = 0, the handles of `calib.surface.handles`.
    ``mahalanobis`` is d = √(δᵀ(C + C′)⁻¹δ) of the parameters, with both covariances, over the
    directions that they know (Mahalanobis, "On the generalised distance in statistics", 1936); d²
    is χ² of ``freedom`` degrees where the smiles are independent and nothing but their errors
    moves them. Fits that remember the last surface are closer than that.
    """

    forward: float = nan
    atm_vol: float = nan
    skew: float = nan
    curvature: float = nan
    mahalanobis: float = nan
    freedom: int = 0


def parameter_moves(surface: Surface, previous: Surface | None) -> tuple[ParameterMove, ...]:
    """The move of each expiry of ``surface`` since ``previous``.

    The old smile is taken as the same function of log-moneyness in vol, its total variance in
    proportion to the years that are left.
    """
    if previous is None or previous.model is not surface.model or not previous.expiries:
        return tuple(ParameterMove() for _ in surface.expiries)
    old = {micros_of(one.expiry): one for one in previous.expiries}
    found = [(one, old.get(micros_of(one.expiry))) for one in surface.expiries]
    return tuple(
        ParameterMove() if other is None else _move(surface.model, one, other)
        for one, other in found
    )


def _move(model: ModelName, one: ExpirySlice, other: ExpirySlice) -> ParameterMove:
    now, before = _at_the_money(model, one), _at_the_money(model, other)
    distance, freedom = _mahalanobis(model, one, other)
    vol, skew, curvature = (new - old for new, old in zip(now, before, strict=True))
    return ParameterMove(log(one.forward / other.forward), vol, skew, curvature, distance, freedom)


def _at_the_money(model: ModelName, one: ExpirySlice) -> tuple[float, float, float]:
    """σ, σ′ and σ″ at k = 0 from w = σ²T: σ′ = w′/(2σT), σ″ = (w″/(2T) − σ′²)/σ."""
    formula, k = FORMULAS[model], 0.0
    vol = sqrt(formula.total_variance(one.parameters, k, one.years) / one.years)
    skew = formula.slope(one.parameters, k, one.years) / (2.0 * vol * one.years)
    bend = 0.5 * formula.curvature(one.parameters, k, one.years) / one.years
    return vol, float(skew), float((bend - skew * skew) / vol)


def _mahalanobis(model: ModelName, one: ExpirySlice, other: ExpirySlice) -> tuple[float, int]:
    if not (one.covariance and other.covariance):
        return nan, 0
    count = len(one.parameters)
    scale = _time_scale(model, one.years / other.years)
    delta = np.array(one.parameters) - scale * np.array(other.parameters)
    total = np.reshape(one.covariance, (count, count)) + np.outer(scale, scale) * np.reshape(
        other.covariance, (count, count)
    )
    spread = np.sqrt(np.diagonal(total))
    known = spread > 0.0  # SABR's beta is given, and has no error
    if not known.any():
        return nan, 0
    whitened = delta[known] / spread[known]
    values, vectors = np.linalg.eigh(correlation(total))
    # Directions that rounding alone decides say nothing about a move.
    firm = values > 1e-12 * values[-1]
    along = vectors.T[firm] @ whitened
    return sqrt(float(np.sum(along * along / values[firm]))), int(firm.sum())


def _time_scale(model: ModelName, longer: float) -> Floats:
    """What parameters become when vol is held and the time left is ``longer`` times what it was."""
    scale = np.ones(len(PARAMETER_NAMES[model]))
    scale[list(VARIANCE_PLACES.get(model, ()))] = longer
    return scale


def correlation(covariance: Floats) -> Floats:
    """The correlation matrix of the entries whose variance is positive."""
    spread = np.sqrt(covariance.diagonal())
    known = spread > 0.0
    if not known.all():
        covariance, spread = covariance[known][:, known], spread[known]
    return np.asarray(covariance / (spread[:, None] * spread), np.float64)


def condition_number(covariance: tuple[float, ...]) -> float:
    """√cond of the parameters' correlation matrix, nan where no covariance is known.

    The covariance scaled to unit variances: of all scalings of the parameters it is within a factor
    √P of the best (van der Sluis, "Condition numbers and equilibration of matrices", Numerische
    Mathematik 14 (1969), theorem 4.1). A fit's covariance is a sandwich H⁻¹JH⁻¹ of the curvature H
    of its objective, priors and memory included, and of what the noise of the quotes does to its
    slope, J, so that this is not the condition of a Jacobian, but of what is known of the
    parameters. 1 is best; at 1e8 a direction is decided by rounding.
    """
    if not covariance:
        return nan
    size = round(sqrt(len(covariance)))
    matrix = correlation(np.reshape(covariance, (size, size)))
    if not matrix.size or not np.isfinite(matrix).all():
        return nan
    values = np.linalg.eigvalsh(matrix)
    return sqrt(values[-1] / values[0]) if values[0] > 0.0 else float("inf")


def bound_distance(model: ModelName, parameters: tuple[float, ...]) -> float:
    """How far a smile lies inside its domain: the least of the shares below, 0 on a bound.

    SVI: 1 − |ρ|, 1 − β/1.95 of the steeper wing, and the least variance over that at the money;
    eSSVI: 1 − |ρ| and 1 − ψ(1 + |ρ|)/4 (Lee's bound); SABR: 1 − |ρ|.
    """
    match model:
        case ModelName.SVI:
            a, b, rho, m, sigma = parameters
            steepest = b * (1.0 + abs(rho))
            lowest = a + b * sigma * sqrt(max((1.0 - rho) * (1.0 + rho), 0.0))
            share = lowest / float(svi.total_variance((a, b, rho, m, sigma), 0.0))
            return min(1.0 - abs(rho), 1.0 - steepest / svi.WING_CAP, share)
        case ModelName.ESSVI:
            _, rho, psi = parameters
            return min(1.0 - abs(rho), 1.0 - psi * (1.0 + abs(rho)) / 4.0)
        case ModelName.SABR:
            return 1.0 - abs(parameters[2])
