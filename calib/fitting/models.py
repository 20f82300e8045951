"""Which fit a model and its settings ask for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calib.conventions import Floats
from calib.fitting.certified import JointSettings, fit_essvi_surfaces, fit_svi_surfaces
from calib.fitting.outcome import Outcome
from calib.fitting.sabr_surface import fit_sabr_surfaces
from calib.fitting.settings import FitSettings
from calib.fitting.smile import fit_smiles
from calib.fitting.surface_batches import LEAST_ALONE
from calib.fitting.universe import Universe, batches, count_kind, row_weights
from calib.market.slices import QuoteKind, Slices
from calib.models.model import Model
from calib.states import FitState, ModelName
from calib.surface.surface import Surface


def fitted(
    model: Model,
    settings: FitSettings,
    sliced: Sequence[Slices],
    universe: Universe,
    previous: Sequence[Surface | None],
    weights: Sequence[Floats | None],
) -> Outcome:
    """All slices of a group of chains, fitted as ``settings`` say."""
    if not settings.arbitrage_free:
        return _free(model, settings, sliced, universe, previous, weights)
    joint = JointSettings(settings.loss, settings.min_quotes, settings.coupling, settings.memory)
    size = len(model.parameter_names)
    match settings.model:
        case ModelName.SVI:
            return Outcome.of(fit_svi_surfaces(sliced, previous, joint, weights), size, universe)
        case ModelName.ESSVI:
            return Outcome.of(fit_essvi_surfaces(sliced, joint, weights), size, universe)
        case ModelName.SABR:
            fits = fit_sabr_surfaces(sliced, settings.beta, joint, weights)
            return Outcome.of(fits, size, universe)


def _free(
    model: Model,
    settings: FitSettings,
    sliced: Sequence[Slices],
    universe: Universe,
    previous: Sequence[Surface | None],
    weights: Sequence[Floats | None],
) -> Outcome:
    """Each slice alone, from the last surface's smile where there is one."""
    found = Outcome.nothing(len(model.parameter_names), universe)
    weight = row_weights(sliced, weights)
    warm = _starts(model, sliced, previous)
    least = max(settings.min_quotes, LEAST_ALONE)
    enough = count_kind(universe, QuoteKind.TWO_SIDED) >= least
    enough &= (universe.years > 0.0) & np.isfinite(np.concatenate([s.forward for s in sliced]))
    found.states[np.concatenate([s.forward_source for s in sliced]) == 0] = FitState.NO_FORWARD
    found.states[universe.years <= 0.0] = FitState.EXPIRED
    for batch in batches(universe, np.flatnonzero(enough), weight):
        padding = batch.k.shape[1] - len(batch.lanes)
        lanes = np.append(batch.lanes, np.full(padding, batch.lanes[0]))
        fits = fit_smiles(model, settings.loss, settings.tolerances, batch, warm[:, lanes])
        n = len(batch.lanes)
        found.parameters[:, batch.lanes] = fits.parameters[:, :n]
        found.covariance[:, :, batch.lanes] = fits.covariance[:, :, :n]
        found.states[batch.lanes] = fits.state[:n]
        found.steps[batch.lanes] = fits.steps[:n]
    usable = np.isin(found.states, [state for state in FitState if state.usable])
    found.parameters[:, ~usable] = np.nan
    return found


def _starts(model: Model, sliced: Sequence[Slices], previous: Sequence[Surface | None]) -> Floats:
    """Coordinates of the last surface's slice at each expiry, nan where there is none."""
    starts = []
    none = (np.nan,) * len(model.parameter_names)
    for slices, surface in zip(sliced, previous, strict=True):
        known: dict[int, tuple[float, ...]] = {}
        if surface is not None and surface.model == model.name:
            known = {int(e.expiry.astype(np.int64)): e.parameters for e in surface.expiries}
        starts += [known.get(int(m), none) for m in slices.expiry.astype(np.int64)]
    natural = np.array(starts).reshape(-1, len(model.parameter_names)).T
    with np.errstate(invalid="ignore", divide="ignore"):
        chart: Floats = model.to_chart(natural)
    return chart
