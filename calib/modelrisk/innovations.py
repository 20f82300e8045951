"""Innovations: the next quotes against what the last surface said of them, one step ahead.

The last surface is carried to the next chain's forwards by the rule that a fit remembers it with
(`calib.fitting.memory.Memory`): a vol at log-moneyness k is the old smile's at k + R·ln(F′/F), R
the skew-stickiness, and is held as the clock moves on. Only expiries that it was fitted at count,
and of them the two-sided quotes that the next fit uses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import log, nan, sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from calib.conventions import Bools, Floats, micros_of, years_between
from calib.fitting.memory import Memory
from calib.market.slices import QuoteKind, Slices
from calib.modelrisk.plain_values import Value, plain_values
from calib.modelrisk.tenors import Tenor, tenor_of
from calib.surface.surface import ExpirySlice, Surface

if TYPE_CHECKING:
    from calib.fitting.fit_value import Fit

_LEAST_YEARS = 0.5 / 365.0
_COVER = 1.96  # of a normal variable, 95 % lie within
_REACH = 2.0
_LEAST_QUOTES = 3
_ONE_STRIKE = 1e-12  # square of a difference of strikes that is rounding, in deviations

QUOTE_NOISE = 1.0 / sqrt(3.0)
"""One standard deviation of the fair vol about mid, in half-spreads, where none is measured: it is
taken for uniform between bid and ask."""


@dataclass(frozen=True)
class ProcessNoise:
    """How much the level of vol itself moves between two surfaces.

    ``level`` λ and ``decay`` p: the standard deviation of ln σ at the money after Δ years is
    λ·√Δ·T^−p, T the years to expiry and at least half a day; ``skew`` is the λ of the slope of vol
    in deviations of the money, as a share of the vol. ``shared``: the correlation of the
    quotes' noises within an expiry; ``alike``: that of the innovations of two expiries in one
    tenor bucket.

    The defaults were chosen on Deribit BTC and ETH, January and March 2026, six hours between
    surfaces, so that the root mean square of z over all expiries is 1 or a little less: it is .90
    of the level and .97 of the skew, in any one tenor bucket from .85 to .94 and from .73 (below
    two days) to 1.11 (one to three months). The first week of April is calmer, .79 and .71:
    ``skew`` was chosen without it, the others with all three periods in view, so that for these
    none is out of sample. The benchmark of model risk prints these numbers.
    """

    level: float = 0.135
    skew: float = 0.035
    decay: float = 0.6
    shared: float = 0.5
    alike: float = 0.9


@dataclass(frozen=True)
class InnovationSettings:
    """How the last surface is carried, and what its innovations are measured by."""

    memory: Memory = field(default_factory=Memory)
    noise: ProcessNoise = field(default_factory=ProcessNoise)


@dataclass(frozen=True)
class Innovation:
    """One expiry, one step ahead.

    Of the ``count`` quotes' z = (mid − predicted)/√(e² + (sh)²), with e the vol error of the last
    surface, h the half-spread and s the last surface's ``noise_scale`` (1/√3 where it has none):
    ``mean``, root mean square ``rms`` and the share ``covered`` by
    ±1.96. An honest error bar on a market that stands still gives rms 1.

    ``level``: the mean of mid − predicted within one ATM deviation of the money, weighted by 1/h²;
    ``standing_level``: the same of the last surface over its own quotes, which is no news;
    ``level_sd`` its predictive standard deviation, √(Σae² + aᵀVa + (λσ₀)²Δ·T^−2p), from the
    weights a, the vol σ₀ at the money, the covariance V_ij = q_i q_j(c + (1 − c)δ_ij) of the
    quotes' noises q = sh, c their correlation, and the process noise λ (`ProcessNoise`); e counts
    as if the surface erred alike at all strikes. ``level_z`` = (level − standing_level)/level_sd
    is the innovation that charts are fed with.
    ``skew``: the slope of mid − predicted in x = k/(σ₀√T) over |x| ≤ 2, weighted likewise, in vol
    per deviation, of which a noise that all quotes share has no part where their noises are equal;
    ``standing_skew``, ``skew_sd`` and ``skew_z`` as for the level, with the slope's weights b in
    place of a and, for e, the most that any correlation along strikes allows,
    Σae²/Σa(x − x̄)² (Cauchy & Schwarz).
    ``shape_rms``: the root mean square z once the level is taken out.
    ``forward_z``: ln(F′/F) over √(σ₀²Δ + s² + s′²), the move that the vol at the money and the
    errors of both forwards (s and s′, as shares of them) allow.
    """

    expiry: np.datetime64
    years: float
    tenor: Tenor
    elapsed_years: float
    count: int = 0
    mean: float = nan
    rms: float = nan
    covered: float = nan
    level: float = nan
    standing_level: float = 0.0
    level_sd: float = nan
    level_z: float = nan
    skew: float = nan
    standing_skew: float = 0.0
    skew_sd: float = nan
    skew_z: float = nan
    shape_rms: float = nan
    forward_move: float = nan
    forward_z: float = nan

    def values(self) -> dict[str, Value]:
        """The fields as plain values; the expiry as ISO 8601 text."""
        return plain_values(self)


@dataclass(frozen=True)
class Predicted:
    """Every row of a chain as the last surface sees it: ``vol``, its ``error`` and the ``noise`` of
    its quote, nan where it has no such expiry or the row no place."""

    vol: Floats
    error: Floats
    noise: Floats


def predict(previous: Surface, slices: Slices, memory: Memory | None = None) -> Predicted:
    """What ``previous`` says of the rows of a chain."""
    memory = memory or Memory()
    count = len(slices.expiry)
    years, forward, scale = (np.full(count + 1, nan) for _ in range(3))
    for number, one in _in_common(previous, slices):
        years[number], forward[number] = one.years, one.forward
        scale[number] = quote_noise(one)
    vol, error = (np.full(len(slices.kind), nan) for _ in range(2))
    rows = np.flatnonzero(np.isfinite(years[slices.slice_index]))
    if rows.size:
        place = slices.slice_index[rows]
        old = forward[place]
        moved = np.log(slices.forward[place] / old)
        strike = old * np.exp(slices.log_moneyness[rows] + memory.skew_stickiness * moved)
        vol[rows] = previous.implied_vol(strike, years[place])
        error[rows] = previous.vol_error(strike, years[place])
    return Predicted(vol, error, scale[slices.slice_index] * slices.noise)


def quote_noise(one: ExpirySlice) -> float:
    """One standard deviation of a quote of this expiry about the smile, in half-spreads."""
    scale = one.diagnostics.noise_scale
    return scale if scale > 0.0 else QUOTE_NOISE


class Standing(NamedTuple):
    """Level and skew of mid − model that a fit leaves over its own quotes: what its shape lacks, or
    what its memory has not yet given up."""

    level: float = 0.0
    skew: float = 0.0


def standing_residuals(fit: Fit) -> dict[int, Standing]:
    """What a fit leaves, by the microseconds of its expiries; skew 0 where there is none."""
    slices = fit.slices
    seen = Predicted(fit.model_vol, np.zeros_like(fit.model_vol), slices.noise)
    found = {}
    for number, moment in enumerate(slices.expiry.astype(np.int64).tolist()):
        gaps = _gaps(slices, number, seen)
        if gaps is not None:
            skew, _ = _slope(gaps, 0.0, 0.0)
            found[moment] = Standing(gaps.level, skew if skew == skew else 0.0)
    return found


def innovations(
    previous: Surface,
    slices: Slices,
    settings: InnovationSettings | None = None,
    standing: Mapping[int, Standing] | None = None,
) -> tuple[Innovation, ...]:
    """An innovation for every expiry of the chain that ``previous`` was fitted at.

    Without any where the chain is not later than ``previous``, which is no forecast. ``standing``:
    the `standing_residuals` of the fit that ``previous`` is of; 0 where not given.
    """
    settings = settings or InnovationSettings()
    standing = standing or {}
    elapsed = float(years_between(previous.quote_time, slices.chain.quote_time))
    if not elapsed > 0.0:
        return ()
    predicted = predict(previous, slices, settings.memory)
    return tuple(
        _innovation(
            slices,
            number,
            one,
            _gaps(slices, number, predicted),
            standing.get(micros_of(one.expiry), Standing()),
            elapsed,
            settings.noise,
        )
        for number, one in _in_common(previous, slices)
    )


def process_reach(vol: float, years: float, elapsed: float, noise: ProcessNoise) -> float:
    """σ₀√Δ·T^−p: what λ is multiplied by for the deviation that the market itself moves by."""
    return vol * sqrt(elapsed) * float(max(years, _LEAST_YEARS) ** -noise.decay)


def pooled(
    found: Sequence[Innovation], noise: ProcessNoise | None = None, name: str = "level_z"
) -> dict[Tenor, float]:
    """One standardised innovation a tenor bucket, for its chart: of ``level_z`` or ``skew_z``.

    The mean of the n expiries' z over its standard deviation √((1 + (n − 1)a)/n) under a
    correlation of a between any two.
    """
    alike = (noise or ProcessNoise()).alike
    by_tenor: dict[Tenor, list[float]] = {}
    for one in found:
        z = getattr(one, name)
        if z == z:
            by_tenor.setdefault(one.tenor, []).append(z)
    return {tenor: equicorrelated_mean(z, alike) for tenor, z in by_tenor.items()}


def equicorrelated_mean(z: Sequence[float], correlation: float) -> float:
    """The mean of n unit normals of one pairwise correlation, standardised."""
    n = len(z)
    return sum(z) / n / sqrt((1.0 + (n - 1) * correlation) / n)


def _in_common(previous: Surface, slices: Slices) -> list[tuple[int, ExpirySlice]]:
    """The expiries of a chain that have a forward and a smile in ``previous``."""
    known = {micros_of(one.expiry): one for one in previous.expiries}
    moments = slices.expiry.astype(np.int64).tolist()
    return [
        (number, known[moment])
        for number, moment in enumerate(moments)
        if moment in known and slices.forward[number] > 0.0 and slices.years[number] > 0.0
    ]


class _Gaps(NamedTuple):
    """The two-sided quotes of an expiry against what was predicted: ``gap`` = mid − predicted, the
    ``error`` of that and the ``quote``'s noise, x in deviations; ``near`` the money, with weights
    ``share`` there, and the ``level`` and ``vol`` that these give."""

    gap: Floats
    error: Floats
    quote: Floats
    x: Floats
    near: Bools
    share: Floats
    level: float
    vol: float


def _gaps(slices: Slices, number: int, predicted: Predicted) -> _Gaps | None:
    """None where no quote has a prediction."""
    rows = np.flatnonzero(
        (slices.slice_index == number)
        & (slices.kind == QuoteKind.TWO_SIDED)
        & np.isfinite(predicted.vol)
    )
    if not rows.size:
        return None
    vol = predicted.vol[rows]
    gap = slices.mid_vol[rows] - vol
    error = np.where(np.isfinite(predicted.error[rows]), predicted.error[rows], 0.0)
    quote = predicted.noise[rows]
    x = slices.log_moneyness[rows] / (vol * sqrt(float(slices.years[number])))
    near = np.abs(x) <= max(1.0, float(np.abs(x).min()))  # the nearest, where none is near
    share = quote[near] ** -2.0
    share /= share.sum()
    return _Gaps(
        gap, error, quote, x, near, share, float(share @ gap[near]), float(share @ vol[near])
    )


def _innovation(
    slices: Slices,
    number: int,
    one: ExpirySlice,
    gaps: _Gaps | None,
    standing: Standing,
    elapsed: float,
    noise: ProcessNoise,
) -> Innovation:
    years = float(slices.years[number])
    moved = log(float(slices.forward[number]) / one.forward)
    bare = Innovation(slices.expiry[number], years, tenor_of(years), elapsed, forward_move=moved)
    if gaps is None:
        return bare
    gap, error, quote, _, near, share, level, vol = gaps
    count = len(gap)
    sd = np.sqrt(error * error + quote * quote)
    z, shape = gap / sd, (gap - level) / sd
    reach = process_reach(vol, years, elapsed, noise)
    variance = (
        share @ error[near] ** 2
        + _noise(share, quote[near], noise.shared)
        + (noise.level * reach) ** 2
    )
    level_sd = sqrt(float(variance))
    skew, skew_sd = _slope(gaps, noise.shared, noise.skew * reach)
    return replace(
        bare,
        count=count,
        mean=float(z.sum()) / count,
        rms=sqrt(float(z @ z) / count),
        covered=float(np.count_nonzero(np.abs(z) <= _COVER)) / count,
        level=level,
        standing_level=standing.level,
        level_sd=level_sd,
        level_z=(level - standing.level) / level_sd,
        skew=skew,
        standing_skew=standing.skew,
        skew_sd=skew_sd,
        skew_z=(skew - standing.skew) / skew_sd,
        shape_rms=sqrt(float(shape @ shape) / count),
        forward_z=moved / sqrt(vol * vol * elapsed + _forward_noise(slices, number, one)),
    )


def _forward_noise(slices: Slices, number: int, one: ExpirySlice) -> float:
    """The variance of ln(F′/F) by the errors of both, those that are known."""
    shares = (
        one.forward_error / one.forward,
        float(slices.forward_error[number] / slices.forward[number]),
    )
    return sum(share * share for share in shares if share == share)


def _slope(gaps: _Gaps, shared: float, process: float) -> tuple[float, float]:
    """The weighted slope of the gaps in x and its predictive standard deviation, nan for fewer than
    three quotes within two deviations, or all of one strike."""
    inside = np.abs(gaps.x) <= _REACH
    if np.count_nonzero(inside) < _LEAST_QUOTES:
        return nan, nan
    weight = gaps.quote[inside] ** -2.0
    share = weight / weight.sum()
    away = gaps.x[inside] - share @ gaps.x[inside]
    spread = float(share @ (away * away))
    if not spread > _ONE_STRIKE:
        return nan, nan
    own = float(share @ gaps.error[inside] ** 2)
    along = share * away / spread
    noise = _noise(along, gaps.quote[inside], shared)
    return float(along @ gaps.gap[inside]), sqrt(own / spread + noise + process * process)


def _noise(weights: Floats, quote: Floats, shared: float) -> float:
    """aᵀVa for V_ij = q_i q_j(c + (1 − c)δ_ij)."""
    parts = weights * quote
    return float(shared * parts.sum() ** 2 + (1.0 - shared) * (parts @ parts))
