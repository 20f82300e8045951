"""What became of random quotes: certified and clean, or refused by name."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from calib.arbitrage.certificate import CertificateScope
from calib.fitting.fit import fit_stream
from calib.fitting.fit_value import Fit
from calib.fitting.settings import FitSettings
from calib.states import FitState, ModelName
from tests.arbitrage.dense import essvi_as_raw, glance, look
from tests.fitting.random_markets import random_chains

MODELS = (ModelName.SVI, ModelName.ESSVI)
NAMED = {
    FitState.TOO_FEW_QUOTES,
    FitState.NO_FORWARD,
    FitState.UNCERTIFIED,
    FitState.NO_STEP_ACCEPTED,
    FitState.NON_FINITE,
}


def verdict(fit: Fit, *, closely: bool = False) -> str:
    """ "certified", "blended", or the name it was refused by; what is neither is an error."""
    surface = fit.surface
    where = f"{surface.underlying} {surface.model.name}"
    if not surface.expiries:
        assert set(fit.states) <= NAMED, (where, fit.states)
        failed = surface.certificate.scope == CertificateScope.FAILED
        assert failed or surface.certificate.scope == CertificateScope.NOT_CHECKED, where
        assert failed or FitState.UNCERTIFIED not in fit.states, where
        assert bool(surface.certificate.detail) == failed, where
        return max(fit.states).name
    assert surface.certificate.scope == CertificateScope.WHOLE_LINE, where
    assert surface.certificate.arbitrage_free, where
    parameters = np.array([one.parameters for one in surface.expiries])
    if surface.model is ModelName.ESSVI:
        parameters = essvi_as_raw(parameters)
    assert glance(parameters) > 0.0, where
    if closely:
        assert min(look(parameters, steps=8)) > 0.0, where
    fitted = np.isin(fit.slices.slice_index, np.flatnonzero([s.usable for s in fit.states]))
    assert np.isfinite(fit.model_vol[fitted]).all(), where
    return "blended" if surface.blend > 0.0 else "certified"


def verdicts(
    model: ModelName, seed: int, count: int, *, every: int
) -> Iterator[tuple[str, str, float]]:
    """Of each of so many chains: its name, the verdict and the blend; every so many-th closely."""
    number = 0
    for fits in fit_stream(random_chains(seed, count), FitSettings(model=model), group=64):
        for fit in fits:
            found = verdict(fit, closely=number % every == 0)
            number += 1
            yield fit.surface.underlying, found, fit.surface.blend
    assert number == count
