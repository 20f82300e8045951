"""An input that did not change is no new information: the last surface stands, to the last bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calib.conventions import Floats
from calib.fitting.assembly import reasons_after_fit
from calib.fitting.certified import states_of
from calib.fitting.fit_value import Fit
from calib.fitting.settings import FitSettings
from calib.market.slices import Slices
from calib.states import FitState
from calib.surface.surface import SliceDiagnostics, Surface


def is_unchanged(previous: Surface | None, input_hash: str, settings: FitSettings) -> bool:
    """Whether ``previous`` was fitted to just these quotes, all of it, and is to be remembered."""
    return (
        previous is not None
        and settings.memory is not None
        and previous.input_hash == input_hash
        and previous.model is settings.model
        and previous.calendar is settings.calendar
        and previous.certificate.arbitrage_free == settings.arbitrage_free
        and all(one.hold is None for one in previous.expiries)
    )


def unchanged(slices: Slices, previous: Surface, settings: FitSettings) -> Fit:
    """The fit that ``previous`` was, of the same quotes."""
    known = {int(one.expiry.astype(np.int64)): one for one in previous.expiries}
    moments = slices.expiry.astype(np.int64).tolist()
    fitted = np.array([i for i, moment in enumerate(moments) if moment in known], np.int64)
    states = states_of(slices, fitted, FitState.CONVERGED)
    rows = np.bincount(slices.slice_index[slices.slice_index >= 0], minlength=len(moments))
    diagnostics = tuple(
        known[moment].diagnostics
        if moment in known
        else SliceDiagnostics(state, quotes_rejected=int(count))
        for moment, state, count in zip(moments, states, rows, strict=True)
    )
    return Fit(
        surface=previous,
        slices=slices,
        states=tuple(one.state for one in diagnostics),
        model_vol=_model_vol(slices, previous, moments),
        reason=reasons_after_fit(slices, tuple(one.state for one in diagnostics)),
        slice_diagnostics=diagnostics,
        settings=settings,
        previous=previous,  # itself: it was no refit
    )


def _model_vol(slices: Slices, surface: Surface, moments: Sequence[int]) -> Floats:
    vol = np.full(len(slices.kind), np.nan)
    years = {int(one.expiry.astype(np.int64)): one.years for one in surface.expiries}
    for i, moment in enumerate(moments):
        if moment in years:
            mine = slices.slice_index == i
            w = surface.total_variance(slices.log_moneyness[mine], years[moment])
            vol[mine] = np.sqrt(w / years[moment])
    return vol
