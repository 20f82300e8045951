"""eSSVI slices and pairs: exact conditions, and the raw SVI slices that they are.

The butterfly bound on ψ is `calib.models.essvi_bound.psi_bound`; the certificates of raw SVI
apply to eSSVI through `as_svi`, whose rounding their error bounds cover.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike

from calib.arbitrage.rounding import product_at_most
from calib.arbitrage.slices import UNIT_ROUNDOFF, Flags, Floats, SviSlices
from calib.models.essvi import to_svi
from calib.models.essvi_bound import psi_bound

_SLACK = 8.0 * UNIT_ROUNDOFF
_HALVINGS = 30  # of the interval that the margin is sought in


class EssviSlices(NamedTuple):
    """Parameters of n eSSVI slices, each of shape (n,): θ > 0, ρ in (−1, 1), ψ = θφ > 0.

    Hendriks & Martini (2019); Mingone (2022), arXiv:2204.00312, §2.
    """

    theta: Floats
    rho: Floats
    psi: Floats

    @classmethod
    def of(cls, theta: ArrayLike, rho: ArrayLike, psi: ArrayLike) -> Self:
        """Slices from anything that broadcasts to one dimension; scalars make one slice."""
        columns = (np.atleast_1d(np.asarray(v, dtype=np.float64)) for v in (theta, rho, psi))
        broadcast = np.broadcast_arrays(*columns)
        if broadcast[0].ndim != 1:
            raise ValueError(
                f"slices are one-dimensional columns, got parameters of shape {broadcast[0].shape}"
            )
        return cls(*broadcast)


@dataclass(frozen=True, slots=True)
class EssviCalendarResult:
    """The verdict on n pairs, arrays of shape (n,).

    `ok`: w₂ ≥ w₁ for all k. `interpolable`: that, and ψ/θ does not increase, so that it also
    holds between any two slices interpolated linearly in θ, ψ and ρψ. `margin`: how far w₁ could
    be raised, as a share of itself, before the pair touches, a lower bound of w₂/w₁ − 1; -inf
    where not ok.
    """

    ok: Flags
    interpolable: Flags
    margin: Floats


def is_valid(slices: EssviSlices) -> Flags:
    """Finite parameters inside their ranges; ψ > 0, so a flat slice is not one of these."""
    theta, rho, psi = slices
    with np.errstate(invalid="ignore"):
        inside = (theta > 0.0) & (np.abs(rho) < 1.0) & (psi > 0.0)
        return np.asarray(inside & np.isfinite(theta) & np.isfinite(psi))


def as_svi(slices: EssviSlices) -> SviSlices:
    """The raw SVI slices of the same curves; nan where the parameters are out of range."""
    valid = is_valid(slices)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        columns = to_svi(slices)
    return SviSlices(*(np.where(valid, column, np.nan) for column in columns))


def is_butterfly_free(slices: EssviSlices) -> Flags:
    """ψ strictly below the exact bound (Martini & Mingone, arXiv:2106.02418), rounding apart.

    A quick test, without margin; `certify_butterfly(as_svi(slices))` is the proof.
    """
    valid = is_valid(slices)
    theta, rho, psi = (np.where(valid, column, 0.5) for column in slices)
    return np.asarray(valid & (psi < psi_bound(theta, rho) * (1.0 - 1e-12)))


def certify_essvi_calendar(first: EssviSlices, second: EssviSlices) -> EssviCalendarResult:
    """Decide exactly whether w₂ ≥ w₁ for all k; `second` has the longer expiry.

    For θ₂ ≥ θ₁: |ρ₂ψ₂ − ρ₁ψ₁| ≤ ψ₂ − ψ₁ (the wings), and either ψ₂/θ₂ ≤ ψ₁/θ₁ or
    (θ₂−θ₁)(ψ₂²/θ₂ − ψ₁²/θ₁) ≥ (ρ₂ψ₂ − ρ₁ψ₁)² (Pasquazzi 2023; the wings alone do not do).
    ψ₂θ₁ ≤ ψ₁θ₂ is decided exactly. The other inequalities must hold by more than their rounding,
    except that equal ρ and ψ have equal wings: the same slice twice is ok, and a larger θ alone.
    """
    valid = is_valid(first) & is_valid(second)
    one = EssviSlices(*(np.where(valid, column, 0.5) for column in first))
    two = EssviSlices(*(np.where(valid, column, 0.5) for column in second))
    ok, shrinking = _conditions(one, two)
    ok &= valid
    # w₁ raised by a factor is the eSSVI slice with θ₁ and ψ₁ raised by it. At θ₂/θ₁ they meet
    # at the money, so the largest factor that passes lies between 1 and that.
    safe = np.ones_like(one.theta)
    failing = two.theta / one.theta * (1.0 + 1e-12)
    for _ in range(_HALVINGS):
        factor = 0.5 * (safe + failing)
        raised = EssviSlices(one.theta * factor, one.rho, one.psi * factor)
        passes = _conditions(raised, two)[0]
        safe, failing = np.where(passes, factor, safe), np.where(passes, failing, factor)
    margin = np.where(ok, safe - 1.0, -np.inf)
    return EssviCalendarResult(ok=ok, interpolable=ok & shrinking, margin=margin)


def _conditions(first: EssviSlices, second: EssviSlices) -> tuple[Flags, Flags]:
    """Whether w₂ ≥ w₁, and whether ψ/θ does not increase; both beyond rounding."""
    theta1, rho1, psi1 = first
    theta2, rho2, psi2 = second
    same_wings = (rho1 == rho2) & (psi1 == psi2)
    right = psi2 * (1.0 + rho2) * (1.0 - _SLACK) >= psi1 * (1.0 + rho1)
    left = psi2 * (1.0 - rho2) * (1.0 - _SLACK) >= psi1 * (1.0 - rho1)
    wings = same_wings | (right & left)

    shrinking = product_at_most(psi2, theta1, psi1, theta2)
    chi1, chi2 = rho1 * psi1, rho2 * psi2
    rise = (theta2 - theta1) * (psi2 * psi2 / theta2 - psi1 * psi1 / theta1)
    needed = (chi2 - chi1) ** 2
    blur = _SLACK * (
        (theta2 + theta1) * (psi2 * psi2 / theta2 + psi1 * psi1 / theta1)
        + (np.abs(chi1) + np.abs(chi2)) ** 2
    )
    inner = shrinking | (rise - blur >= needed)
    return np.asarray((theta2 >= theta1) & wings & inner), np.asarray(shrinking)
