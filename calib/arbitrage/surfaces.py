"""Whole surfaces of raw SVI slices under the published rule of interpolation and extrapolation.

The rule, at constant log-moneyness: total variance linear in τ between expiries, w₁·τ/τ₁ before
the first, w_N + (τ/τ_N − 1)·w_N(0) beyond the last. What is proved holds for any variance time τ
that does not fall, whatever its clock: the proofs run over all values that τ takes on its way.
eSSVI slices are raw SVI slices (`calib.arbitrage.essvi.as_svi`) and are certified as such.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from calib.arbitrage.butterfly import ButterflyResult, certify_butterfly
from calib.arbitrage.calendar import CalendarResult, certify_calendar
from calib.arbitrage.cells import Indices
from calib.arbitrage.certificate import Certificate, CertificateScope
from calib.arbitrage.extrapolation import ExtrapolationResult, certify_extrapolation
from calib.arbitrage.first_look import BUCKETS, look
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


_Proofs: TypeAlias = tuple[
    ButterflyResult, CalendarResult, InterpolationResult, ExtrapolationResult
]


def certify_surfaces(
    slices: SviSlices, expiry_counts: ArrayLike, coupled: ArrayLike = True
) -> SurfaceProofs:
    """Certify many surfaces at once.

    `slices` holds the expiries of all surfaces, surface after surface, each in order of expiry;
    `expiry_counts` says how many belong to each surface, `coupled` whether its expiries are of
    one asset (for all surfaces or for each). Expiries of different assets are certified one by
    one: scope SLICES instead of WHOLE_LINE. A surface without expiries is NOT_CHECKED.

    A compiled first look (`calib.arbitrage.first_look`) decides nearly all of it, the branch and
    bound of each proof what is left. Both keep the promises that the proofs state about margins;
    where neither decides, it is not proved. Threads may call this at the same time.

    The butterfly margin bounds g at all expiries, between them and beyond the last; at a time t
    before the first, g is at least that of the first times τ/τ₁.
    Raises ValueError where the counts are negative or do not add up to the number of slices.
    """
    counts = np.atleast_1d(np.asarray(expiry_counts, dtype=np.intp))
    if counts.ndim != 1 or (counts < 0).any() or int(counts.sum()) != slices.number:
        raise ValueError(f"expiry counts {counts} do not add up to {slices.number} slices")
    linked = np.broadcast_to(np.asarray(coupled, dtype=np.bool_), counts.shape)
    ends = np.cumsum(counts)
    surface_of = np.repeat(np.arange(counts.size), counts)
    followed = linked[surface_of]
    last = (ends - 1)[linked & (counts > 0)]
    followed[last] = False
    pair_first = np.flatnonzero(followed)

    seen = look(slices)
    butterfly = _butterfly(slices, seen.butterfly)
    pairs = (slices.take(pair_first), slices.take(pair_first + 1))
    calendar = _calendar(pairs, seen.calendar[pair_first])
    floors = (butterfly.margin[pair_first], butterfly.margin[pair_first + 1])
    interpolation = _interpolation(pairs, floors, seen.interpolation[pair_first])
    extrapolation = _extrapolation(
        slices.take(last), butterfly.margin[last], seen.extrapolation[last]
    )
    return SurfaceProofs(
        _certificates(
            (butterfly, calendar, interpolation, extrapolation), pair_first, last, counts, linked
        ),
        butterfly,
        pair_first,
        calendar,
        interpolation,
        last,
        extrapolation,
    )


def prepare() -> None:
    """Compile whatever certificates need, so that none of them waits for it later: some seconds."""
    one = SviSlices.of([0.04, 0.05], 0.1, -0.3, 0.0, 0.1)
    for bucket in BUCKETS:
        look(one.take(np.resize([0, 1], bucket)))
    first, second = one.take(slice(0, 1)), one.take(slice(1, 2))
    certify_interpolation(first, second, np.full(1, 1e-3), np.full(1, 1e-3))


def _certificates(
    proofs: _Proofs, pair_first: Indices, last: Indices, counts: Indices, linked: Flags
) -> tuple[Certificate, ...]:
    butterfly, calendar, interpolation, extrapolation = proofs
    # Of each slice with the strip to the next one, and with what comes after the last.
    steepness, growth = butterfly.margin.copy(), np.full(butterfly.ok.shape, np.inf)
    steepness[pair_first] = np.minimum(steepness[pair_first], interpolation.margin)
    steepness[last] = np.minimum(steepness[last], extrapolation.margin)
    growth[pair_first] = calendar.margin
    ok = butterfly.ok.copy()
    ok[pair_first] &= calendar.ok & interpolation.ok
    ok[last] &= extrapolation.ok

    found = [Certificate.not_checked()] * counts.size
    filled = np.flatnonzero(counts)
    if filled.size == 0:
        return tuple(found)
    begins = (np.cumsum(counts) - counts)[filled]
    free = np.logical_and.reduceat(ok, begins)
    details = {} if free.all() else _failures(proofs, pair_first, last, counts)
    for index, proved, link, steep, grows in zip(
        filled.tolist(),
        free.tolist(),
        linked[filled].tolist(),
        np.minimum.reduceat(steepness, begins).tolist(),
        np.minimum.reduceat(growth, begins).tolist(),
        strict=True,
    ):
        detail = "" if proved else "not proved: " + ", ".join(details[index])
        found[index] = Certificate(proved, _scope(proved, link), steep, grows, detail)
    return tuple(found)


def _scope(free: bool, coupled: bool) -> CertificateScope:
    if not free:
        return CertificateScope.FAILED
    return CertificateScope.WHOLE_LINE if coupled else CertificateScope.SLICES


def _failures(
    proofs: _Proofs, pair_first: Indices, last: Indices, counts: Indices
) -> dict[int, list[str]]:
    """What was not proved of each surface, by its index."""
    surface_of = np.repeat(np.arange(counts.size), counts)
    begins = np.cumsum(counts) - counts
    butterfly, calendar, interpolation, extrapolation = proofs
    failures: dict[int, list[str]] = {}
    for name, indices, ok in (
        ("butterfly", np.arange(surface_of.size), butterfly.ok),
        ("calendar", pair_first, calendar.ok),
        ("interpolation", pair_first, interpolation.ok),
        ("extrapolation", last, extrapolation.ok),
    ):
        for index in indices[~ok].tolist():
            surface = int(surface_of[index])
            number = index - int(begins[surface]) + 1
            place = (
                f"expiries {number}-{number + 1}" if indices is pair_first else f"expiry {number}"
            )
            failures.setdefault(surface, []).append(f"{name} at {place}")
    return failures


# What the first look leaves open goes to the branch and bound.


def _butterfly(slices: SviSlices, margin: Floats) -> ButterflyResult:
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
