"""What tests of density, handles and variance swaps share: smiles, and sums over all strikes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import ndtr

from calib.conventions import Floats
from calib.states import ModelName
from calib.surface.surface import Surface
from tests.surface.markets import make_slice, make_surface, three_expiries

_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(40)


def two_essvi(**fields: Any) -> Surface:
    """A month and half a year, free of arbitrage and so is every time in between."""
    return make_surface(
        make_slice(720, (0.02, -0.5, 0.25), forward=100.0),
        make_slice(4380, (0.06, -0.5, 0.45), forward=103.0),
        **({"model": ModelName.ESSVI, "spot": 99.5} | fields),
    )


def one_sabr(**fields: Any) -> Surface:
    """SABR with a quoted range whose wings go on at the slopes of the formula there."""
    return make_surface(
        make_slice(8760, (0.25, 1.0, -0.3, 0.6), log_moneyness_min=-0.9, log_moneyness_max=0.7),
        **({"model": ModelName.SABR, "spot": 98.0} | fields),
    )


def cases() -> list[tuple[Surface, float]]:
    """Every model, at, between, before and beyond the fitted expiries."""
    svi, essvi, sabr = three_expiries(), two_essvi(), one_sabr()
    return [
        *((svi, t) for t in (0.005, 7 / 365, 0.05, 30 / 365, 0.5, 1.0, 2.0)),
        *((essvi, t) for t in (0.01, 720 / 8760, 0.2, 0.5, 3.0)),
        *((sabr, t) for t in (0.4, 1.0, 1.7)),
    ]


def over_strikes(
    surface: Surface, t: float, function: Callable[[Floats], Floats], kink: float | None = None
) -> float:
    """∫ f(K) dK over the strikes to 300 deviations either side, in panels that grow outward and
    end where SABR turns, and at a strike where the function has a ``kink``."""
    forward = surface.forward(t)
    deviation = float(np.sqrt(surface.total_variance(0.0, t)))
    out = np.concatenate([[0.0], np.geomspace(0.02, 300.0, 60)]) * deviation
    ends = [k for e in surface.expiries for k in (e.log_moneyness_min, e.log_moneyness_max)]
    ends += [] if kink is None else [float(np.log(kink / forward))]
    edges = np.unique(np.concatenate([-out, out, ends]))
    low, width = edges[:-1, None], np.diff(edges)[:, None]
    k = (low + 0.5 * width * (1.0 + _POINTS)).ravel()
    weights = (0.5 * width * _WEIGHTS).ravel()
    strikes = forward * np.exp(k)
    return float((weights * strikes) @ function(strikes))


def calls(surface: Surface, strikes: Floats, t: float) -> Floats:
    """Undiscounted Black calls at the surface's vols."""
    forward = surface.forward(t)
    k, root = np.log(strikes / forward), surface.implied_vol(strikes, t) * np.sqrt(t)
    price: Floats = forward * ndtr(0.5 * root - k / root) - strikes * ndtr(-0.5 * root - k / root)
    return price


def out_of_the_money(surface: Surface, strikes: Floats, t: float) -> Floats:
    """Undiscounted Black puts below the forward and calls from there on."""
    forward = surface.forward(t)
    k, root = np.log(strikes / forward), surface.implied_vol(strikes, t) * np.sqrt(t)
    sign = np.where(k < 0.0, -1.0, 1.0)
    d1, d2 = 0.5 * root - k / root, -0.5 * root - k / root
    value: Floats = sign * (forward * ndtr(sign * d1) - strikes * ndtr(sign * d2))
    return value
