"""Between two expiries: interpolation linear in total variance, proved on the whole strip.

The inequality that is used stands in `calib.arbitrage.strips`. A cell that stays undecided is cut
in k, or in λ where the inequality itself is what is weak.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.arbitrage.cells import tailored, too_many
from calib.arbitrage.slices import Flags, Floats, SviSlices, has_chart
from calib.arbitrage.strip_blocks import compiled_bounds
from calib.arbitrage.strips import Strips, joined
from calib.models.arrays import Array, namespace

_PASSES = 24  # a pair of very unlike variances needs many, of few cells each
_PARTS = 4  # of an undecided cell: few passes cost less than few cells
_CELLS = 2048  # undecided ones of a pair: with more it is given up
_PAIRS = 1024  # in a batch: bounds memory


@dataclass(frozen=True, slots=True)
class InterpolationResult:
    """The verdict on n pairs of expiries, arrays of shape (n,).

    `margin` is a proved lower bound of g over all strikes and all expiries from the first to the
    second; -inf where none was found. `ok` says that it is positive. Undecided is not ok.
    """

    ok: Flags
    margin: Floats


def certify_interpolation(
    first: SviSlices, second: SviSlices, first_margin: Floats, second_margin: Floats
) -> InterpolationResult:
    """Prove that w = (1−λ)w₁ + λw₂ is free of butterfly arbitrage for every λ in [0, 1].

    `first_margin` and `second_margin` are the proved butterfly margins of the slices themselves
    (`calib.arbitrage.butterfly`); a pair of which one is not positive is not ok. Slices without
    a chart (flat ones among them) are not ok. Calendar is a matter of the pair alone: where
    w₂ ≥ w₁ the interpolant increases in λ, and so it never falls in time, by any clock.
    """
    count = first.number
    margin = np.full(count, -np.inf)
    known = has_chart(first) & has_chart(second) & (first_margin > 0.0) & (second_margin > 0.0)
    usable = np.flatnonzero(known)
    for begin in range(0, usable.size, _PAIRS):
        batch = usable[begin : begin + _PAIRS]
        floors = np.array([first_margin[batch], second_margin[batch]])
        margin[batch] = _lower_bound((first.take(batch), second.take(batch)), 4.0 * floors) / 4.0
    return InterpolationResult(ok=margin > 0.0, margin=margin)


def enough(bound: Array, floors: tuple[Array, Array]) -> Array:
    """Whether a bound is at least half of what the slices themselves have."""
    first, second = floors
    weak = namespace(bound).minimum(first, second)
    return (weak > 0.0) & (bound >= 0.5 * weak)


def _lower_bound(pair: tuple[SviSlices, SviSlices], floors: Floats) -> Floats:
    """A lower bound of 4g over the strips of n pairs; `floors` (2, n) holds for the slices."""
    count = pair[0].number
    weak = floors.min(axis=0)
    lower = np.full(count, np.inf)
    parameters = np.array(pair).transpose(1, 0, 2)
    strips = Strips.whole(tailored(*pair).listed())
    for number in range(_PASSES):
        # Aim at half of what the slices have; be content with less and less.
        goals = (weak * 0.5 ** (1 + number))[strips.cells.owner]
        bound, middle = compiled_bounds(parameters, strips, floors)
        done = bound >= goals
        np.minimum.at(lower, strips.cells.owner[done], bound[done])
        left = np.flatnonzero(~done)
        if left.size == 0:
            return lower
        in_time = middle[left] < goals[left]
        strips = joined(
            strips.take(left[in_time]).divided_in_time(_PARTS),
            strips.take(left[~in_time]).divided_in_strike(_PARTS),
        )
        owner = strips.cells.owner
        hopeless = too_many(owner, np.ones(owner.shape, dtype=np.bool_), count, _CELLS)
        lower[owner[hopeless]] = -np.inf
        strips = strips.take(np.flatnonzero(~hopeless))
    lower[strips.cells.owner] = -np.inf
    return lower
