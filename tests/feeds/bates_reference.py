"""Option values under the Bates model by code that is not calib's: QuantLib, and 40 digits."""

from __future__ import annotations

from collections.abc import Sequence

import mpmath
import numpy as np
import QuantLib as ql

from calib.conventions import Floats
from calib.feeds.simulated.bates import Bates

TODAY = ql.Date(2, 1, 2026)
DAY_COUNT = ql.Actual365Fixed()


def quantlib_values(model: Bates, k: Floats, days: float, variance: float) -> Floats:
    """Out-of-the-money values in forwards from QuantLib's adaptive Heston or Bates engine.

    QuantLib counts whole days: a model whose clock runs c times slower, with κ, θ, σ, λ and v all
    divided by c, has after c·T the same law.
    """
    ql.Settings.instance().evaluationDate = TODAY
    whole = max(1, round(days))
    slow = whole / days
    curve = ql.YieldTermStructureHandle(ql.FlatForward(TODAY, 0.0, DAY_COUNT))
    spot = ql.QuoteHandle(ql.SimpleQuote(1.0))
    heston = (
        curve,
        curve,
        spot,
        variance / slow,
        model.kappa / slow,
        model.theta / slow,
        model.sigma / slow,
        model.rho,
    )
    if model.jump_rate > 0:
        jumps = (model.jump_rate / slow, model.jump_mean, model.jump_std)
        engine = ql.BatesEngine(ql.BatesModel(ql.BatesProcess(*heston, *jumps)), 1e-12, 1_000_000)
    else:
        engine = ql.AnalyticHestonEngine(
            ql.HestonModel(ql.HestonProcess(*heston)),
            ql.AnalyticHestonEngine.OptimalCV,
            ql.FourierIntegration.gaussLobatto(1e-12, 1e-14, 100_000),
        )
    exercise = ql.EuropeanExercise(TODAY + whole)
    values = []
    for each in k:
        kind = ql.Option.Put if each < 0 else ql.Option.Call
        option = ql.VanillaOption(ql.PlainVanillaPayoff(kind, float(np.exp(each))), exercise)
        option.setPricingEngine(engine)
        values.append(option.NPV())
    return np.array(values)


def exact_values(
    model: Bates, k: Sequence[float], years: float, variance: float, step: str, last: int
) -> Floats:
    """Out-of-the-money values by Lewis's integral (2001, eq. 3.11) at 40 digits.

    1 − √K/π ∫ Re[e^{−iuk} M(½ + iu)]/(u² + ¼) du by the trapezoidal rule on [0, ``last``], whose
    error is about e^{−π/step}: digits that cancel are there to be lost.
    """
    with mpmath.workdps(40):
        h = mpmath.mpf(step)
        nodes = [h * i for i in range(int(last / h) + 1)]
        moments = [_moment(model, mpmath.mpc(0.5, u), years, variance) for u in nodes]
        values = []
        for each in map(mpmath.mpf, k):
            terms = [
                mpmath.re(mpmath.expj(-u * each) * m) / (u * u + mpmath.mpf(0.25))
                for u, m in zip(nodes, moments, strict=True)
            ]
            integral = h * (mpmath.fsum(terms) - terms[0] / 2)
            call = 1 - mpmath.exp(each / 2) * integral / mpmath.pi
            values.append(float(call if each >= 0 else call - 1 + mpmath.exp(each)))
    return np.array(values)


def _moment(model: Bates, w: mpmath.mpc, years: float, variance: float) -> mpmath.mpc:
    """E[(F_T/F)^w] in Heston's own arrangement (Albrecher et al. 2007, eq. 2 with u = −iw)."""
    kappa, theta, sigma = map(mpmath.mpf, (model.kappa, model.theta, model.sigma))
    years, variance = mpmath.mpf(years), mpmath.mpf(variance)
    beta = kappa - mpmath.mpf(model.rho) * sigma * w
    d = mpmath.sqrt(beta**2 - sigma**2 * (w * w - w))
    g = (beta - d) / (beta + d)
    e = mpmath.exp(-d * years)
    exponent = kappa * theta / sigma**2 * (
        (beta - d) * years - 2 * mpmath.log((1 - g * e) / (1 - g))
    ) + variance * (beta - d) / sigma**2 * (1 - e) / (1 - g * e)
    mean, std = mpmath.mpf(model.jump_mean), mpmath.mpf(model.jump_std)
    jump = mpmath.exp(mean * w + std**2 * w * w / 2) - 1
    drift = mpmath.expm1(mean + std**2 / 2) * w
    return mpmath.exp(exponent + mpmath.mpf(model.jump_rate) * years * (jump - drift))
