"""A first look at slices and their neighbours: all proofs at once, on fixed pieces, compiled.

Nearly all that a fit produces is decided here; what is not, `calib.arbitrage.surfaces` hands to the
branch and bound of each proof, which cuts on until it knows. Compiled by jax for a few numbers of
slices; the formulas are those that the branch and bound uses.

Rounding: XLA may fuse a product and a sum (one rounding less), take sums in another order and
quotients as products with reciprocals (one more), compute the same point for two neighbours in two
ways, and put subnormal numbers at zero. The bounds on rounding count the absolute sizes of all
terms, in any order, with room for twice the number of roundings; points may be off
(`calib.arbitrage.rounding`); and the limits of `calib.arbitrage.slices.has_chart` keep what matters
far above the subnormal. Its hyperbolic functions say where cells end, never what is proved. A
comparison with nan is false, and what cannot be compared is left undecided.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from calib.arbitrage import butterfly, calendar, interpolation
from calib.arbitrage.cells import tailored
from calib.arbitrage.course import along
from calib.arbitrage.extrapolation import enough, quick_bound
from calib.arbitrage.growth import growth_bounds
from calib.arbitrage.rounding import Amplification
from calib.arbitrage.shapes import enclose
from calib.arbitrage.slices import Floats, SviSlices, has_chart
from calib.arbitrage.strips import strip_bounds

BUCKETS = (16, 64)
"""Slices in one call. More than the last do not stay in a core's cache, and XLA, with more to
gain from fusing, computes things twice."""

_PAD = (0.04, 0.1, 0.0, 0.0, 0.1)


class FirstLook(NamedTuple):
    """Margins of n slices, as the proofs of their names define them; nan where undecided.

    Those of `calendar` and `interpolation` are of a slice and the next one (the last one's mean
    nothing), those of `extrapolation` as if the slice were the last.
    """

    butterfly: Floats
    calendar: Floats
    interpolation: Floats
    extrapolation: Floats


def look(slices: SviSlices) -> FirstLook:
    """Margins of slices and of each one with its successor, as far as fixed pieces decide them.

    What is decided keeps the promises of the proofs: margins within the same distance of the
    infimum. Slices are independent of each other, and of how many there are.
    """
    parameters = np.array(slices)
    count = parameters.shape[1]
    found = np.empty((4, count))
    with jax.enable_x64(True):
        for begin, bucket in _pieces(count):
            end = min(begin + bucket, count)
            block = np.empty((5, bucket))
            block[:, : end - begin] = parameters[:, begin:end]
            block[:, end - begin :] = np.array(_PAD)[:, None]
            found[:, begin:end] = np.asarray(_margins(block))[:, : end - begin]
    return FirstLook(*found)


def _pieces(count: int) -> list[tuple[int, int]]:
    """Beginning and bucket of each call: each begins with the last slice of the one before."""
    small, large = BUCKETS
    pieces: list[tuple[int, int]] = []
    begin = 0
    while begin < max(count - 1, min(count, 1)):
        bucket = small if count - begin <= 2 * small - 1 else large
        pieces.append((begin, bucket))
        begin += bucket - 1
    return pieces


@jax.jit
def _margins(parameters: jax.Array) -> jax.Array:
    """The rows of `FirstLook` of slices (5, n)."""
    first = SviSlices(*parameters)
    second = SviSlices(*jnp.roll(parameters, -1, axis=1))
    usable = has_chart(first)
    steepness = jnp.where(usable, _butterfly(first), jnp.nan)
    floors = 4.0 * steepness
    beyond = quick_bound(first, floors)
    rows = (
        steepness,
        *_pairs(first, second, (floors, jnp.roll(floors, -1)), usable & jnp.roll(usable, -1)),
        jnp.where(enough(beyond, floors), 0.25 * beyond, jnp.nan),
    )
    return jnp.stack(rows)


def _butterfly(slices: SviSlices) -> Any:
    """Margins on 32 equal pieces of each half of the line."""
    count = slices.a.shape[0]
    columns: Any = [jnp.concatenate(c) for c in zip(slices, slices.mirrored(), strict=True)]
    g, v, error = butterfly.polynomials(SviSlices(*columns))
    shape = (-1, g.shape[0], 2 * count)
    ratio = (butterfly.PIECES @ g).reshape(shape) / (butterfly.PIECES @ v).reshape(shape)
    lower = (ratio.min(axis=(0, 1)) - error).reshape(2, count).min(axis=0)
    seen = jnp.minimum(ratio[:, 0], ratio[:, -1]).min(axis=0).reshape(2, count).min(axis=0)
    return jnp.where(butterfly.is_close(lower, seen), lower, jnp.nan)


def _pairs(
    first: SviSlices, second: SviSlices, floors: tuple[Any, Any], usable: Any
) -> tuple[Any, Any]:
    """Margins of calendar and of interpolation."""
    cells = tailored(first, second)
    pair = (first, second)
    courses = (along(first, cells), along(second, cells))

    growth = growth_bounds(pair, courses, cells)
    lower, seen = _least(growth.lower), growth.seen.min(axis=0)
    parallel = (first.b == second.b) & (first.rho == second.rho)
    grows = usable & ~parallel & calendar.is_close(lower, seen)

    one, two = (
        enclose(slices, cells, course) for slices, course in zip(pair, courses, strict=True)
    )
    between = _least(strip_bounds(one, two, floors, Amplification.of(pair)).lower)
    proved = usable & interpolation.enough(between, floors)
    return jnp.where(grows, lower, jnp.nan), jnp.where(proved, 0.25 * between, jnp.nan)


def _least(bounds: Any) -> Any:
    """The least over all cells, -inf where one of them has none."""
    return jnp.where(bounds >= -jnp.inf, bounds, -jnp.inf).min(axis=0)
