"""The fair strike of a variance swap: the log contract, from all strikes of a smile.

W = E[−2 ln(S_T/F)] is what a continuous path is expected to vary by until T, and what the strip
of out-of-the-money options with weights 2/K² costs (Carr & Madan 1998; Demeterfi et al. 1999).
In the coordinate z = d₂(k) it is the mean of total variance,

    W = ∫ w φ(z) dz = ∫ w(k) φ(d₂) (−d₂′) dk,   d₂ = −k/√w − √w/2

(Gatheral, The Volatility Surface, 2006, chapter 11; Fukasawa 2012), an integral without
cancellation. The second form needs no d₂ that falls everywhere, as it does without arbitrage.

W is finite where the wing slopes of w lie below 2: with slope p the integrand falls on the far
side like e^{−λ|k|}, λ = (1/√p − √p/2)²/2. From a slope of 2 on the left the log contract costs
more than any sum; from 2 on the right calls do not fall to 0 with strike, and there is no law.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan, sqrt
from typing import Any

import numpy as np

from calib.conventions import Floats
from calib.models import essvi
from calib.states import ModelName
from calib.surface.density import normal_density
from calib.surface.directions import standard_error, vol_directions
from calib.surface.evaluation import Evaluator
from calib.surface.quadrature import Nodes, adaptive_nodes
from calib.surface.smiles import Smiles
from calib.surface.timeline import Location

FAR = 1e90
"""A log-moneyness at which every smile has the slope of its wing, in double precision."""

_LAST_Z = 10.0
"""Where the integral is cut: φ(10) is 8e-23."""

_DOUBLINGS = np.exp2(np.arange(-6.0, 200.0))
_LEE_BOUND = 2.0

_VERTEX = np.array([-64.0, -8.0, -1.0, 0.0, 1.0, 8.0, 64.0])
"""Where an SVI smile is cut into panels around its vertex, in units of its σ."""


def variance_swap(evaluator: Evaluator, expiry: Any) -> Any:
    """√(W/t), the fair strike as a vol, for one expiry or an array of them.

    Relative error about 1e-12. inf where the left wing's slope reaches 2; nan where the right one's
    does, at time 0 and before.
    """
    return at_each(evaluator, expiry, _fair_vol)


def variance_swap_error(evaluator: Evaluator, expiry: Any) -> Any:
    """One standard error of `variance_swap` by the delta method; nan where it is not known.

    The vols of all strikes move together as their parameters do: δW = 2√t ∫ φ(d₂) δσ(k) dk, with
    δσ as in `calib.surface.directions`; between expiries (1 − f)·δσ of the lower and f·δσ of the
    upper one, whose errors add up, like those of a vol.
    """
    return at_each(evaluator, expiry, _fair_vol_error)


def at_each(
    evaluator: Evaluator, expiry: Any, function: Callable[[Evaluator, Location], float]
) -> Any:
    """The function at every expiry: a float for one, an array of their shape for many."""
    at = evaluator.locate(expiry)
    if np.ndim(at.years) == 0:
        return function(evaluator, at)
    places = zip(*(np.ravel(part).tolist() for part in at), strict=True)
    found = [function(evaluator, Location(*one)) for one in places]
    return np.array(found, np.float64).reshape(np.shape(at.years))


def total_variance_swap(evaluator: Evaluator, at: Location) -> float:
    """W at one place, as `variance_swap` has it."""
    if not at.years > 0.0:
        return nan
    _, slopes, _ = evaluator.jet(np.array([-FAR, FAR]), at)
    left, right = slopes
    if not (left > -_LEE_BOUND and right < _LEE_BOUND):
        return inf if left <= -_LEE_BOUND and right < _LEE_BOUND else nan
    nodes = _rule(evaluator, at)
    return float(nodes.weights @ _integrand(evaluator, at, nodes.points))


def _fair_vol(evaluator: Evaluator, at: Location) -> float:
    total = total_variance_swap(evaluator, at)
    return sqrt(total / at.years) if total >= 0.0 else nan


def _fair_vol_error(evaluator: Evaluator, at: Location) -> float:
    vol = _fair_vol(evaluator, at)
    if not 0.0 < vol < inf:
        return nan
    k, weights = _rule(evaluator, at)
    w, _, _ = evaluator.jet(k, at)
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(w)
        weights = weights * np.where(w > 0.0, normal_density(k / root + 0.5 * root), 0.0)
    error = 0.0
    for index, share in ((at.lower, 1.0 - at.fraction), (at.upper, at.fraction)):
        if share > 0.0:
            moves = vol_directions(evaluator.smiles, index, k)
            response = np.where(weights > 0.0, moves, 0.0) @ weights
            error += share * float(standard_error(evaluator.smiles, index, response))
    return error / (vol * sqrt(at.years))


def _integrand(evaluator: Evaluator, at: Location, k: Floats) -> Floats:
    """w φ(d₂)(−d₂′)."""
    w, slope, _ = evaluator.jet(k, at)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        root = np.sqrt(w)
        by_k = 0.5 * slope / root
        minus_d2 = k / root + 0.5 * root
        minus_d2_by_k = 1.0 / root - by_k * (k / w - 0.5)
        value = w * normal_density(minus_d2) * minus_d2_by_k
    return np.where(w > 0.0, value, 0.0)


def _rule(evaluator: Evaluator, at: Location) -> Nodes:
    """Nodes over all k of |d₂| ≤ 10, panels doubling outward, cut where the smile turns."""
    scale = sqrt(float(evaluator.jet(0.0, at)[0])) or 1.0
    steps = scale * _DOUBLINGS
    ends = [_reach(evaluator, at, side * steps) for side in (-1.0, 1.0)]
    smiles = evaluator.smiles
    turns = np.concatenate([_turns(smiles, index) for index in {int(at.lower), int(at.upper)}])
    edges = np.unique(np.concatenate([[0.0], turns, -steps, steps]))
    edges = edges[(edges >= ends[0]) & (edges <= ends[1])]
    return adaptive_nodes(lambda k: _integrand(evaluator, at, k), edges)


def _reach(evaluator: Evaluator, at: Location, k: Floats) -> float:
    """The first k on a way out beyond which |d₂| stays above 10."""
    w, _, _ = evaluator.jet(k, at)
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = np.abs(k + 0.5 * w) < _LAST_Z * np.sqrt(w)
    last = np.flatnonzero(inside)
    return float(k[min(last[-1] + 1, k.size - 1) if last.size else 0])


def _turns(smiles: Smiles, index: int) -> Floats:
    """Where a smile may have a sharp bend, and where its error does."""
    ends = np.array([smiles.k_min[index], smiles.k_max[index]])
    parameters = smiles.parameters[:, index]
    if smiles.model is ModelName.SABR:
        return ends
    if smiles.model is ModelName.ESSVI:
        parameters = np.array(essvi.to_svi(parameters))
    return np.concatenate([ends, parameters[3] + parameters[4] * _VERTEX])
