"""The law of S_T that a smile implies: risk-neutral density and distribution in strike.

Breeden & Litzenberger (1978): undiscounted calls C(K) have C′ = P(S_T ≤ K) − 1 and C″ = p(K).
With Black's formula and w = w(k), k = ln(K/F), d₂ = −k/√w − √w/2:

    P(S_T ≤ K) = Φ(−d₂) + φ(d₂)·w′/(2√w),
    p(K) = g(k)/(K√w)·φ(d₂),   g = (1 − kw′/(2w))² − (w′²/4)(1/w + ¼) + w″/2.

Source: Gatheral & Jacquier (2014), section 2.1; g is Durrleman's function.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

import numpy as np

from calib.conventions import Floats
from calib.surface.evaluation import Evaluator

_PEAK = 1.0 / sqrt(2.0 * pi)


def normal_density(x: Any) -> Floats:
    """φ(x) = e^{−x²/2}/√(2π)."""
    with np.errstate(over="ignore"):
        return np.asarray(_PEAK * np.exp(-0.5 * x * x))


def density(evaluator: Evaluator, strike: Any, expiry: Any) -> Any:
    """p(K), per unit of the strike's currency; as it is, so below 0 where the smile has butterfly
    arbitrage. nan at time 0 and where the strike or w is not positive."""
    k, at = evaluator.place(strike, expiry)
    w, slope, curvature = map(np.asarray, evaluator.jet(k, at))
    w = np.where(w > 0.0, w, np.nan)
    root = np.sqrt(w)
    with np.errstate(over="ignore", invalid="ignore"):  # for a w of 1e-308 and less
        lean = 1.0 - 0.5 * k * slope / w
        g = lean * lean - 0.25 * slope * slope * (1.0 / w + 0.25) + 0.5 * curvature
        result = g * normal_density(k / root + 0.5 * root) / (at.forward * np.exp(k) * root)
    return _plain(result)


def distribution(evaluator: Evaluator, strike: Any, expiry: Any) -> Any:
    """P(S_T ≤ K); nan at time 0 and where the strike or w is not positive.

    Where a continued wing of SABR sets off at another slope than the formula's it jumps: the law
    has a point mass at the end of the quoted range, of φ(d₂)/(2√w) times the change of slope.
    """
    from scipy.special import ndtr

    k, at = evaluator.place(strike, expiry)
    w, slope, _ = map(np.asarray, evaluator.jet(k, at))
    w = np.where(w > 0.0, w, np.nan)
    root = np.sqrt(w)
    minus_d2 = k / root + 0.5 * root
    return _plain(ndtr(minus_d2) + 0.5 * normal_density(minus_d2) * slope / root)


def _plain(value: Any) -> Any:
    return float(value) if np.ndim(value) == 0 else value
