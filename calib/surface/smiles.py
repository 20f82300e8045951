"""The smiles of a surface at their own expiries: total variance, and the error of the vol."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from math import inf, nan, sqrt
from typing import Any, NamedTuple, Protocol

import numpy as np

from calib.conventions import Floats
from calib.models import essvi, sabr, svi
from calib.states import ModelName

ENVELOPE_NODES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Where beyond the quoted range the error is looked at, in ATM standard deviations √w(0)."""

_NODES = np.array(ENVELOPE_NODES)


class Formula(Protocol):
    """A model as this module needs it; the modules of calib.models are such formulas."""

    def total_variance(self, parameters: Any, k: Any, years: Any) -> Any:
        """w(k) at ``years``."""

    def slope(self, parameters: Any, k: Any, years: Any) -> Any:
        """dw/dk."""

    def curvature(self, parameters: Any, k: Any, years: Any) -> Any:
        """d²w/dk²."""

    def parameter_gradient(self, parameters: Any, k: Any, years: Any) -> tuple[Any, ...]:
        """∂w/∂p, one array for each parameter."""


FORMULAS: dict[ModelName, Formula] = {
    ModelName.SVI: svi,
    ModelName.ESSVI: essvi,
    ModelName.SABR: sabr,
}


class _Envelope(NamedTuple):
    """Running maxima of the error at the nodes beyond the quoted range: arrays (side, N, node)."""

    error: Floats
    scale: Floats
    """√w(0) of each expiry: what distances from the quoted range are counted in."""


@dataclass(frozen=True)
class Smiles:
    """The smiles of N expiries, stacked.

    ``parameters`` (P, N), ``years``, ``k_min``, ``k_max`` and ``forward_error_share`` (σ_F/F)
    have an entry an expiry; ``covariance`` is (N, P, P), nan where it is not known.
    Every method takes an expiry ``index`` that broadcasts with ``k``.
    """

    model: ModelName
    parameters: Floats
    years: Floats
    k_min: Floats
    k_max: Floats
    covariance: Floats
    forward_error_share: Floats

    @cached_property
    def _rows(self) -> list[tuple[float, ...]]:
        """Parameters as Python floats, on which one strike is evaluated ten times faster."""
        return [tuple(row) for row in self.parameters.T.tolist()]

    @cached_property
    def _wing_slopes(self) -> Floats:
        """Slopes (2, N) by which SABR goes on to the left and to the right of its quoted range."""
        formula = FORMULAS[self.model]
        left = formula.slope(self.parameters, self.k_min, self.years)
        right = formula.slope(self.parameters, self.k_max, self.years)
        return np.stack(
            [np.clip(left, -sabr.CONTINUATION_CAP, 0.0), np.clip(right, 0.0, sabr.CONTINUATION_CAP)]
        )

    @cached_property
    def _wings(self) -> list[tuple[float, float, float, float]]:
        """k_min, k_max and the two slopes of each expiry as Python floats."""
        return list(
            zip(*np.stack([self.k_min, self.k_max, *self._wing_slopes]).tolist(), strict=True)
        )

    def total_variance(self, index: Any, k: Any) -> Any:
        """w_i(k): the model's formula; for SABR only within the quoted range.

        The SABR expansion breaks Lee's bound far from the money. Outside [k_min, k_max] its w is
        continued linearly from the edge, with the formula's slope there limited to [−1.95, 0] on
        the left and to [0, 1.95] on the right.
        """
        formula = FORMULAS[self.model]
        parameters, years = self._at(index)
        if self.model is not ModelName.SABR:
            return formula.total_variance(parameters, k, years)
        if isinstance(index, int) and isinstance(k, float):
            low, high, left, right = self._wings[index]
            w = formula.total_variance(parameters, min(max(k, low), high), years)
            return w + left * min(k - low, 0.0) + right * max(k - high, 0.0)
        low, high = self.k_min[index], self.k_max[index]
        left, right = self._wing_slopes[:, index]
        inside = np.clip(k, low, high)
        w = formula.total_variance(parameters, inside, years)
        return w + left * np.minimum(k - low, 0.0) + right * np.maximum(k - high, 0.0)

    def jet(self, index: Any, k: Any) -> tuple[Any, Any, Any]:
        """w_i(k) of `total_variance`, dw/dk and d²w/dk².

        Where SABR's continuation turns, at the ends of the quoted range, the derivatives are those
        from the right.
        """
        parameters, years = self._at(index)
        if self.model is not ModelName.SABR:
            formula = FORMULAS[self.model]
            return (
                formula.total_variance(parameters, k, years),
                formula.slope(parameters, k, years),
                formula.curvature(parameters, k, years),
            )
        low, high = self.k_min[index], self.k_max[index]
        left, right = self._wing_slopes[:, index]
        w, slope, curvature = sabr.jet(parameters, np.clip(k, low, high), years)
        below, above = k < low, k >= high
        return (
            w + left * np.minimum(k - low, 0.0) + right * np.maximum(k - high, 0.0),
            np.where(below, left, np.where(above, right, slope)),
            np.where(below | above, 0.0, curvature),
        )

    def parameter_gradient(self, index: int, k: float) -> Floats:
        """∂w_i(k)/∂p of `total_variance`, (P,); of SABR's continuation by central differences."""
        formula = FORMULAS[self.model]
        low, high = float(self.k_min[index]), float(self.k_max[index])
        parameters, years = self.parameters[:, index], float(self.years[index])
        inside = min(max(k, low), high) if self.model is ModelName.SABR else k
        by = np.array(np.broadcast_arrays(*formula.parameter_gradient(parameters, inside, years)))
        if inside == k:
            return np.asarray(by, np.float64)
        step = 1e-6 * np.maximum(np.abs(parameters), 1e-3)

        def clipped(tried: Floats) -> float:
            slope = float(formula.slope(tried, inside, years))
            return (
                min(max(slope, -sabr.CONTINUATION_CAP), 0.0)
                if k < low
                else min(max(slope, 0.0), sabr.CONTINUATION_CAP)
            )

        for i, width in enumerate(step):
            unit = np.where(np.arange(len(step)) == i, width, 0.0)
            turn = (clipped(parameters + unit) - clipped(parameters - unit)) / (2.0 * width)
            by[i] += (k - inside) * turn
        return np.asarray(by, np.float64)

    def vol_error(self, index: Any, k: Any) -> Floats:
        """One standard error of the vol at expiry i; nan where the covariance is not known.

        Within the quoted range it is the delta method on the model's formula,
        e(k) = √(gᵀCg + (w′σ_F/F)²) / (2√(w·T)) with g = ∂w/∂p and C the parameter covariance:
        at a fixed strike an error of the forward moves k by −σ_F/F.
        Outside it never falls on the way out: at the distances 0, ½, 1, 2, 4 and 8 times √w_i(0)
        from the edge it is the largest e at the edge and at these distances up to there, linear
        in between and constant beyond. (A running maximum, for Jacobians that happen to turn
        toward a well-determined direction must not make a wing look known.)
        """
        low, high = self.k_min[index], self.k_max[index]
        error = self._delta_error(index, np.clip(k, low, high))
        distance = np.maximum(low - k, k - high)
        outside = distance > 0.0
        if not np.any(outside):
            return error
        envelope = self._envelope
        side = np.asarray(k > high, np.int64)
        x = np.where(outside, distance, 0.0) / envelope.scale[index]
        node = np.clip(np.searchsorted(_NODES, x, side="right") - 1, 0, len(_NODES) - 2)
        way = np.minimum((x - _NODES[node]) / (_NODES[node + 1] - _NODES[node]), 1.0)
        start, end = envelope.error[side, index, node], envelope.error[side, index, node + 1]
        return np.where(outside, (1.0 - way) * start + way * end, error)

    def one_vol_error(self, index: int, k: float) -> float:
        """`vol_error` of one k at one expiry, in Python floats: a quoter asks for every price."""
        low, high = self._ranges[index]
        distance = max(low - k, k - high)
        if not distance > 0.0:  # within the range, or not a number
            return self._one_delta_error(index, k)
        nodes, scale = self._envelope_rows[index][k > high]
        x = distance / scale if scale else inf
        node = min(bisect_right(ENVELOPE_NODES, x), len(nodes) - 1) - 1
        width = ENVELOPE_NODES[node + 1] - ENVELOPE_NODES[node]
        way = min((x - ENVELOPE_NODES[node]) / width, 1.0)
        return (1.0 - way) * nodes[node] + way * nodes[node + 1]

    def _one_delta_error(self, index: int, k: float) -> float:
        formula, parameters = FORMULAS[self.model], self._rows[index]
        years, rows, share = self._errors[index]
        by = [float(one) for one in formula.parameter_gradient(parameters, k, years)]
        variance = 0.0
        for one, row in zip(by, rows, strict=True):
            for c, other in zip(row, by, strict=True):
                # In this order, which is einsum's: much of it cancels, and must do so alike.
                variance += one * c * other
        by_forward = float(formula.slope(parameters, k, years)) * share
        variance += by_forward * by_forward
        w = float(formula.total_variance(parameters, k, years))
        if not w * years > 0.0:
            return inf if w * years == 0.0 and variance > 0.0 else nan
        return sqrt(max(variance, 0.0)) / (2.0 * sqrt(w * years))

    @cached_property
    def _ranges(self) -> list[tuple[float, float]]:
        return list(zip(self.k_min.tolist(), self.k_max.tolist(), strict=True))

    @cached_property
    def _errors(self) -> list[tuple[float, list[list[float]], float]]:
        """Years, covariance and σ_F/F of each expiry as Python floats."""
        columns = (self.years, self.covariance, self.forward_error_share)
        return list(zip(*(column.tolist() for column in columns), strict=True))

    @cached_property
    def _envelope_rows(self) -> list[list[tuple[list[float], float]]]:
        """`_envelope` as Python floats, by expiry and side: the errors at the nodes, the scale."""
        error, scale = self._envelope.error.tolist(), self._envelope.scale.tolist()
        return [[(side[index], width) for side in error] for index, width in enumerate(scale)]

    def _at(self, index: Any) -> tuple[Any, Any]:
        """Parameters and years of an expiry: floats for one expiry, arrays for many."""
        if isinstance(index, int):
            return self._rows[index], float(self.years[index])
        return self.parameters[:, index], self.years[index]

    def _delta_error(self, index: Any, k: Any) -> Floats:
        formula = FORMULAS[self.model]
        parameters, years = self.parameters[:, index], self.years[index]
        gradient = np.stack(
            np.broadcast_arrays(*formula.parameter_gradient(parameters, k, years)), axis=-1
        )
        by_parameters = np.einsum(
            "...i,...ij,...j->...", gradient, self.covariance[index], gradient
        )
        by_forward = formula.slope(parameters, k, years) * self.forward_error_share[index]
        variance = by_parameters + by_forward * by_forward
        w = formula.total_variance(parameters, k, years)
        # Where w is 0 or the expansion breaks down there is no error to speak of: nan or inf.
        with np.errstate(divide="ignore", invalid="ignore"):
            error: Floats = np.sqrt(np.maximum(variance, 0.0)) / (2.0 * np.sqrt(w * years))
        return error

    @cached_property
    def _envelope(self) -> _Envelope:
        count = len(self.years)
        index = np.arange(count)
        scale = np.sqrt(self.total_variance(index, np.zeros(count)))
        reach = scale[:, None] * _NODES
        sides = [self.k_min[:, None] - reach, self.k_max[:, None] + reach]
        error = np.stack([self._delta_error(index[:, None], k) for k in sides])
        # fmax: where an expansion breaks down far out, what was seen before stands.
        return _Envelope(np.fmax.accumulate(error, axis=-1), scale)
