"""What a fit, or its absence, is to a breaker: one reading a trigger, by expiry and as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import nan, sqrt

import numpy as np

from calib.conventions import micros_of
from calib.modelrisk.breakers import BreakerLevel, BreakerState, Trigger
from calib.modelrisk.comparison import ExpiryComparison
from calib.modelrisk.innovations import Innovation
from calib.modelrisk.metrics import SliceMetrics
from calib.modelrisk.usual import Usual


def expiry_readings(
    one: SliceMetrics | None,
    innovation: Innovation | None,
    *,
    failures: int,
    usual: Usual | None,
    disagreement: float,
    alarms: int,
    good: bool,
) -> dict[Trigger, float]:
    """The readings of one expiry; ``one`` None where the fit, if any (``good``), has no such
    expiry: then it has no quotes either. An expiry that never had quotes misses none."""
    starved = nan
    if good and usual is not None and not (one is not None and one.failed):
        starved = usual.starvation(one.quotes_used if one is not None else 0)
    return {
        Trigger.FIT_FAILURE: float(failures),
        Trigger.RESIDUALS: one.normalised_residual if one else nan,
        Trigger.INNOVATION: abs(innovation.level_z) if innovation else nan,
        Trigger.FORWARD_JUMP: abs(one.forward.basis_z) if one else nan,
        Trigger.STARVATION: starved,
        Trigger.MODELS_DISAGREE: disagreement,
        Trigger.ALARM: float(alarms),
    }


def whole_readings(
    found: Sequence[Innovation],
    breakers: Iterable[BreakerState],
    *,
    failures: int,
    age: float,
) -> dict[Trigger, float]:
    """The readings of an underlying: ``breakers`` of the expiries that ever had quotes, ``age`` of
    the quotes in force over its limit."""
    forward = [abs(one.forward_z) for one in found if one.forward_z == one.forward_z]
    held = [one.tripped >= BreakerLevel.HELD for one in breakers]
    return {
        Trigger.FIT_FAILURE: float(failures),
        Trigger.STALE_FEED: age,
        Trigger.FORWARD_JUMP: float(np.median(forward)) if forward else nan,
        Trigger.EXPIRIES: sum(held) / len(held) if held else nan,
    }


def failures_in_a_row(before: int, one: SliceMetrics | None, *, good: bool, failed: bool) -> int:
    """Of the fit as a whole (``failed``), or of this expiry alone."""
    if failed or (one is not None and one.failed):
        return before + 1
    return 0 if good and one is not None else before


def disagreements(
    compared: Sequence[ExpiryComparison], seen: Mapping[int, SliceMetrics]
) -> dict[int, float]:
    """Ranges of vols between models over what the quotes leave open, √(noise² + error²), by the
    microseconds of the expiry."""
    found = {}
    for each in compared:
        moment = micros_of(each.expiry)
        one = seen.get(moment)
        if one is not None:
            error = one.atm_error if one.atm_error == one.atm_error else 0.0
            found[moment] = each.vol_range / sqrt(one.stated_noise**2 + error**2)
    return found
