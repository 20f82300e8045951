"""Findings: what may be wrong with an expiry, and the number that says so."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from calib.modelrisk.plain_values import Value, plain_values


class CauseGroup(StrEnum):
    """Where a cause lies."""

    DATA = "data"
    NUMERICS = "numerics"
    SHAPE = "shape"
    REGIME = "regime"


class Cause(StrEnum):
    """What may be wrong, in order of precedence within and across its groups."""

    EXPIRED = "expired"
    INCONSISTENT_FORWARD = "inconsistent forward"
    CROSSED_QUOTES = "crossed quotes"
    NO_FORWARD = "no forward"
    STALE_QUOTES = "stale quotes"
    FORWARD_JUMPED = "forward jumped"
    VENUES_APART = "venues apart"
    OUTLIER = "outlier"
    FEW_QUOTES = "few quotes"
    ONE_SIDED_QUOTES = "one-sided quotes"
    WIDE_QUOTES = "wide quotes"
    LEVEL_JUMPED = "level jumped"
    FIT_FAILED = "fit failed"
    NOT_CONVERGED = "not converged"
    BLENDED = "blended"
    AT_BOUND = "at bound"
    ILL_CONDITIONED = "ill-conditioned"
    SYSTEMATIC_RESIDUALS = "systematic residuals"
    MODELS_DISAGREE = "models disagree"
    PARAMETERS_JUMPED = "parameters jumped"
    ERRORS_LEAVE_BARS = "errors leave bars"

    @property
    def group(self) -> CauseGroup:
        """Where it lies."""
        return _GROUPS[self]


_MEMBERS = {
    CauseGroup.DATA: (
        Cause.EXPIRED,
        Cause.NO_FORWARD,
        Cause.INCONSISTENT_FORWARD,
        Cause.CROSSED_QUOTES,
        Cause.STALE_QUOTES,
        Cause.VENUES_APART,
        Cause.OUTLIER,
        Cause.FEW_QUOTES,
        Cause.ONE_SIDED_QUOTES,
        Cause.WIDE_QUOTES,
    ),
    CauseGroup.NUMERICS: (
        Cause.FIT_FAILED,
        Cause.NOT_CONVERGED,
        Cause.BLENDED,
        Cause.AT_BOUND,
        Cause.ILL_CONDITIONED,
    ),
    CauseGroup.SHAPE: (Cause.SYSTEMATIC_RESIDUALS, Cause.MODELS_DISAGREE),
    CauseGroup.REGIME: (
        Cause.FORWARD_JUMPED,
        Cause.LEVEL_JUMPED,
        Cause.PARAMETERS_JUMPED,
        Cause.ERRORS_LEAVE_BARS,
    ),
}
_GROUPS = {cause: group for group, causes in _MEMBERS.items() for cause in causes}


@dataclass(frozen=True)
class Finding:
    """One cause with its evidence: ``name`` has the ``value``, at or beyond its ``limit``.

    ``expiry`` None: of the underlying. ``text`` says it in a sentence that a person can check.
    """

    expiry: np.datetime64 | None
    cause: Cause
    name: str
    value: float
    limit: float
    text: str

    def values(self) -> dict[str, Value]:
        """The fields as plain values, and the group of the cause."""
        found = plain_values(self)
        return {"expiry": found.pop("expiry"), "group": self.cause.group.value, **found}
