"""By how much all variances of a certified surface may be scaled with its certificate standing."""

from __future__ import annotations

import numpy as np

from calib.fitting.proof import proof_of
from calib.states import ModelName
from calib.surface.surface import Surface
from calib.surface.transport import VARIANCE_PLACES

_TRIED = 1.02


def variance_headroom(surface: Surface) -> float:
    """The largest proved factor: with all total variances times any factor from above 0 up to it,
    the surface is free of arbitrage as its certificate says.

    With w → cw the terms of Durrleman's g (Gatheral and Jacquier, Arbitrage-free SVI volatility
    surfaces, 2014, §2.2) become A − cB − c²C + cD with A, C ≥ 0: concave in c, and A at 0. So g is
    not negative at any c below one at which it is not; ratios of variances stay. A factor of 1
    therefore needs no proof, and one above it a single one: 1.02, which is what the usual margins
    leave room for, or else 1. SABR has no parameters for a scale: 1. 0 for a surface that is not
    certified.
    """
    if not surface.certificate.arbitrage_free or not surface.expiries:
        return 0.0
    if surface.model is ModelName.SABR:
        return 1.0
    columns = np.array([one.parameters for one in surface.expiries]).T
    columns[list(VARIANCE_PLACES[surface.model])] *= _TRIED
    proof = proof_of(surface, surface.expiries, columns)
    return _TRIED if proof.arbitrage_free else 1.0
