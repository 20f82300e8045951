"""How far the level of a smile may be raised, shape kept, before its certificate is lost."""

from __future__ import annotations

import numpy as np

from calib.arbitrage.butterfly import certify_butterfly
from calib.arbitrage.slices import Floats, SviSlices

_HALVINGS = 16


def certified_scale(slices: SviSlices, ceiling: float = 2.0) -> Floats:
    """For each slice the largest factor found, up to `ceiling`, by which w may be multiplied.

    λw is free of butterfly arbitrage for every λ from 0 to the factor: g is concave in λ and not
    negative at 0 (see `calib.arbitrage.extrapolation`), so one certificate at the factor is the
    proof for all below it. The factor is below 1 where the slice itself is not free of
    arbitrage, and 0 where no scale is certified. Found within (ceiling)·2⁻¹⁶.
    Raises ValueError where `ceiling` is not positive and finite.
    """
    if not (0.0 < ceiling < np.inf):
        raise ValueError(f"the ceiling of a scale is a positive number, not {ceiling}")
    certified = np.zeros(slices.number)
    refused = np.full(slices.number, ceiling)
    tried = refused
    for _ in range(_HALVINGS + 1):
        ok = certify_butterfly(scaled(slices, tried)).ok
        certified = np.where(ok, tried, certified)
        refused = np.where(ok, refused, tried)
        tried = 0.5 * (certified + refused)
    return certified


def scaled(slices: SviSlices, factor: Floats | float) -> SviSlices:
    """The slices of factor·w."""
    return slices._replace(a=slices.a * factor, b=slices.b * factor)
