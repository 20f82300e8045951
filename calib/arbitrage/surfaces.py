"""Whole surfaces of raw SVI slices under the published rule of interpolation and extrapolation.

The rule, at constant log-moneyness: total variance linear in τ between expiries, w₁·τ/τ₁ before
the first, w_N + (τ/τ_N − 1)·w_N(0) beyond the last. What is proved holds for any variance time τ
that does not fall, whatever its clock: the proofs run over all values that τ takes on its way.
eSSVI slices are raw SVI slices (`calib.arbitrage.essvi.as_svi`) and are certified as such.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from calib.arbitrage.butterfly import ButterflyResult, certify_butterfly
from calib.arbitrage.calendar import CalendarResult, certify_calendar
from calib.arbitrage.cells import Indices
from calib.arbitrage.certificate import Certificate, CertificateScope
from calib.arbitrage.extrapolation import ExtrapolationResult, certify_extrapolation
from calib.arbitrage.first_look import FirstLook, look
from calib.arbitrage.interpolation import InterpolationResult, certify_interpolation
from calib.arbitrage.slices import Flags, Floats, SviSlices


@dataclass(frozen=True, slots=True)
class SurfaceProofs:
    """What was proved of every slice, pair and surface, and the certificates that follow.

    `butterfly` has one entry for each slice. `calendar` and `interpolation` have one for each
    pair of adjacent expiries of coupled surfaces, `pair_first` being the index of its earlier
    slice. `extrapolation` has one for each coupled surface, `last` being the index of its last
    slice.
    """

    certificates: tuple[Certificate, ...]
    butterfly: ButterflyResult
    pair_first: Indices
    calendar: CalendarResult
    interpolation: InterpolationResult
    last: Indices
    extrapolation: ExtrapolationResult


def certify_surfaces(
    slices: SviSlices, expiry_counts: ArrayLike, coupled: ArrayLike = True
) -> SurfaceProofs:
    """Certify many surfaces at once.

    `slices` holds the expiries of all surfaces, surface after surface, each in order of expiry;
    `expiry_counts` says how many belong to each surface, `coupled` whether its expiries are of
    one asset (for all surfaces or for each). Expiries of different assets are certified one by
    one: scope SLICES instead of WHOLE_LINE. A surface without expiries is NOT_CHECKED.

    The butterfly margin bounds g at all expiries, between them and beyond the last; at a time t
    before the first, g is at least that of the first times τ/τ₁.
    Raises ValueError where the counts are negative or do not add up to the number of slices.
    """
    counts = np.atleast_1d(np.asarray(expiry_counts, dtype=np.intp))
    if counts.ndim != 1 or (counts < 0).any() or int(counts.sum()) != slices.number:
        raise ValueError(f"expiry counts {counts} do not add up to {slices.number} slices")
    linked = np.broadcast_to(np.asarray(coupled, dtype=np.bool_), counts.shape)
    surface_of = np.repeat(np.arange(counts.size), counts)
    follows = (surface_of[1:] == surface_of[:-1]) & linked[surface_of[1:]]
    pair_first = np.flatnonzero(follows)
    last = (np.cumsum(counts) - 1)[linked & (counts > 0)]

    seen = look(slices)
    butterfly = _butterfly(slices, seen)
    pairs = (slices.take(pair_first), slices.take(pair_first + 1))
    calendar = _calendar(pairs, seen.calendar[pair_first])
    interpolation = _interpolation(
        pairs,
        (butterfly.margin[pair_first], butterfly.margin[pair_first + 1]),
        seen.interpolation[pair_first],
    )
    extrapolation = _extrapolation(
        slices.take(last), butterfly.margin[last], seen.extrapolation[last]
    )

    butterfly_margin = np.full(counts.size, np.inf)
    calendar_margin = np.full(counts.size, np.inf)
    proved = counts > 0
    for owner, ok, margin in (
        (surface_of, butterfly.ok, butterfly.margin),
        (surface_of[pair_first], interpolation.ok, interpolation.margin),
        (surface_of[last], extrapolation.ok, extrapolation.margin),
    ):
        np.minimum.at(butterfly_margin, owner, margin)
        np.logical_and.at(proved, owner, ok)
    np.minimum.at(calendar_margin, surface_of[pair_first], calendar.margin)
    np.logical_and.at(proved, surface_of[pair_first], calendar.ok)

    begins = np.cumsum(counts) - counts
    failures: list[list[str]] = [[] for _ in range(counts.size)]

    def note(what: str, indices: Indices, ok: Flags, margin_pairs: bool) -> None:
        for index in indices[~ok]:
            surface = surface_of[index]
            number = int(index - begins[surface]) + 1
            where = f"expiries {number}-{number + 1}" if margin_pairs else f"expiry {number}"
            failures[surface].append(f"{what} at {where}")

    if not proved.all():
        note("butterfly", np.arange(slices.number), butterfly.ok, False)
        note("calendar", pair_first, calendar.ok, True)
        note("interpolation", pair_first, interpolation.ok, True)
        note("extrapolation", last, extrapolation.ok, False)

    certificates = tuple(
        Certificate.not_checked()
        if count == 0
        else Certificate(
            arbitrage_free=bool(free),
            scope=_scope(bool(free), bool(link)),
            butterfly_margin=float(butterfly_bound),
            calendar_margin=float(calendar_bound),
            detail="" if free else "not proved: " + ", ".join(failed),
        )
        for count, free, link, butterfly_bound, calendar_bound, failed in zip(
            counts, proved, linked, butterfly_margin, calendar_margin, failures, strict=True
        )
    )
    return SurfaceProofs(
        certificates, butterfly, pair_first, calendar, interpolation, last, extrapolation
    )


# What the first look leaves open goes to the branch and bound.


def _butterfly(slices: SviSlices, seen: FirstLook) -> ButterflyResult:
    margin = seen.butterfly
    left = np.flatnonzero(np.isnan(margin))
    if left.size:
        margin[left] = certify_butterfly(slices.take(left)).margin
    return ButterflyResult.of(slices, margin)


def _calendar(pairs: tuple[SviSlices, SviSlices], margin: Floats) -> CalendarResult:
    ok = margin > 0.0
    left = np.flatnonzero(np.isnan(margin))
    if left.size:
        closer = certify_calendar(*(slices.take(left) for slices in pairs))
        ok[left], margin[left] = closer.ok, closer.margin
    return CalendarResult(ok, margin)


def _interpolation(
    pairs: tuple[SviSlices, SviSlices], floors: tuple[Floats, Floats], margin: Floats
) -> InterpolationResult:
    left = np.flatnonzero(np.isnan(margin))
    if left.size:
        first, second = (slices.take(left) for slices in pairs)
        closer = certify_interpolation(first, second, floors[0][left], floors[1][left])
        margin[left] = closer.margin
    return InterpolationResult(margin > 0.0, margin)


def _extrapolation(last: SviSlices, floor: Floats, margin: Floats) -> ExtrapolationResult:
    left = np.flatnonzero(np.isnan(margin))
    if left.size:
        margin[left] = certify_extrapolation(last.take(left), floor[left]).margin
    return ExtrapolationResult(margin > 0.0, margin)


def _scope(free: bool, coupled: bool) -> CertificateScope:
    if not free:
        return CertificateScope.FAILED
    return CertificateScope.WHOLE_LINE if coupled else CertificateScope.SLICES
