"""Whole SABR surfaces under the published rule: proved within the ranges of their quotes.

The rule, at constant log-moneyness: an expiry's w is the formula on its quoted range and goes on
linearly outside; between expiries it is linear in variance time, w₁·τ/τ₁ before the first,
w_N + (τ/τ_N − 1)·w_N(0) beyond the last. The range is linear in variance time between expiries and
that of the nearest one elsewhere. Any variance time will do: what is proved holds for all λ and for
all levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from calib.arbitrage.cells import Indices
from calib.arbitrage.certificate import Certificate, CertificateScope
from calib.arbitrage.sabr_butterfly import SabrButterflyResult, certify_sabr_butterfly
from calib.arbitrage.sabr_continuation import (
    ContinuationResult,
    certify_continuation,
    continues_above,
)
from calib.arbitrage.sabr_pairs import SabrPairResult, certify_sabr_pairs
from calib.arbitrage.sabr_slices import Continued, SabrSlices
from calib.arbitrage.slices import Flags, Floats

_COUPLED = "within the range of the quotes"
_ALONE = "every expiry alone, within the range of its quotes"
_BEYOND = ", and as continued beyond it at the expiries"


@dataclass(frozen=True, slots=True)
class SabrProofs:
    """What was proved of every slice, pair and surface, and the certificates that follow.

    `butterfly` has one entry for each slice, its `raised` for the last ones of coupled surfaces;
    `pairs` has one for each pair of adjacent expiries of coupled surfaces, `pair_first` being the
    index of its earlier slice. Beyond the scope of the certificates, `continuation` says
    which wings are free of butterfly arbitrage out to infinity, and `above` which pairs have
    w₂ ≥ w₁ for all k.
    """

    certificates: tuple[Certificate, ...]
    butterfly: SabrButterflyResult
    pair_first: Indices
    pairs: SabrPairResult
    continuation: ContinuationResult
    above: Flags


def certify_sabr_surfaces(
    parameters: Floats,
    years: Floats,
    k_min: Floats,
    k_max: Floats,
    expiry_counts: ArrayLike,
    coupled: ArrayLike = True,
) -> tuple[Certificate, ...]:
    """Certify many surfaces at once, see `prove_sabr_surfaces`.

    `parameters` (4, n) has the rows α, β, ρ, ν of `calib.models.sabr`; `years`, `k_min` and `k_max`
    are of shape (n,): the slices of all surfaces, surface after surface, each in order of expiry.
    """
    slices = SabrSlices.of(parameters, years, k_min, k_max)
    return prove_sabr_surfaces(slices, expiry_counts, coupled).certificates


def prove_sabr_surfaces(
    slices: SabrSlices, expiry_counts: ArrayLike, coupled: ArrayLike = True
) -> SabrProofs:
    """Certify many surfaces at once; the slices lie surface after surface, in order of expiry.

    `expiry_counts` says how many belong to each surface, `coupled` whether its expiries are of one
    asset (for all surfaces or for each). The scope of what is proved is QUOTED_RANGE: every expiry
    on its range; of coupled ones also w₂ ≥ w₁ on the hull of the ranges of adjacent expiries, the
    interpolants on the interpolated range, and all levels before the first and beyond the last
    expiry. Expiries of different assets have nothing in between: of them every one is proved alone.
    A surface without expiries is NOT_CHECKED.

    The butterfly margin bounds g at all expiries, between them and beyond the last; at a time t
    before the first, g is at least that of the first times τ/τ₁ (`calib.arbitrage.extrapolation`).
    Raises ValueError where the counts are negative or do not add up to the number of slices.
    """
    counts = np.atleast_1d(np.asarray(expiry_counts, dtype=np.intp))
    if counts.ndim != 1 or (counts < 0).any() or int(counts.sum()) != slices.number:
        raise ValueError(f"expiry counts {counts} do not add up to {slices.number} slices")
    linked = np.broadcast_to(np.asarray(coupled, dtype=np.bool_), counts.shape)
    surface_of = np.repeat(np.arange(counts.size), counts)
    first = np.flatnonzero((surface_of[1:] == surface_of[:-1]) & linked[surface_of[1:]])
    last = (np.cumsum(counts) - 1)[linked & (counts > 0)]
    is_last = np.zeros(slices.number, np.bool_)
    is_last[last] = True

    butterfly = certify_sabr_butterfly(slices, raised=is_last)
    smiles = Continued.of(slices)
    one, two = smiles.take(first), smiles.take(first + 1)
    pairs = certify_sabr_pairs(one, two)
    continuation = certify_continuation(smiles)
    above = pairs.calendar_ok & continues_above(one, two)

    butterfly_margin = np.full(counts.size, np.inf)
    calendar_margin = np.full(counts.size, np.inf)
    np.minimum.at(butterfly_margin, surface_of, np.minimum(butterfly.margin, butterfly.raised))
    np.minimum.at(butterfly_margin, surface_of[first], pairs.between)
    np.minimum.at(calendar_margin, surface_of[first], pairs.growth)

    beyond = np.ones(counts.size, np.bool_)
    np.logical_and.at(beyond, surface_of, continuation.ok.all(axis=0))
    np.logical_and.at(beyond, surface_of[first], above)

    failures: list[list[str]] = [[] for _ in range(counts.size)]
    # What lies on a slice that has arbitrage itself is not named beside it.
    fine = butterfly.ok
    between_ok = pairs.between_ok | ~(fine[first] & fine[first + 1])
    number = np.arange(slices.number) - (np.cumsum(counts) - counts)[surface_of] + 1
    for what, indices, ok, step in (
        ("butterfly", np.arange(slices.number), fine, 0),
        ("calendar", first, pairs.calendar_ok, 1),
        ("interpolation", first, between_ok, 1),
        ("extrapolation", last, butterfly.raised_ok[last] | ~fine[last], 0),
    ):
        for index in indices[~ok]:
            i = number[index]
            where = f"expiries {i}-{i + 1}" if step else f"expiry {i}"
            failures[surface_of[index]].append(f"{what} at {where}")

    certificates = tuple(
        _certificate(*row)
        for row in zip(
            counts, failures, linked, beyond, butterfly_margin, calendar_margin, strict=True
        )
    )
    return SabrProofs(certificates, butterfly, first, pairs, continuation, above)


def _certificate(
    count: int, failed: list[str], coupled: bool, beyond: bool, butterfly: float, calendar: float
) -> Certificate:
    if count == 0:
        return Certificate.not_checked()
    if failed:
        scope, detail = CertificateScope.FAILED, "not proved: " + ", ".join(failed)
    else:
        scope = CertificateScope.QUOTED_RANGE
        detail = (_COUPLED if coupled else _ALONE) + (_BEYOND if beyond else "")
    return Certificate(not failed, scope, float(butterfly), float(calendar), detail)
