"""Certify surfaces, and draw what fails toward an anchor until it passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from calib.arbitrage.certificate import Certificate
from calib.arbitrage.slices import SviSlices
from calib.arbitrage.surfaces import certify_surfaces
from calib.conventions import Floats

_HALVINGS = 7  # of the interval that the least blend is sought in


class Blended(NamedTuple):
    """A surface with its proof: ``parameters`` (P, n), ``amount`` from 0 (as fitted) to 1 (the
    anchor). Where not even the anchor passed, the certificate says FAILED."""

    parameters: Floats
    amount: float
    certificate: Certificate


def certify_all(surfaces: Sequence[Floats], coupled: Sequence[bool]) -> tuple[Certificate, ...]:
    """A certificate for each surface of raw SVI slices (5, n), in order of expiry."""
    if not surfaces:
        return ()
    slices = SviSlices(*np.concatenate(surfaces, axis=1))
    counts = [surface.shape[1] for surface in surfaces]
    return certify_surfaces(slices, counts, list(coupled)).certificates


def blend(
    surface: Floats,
    anchor: Floats,
    certify: Callable[[Floats], Certificate],
    to_chart: Callable[[Floats], Floats],
    from_chart: Callable[[Floats], Floats],
) -> Blended:
    """The least blend of ``surface`` toward ``anchor``, both (P, n), that is certified.

    A straight line in the model's coordinates, by bisection: the amount is within 1/128 of one
    below which the proof fails, not always of the least one, because what passes need not be
    connected.
    """
    whole = certify(anchor)
    with np.errstate(all="ignore"):
        start, end = to_chart(surface), to_chart(anchor)
    best = Blended(anchor, 1.0, whole)
    # An eSSVI wing may be steeper than the chart of raw SVI reaches: there is no way to there.
    if not whole.arbitrage_free or not np.isfinite([start, end]).all():
        return best
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        tried = np.asarray(from_chart((1.0 - middle) * start + middle * end))
        certificate = certify(tried)
        if certificate.arbitrage_free:
            high, best = middle, Blended(tried, middle, certificate)
        else:
            low = middle
    return best
