"""How far the parameters can be trusted: the noise that the residuals show, carried to them.

A fit states a noise for every quote, its half-spread in vol, and that noise is independent from
quote to quote. Neither is quite true. A market's mids lie closer together than its spreads are
wide, or further apart; and the errors of neighbouring quotes are alike, whether a market maker's
skew made them so or the model's shape. Both are put right after the fit:

- *Size.* The variance s² of the quotes' errors in half-spreads is measured on the residuals, over
  an expiry and its surface.
- *Likeness.* Errors are taken as a sum over knots a ``reach`` of at-the-money standard deviations
  apart, each error being shared out between the two knots beside it in proportion: quotes between
  the same knots err together, quotes two knots apart do not.

With J the derivatives of the quoted vols by the parameters in units of the stated noise, A = JᵀJ,
Σ₀ = (A + Π)⁻¹ the covariance under the stated noise, Π all that the quotes of the expiry itself do
not say (neighbours, anchor, memory), and C the correlation of the errors, B = JᵀCJ, the estimate
has the covariance

    Σ = Σ₀(s²B + Π)Σ₀ = Σ₀ + Σ₀(s²B − A)Σ₀,

the sandwich of Huber (1967) and White (1980). Residuals are what is left after the fit has followed
the errors, E[Σr²] = s²(n − 2 tr Σ₀B + tr Σ₀BΣ₀A), and a few say little about s: they are drawn
toward the surface's, and the surface's toward the stated noise. A residual that is `_WILD` times
the usual one counts as that much: a stale quote is no measure of the others. What the prior's own
error adds to the residuals is left in s, at most P/n of its stated square, on the cautious side.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from calib.conventions import Floats, Ints
from calib.fitting.outcome import Outcome
from calib.fitting.universe import Universe
from calib.market.groups import group_quantiles
from calib.market.slices import QuoteKind
from calib.states import ModelName
from calib.surface.smiles import FORMULAS

_STATED, _SHARED = 4.0, 8.0
"""How many residuals the stated noise counts for against a surface's, and the surface's against
those of one of its expiries."""

_FARTHEST = 60.0  # knots from the money; what lies beyond errs together

_WILD = 5.0
_NORMAL = 1.4826  # standard deviation of a normal variable by the median of its size


class Uncertainty(NamedTuple):
    """Of n slices: ``covariance`` (P, P, n) of the parameters; ``noise_scale`` (n,), the standard
    deviation s of the quotes' errors in half-spreads; and ``covariance_scale`` (n,), what Σ comes
    to in units of Σ₀, tr Σ₀⁻¹Σ/P. Scales are nan where nothing was fitted."""

    covariance: Floats
    noise_scale: Floats
    covariance_scale: Floats


def uncertainty(
    model: ModelName,
    universe: Universe,
    outcome: Outcome,
    model_vol: Floats,
    reach: float,
    noise_scale: float | None = None,
    weight: Floats | None = None,
) -> Uncertainty:
    """The covariance of every slice, from the one under the stated noise in ``outcome``.

    ``model_vol`` and ``weight`` (None for ones) are by row. ``reach``: how far apart the knots lie,
    in standard deviations at the money; 0 for independent errors. ``noise_scale``: s where it is
    known; None measures it.
    """
    rows, noise = _two_sided(universe, outcome, weight)
    count, place = len(universe.years), universe.slice_index[rows]
    slopes = _slopes(model, universe, outcome, model_vol, rows) / noise
    mid = 0.5 * (universe.bid_vol[rows] + universe.ask_vol[rows])
    residual = (model_vol[rows] - mid) / noise
    independent = alike = _products(slopes, place, count)
    if reach > 0.0:
        theta = FORMULAS[model].total_variance(outcome.parameters, 0.0, universe.years)
        at = universe.k[rows] / (reach * np.sqrt(theta[place]))
        alike = _products(*_at_knots(slopes, at, place), count)
    stated = np.moveaxis(outcome.covariance, -1, 0)
    # A surface that was blended is no longer where its Σ₀ was taken.
    chain = np.repeat(np.arange(len(outcome.blend)), np.diff(universe.slice_bounds))
    moved = np.array(outcome.blend)[chain] > 0.0
    # Of quotes that contradict each other numbers leave the doubles: such a slice has no error bar.
    with np.errstate(over="ignore", invalid="ignore"):
        by_alike, by_independent = stated @ alike, stated @ independent
        if noise_scale is None:
            followed = 2.0 * np.einsum("nii->n", by_alike)
            followed -= np.einsum("nij,nji->n", by_alike, by_independent)
            followed = np.where(moved, len(slopes), np.nan_to_num(followed))
            scale = _noise_scale(chain, len(outcome.blend), place, residual, followed)
        else:
            scale = np.full(count, noise_scale)
        square = scale**2
        change = square[:, None, None] * by_alike - by_independent
        sandwich = stated + change @ stated
        covariance = np.where(moved[:, None, None], square[:, None, None] * stated, sandwich)
        known = np.count_nonzero(np.einsum("nii->ni", stated) > 0.0, axis=1)
        whole = np.where(moved, square, 1.0 + np.einsum("nii->n", change) / np.maximum(known, 1))
    fitted = np.isfinite(outcome.parameters).all(axis=0)
    scale, whole = (np.where(fitted, part, np.nan) for part in (scale, whole))
    return Uncertainty(np.moveaxis(covariance, 0, -1), scale, whole)


def _two_sided(universe: Universe, outcome: Outcome, weight: Floats | None) -> tuple[Ints, Floats]:
    """The two-sided rows of fitted slices, and their noise; what does not count left out."""
    fitted = np.append(np.isfinite(outcome.parameters).all(axis=0), False)
    chosen = (universe.kind == QuoteKind.TWO_SIDED) & fitted[universe.slice_index]
    if weight is None:
        rows = np.flatnonzero(chosen)
        return rows, universe.noise[rows]
    rows = np.flatnonzero(chosen & (weight > 0.0))
    return rows, universe.noise[rows] / np.sqrt(weight[rows])


def _slopes(
    model: ModelName, universe: Universe, outcome: Outcome, model_vol: Floats, rows: Ints
) -> Floats:
    """Derivatives (P, R) of the rows' vols by the parameters."""
    place = universe.slice_index[rows]
    years = universe.years[place]
    by_variance = FORMULAS[model].parameter_gradient(
        outcome.parameters[:, place], universe.k[rows], years
    )
    return np.stack(np.broadcast_arrays(*by_variance)) * (0.5 / (model_vol[rows] * years))


def _products(rows: Floats, place: Ints, count: int) -> Floats:
    """Σ over the rows (P, R) of each place of their products, (count, P, P)."""
    size = len(rows)
    found = np.empty((count, size, size))
    for i in range(size):
        for j in range(i + 1):
            found[:, i, j] = found[:, j, i] = np.bincount(place, rows[i] * rows[j], count)
    return found


def _at_knots(rows: Floats, at: Floats, place: Ints) -> tuple[Floats, Ints]:
    """The rows (P, R) summed at the knots that they are shared out to, and the knots' places.

    A row at x between the knots m and m + 1 is shared by 1 − f and f with f = x − m, over
    √((1−f)² + f²), so that its error keeps its variance.
    """
    at = np.clip(at, -_FARTHEST, _FARTHEST)
    below = np.floor(at)
    way = at - below
    size = 1.0 / np.sqrt((1.0 - way) ** 2 + way**2)
    first = int(below.min(initial=0.0))
    width = int(below.max(initial=0.0)) - first + 2
    number = place * width + below.astype(np.int64) - first
    knots = (int(place.max(initial=-1)) + 1) * width
    left, right = rows * (size * (1.0 - way)), rows * (size * way)
    shared = [
        np.bincount(number, one, knots) + np.bincount(number + 1, other, knots)
        for one, other in zip(left, right, strict=True)
    ]
    return np.array(shared), np.arange(knots) // width


def _noise_scale(
    chain: Ints, chains: int, place: Ints, residual: Floats, followed: Floats
) -> Floats:
    """s of every slice from its residuals, in half-spreads.

    ``chain``: of every slice; ``followed``: how many residuals the fit took up in following the
    errors of a slice, 2 tr Σ₀B − tr Σ₀BΣ₀A.
    """
    count = len(chain)
    (usual,) = group_quantiles(np.abs(residual), chain[place], chains, 0.5)
    wild = _WILD * _NORMAL * usual
    square = np.minimum(np.abs(residual), wild[chain[place]]) ** 2
    total = np.bincount(place, square, count)
    quotes = np.bincount(place, minlength=count)
    left = quotes - np.clip(followed, 0.0, quotes)
    of_surface = (_STATED + np.bincount(chain, total, chains)) / (
        _STATED + np.bincount(chain, left, chains)
    )
    scale: Floats = np.sqrt((_SHARED * of_surface[chain] + total) / (_SHARED + left))
    return scale
