"""How well each slice is fitted, from the vols of its rows."""

from __future__ import annotations

import numpy as np

from calib.conventions import Floats
from calib.fitting.outcome import Outcome
from calib.fitting.universe import Universe
from calib.market.slices import QuoteKind
from calib.states import FitState
from calib.surface.surface import SliceDiagnostics


def diagnose(
    universe: Universe,
    model_vol: Floats,
    outcome: Outcome,
    coordinates: int,
) -> tuple[SliceDiagnostics, ...]:
    """Diagnostics of every slice; ``model_vol`` is by row, the rest by slice.

    χ²_red = Σ((model − mid)/noise)²/max(n − P·q, 1) over the n two-sided rows of the slice, with P
    the ``coordinates`` that were fitted and q the share of them that the slice's own quotes decide.
    """
    slices = len(universe.years)
    inside = universe.slice_index >= 0
    seen = np.flatnonzero(inside & (universe.kind == QuoteKind.TWO_SIDED))
    place = universe.slice_index[seen]
    bid, ask, vol = universe.bid_vol[seen], universe.ask_vol[seen], model_vol[seen]
    gap = vol - 0.5 * (bid + ask)
    count = np.bincount(place, minlength=slices)

    def total(values: Floats) -> Floats:
        return np.bincount(place, values, minlength=slices).astype(np.float64, copy=False)

    followed = coordinates * np.where(np.isfinite(outcome.quote_share), outcome.quote_share, 1.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        rms = np.sqrt(total(gap * gap) / count)
        chi2 = total((gap / universe.noise[seen]) ** 2) / np.maximum(count - followed, 1.0)
        share = total(((vol >= bid) & (vol <= ask)).astype(np.float64)) / count
    worst = np.zeros(slices)
    np.fmax.at(worst, place, np.abs(gap))
    fitted = np.isfinite(rms)
    seen_of = [np.where(fitted, part, np.nan).tolist() for part in (rms, chi2, share, worst)]

    used = inside & (universe.kind != QuoteKind.NONE)
    rows = np.bincount(universe.slice_index[inside], minlength=slices)
    usable = np.where(fitted, np.bincount(universe.slice_index[used], minlength=slices), 0)
    columns = (  # in the order of `SliceDiagnostics`
        map(FitState, outcome.states.tolist()),
        *seen_of,
        usable.tolist(),
        (rows - usable).tolist(),
        outcome.steps.tolist(),
        outcome.quote_share.tolist(),
        outcome.memory_share.tolist(),
        outcome.noise_scale.tolist(),
        outcome.covariance_scale.tolist(),
    )
    return tuple(SliceDiagnostics(*each) for each in zip(*columns, strict=True))
