"""A smile as traders read it: a few numbers an expiry, each with its standard error.

Deltas are forward deltas, undiscounted and not adjusted for premium: Φ(d₁) of a call, Φ(d₁) − 1 of
a put, d₁ = −k/√w + √w/2 with w = w(k) of the smile itself. So the strike of a 25-delta call has
d₁ = Φ⁻¹(¼), that of a 25-delta put d₁ = −Φ⁻¹(¼); without arbitrage d₁ falls with strike
everywhere (Fukasawa 2012) and there is one such strike. At the money is at the forward, k = 0.
"""

from __future__ import annotations

from math import nan
from typing import Any, NamedTuple

import numpy as np

from calib.conventions import MICROSECONDS_PER_YEAR, NO_INSTANT, Floats
from calib.states import ModelName
from calib.surface.directions import standard_error, variance_directions, vol_jet_directions
from calib.surface.evaluation import Evaluator
from calib.surface.roots import increasing_root
from calib.surface.timeline import Location
from calib.surface.variance_swap import FAR

DELTAS = {"put_25": -0.25, "call_25": 0.25, "put_10": -0.10, "call_10": 0.10}
"""The forward deltas whose strikes and vols are read, by the names in `Handles`."""


_LAST_YEARS = 7_900.0
"""Times beyond have no instant that can be written: calendars end with the year 9999."""


class Handles(NamedTuple):
    """The handles of one smile, or their standard errors; vols as decimals, strikes in quote
    currency. What does not exist is nan.

    ``skew`` and ``curvature`` are dσ/dk and d²σ/dk² at k = 0; the slopes are dw/dk at −∞ and +∞.
    A risk reversal is the vol of the call less that of the put, a butterfly their mean less
    ``atm_vol``. The jump-wings are those of Gatheral & Jacquier (2014), equation 3.5, of SVI and
    eSSVI: v = w(0)/t, ψ = w′(0)/(2√w(0)), p and c the wing slopes −w′(−∞) and w′(∞) over √w(0), and
    ṽ = min w/t. They are nan for SABR, whose wings are a continuation.
    """

    atm_vol: float
    skew: float
    curvature: float
    left_slope: float
    right_slope: float
    put_25_strike: float
    put_25_vol: float
    call_25_strike: float
    call_25_vol: float
    risk_reversal_25: float
    butterfly_25: float
    put_10_strike: float
    put_10_vol: float
    call_10_strike: float
    call_10_vol: float
    risk_reversal_10: float
    butterfly_10: float
    jw_v: float
    jw_psi: float
    jw_p: float
    jw_c: float
    jw_v_min: float


class SmileHandles(NamedTuple):
    """The handles of a smile and one standard error of each."""

    expiry: np.datetime64
    years: float
    value: Handles
    error: Handles


class _Reading(NamedTuple):
    """What the handles of M smiles are read from. Columns of k: 0, the deltas, the lowest w."""

    at: Location  # fields (M, 1)
    k: Floats  # (M, 6)
    vol: Floats  # (M, 6)
    w: Floats  # (M, 6)
    slope: Floats  # (M, 6)
    curvature: Floats  # (M, 6)
    wings: Floats  # (M, 2): dw/dk at −∞ and +∞


def smile_handles(evaluator: Evaluator, expiry: Any = None) -> tuple[SmileHandles, ...]:
    """The handles at every fitted expiry, or at the one or the many asked for.

    Values are those of the published smile, between expiries of the rule that joins them. Errors
    are by the delta method from each slice's parameter covariance and forward error, see
    `calib.surface.directions`; at the forward the error of the vol is that of `Surface.vol_error`.
    Between expiries the vol moves by (1 − f)δσ of the lower and fδσ of the upper expiry at the same
    k, f the way gone in variance time, before the first and beyond the last by that of the
    nearest, and errors of two expiries add up: all as in the rule for the error of a vol. Wing
    slopes mix as they do in total variance. nan where a covariance or a forward error is not known.
    """
    times = evaluator.timeline.years if expiry is None else expiry
    at = evaluator.locate(np.ravel(np.asarray(times)) if expiry is None else times)
    at = Location(*(np.atleast_1d(part).reshape(-1, 1) for part in at))
    reading = _read(evaluator, at)
    values, errors = _values(evaluator, reading), _errors(evaluator, reading)
    nothing = np.full(len(at.years), nan)
    errors = {name: np.where(np.isnan(values[name]), nan, one) for name, one in errors.items()}
    columns = [
        [source.get(name, nothing).tolist() for name in Handles._fields]
        for source in (values, errors)
    ]
    rows = [[Handles(*row) for row in zip(*one, strict=True)] for one in columns]
    years = at.years[:, 0].tolist()
    instants = [_instant(evaluator.quote_time, t) for t in years]
    return tuple(map(SmileHandles, instants, years, *rows))


def _read(evaluator: Evaluator, at: Location) -> _Reading:
    # Where there is no time, or no place, there is no smile to read.
    at = at._replace(years=np.where(at.years > 0.0, at.years, nan))
    atm = np.zeros_like(at.years)
    k = np.concatenate([atm, _delta_moneyness(evaluator, at), _vertex(evaluator, at)], axis=1)
    k = np.where(np.isfinite(at.years), k, nan)
    w, slope, curvature = evaluator.jet(k, at)
    w = np.where(w >= 0.0, w, nan)
    wings = evaluator.jet(np.array([[-FAR, FAR]]), at)[1] + 0.0 * at.years
    return _Reading(at, k, np.sqrt(w / at.years), w, slope, curvature, wings)


def _delta_moneyness(evaluator: Evaluator, at: Location) -> Floats:
    """k of each of `DELTAS`, (M, 4): the root of k + q√w − w/2, which rises, q = Φ⁻¹(Δ)."""
    from scipy.special import ndtri

    deltas = np.array(list(DELTAS.values()))
    q = ndtri(np.where(deltas > 0.0, deltas, 1.0 + deltas))

    def function(k: Floats) -> tuple[Floats, Floats]:
        w, slope, _ = evaluator.jet(k, at)
        root = np.sqrt(w)
        # d₁ = q times √w, which nan where w has none keeps.
        return k + q * root - 0.5 * w, 1.0 + 0.5 * slope * (q / root - 1.0)

    return increasing_root(function, np.sqrt(evaluator.jet(0.0 * at.years, at)[0]) + 0.0 * q)


def _vertex(evaluator: Evaluator, at: Location) -> Floats:
    """k of the lowest total variance, (M, 1): the root of w′; nan for SABR."""
    if evaluator.smiles.model is ModelName.SABR:
        return np.full_like(at.years, nan)

    def function(k: Floats) -> tuple[Floats, Floats]:
        _, slope, curvature = evaluator.jet(k, at)
        return slope, curvature

    w, slope, _ = evaluator.jet(0.0 * at.years, at)
    root = increasing_root(function, np.sqrt(w))
    return np.where(np.isnan(root) & (slope == 0.0), 0.0, root)  # a flat smile is lowest anywhere


def _values(evaluator: Evaluator, reading: _Reading) -> dict[str, Floats]:
    at, vol, wings = reading.at, reading.vol, reading.wings
    t, root = at.years[:, 0], np.sqrt(reading.w[:, 0])
    with np.errstate(divide="ignore", invalid="ignore"):
        skew = reading.slope[:, 0] / (2.0 * root)  # of √w; σ = √w/√t
        bend = reading.curvature[:, 0] / (2.0 * root) - skew * skew / root
    found = {
        "atm_vol": vol[:, 0],
        "skew": skew / np.sqrt(t),
        "curvature": bend / np.sqrt(t),
        "left_slope": wings[:, 0],
        "right_slope": wings[:, 1],
    }
    for column, name in enumerate(DELTAS, start=1):
        found[f"{name}_strike"] = _strike(reading, column)
        found[f"{name}_vol"] = vol[:, column]
    found |= _combinations(found)
    if evaluator.smiles.model is not ModelName.SABR:
        with np.errstate(divide="ignore", invalid="ignore"):
            found |= {
                "jw_v": reading.w[:, 0] / t,
                "jw_psi": skew,
                "jw_p": -wings[:, 0] / root,
                "jw_c": wings[:, 1] / root,
                "jw_v_min": reading.w[:, 5] / t,
            }
    return found


def _strike(reading: _Reading, column: int) -> Floats:
    """F·e^k; nan where that is no positive double."""
    with np.errstate(over="ignore"):
        strike = reading.at.forward[:, 0] * np.exp(reading.k[:, column])
    return np.where((strike > 0.0) & (strike < np.inf), strike, nan)


def _combinations(found: dict[str, Floats]) -> dict[str, Floats]:
    """Risk reversals and butterflies, of vols or of how these respond."""
    result = {}
    for delta in ("25", "10"):
        put, call = found[f"put_{delta}_vol"], found[f"call_{delta}_vol"]
        result[f"risk_reversal_{delta}"] = call - put
        result[f"butterfly_{delta}"] = 0.5 * (call + put) - found["atm_vol"]
    return result


def _errors(evaluator: Evaluator, reading: _Reading) -> dict[str, Floats]:
    at, smiles = reading.at, evaluator.smiles
    errors: dict[str, Floats] = {}
    for index, share, weight in (
        (at.lower, 1.0 - at.fraction, at.lower_weight),
        (at.upper, at.fraction, at.upper_weight),
    ):
        if errors and not (share > 0.0).any():
            break  # at the expiries themselves
        for name, response in _responses(evaluator, reading, index, share, weight).items():
            error = standard_error(smiles, index[:, 0], response)
            # An expiry of weight 0 has no say, not even where its own error is not known.
            error = np.where(share[:, 0] == 0.0, 0.0, error)
            errors[name] = errors.get(name, 0.0) + error
    return errors


def _responses(
    evaluator: Evaluator, reading: _Reading, index: Any, share: Any, weight: Any
) -> dict[str, Floats]:
    """How each handle responds to one expiry's parameters and forward: arrays (P + 1, M)."""
    at, wings = reading.at, reading.wings
    t = at.years[:, 0]
    moves = share * vol_jet_directions(evaluator.smiles, index, reading.k)  # (P + 1, 3, M, 6)
    far = np.broadcast_to([-FAR, FAR], wings.shape)
    slopes = weight * variance_directions(evaluator.smiles, index, far)[:, 1]
    by_vol = moves[:, 0]
    found = {
        "atm_vol": by_vol[..., 0],
        "skew": moves[:, 1, :, 0],
        "curvature": moves[:, 2, :, 0],
        "left_slope": slopes[..., 0],
        "right_slope": slopes[..., 1],
    }
    for column, name in enumerate(DELTAS, start=1):
        k, root = reading.k[:, column], np.sqrt(reading.w[:, column])
        with np.errstate(divide="ignore", invalid="ignore"):
            # At a constant d₁ = q: k = w/2 − q√w, δk = (√w − q)δ√w, δ√w = √t·δσ + (√w)′δk.
            by_root = root - (0.5 * root - k / root)
            steepness = reading.slope[:, column] / (2.0 * root)
            found[f"{name}_vol"] = by_vol[..., column] / (1.0 - steepness * by_root)
        by_k = by_root * np.sqrt(t) * found[f"{name}_vol"]
        found[f"{name}_strike"] = _strike(reading, column) * by_k
    found |= _combinations(found)
    if evaluator.smiles.model is not ModelName.SABR:
        root = np.sqrt(reading.w[:, 0])
        with np.errstate(divide="ignore", invalid="ignore"):
            by_root = np.sqrt(t) * by_vol[..., 0] / root
            found |= {
                "jw_v": 2.0 * reading.vol[:, 0] * by_vol[..., 0],
                "jw_psi": np.sqrt(t) * moves[:, 1, :, 0],
                "jw_p": (wings[:, 0] * by_root - slopes[..., 0]) / root,
                "jw_c": (slopes[..., 1] - wings[:, 1] * by_root) / root,
                "jw_v_min": 2.0 * reading.vol[:, 5] * by_vol[..., 5],
            }
    return found


def _instant(quote_time: np.datetime64, years: float) -> np.datetime64:
    if not years < _LAST_YEARS:
        return NO_INSTANT
    instant: np.datetime64 = quote_time + np.timedelta64(round(years * MICROSECONDS_PER_YEAR), "us")
    return instant
