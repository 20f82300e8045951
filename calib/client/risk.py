"""The judgement that comes with a surface, as a quoter reads it."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np

from calib.conventions import to_instant
from calib.modelrisk.breakers import BreakerLevel
from calib.surface.messages import instant
from calib.v1 import model_risk_pb2


@dataclass(frozen=True)
class ExpiryRisk:
    """How far one expiry may be quoted from.

    ``level``: the more cautious of its own and the underlying's. ``multiplier`` of its error bars;
    ``min_half_spread``: the least half-spread to quote at the money, a vol, nan where the error is
    not known. ``finding``: what seems to be the source of error, for people.
    """

    expiry: np.datetime64
    level: BreakerLevel
    multiplier: float = 1.0
    min_half_spread: float = nan
    cause: str = ""
    forced: bool = False
    probing: bool = False
    finding: str = ""


@dataclass(frozen=True)
class ModelRisk:
    """How far the surface in force may be trusted, and why.

    ``level`` of the underlying: HELD and HALTED keep newer surfaces back, and under HALTED nothing
    is to be quoted. ``assess_time`` is in the market's own time.
    """

    level: BreakerLevel
    assess_time: np.datetime64
    expiries: tuple[ExpiryRisk, ...] = ()
    multiplier: float = 1.0
    cause: str = ""
    forced: bool = False
    probing: bool = False

    def of(self, expiry: object) -> ExpiryRisk | None:
        """That of one expiry (datetime-like), None where it was not judged."""
        moment = to_instant(expiry)
        return next((one for one in self.expiries if one.expiry == moment), None)


def risk_of(message: model_risk_pb2.ModelRisk) -> ModelRisk:
    """The judgement in a message."""
    return ModelRisk(
        level=_level(message.level),
        assess_time=instant(message.assess_time, "risk.assess_time"),
        expiries=tuple(map(_expiry_risk, message.expiries)),
        multiplier=message.multiplier,
        cause=message.cause,
        forced=message.forced,
        probing=message.probing,
    )


def _expiry_risk(message: model_risk_pb2.ExpiryRisk) -> ExpiryRisk:
    return ExpiryRisk(
        expiry=instant(message.expiry, "risk.expiries.expiry"),
        level=_level(message.level),
        multiplier=message.multiplier,
        min_half_spread=message.min_half_spread,
        cause=message.cause,
        forced=message.forced,
        probing=message.probing,
        finding=message.finding,
    )


def _level(number: int) -> BreakerLevel:
    """The level, which is one more on the wire, where 0 says nothing; HALTED for what is not said
    or only a later version knows."""
    try:
        return BreakerLevel(number - 1)
    except ValueError:
        return BreakerLevel.HALTED
