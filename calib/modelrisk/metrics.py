"""Metrics: what one fit says about how far its surface may be trusted, expiry by expiry."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from enum import Enum
from math import nan
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from calib.arbitrage.certificate import CertificateScope
from calib.conventions import Bools, Floats, Ints, iso
from calib.market.slices import QuoteKind
from calib.modelrisk.delta_buckets import DELTA_BUCKETS, bucket_numbers, call_delta
from calib.modelrisk.forward_check import ForwardCheck, forward_checks
from calib.modelrisk.parameter_moves import (
    ParameterMove,
    bound_distance,
    condition_number,
    parameter_moves,
)
from calib.modelrisk.runs import runs_test
from calib.modelrisk.tenors import Tenor, tenor_of
from calib.quotes.reasons import Reason
from calib.states import FitState, ForwardSource
from calib.surface.surface import ExpirySlice, SliceDiagnostics, Surface

if TYPE_CHECKING:
    from calib.fitting.fit_value import Fit

Value: TypeAlias = float | int | str | bool | None
"""What a store and a table can hold."""

_FAILED = (FitState.NO_STEP_ACCEPTED, FitState.NON_FINITE, FitState.UNCERTIFIED)
_SECOND = np.timedelta64(1, "s")


@dataclass(frozen=True)
class BucketBias:
    """Residuals of the two-sided quotes used in one delta bucket, model less mid.

    ``vol`` is their mean as a decimal, ``half_spreads`` the mean of each over its half-spread.
    Without quotes both are nan.
    """

    count: int = 0
    vol: float = nan
    half_spreads: float = nan


@dataclass(frozen=True)
class SliceMetrics:
    """One expiry; vols as decimals, residuals are model less mid, nan is what does not exist.

    Fit, over the two-sided quotes used: ``rms_vol_error``; ``vega_vol_error`` = √(Σν r²/Σν), ν the
    Black vega; ``chi2_reduced`` in units of ``stated_noise``, the median half-spread in vol, and
    ``noise_scale``, what the residuals show it to be in units of it;
    ``in_spread_share``; ``worst_violation``, how far the worst quote (bounds included) lies
    outside bid-ask, in half-spreads; ``worst_share``, that quote's part of Σ(r/h)², to which a
    bound adds the square of its violation; ``runs_z`` of the signs
    along strikes, each the mean of its quotes (`calib.modelrisk.runs`); ``bias`` by delta bucket.
    ``bracketed`` counts the two-sided quotes within a delta of 25 on either side.
    Quotes: how many were used of each kind, ``rejected`` by reason; ages in seconds of those used
    at the quote time of the chain, the median that of the venue in which it is greatest;
    ``venue_gap``, the widest difference between the mean residuals of two venues in half-spreads.
    Shape: ``move`` since the last surface, ``condition`` and ``bound_distance`` of the parameters
    (`calib.modelrisk.parameter_moves`), ``atm_vol`` and ``atm_error``, what the quotes, the last
    surface and (``prior_share``) all else but the quotes decide.
    """

    expiry: np.datetime64
    years: float
    tenor: Tenor
    state: FitState
    forward_source: ForwardSource | None
    forward: ForwardCheck
    rms_vol_error: float = nan
    vega_vol_error: float = nan
    chi2_reduced: float = nan
    stated_noise: float = nan
    noise_scale: float = nan
    in_spread_share: float = nan
    worst_violation: float = nan
    worst_share: float = nan
    runs_z: float = nan
    bias: tuple[BucketBias, ...] = tuple(BucketBias() for _ in DELTA_BUCKETS)
    bracketed: int = 0
    two_sided: int = 0
    ceilings: int = 0
    floors: int = 0
    rejected: tuple[tuple[Reason, int], ...] = ()
    median_age_seconds: float = nan
    oldest_age_seconds: float = nan
    venue_gap: float = nan
    move: ParameterMove = field(default_factory=ParameterMove)
    condition: float = nan
    bound_distance: float = nan
    atm_vol: float = nan
    atm_error: float = nan
    quote_share: float = nan
    memory_share: float = nan
    prior_share: float = nan
    steps: int = 0

    @property
    def quotes_used(self) -> int:
        """Rows that the fit used, bounds included."""
        return self.two_sided + self.ceilings + self.floors

    @property
    def one_sided_share(self) -> float:
        """The share of bounds among the rows used."""
        return (self.ceilings + self.floors) / self.quotes_used if self.quotes_used else nan

    @property
    def failed(self) -> bool:
        """Whether the solver or the proof failed, whatever the quotes were."""
        return self.state in _FAILED

    @property
    def normalised_residual(self) -> float:
        """√χ²_red: the size of residuals in half-spreads."""
        return float(np.sqrt(self.chi2_reduced))

    def rejected_for(self, *reasons: Reason) -> int:
        """How many rows were rejected for any of these."""
        return sum(count for reason, count in self.rejected if reason in reasons)

    def values(self) -> dict[str, Value]:
        """Every number under one flat name, for stores and tables."""
        found = _plain(self, skip=("forward", "bias", "rejected", "move"))
        found["quotes_used"] = self.quotes_used
        found["quotes_rejected"] = sum(count for _, count in self.rejected)
        found["one_sided_share"] = self.one_sided_share
        for bucket, bias in zip(DELTA_BUCKETS, self.bias, strict=True):
            found[f"count_{bucket}"] = bias.count
            found[f"bias_{bucket}"] = bias.vol
            found[f"bias_half_spreads_{bucket}"] = bias.half_spreads
        for reason, count in self.rejected:
            found[f"rejected_{reason.name.lower()}"] = count
        found |= {f"forward_{name}": value for name, value in _plain(self.forward).items()}
        found |= {f"forward_{name}": getattr(self.forward, name) for name in _DERIVED}
        found |= {f"move_{name}": value for name, value in _plain(self.move).items()}
        return found


_DERIVED = ("basis", "basis_z", "gap")


@dataclass(frozen=True)
class SurfaceMetrics:
    """A surface as a whole, and its ``slices``: every expiry of the chain, fitted or not.

    ``rms_vol_error`` and ``in_spread_share`` are over all two-sided quotes used; ``blend`` says
    how far the fit was drawn to its anchor; the margins are those of the certificate.
    ``fit_seconds``: how long the fit took, nan where nobody said.
    """

    underlying: str
    quote_time: np.datetime64
    model: str
    slices: tuple[SliceMetrics, ...]
    expiries: int
    fitted: int
    quotes_used: int
    quotes_rejected: int
    rms_vol_error: float
    in_spread_share: float
    worst_violation: float
    spot: float
    blend: float
    arbitrage_free: bool
    certificate_scope: CertificateScope
    butterfly_margin: float
    calendar_margin: float
    steps: int
    fit_seconds: float = nan

    def values(self) -> dict[str, Value]:
        """Every number of the surface itself under one flat name."""
        return _plain(self, skip=("slices",))


def _plain(value: object, skip: tuple[str, ...] = ()) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for one in fields(value):  # type: ignore[arg-type]  # dataclasses all
        if one.name in skip:
            continue
        item = getattr(value, one.name)
        if isinstance(item, np.datetime64):
            item = iso(item)
        elif isinstance(item, Enum):
            item = str(item.value) if isinstance(item, Tenor) else item.name
        found[one.name] = item
    return found


def measure(
    fit: Fit, previous: Surface | None = None, *, fit_seconds: float = nan
) -> SurfaceMetrics:
    """The metrics of a fit, its moves counted from ``previous``."""
    surface, slices = fit.surface, fit.slices
    moves, money = parameter_moves(surface, previous), _at_the_money(surface)
    known = {
        int(one.expiry.astype(np.int64)): _Smile(one, move, *at)
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
        quotes_used=int(fit.used.sum()),
        quotes_rejected=int((~fit.used).sum()),
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
    """The rows of a chain: which are two-sided and used, and what the model says of them."""

    seen: Bools
    residual: Floats
    half: Floats
    outside: Floats
    vega: Floats
    bucket: Ints
    age: Floats


def _rows(fit: Fit) -> _Rows:
    slices, vol = fit.slices, fit.model_vol
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
        seen=fit.used & (slices.kind == QuoteKind.TWO_SIDED),
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
    used = mine[fit.used[mine]]
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
        steps=diagnostics.steps,
    )
    if smile is None or not used.size:
        return common
    return _fitted(common, fit, rows, used, diagnostics, smile)


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
    """Mean residuals by strike, ascending: venues that quote one strike follow one market, so that
    their agreement tells nothing of the shape."""
    _, place, count = np.unique(strike, return_inverse=True, return_counts=True)
    return np.asarray(np.bincount(place, residual) / count)


def _venue_gap(venue: NDArray[np.int32], scaled: Floats) -> float:
    if not venue.size or (venue == venue[0]).all():
        return nan
    means = [float(scaled[venue == code].mean()) for code in np.unique(venue)]
    return max(means) - min(means)
