"""Prudent valuation: how far from its value a price can be had with 90 % confidence.

Two lines that are not to be mixed. **Market price and fit**: what the quotes leave open within the
model in force, the 90 % point of its error. **Model**: what the choice of model leaves open on the
same quotes, the 90 % point of the range of alternatives. They are the individual adjustments of
Commission Delegated Regulation (EU) 2016/101, Article 9 (market price uncertainty) and Article 11,
paragraph 3 (model risk: "a point within the resulting range of valuations where they are 90 %
confident they could exit at that price or better"; calibration to market parameters belongs to
Article 9). Aggregation over positions, with the factor of its Annex, is the user's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import nan, sqrt

import numpy as np

from calib.modelrisk.comparison import ExpiryComparison, Quantity, corridor_vol
from calib.modelrisk.plain_values import Value, plain_values
from calib.states import ModelName
from calib.surface.surface import ExpirySlice, Surface

CONFIDENCE = 0.9

CONFIDENCE_POINT = 1.2815515655446004
"""Φ⁻¹(.9): one-sided, for a position that can only be left at the worse side."""

_SMALL = 1e-3
"""Of a standard error: small enough that functions are straight over a step."""


@dataclass(frozen=True)
class PrudentLine:
    """One quantity of one expiry: its ``value`` in force and two distances from it, in its unit.

    ``market_price_uncertainty`` = Φ⁻¹(.9)·(its standard error). ``model_uncertainty``: the greater
    of value − q(.1) and q(.9) − value, with the quantiles of the models' values, linear between
    them (Hyndman & Fan 1996, type 7), so that neither a long nor a short position is flattered.
    nan where there is no error, or no second model.
    """

    expiry: np.datetime64
    quantity: str
    value: float
    market_price_uncertainty: float
    model_uncertainty: float

    def values(self) -> dict[str, Value]:
        """The fields as plain values; the expiry as ISO 8601 text."""
        return plain_values(self)


def prudent_lines(
    surface: Surface, compared: Sequence[ExpiryComparison]
) -> tuple[PrudentLine, ...]:
    """Lines for the surface in force, the first of those compared.

    Per expiry and delta node: ``vol``, ``call`` (share of the forward), ``digital``; per expiry
    ``variance_swap`` and ``corridor`` as vols.
    """
    places = {one.years: one for one in surface.expiries}
    return tuple(line for each in compared for line in _lines(surface, places[each.years], each))


def _lines(surface: Surface, one: ExpirySlice, each: ExpiryComparison) -> Iterator[PrudentLine]:
    for node in each.nodes:
        error = float(surface.vol_error(node.strike, each.years))
        vega = _vega(node.strike / one.forward, node.vol.by_model[0], each.years)
        digital = _error(surface, one, partial(_digital, strike=node.strike))
        yield _line(each, f"vol_{node.bucket}", node.vol, error)
        yield _line(each, f"call_{node.bucket}", node.call, error * vega)
        yield _line(each, f"digital_{node.bucket}", node.digital, digital)
    swap = float(surface.variance_swap_error(each.years))
    yield _line(each, "variance_swap", each.variance_swap, swap)
    low, high = each.nodes[0].strike, each.nodes[-1].strike
    corridor = _error(surface, one, partial(_corridor, low=low, high=high))
    yield _line(each, "corridor", each.corridor, corridor)


def _digital(surface: Surface, strike: float) -> float:
    return 1.0 - float(surface.distribution(strike, surface.expiries[0].years))


def _corridor(surface: Surface, low: float, high: float) -> float:
    return corridor_vol(surface, surface.expiries[0].years, low, high)


def model_uncertainty(values: Sequence[float]) -> float:
    """The 90 % point of the range between models, from the first one's value; see `PrudentLine`."""
    if len(values) < 2:
        return nan
    low, high = np.quantile(values, [1.0 - CONFIDENCE, CONFIDENCE])
    return float(max(values[0] - low, high - values[0]))


def _line(each: ExpiryComparison, name: str, quantity: Quantity, error: float) -> PrudentLine:
    return PrudentLine(
        each.expiry,
        name,
        quantity.by_model[0],
        CONFIDENCE_POINT * error,
        model_uncertainty(quantity.by_model),
    )


def _vega(moneyness: float, vol: float, years: float) -> float:
    """∂C/∂σ of forward 1, undiscounted: φ(d₁)√T."""
    root = vol * sqrt(years)
    d1 = 0.5 * root - np.log(moneyness) / root
    return float(np.exp(-0.5 * d1 * d1) * sqrt(years / (2.0 * np.pi)))


def _error(surface: Surface, one: ExpirySlice, function: Callable[[Surface], float]) -> float:
    """One standard error of what is read off a surface of one smile, its forward taken for known:
    √Σ(½(f(p + s) − f(p − s)))² over the principal axes s of the parameters' covariance.

    Where one of p ± s leaves the model's domain, the other side is taken alone, f(p ± s) − f(p);
    where both do, each goes to the bound instead, and the larger of the two differences counts.
    """
    if not one.covariance:
        return nan
    size = len(one.parameters)
    covariance = np.reshape(one.covariance, (size, size))
    known = np.diagonal(covariance) > 0.0  # what is given, as SABR's beta, takes no step
    if not known.any():
        return 0.0
    variances, axes = np.linalg.eigh(covariance[np.ix_(known, known)])
    steps = np.zeros((len(variances), size))
    steps[:, known] = (_SMALL * np.sqrt(np.maximum(variances, 0.0)) * axes).T
    centre = np.array(one.parameters)

    def value(parameters: tuple[float, ...]) -> float:
        return function(replace(surface, expiries=(replace(one, parameters=parameters),)))

    total = 0.0
    for step in steps[steps.any(axis=1)]:
        ends = [tuple((centre + way * step).tolist()) for way in (1.0, -1.0)]
        held = [_in_domain(surface.model, end, one.parameters) for end in ends]
        free = [end for end, kept in zip(ends, held, strict=True) if end == kept]
        if len(free) == 2:
            move = 0.5 * (value(ends[0]) - value(ends[1]))
        else:
            here = value(tuple(one.parameters))
            move = max(abs(value(end) - here) for end in free or held)
        total += (move / _SMALL) ** 2
    return sqrt(total)


def _in_domain(
    model: ModelName, parameters: Sequence[float], centre: Sequence[float]
) -> tuple[float, ...]:
    """The parameters, those beyond a bound put on it or, where it is open, halfway to it from
    ``centre``; a correlation to 1e-12 of it, but never nearer to 0 than ``centre``."""
    match model:
        case ModelName.SVI:
            a, b, rho, m, sigma = parameters
            rho = _correlation(rho, centre[2])
            b, sigma = max(b, 0.0), max(sigma, 0.5 * centre[4])
            return max(a, -b * sigma * sqrt((1.0 - rho) * (1.0 + rho))), b, rho, m, sigma
        case ModelName.ESSVI:
            theta, rho, psi = parameters
            theta, psi = max(theta, 0.5 * centre[0]), max(psi, 0.5 * centre[2])
            return theta, _correlation(rho, centre[1]), psi
        case ModelName.SABR:
            alpha, beta, rho, nu = parameters
            alpha, beta, nu = max(alpha, 0.5 * centre[0]), min(max(beta, 0.0), 1.0), max(nu, 0.0)
            return alpha, beta, _correlation(rho, centre[2]), nu


def _correlation(rho: float, centre: float) -> float:
    most = max(abs(centre), 1.0 - 1e-12)
    return min(max(rho, -most), most)
