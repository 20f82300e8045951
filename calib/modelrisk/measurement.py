"""The measurement of a fit: its metrics, expiry by expiry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import nan
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calib.conventions import Bools, Floats, Ints, Right, Unit, micros_of
from calib.market.slices import QuoteKind
from calib.modelrisk.delta_buckets import DELTA_BUCKETS, bucket_numbers, call_delta
from calib.modelrisk.forward_check import ForwardCheck, forward_checks
from calib.modelrisk.metrics import BucketBias, SliceMetrics, SurfaceMetrics
from calib.modelrisk.parameter_moves import (
    ParameterMove,
    bound_distance,
    condition_number,
    parameter_moves,
)
from calib.modelrisk.runs import runs_test
from calib.modelrisk.tenors import tenor_of
from calib.quotes.reasons import Reason
from calib.states import ForwardSource
from calib.surface.surface import ExpirySlice, SliceDiagnostics, Surface

if TYPE_CHECKING:
    from calib.fitting.fit_value import Fit

_SECOND = np.timedelta64(1, "s")


def measure(
    fit: Fit, previous: Surface | None = None, *, fit_seconds: float = nan
) -> SurfaceMetrics:
    """The metrics of a fit, its moves counted from ``previous``."""
    surface, slices = fit.surface, fit.slices
    moves, money = parameter_moves(surface, previous), _at_the_money(surface)
    known = {
        micros_of(one.expiry): _Smile(one, move, *at)
        for one, move, at in zip(surface.expiries, moves, money, strict=True)
    }
    rows = _rows(fit)
    measured = tuple(
        _slice_metrics(fit, rows, i, check, known.get(moment))
        for i, (moment, check) in enumerate(
            zip(slices.expiry.astype(np.int64).tolist(), forward_checks(slices), strict=True)
        )
    )
    two_sided = rows.seen & np.isfinite(rows.residual)
    gaps = rows.residual[two_sided]
    inside = np.abs(gaps) <= rows.half[two_sided]
    certificate = surface.certificate
    return SurfaceMetrics(
        underlying=surface.underlying,
        quote_time=surface.quote_time,
        model=surface.model.name,
        slices=measured,
        expiries=len(measured),
        fitted=len(surface.expiries),
        quotes_used=int(rows.used.sum()),
        quotes_rejected=int((~rows.used).sum()),
        rms_vol_error=float(np.sqrt(np.mean(gaps * gaps))) if gaps.size else nan,
        in_spread_share=float(inside.mean()) if gaps.size else nan,
        worst_violation=max(
            (one.worst_violation for one in measured if one.worst_violation >= 0.0), default=nan
        ),
        spot=nan if surface.spot is None else surface.spot,
        blend=surface.blend,
        arbitrage_free=certificate.arbitrage_free,
        certificate_scope=certificate.scope,
        butterfly_margin=certificate.butterfly_margin,
        calendar_margin=certificate.calendar_margin,
        steps=max((one.steps for one in measured), default=0),
        fit_seconds=fit_seconds,
    )


class _Smile(NamedTuple):
    """A fitted expiry with what is read off its surface."""

    slice: ExpirySlice
    move: ParameterMove
    atm_vol: float
    atm_error: float


def _at_the_money(surface: Surface) -> list[tuple[float, float]]:
    """Vol and error at the forward of every smile."""
    if not surface.expiries:
        return []
    years = np.array([one.years for one in surface.expiries])
    forward = np.array([one.forward for one in surface.expiries])
    vols, errors = surface.implied_vol(forward, years), surface.vol_error(forward, years)
    return list(zip(vols.tolist(), errors.tolist(), strict=True))


@dataclass(frozen=True)
class _Rows:
    """The rows of a chain: which are ``used``, which of these are two-sided (``seen``), and what
    the model says of them."""

    used: Bools
    seen: Bools
    residual: Floats
    half: Floats
    outside: Floats
    vega: Floats
    bucket: Ints
    age: Floats


def _rows(fit: Fit) -> _Rows:
    slices, vol, used = fit.slices, fit.model_vol, fit.used
    years = np.append(slices.years, nan)[slices.slice_index]
    k = slices.log_moneyness
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        deviation = vol * np.sqrt(years)
        d1 = 0.5 * deviation - k / deviation
        vega = np.exp(-0.5 * d1 * d1) * np.sqrt(years)  # of forward 1, but for 1/√(2π)
        above, below = vol - slices.ask_vol, slices.bid_vol - vol
        outside = np.fmax(np.fmax(above, below), 0.0) / slices.noise
        delta = call_delta(k, deviation * deviation)
    age = (slices.chain.quote_time - slices.chain.quotes.quote_time) / _SECOND
    return _Rows(
        used=used,
        seen=used & (slices.kind == QuoteKind.TWO_SIDED),
        residual=vol - slices.mid_vol,
        half=0.5 * (slices.ask_vol - slices.bid_vol),
        outside=outside,
        vega=vega,
        bucket=bucket_numbers(delta),
        age=np.asarray(age, np.float64),
    )


def _slice_metrics(
    fit: Fit,
    rows: _Rows,
    number: int,
    check: ForwardCheck,
    smile: _Smile | None,
) -> SliceMetrics:
    slices, diagnostics = fit.slices, fit.slice_diagnostics[number]
    years = float(slices.years[number])
    source = int(slices.forward_source[number])
    mine = np.flatnonzero(slices.slice_index == number)
    counts = np.bincount(fit.reason[mine])
    used = mine[rows.used[mine]]
    common = SliceMetrics(
        expiry=slices.expiry[number],
        years=years,
        tenor=tenor_of(years),
        state=diagnostics.state,
        forward_source=ForwardSource(source) if source else None,
        forward=check,
        rejected=tuple(
            (Reason(reason), int(counts[reason]))
            for reason in np.flatnonzero(counts).tolist()
            if reason != Reason.USABLE
        ),
        crossed=_crossed(fit, mine),
        steps=diagnostics.steps,
    )
    if smile is None or not used.size:
        return common
    return _fitted(common, fit, rows, used, diagnostics, smile)


def _crossed(fit: Fit, rows: Ints) -> int:
    """How many rows of an expiry are crossed that could have been used: those out of the money,
    vols whose other right is not quoted, and all where there is no forward to tell."""
    crossed = fit.reason[rows] == Reason.CROSSED
    if not crossed.any():
        return 0
    quotes, k = fit.slices.chain.quotes, fit.slices.log_moneyness[rows]
    call, strike = quotes.right[rows] == Right.CALL, quotes.strike[rows]
    outside = np.where(call, ~(k < 0.0), ~(k >= 0.0))
    alone = (quotes.unit[rows] == Unit.VOL) & ~np.isin(strike, strike[outside])
    return int((crossed & (outside | alone)).sum())


def _fitted(
    common: SliceMetrics,
    fit: Fit,
    rows: _Rows,
    used: Ints,
    diagnostics: SliceDiagnostics,
    smile: _Smile,
) -> SliceMetrics:
    """The metrics of an expiry that has a smile and rows, the latter in order of strike."""
    slices = fit.slices
    used = used[np.argsort(slices.log_moneyness[used], kind="stable")]
    seen = used[rows.seen[used]]
    residual, vega, noise = rows.residual[seen], rows.vega[seen], slices.noise[seen]
    scaled = residual / noise
    weight = float(vega.sum())
    bias = _biases(rows.bucket[seen], residual, scaled)
    kinds = np.bincount(slices.kind[used], minlength=len(QuoteKind)).tolist()
    violation, share = _worst(rows, used, slices.noise)
    return replace(
        common,
        rms_vol_error=diagnostics.rms_vol_error,
        vega_vol_error=float(np.sqrt(vega @ residual**2 / weight)) if weight > 0.0 else nan,
        chi2_reduced=diagnostics.chi2_reduced,
        stated_noise=_median(noise),
        noise_scale=diagnostics.noise_scale,
        in_spread_share=diagnostics.in_spread_share,
        worst_violation=violation,
        worst_share=share,
        runs_z=runs_test(_by_strike(slices.chain.quotes.strike[seen], residual)).z,
        bias=bias,
        bracketed=sum(one.count for one in bias[1:4]),
        two_sided=kinds[QuoteKind.TWO_SIDED],
        ceilings=kinds[QuoteKind.CEILING],
        floors=kinds[QuoteKind.FLOOR],
        median_age_seconds=_oldest_median(slices.chain.quotes.venue.codes[used], rows.age[used]),
        oldest_age_seconds=float(rows.age[used].max()),
        venue_gap=_venue_gap(slices.chain.quotes.venue.codes[seen], scaled),
        move=smile.move,
        condition=condition_number(smile.slice.covariance),
        bound_distance=bound_distance(fit.surface.model, tuple(smile.slice.parameters)),
        atm_vol=smile.atm_vol,
        atm_error=smile.atm_error,
        quote_share=diagnostics.quote_share,
        memory_share=diagnostics.memory_share,
        prior_share=1.0 - diagnostics.quote_share,
    )


def _biases(bucket: Ints, residual: Floats, scaled: Floats) -> tuple[BucketBias, ...]:
    """Means by delta bucket; rows without one, numbered -1, are left out."""
    size = len(DELTA_BUCKETS) + 1
    count = np.bincount(bucket + 1, minlength=size)[1:].tolist()
    sums = (np.bincount(bucket + 1, values, size)[1:].tolist() for values in (residual, scaled))
    return tuple(
        BucketBias(n, vol / n, half_spreads / n) if n else BucketBias()
        for n, vol, half_spreads in zip(count, *sums, strict=True)
    )


def _median(values: Floats) -> float:
    """The median of few values, at a tenth of `numpy.median`'s cost; nan of none."""
    n, ordered = len(values), np.sort(values)
    return float(0.5 * (ordered[(n - 1) // 2] + ordered[n // 2])) if n else nan


def _worst(rows: _Rows, used: Ints, noise: Floats) -> tuple[float, float]:
    """The greatest violation among the rows, and the share of the same row in all squares; of rows
    that are violated alike, as where none is, the one furthest from the model."""
    outside = rows.outside[used]
    misfit = np.where(rows.seen[used], rows.residual[used] / noise[used], outside)
    squares = misfit * misfit
    worst, total = np.lexsort((squares, outside))[-1], float(squares.sum())
    return float(outside[worst]), float(squares[worst]) / total if total > 0.0 else nan


def _oldest_median(venue: NDArray[np.int32], age: Floats) -> float:
    return max(_median(age[venue == code]) for code in np.unique(venue))


def _by_strike(strike: Floats, residual: Floats) -> Floats:
    """Mean residuals by strike, which ascends: venues that quote one strike follow one market, so
    that their agreement tells nothing of the shape."""
    place = np.zeros(len(strike), np.int64)
    np.cumsum(strike[1:] != strike[:-1], out=place[1:])
    return np.asarray(np.bincount(place, residual) / np.bincount(place))


def _venue_gap(venue: NDArray[np.int32], scaled: Floats) -> float:
    if not venue.size or (venue == venue[0]).all():
        return nan
    means = [float(scaled[venue == code].mean()) for code in np.unique(venue)]
    return max(means) - min(means)
