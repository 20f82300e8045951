"""European option values from the moments of the Bates model, by contour integrals.

With w = p + ix, p outside [0, 1] and inside the strip of finite moments, the out-of-the-money
option (a put for k < 0, p < 0; a call for k ≥ 0, p > 1) is worth, undiscounted and in forwards,

    V(k) = 1/π · Re ∫₀^∞ M(w) e^{(1−w)k} / (w(w − 1)) dx          (Lee 2004, §5).

- At the p where the integrand on the real axis is least nothing cancels, so that V has a small
  *relative* error however far out of the money it is (Lord & Kahl 2007). A ladder of p serves an
  expiry; each option takes the rung that is best for it.
- The contour leans into the half plane where e^{−wk} decays, so that no oscillation is left to
  resolve far out, and x = c sinh t lets the trapezoidal rule reach Gaussian and exponential
  tails with the same few nodes (Boyarchenko & Levendorskiĭ 2019).
- Leaving out every other node gives the error for nothing: the rule converges exponentially, so
  a step's error is about the square of the double step's. Contours that miss are halved.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from calib.conventions import Bools, Floats, Ints
from calib.errors import InvalidRequest
from calib.feeds.simulated.bates import (
    Bates,
    Complexes,
    expected_variance,
    explosion_years,
    jump_variance,
    log_moment,
)

_RUNGS = 12  # on either side of [0, 1]
_REACH = 14.0  # diffusive deviations whose saddle points the ladder covers
_JUMP_CEILING = 4.0  # see _jump_reach
_BISECTIONS = 24
_LEAN = np.pi / 8  # halfway to where a Gaussian moment would stop decaying
_STEP = 0.09
_HALVINGS = 4
_DOUBLE_STEP_ERROR = 1e-6  # relative; the error itself is then near its square
_NEGLIGIBLE = 40.0  # the integrand is cut off where it has fallen by e^-40
_PROBES = np.arange(1.0, 15.5, 0.5)  # values of t at which the cut-off is sought


class Tenors(NamedTuple):
    """Distinct (years, variance) pairs and the deviations of ln(F_T/F) that go with them."""

    years: Floats
    variance: Floats
    diffusive: Floats
    deviation: Floats  # jumps included

    def take(self, rows: Ints) -> Tenors:
        """The pairs with these numbers."""
        return Tenors(*(column[rows] for column in self))


class Contours(NamedTuple):
    """w(x) = p + ix + lean·(√(x² + radius²) − radius), x = width·sinh t for t in [0, end]."""

    tenors: Tenors
    p: Floats
    peak: Floats  # ln M(p)/(p(p − 1))
    pivot: Floats  # the k nearest to the money that the contour serves
    width: Floats
    lean: Floats
    radius: Floats
    end: Floats

    def take(self, rows: Ints) -> Contours:
        """The contours with these numbers."""
        return Contours(self.tenors.take(rows), *(column[rows] for column in self[1:]))


def time_value(model: Bates, log_moneyness: Any, years: Any, variance: Any) -> Floats:
    """Undiscounted value of the out-of-the-money option in forwards: a put for k < 0, else a call.

    ``log_moneyness`` k = ln(K/F), ``years`` > 0 to expiry and the present ``variance`` v ≥ 0
    broadcast; options that share (years, variance) share contours. From an hour to five years,
    with δ ≥ 0.03, the relative error is below 1e-8, mostly near 1e-15, down to values of 1e-40;
    nearer to expiry or with jumps of almost one size it is the absolute error that stays so.
    Raises InvalidRequest where ``years`` is not positive or ``variance`` is negative.
    """
    k, tenor, state = np.broadcast_arrays(
        *(np.asarray(column, np.float64) for column in (log_moneyness, years, variance))
    )
    if not (np.isfinite(k).all() and np.all(tenor > 0.0) and np.all(state >= 0.0)):
        raise InvalidRequest("time values need finite k, years > 0 and variance >= 0")
    if k.size == 0:
        return np.zeros(k.shape)
    pairs, row = np.unique(np.stack([tenor.ravel(), state.ravel()]), axis=1, return_inverse=True)
    tenors = tenors_of(model, pairs[0], pairs[1])
    return _values(model, tenors, k.ravel(), row.ravel()).reshape(k.shape)


def tenors_of(model: Bates, years: Floats, variance: Any) -> Tenors:
    """The pairs with the deviations that the model gives them."""
    state = np.broadcast_to(np.asarray(variance, np.float64), years.shape)
    diffusive = expected_variance(model, years, state)
    total = diffusive + jump_variance(model, years)
    return Tenors(years, state, np.sqrt(diffusive), np.sqrt(total))


def option_value(
    model: Bates, log_moneyness: Any, years: Any, variance: Any, is_call: Any
) -> Floats:
    """Undiscounted value of calls or puts in forwards: the time value plus the intrinsic value."""
    k, call = np.broadcast_arrays(np.asarray(log_moneyness, np.float64), is_call)
    intrinsic = np.maximum(np.where(call, -np.expm1(k), np.expm1(k)), 0.0)
    return np.asarray(time_value(model, k, years, variance) + intrinsic)


def _values(model: Bates, tenors: Tenors, k: Floats, row: Ints) -> Floats:
    contours, serving = contours_for(model, tenors, k, row)
    total, coarse = integrals(model, contours, k, serving, _STEP)
    step = _STEP
    for _ in range(_HALVINGS):
        missed: Bools = np.abs(total - coarse) > _DOUBLE_STEP_ERROR * np.abs(total)
        if not missed.any():
            break
        step *= 0.5
        redo, again = np.unique(serving[missed], return_inverse=True)
        total[missed], coarse[missed] = integrals(
            model, contours.take(redo), k[missed], again, step
        )
    scale = contours.peak[serving] + (1.0 - contours.p[serving]) * k
    with np.errstate(under="ignore"):
        value = np.exp(scale) * total
    return np.asarray(np.maximum(value, 0.0))  # rounding can turn values below 1e-60 negative


def integrals(
    model: Bates, contours: Contours, k: Floats, serving: Ints, step: float
) -> tuple[Floats, Floats]:
    """The integrals of the options, in units of e^{peak + (1−p)k}: at ``step`` and at twice it."""
    count = 2 * int(np.ceil(0.5 * contours.end.max() / step))
    steps = contours.end / count
    t = steps[:, None] * np.arange(count + 1)
    offset, slope = _path(contours, t)
    weight = slope * (steps * contours.width / np.pi)[:, None] * np.cosh(t)
    weight[:, 0] *= 0.5
    nodes = np.exp(_log_integrand(model, contours, offset)) * weight
    terms = nodes[serving] * np.exp((contours.pivot[serving] - k)[:, None] * offset[serving])
    return terms.real.sum(axis=1), 2.0 * terms.real[:, ::2].sum(axis=1)


def _path(contours: Contours, t: Floats) -> tuple[Complexes, Complexes]:
    """w − p and −i dw/dx at the parameters ``t``, of shape (contours, nodes)."""
    x = contours.width[:, None] * np.sinh(t)
    lean, radius = contours.lean[:, None], contours.radius[:, None]
    distance = np.sqrt(x * x + radius * radius)
    offset = np.empty(x.shape, np.complex128)
    offset.real, offset.imag = lean * (distance - radius), x
    return offset, 1.0 - 1j * lean * x / distance


def _log_integrand(model: Bates, contours: Contours, offset: Complexes) -> Complexes:
    """ln of M(w) e^{−wk}/(w(w − 1)) at k = pivot, less its value at w = p."""
    w = contours.p[:, None] + offset
    moment = log_moment(model, w, contours.tenors.years[:, None], contours.tenors.variance[:, None])
    logarithm = moment - np.log(w * (w - 1.0)) - contours.pivot[:, None] * offset
    return np.asarray(logarithm - contours.peak[:, None])


def contours_for(model: Bates, tenors: Tenors, k: Floats, row: Ints) -> tuple[Contours, Ints]:
    """The contours that the options need, and for each option which of them serves it."""
    p, peak = _ladder(model, tenors)
    height = peak[row] + (1.0 - p[row]) * k[:, None]
    own_side = (p[row] > 0.5) == (k[:, None] >= 0)
    rung = np.argmin(np.where(own_side, height, np.inf), axis=1)
    # Options at very different distances may want one rung but not one lean.
    distance = np.log2(1.0 + np.abs(k) / tenors.diffusive[row]).astype(np.int64).clip(0, 7)
    rungs = p.shape[1]
    used, serving = np.unique((row * rungs + rung) * 8 + distance, return_inverse=True)
    tenor, column = np.divmod(used // 8, rungs)
    nearest = np.full(used.size, np.inf)
    np.minimum.at(nearest, serving, np.abs(k))
    shaped = _shaped(model, tenors.take(tenor), p[tenor, column], peak[tenor, column], nearest)
    return shaped, serving


def _ladder(model: Bates, tenors: Tenors) -> tuple[Floats, Floats]:
    """Rungs p < 0 and p > 1 of every tenor, and the ln of M(p)/(p(p − 1)) there."""
    sides = []
    for sign, pole in ((-1.0, 0.0), (1.0, 1.0)):
        widest = 2.0 + _REACH / tenors.diffusive
        jumps = _jump_reach(model, tenors.years, sign) - pole
        reach = _finite_reach(model, tenors.years, sign, pole, np.minimum(widest, jumps))
        nearest = np.minimum(0.3 / tenors.deviation, 0.2 * reach)
        logit = np.linspace(np.log(nearest / reach), 4.0, _RUNGS, axis=-1)
        sides.append(pole + sign * reach[:, None] / (1.0 + np.exp(-logit)))
    p = np.concatenate(sides, axis=1)
    moment = log_moment(
        model, p.astype(np.complex128), tenors.years[:, None], tenors.variance[:, None]
    )
    peak = moment.real - np.log(p * (p - 1.0))
    return p, np.where(np.isfinite(peak), peak, np.inf)


def _jump_reach(model: Bates, years: Floats, sign: float) -> Floats:
    """The |p| at which the jumps' moment e^{νp + δ²p²/2} reaches 1/(λT), or e^_JUMP_CEILING.

    Beyond it exp(λT e^{νw + δ²w²/2}) swings too fast around the real axis to be worth following.
    """
    if model.jump_rate == 0:
        return np.full(years.shape, np.inf)
    level = np.maximum(-np.log(model.jump_rate * years), _JUMP_CEILING)
    mean = sign * model.jump_mean
    root = np.sqrt(mean * mean + 2.0 * model.jump_std**2 * level)
    return np.asarray(np.maximum(2.0 * level / (mean + root), 1.5))


def _finite_reach(model: Bates, years: Floats, sign: float, pole: float, reach: Floats) -> Floats:
    """``reach`` cut back, by bisection, to where the moment is finite up to the expiry."""
    low, high = np.zeros_like(reach), reach
    finite = explosion_years(model, pole + sign * reach) > years
    for _ in range(0 if finite.all() else _BISECTIONS):
        middle = 0.5 * (low + high)
        alive = explosion_years(model, pole + sign * middle) > years
        low, high = np.where(alive, middle, low), np.where(alive, high, middle)
    return np.where(finite, reach, low)


def _shaped(model: Bates, tenors: Tenors, p: Floats, peak: Floats, nearest: Floats) -> Contours:
    """Contours through ``p`` with the width, lean and length that suit the integrand."""
    side = np.where(p > 0.5, 1.0, -1.0)
    zero = np.zeros(p.shape)
    upright = Contours(tenors, p, peak, side * nearest, zero + 1.0, zero, zero + 1.0, zero)
    # Width: from how far the integrand falls over a first guess of it.
    guess = 0.25 * np.minimum(1.0 / tenors.deviation, np.sqrt(p * (p - 1.0)))
    offset = 1j * guess[:, None].astype(np.complex128)
    fall = -_log_integrand(model, upright, offset)[:, 0].real
    width = guess / np.sqrt(2.0 * np.maximum(fall, 1e-4))
    lean = _lean(model, tenors, side, nearest)
    # A leaning contour must not enter the region where the jumps' moment grows.
    radius = width
    if model.jump_rate > 0:
        growth = side * (model.jump_mean / model.jump_std**2 + p)
        tangent = np.abs(lean)
        radius = np.maximum(width, 2.0 * tangent / (1.0 - tangent**2) * growth)
    shaped = upright._replace(width=width, lean=lean, radius=radius)
    offset, _ = _path(shaped, np.broadcast_to(_PROBES, (p.size, _PROBES.size)))
    dead = _log_integrand(model, shaped, offset).real < -_NEGLIGIBLE
    end = np.where(dead.any(axis=1), _PROBES[np.argmax(dead, axis=1)], _PROBES[-1])
    return shaped._replace(end=end)


def _lean(model: Bates, tenors: Tenors, side: Floats, nearest: Floats) -> Floats:
    """Tangent of the angle that contours make with the vertical, toward their own side.

    Far out M(w) e^{−wk} decays like e^{−(calm cos φ + push sin φ)|w|} along angle φ, with
    calm = u√(1 − ρ²), push = ±(ρu + λTm + k), u = (v + κθT)/σ (Heston's leading term); half of
    the steepest angle is taken, never more than what Gaussian moments bear, never a negative one.
    Where the integrand dies before it gets that far, u is at most some six deviations.
    """
    far = (tenors.variance + model.kappa * model.theta * tenors.years) / model.sigma
    share = np.minimum(1.0, 6.0 * tenors.diffusive / far)
    drift = model.jump_rate * tenors.years * model.jump_compensator
    push = side * (model.rho * far * share * share + drift) + nearest
    calm = far * share * np.sqrt(1.0 - model.rho**2)
    return np.asarray(side * np.tan(np.clip(0.5 * np.arctan2(push, calm), 0.0, _LEAN)))
