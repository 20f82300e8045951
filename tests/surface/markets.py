"""Surfaces for tests: strategies that draw them, and plain ones with chosen parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import inf, sqrt
from typing import Any

import numpy as np
from hypothesis import strategies as st

from calib.arbitrage.certificate import Certificate, CertificateScope
from calib.conventions import NO_INSTANT, ExpiryCalendar, years_between
from calib.market.variance_clock import VarianceKnot
from calib.states import FitState, ForwardSource, ModelName
from calib.surface.surface import ExpirySlice, SliceDiagnostics, Surface

QUOTE_TIME = np.datetime64("2026-03-06T08:00:00.000123", "us")
HOUR = 3_600_000_000


def make_slice(hours: float, parameters: Sequence[float], **fields: Any) -> ExpirySlice:
    """A slice so many hours after QUOTE_TIME."""
    expiry = QUOTE_TIME + np.timedelta64(round(hours * HOUR), "us")
    years = float(years_between(QUOTE_TIME, expiry))
    given: dict[str, Any] = {
        "variance_time": years,
        "forward": 100.0,
        "discount_factor": 1.0,
        "log_moneyness_min": -0.5,
        "log_moneyness_max": 0.5,
    }
    return ExpirySlice(expiry, years, parameters=tuple(parameters), **(given | fields))


def make_surface(*expiries: ExpirySlice, **fields: Any) -> Surface:
    """A surface with these slices."""
    given: dict[str, Any] = {
        "underlying": "ABC",
        "quote_time": QUOTE_TIME,
        "model": ModelName.SVI,
        "calendar": ExpiryCalendar.SAME_ASSET,
        "certificate": Certificate.not_checked(),
    }
    return Surface(expiries=expiries, **(given | fields))


def three_expiries(**fields: Any) -> Surface:
    """A week, a month and a year of raw SVI, rising in total variance, with error bars."""
    slices = []
    for days, forward in ((7, 100.4), (30, 101.1), (365, 106.0)):
        t = days / 365
        root = sqrt(t)
        errors = np.array([0.004 * t, 0.01 * root, 0.02, 0.02 * root, 0.05 * root])
        slices.append(
            make_slice(
                24 * days,
                (0.02 * t, 0.11 * root, -0.4, 0.01, 0.4 * root),
                forward=forward,
                forward_error=0.05,
                discount_factor=1 - 0.04 * t,
                log_moneyness_min=-0.9 * root,
                log_moneyness_max=0.7 * root,
                covariance=tuple((np.diag(errors**2)).ravel().tolist()),
            )
        )
    return make_surface(*slices, **({"spot": 100.0} | fields))


def _numbers(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False)


_rho = _numbers(-0.95, 0.95)


@st.composite
def _svi(draw: st.DrawFn, years: float) -> tuple[float, ...]:
    b, rho, sigma = draw(_numbers(0.0, 0.9)), draw(_rho), draw(_numbers(0.01, 1.0))
    least = draw(_numbers(0.001, 1.0)) * years
    a = least - b * sigma * sqrt((1 - rho) * (1 + rho))
    return (a, b, rho, draw(_numbers(-0.3, 0.3)), sigma)


@st.composite
def _essvi(draw: st.DrawFn, years: float) -> tuple[float, ...]:
    return (draw(_numbers(0.01, 1.0)) * years, draw(_rho), draw(_numbers(0.001, 1.0)))


@st.composite
def _sabr(draw: st.DrawFn, years: float) -> tuple[float, ...]:
    beta = draw(st.sampled_from([0.0, 0.3, 1.0]))
    nu = draw(_numbers(0.0, 1.0)) / max(1.0, sqrt(years))
    return (draw(_numbers(0.1, 1.0)), beta, draw(_rho), nu)


_PARAMETERS = {ModelName.SVI: _svi, ModelName.ESSVI: _essvi, ModelName.SABR: _sabr}

maybe_nan = st.one_of(st.just(float("nan")), st.floats(0.0, 10.0), st.just(-0.0))
instants = st.integers(0, 4_000_000_000_000_000).map(lambda us: np.datetime64(us, "us"))


@st.composite
def _covariances(draw: st.DrawFn, size: int) -> tuple[float, ...]:
    if draw(st.booleans()):
        return ()
    seed = draw(st.integers(0, 2**32 - 1))
    root = np.random.default_rng(seed).normal(scale=0.01, size=(size, size))
    return tuple((root @ root.T).ravel().tolist())


@st.composite
def _diagnostics(draw: st.DrawFn) -> SliceDiagnostics:
    count = st.integers(0, 2**31 - 1)
    return SliceDiagnostics(
        state=draw(st.sampled_from(FitState)),
        rms_vol_error=draw(maybe_nan),
        chi2_reduced=draw(maybe_nan),
        in_spread_share=draw(maybe_nan),
        max_abs_residual=draw(maybe_nan),
        quotes_used=draw(count),
        quotes_rejected=draw(count),
        steps=draw(count),
    )


@st.composite
def _slices(draw: st.DrawFn, model: ModelName, hours: float, tau: float) -> ExpirySlice:
    parameters = draw(_PARAMETERS[model](years=hours / 8760))
    low, high = sorted((draw(_numbers(-1.0, 1.0)), draw(_numbers(-1.0, 1.0))))
    return make_slice(
        hours,
        parameters,
        variance_time=tau,
        forward=draw(st.sampled_from([1.5e-4, 100.0, 131.0, 91_250.5])),
        discount_factor=draw(_numbers(0.5, 1.1)),
        log_moneyness_min=low,
        log_moneyness_max=high,
        forward_error=draw(maybe_nan),
        forward_source=draw(st.sampled_from(ForwardSource)),
        covariance=draw(_covariances(size=len(parameters))),
    )


@st.composite
def curves(draw: st.DrawFn, least: int = 1) -> Surface:
    """Surfaces of every model, with every field drawn that evaluation looks at."""
    model = draw(st.sampled_from(ModelName))
    return make_surface(
        *draw(_terms(model, least)), model=model, spot=draw(st.one_of(st.none(), st.just(120.0)))
    )


@st.composite
def _terms(draw: st.DrawFn, model: ModelName, least: int) -> list[ExpirySlice]:
    hours = sorted(draw(st.sets(st.integers(1, 50_000), min_size=least, max_size=4)))
    clock = draw(st.lists(st.floats(0.2, 1.5), min_size=len(hours), max_size=len(hours)))
    taus = np.cumsum(np.diff([0, *hours]) * clock / 8760).tolist()
    return [draw(_slices(model, hour, tau)) for hour, tau in zip(hours, taus, strict=True)]


@st.composite
def knots(draw: st.DrawFn, expiries: Sequence[ExpirySlice]) -> tuple[VarianceKnot, ...]:
    """Turns of a clock between the expiries, on them and beyond, in any number."""
    points = [(0.0, 0.0), *((one.years, one.variance_time) for one in expiries)]
    points.append((points[-1][0] + draw(st.floats(0.1, 2.0)), points[-1][1] + 1.0))
    turns = []
    for (t, tau), (later, tau_later) in pairwise(points):
        shares = draw(st.lists(st.floats(0.01, 0.99), max_size=3, unique=True))
        gone = draw(st.lists(st.floats(0.0, 0.99), min_size=len(shares), max_size=len(shares)))
        turns += [
            VarianceKnot(t + share * (later - t), tau + way * (tau_later - tau))
            for share, way in zip(sorted(shares), sorted(gone), strict=True)
        ]
        if draw(st.booleans()):
            turns.append(VarianceKnot(later, tau_later))
    after = [*turns[1:], VarianceKnot(inf, inf)]
    return tuple(one for one, other in zip(turns, after, strict=False) if one.years < other.years)


@st.composite
def clocked(draw: st.DrawFn, least: int = 1) -> Surface:
    """As `curves`, with a clock that turns anywhere."""
    surface = draw(curves(least))
    return replace(surface, variance_clock=draw(knots(surface.expiries)))


@st.composite
def surfaces(draw: st.DrawFn) -> Surface:
    """Surfaces of every model and calendar, with every field drawn."""
    model = draw(st.sampled_from(ModelName))
    slices = [replace(one, diagnostics=draw(_diagnostics())) for one in draw(_terms(model, 0))]
    margin = st.one_of(st.sampled_from([float("inf"), float("-inf")]), st.floats(-1, 1))
    text = st.text(max_size=8).filter(lambda s: s.isprintable())
    return make_surface(
        *slices,
        underlying=draw(st.sampled_from(["BTC", "S&P 500", "ÖL"])),
        model=model,
        calendar=draw(st.sampled_from(ExpiryCalendar)),
        certificate=Certificate(
            draw(st.booleans()),
            draw(st.sampled_from([s for s in CertificateScope if s])),
            draw(margin),
            draw(margin),
            draw(text),
        ),
        spot=draw(st.one_of(st.none(), _numbers(1e-3, 1e6))),
        calibration_time=draw(st.one_of(st.just(NO_INSTANT), instants)),
        epoch=draw(text),
        revision=draw(st.integers(0, 2**63 - 1)),
        input_hash=draw(text),
        code_version=draw(text),
        variance_clock=draw(knots(slices)),
    )
