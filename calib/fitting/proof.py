"""The proof of a surface whose parameters were changed after its fit, whatever its model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calib.arbitrage.certificate import Certificate
from calib.arbitrage.essvi import EssviSlices, as_svi
from calib.arbitrage.sabr import certify_sabr_surfaces
from calib.conventions import ExpiryCalendar, Floats
from calib.fitting.blend import certify_all
from calib.states import ModelName
from calib.surface.surface import ExpirySlice, Surface


def proof_of(surface: Surface, expiries: Sequence[ExpirySlice], parameters: Floats) -> Certificate:
    """What is proved of a surface with these expiries, in order, and their parameters (P, n)."""
    coupled = surface.calendar is ExpiryCalendar.SAME_ASSET
    if surface.model is ModelName.SABR:
        terms = [(one.years, one.log_moneyness_min, one.log_moneyness_max) for one in expiries]
        years, low, high = np.array(terms).T
        return certify_sabr_surfaces(parameters, years, low, high, [len(expiries)], coupled)[0]
    if surface.model is ModelName.ESSVI:
        parameters = np.stack(as_svi(EssviSlices(*parameters)))
    return certify_all([parameters], [coupled])[0]
