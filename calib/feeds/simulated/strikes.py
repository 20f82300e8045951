"""The strikes that a venue lists: round numbers, denser near the money, added as spot moves."""

from __future__ import annotations

import numpy as np

from calib.conventions import Floats

_WIDTH = 4.0  # deviations of the log price that the grid covers on either side
_CROWDING = 1.2  # how much denser the grid is at the money than at its ends
_ROUND = np.array([1.0, 2.0, 2.5, 5.0, 10.0])
_DECIMALS = 10


def strike_grid(forward: float, deviation: float, count: int) -> Floats:
    """``count`` ascending strikes around ``forward``, each a multiple of 1, 2, 2.5 or 5 times 10ⁿ.

    ``deviation`` is the standard deviation of the log price at expiry. Steps grow away from the
    money as they do on venues.
    """
    u = np.linspace(-_CROWDING, _CROWDING, count) if count > 1 else np.zeros(1)
    target = forward * np.exp(_WIDTH * deviation * np.sinh(u) / np.sinh(_CROWDING))
    gaps = np.diff(target) if count > 1 else target * deviation
    nearest = np.minimum(np.r_[gaps[0], gaps], np.r_[gaps, gaps[-1]])[:count]
    # 0.8 of the smaller gap keeps neighbours apart after rounding, the strike itself keeps it > 0.
    step = _round_down(np.minimum(0.8 * nearest, target))
    return np.asarray(np.round(np.rint(target / step) * step, _DECIMALS))


def extended_strikes(strikes: Floats, forward: float, deviation: float, count: int) -> Floats:
    """``strikes``, and a new grid beside them once fewer than a quarter are on one side of spot.

    What a venue has listed stays until the expiry.
    """
    below = int(np.count_nonzero(strikes < forward))
    if min(below, len(strikes) - below) >= count // 4:
        return strikes
    return np.union1d(strikes, strike_grid(forward, deviation, count))


def _round_down(step: Floats) -> Floats:
    scale = 10.0 ** np.floor(np.log10(step))
    index = np.searchsorted(_ROUND, step / scale * (1.0 + 1e-12), side="right") - 1
    return np.asarray(_ROUND[np.maximum(index, 0)] * scale)
