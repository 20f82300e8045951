"""Fits made by hand: a chain of vols, and any smiles over it, without a solver in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from calib.arbitrage.certificate import Certificate, CertificateScope
from calib.conventions import Floats, years_between
from calib.fitting.fit_value import Fit
from calib.fitting.settings import FitSettings
from calib.market.slices import QuoteKind, Slices
from calib.models import svi
from calib.states import FitState, ForwardSource, ModelName
from calib.surface.surface import ExpirySlice, SliceDiagnostics, Surface

PROVED = Certificate(True, CertificateScope.WHOLE_LINE, 0.05, 0.003)


def fit_of(
    slices: Slices,
    parameters: Floats,
    *,
    covariance: Floats | None = None,
    states: Sequence[FitState] | None = None,
    steps: int = 12,
    blend: float = 0.0,
    certificate: Certificate = PROVED,
) -> Fit:
    """The fit in which every expiry of ``slices`` has the raw SVI ``parameters`` (5, n)."""
    count = len(slices.expiry)
    states = tuple(states or [FitState.CONVERGED] * count)
    vol = np.full(len(slices.kind), np.nan)
    diagnostics, expiries = [], []
    for i in range(count):
        mine = np.flatnonzero(slices.slice_index == i)
        if not states[i].usable:
            diagnostics.append(SliceDiagnostics(states[i], quotes_rejected=len(mine)))
            continue
        k, years = slices.log_moneyness[mine], float(slices.years[i])
        vol[mine] = np.sqrt(svi.total_variance(tuple(parameters[:, i]), k) / years)
        diagnostics.append(_diagnostics(slices, mine, vol, states[i], steps))
        used = mine[slices.used[mine]]
        expiries.append(
            ExpirySlice(
                expiry=slices.expiry[i],
                years=years,
                variance_time=float(slices.variance_time[i]),
                forward=float(slices.forward[i]),
                discount_factor=float(slices.discount_factor[i]),
                parameters=tuple(parameters[:, i].tolist()),
                log_moneyness_min=float(slices.log_moneyness[used].min()),
                log_moneyness_max=float(slices.log_moneyness[used].max()),
                forward_error=float(slices.forward_error[i]),
                forward_source=ForwardSource(int(slices.forward_source[i])),
                covariance=() if covariance is None else tuple(covariance.ravel().tolist()),
                diagnostics=diagnostics[-1],
            )
        )
    surface = Surface(
        underlying=slices.chain.underlying,
        quote_time=slices.chain.quote_time,
        model=ModelName.SVI,
        calendar=slices.calendar,
        certificate=certificate,
        expiries=tuple(expiries),
        spot=slices.spot,
        blend=blend,
    )
    return Fit(surface, slices, states, vol, slices.reason, tuple(diagnostics), FitSettings())


def _diagnostics(
    slices: Slices, rows: np.ndarray, vol: Floats, state: FitState, steps: int
) -> SliceDiagnostics:
    seen = rows[slices.kind[rows] == QuoteKind.TWO_SIDED]
    gap = vol[seen] - slices.mid_vol[seen]
    used = int(slices.used[rows].sum())
    return SliceDiagnostics(
        state=state,
        rms_vol_error=float(np.sqrt(np.mean(gap * gap))),
        chi2_reduced=float(np.sum((gap / slices.noise[seen]) ** 2) / max(len(seen) - 5, 1)),
        in_spread_share=float(np.mean(np.abs(gap) <= slices.noise[seen])),
        max_abs_residual=float(np.abs(gap).max()),
        quotes_used=used,
        quotes_rejected=len(rows) - used,
        steps=steps,
        quote_share=0.8,
        memory_share=0.1,
    )


def earlier(surface: Surface, hours: float) -> Surface:
    """The surface as it would have been published so long before, its vols the same."""
    micros = round(hours * 3_600e6)
    quote_time = surface.quote_time - np.timedelta64(micros, "us")
    moved = []
    for one in surface.expiries:
        years = float(years_between(quote_time, one.expiry))
        longer = years / one.years
        a, b, *rest = one.parameters
        moved.append(
            replace(
                one,
                years=years,
                variance_time=years,
                parameters=(longer * a, longer * b, *rest),
            )
        )
    return replace(surface, quote_time=quote_time, expiries=tuple(moved))
