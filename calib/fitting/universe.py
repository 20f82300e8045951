"""All the rows and slices of many chains side by side, and the padded batches of their fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calib.conventions import Floats, Ints
from calib.market.slices import QuoteKind, Slices

QUOTE_BUCKETS = (32, 64, 128, 256, 512, 1024)
LANE_BUCKETS = (16, 128)
"""Shapes that are compiled, a few seconds each; 128 lanes of up to about 64 quotes stay in a
core's second-level cache."""

WIDEST_MIX = 4
"""Slices share a batch while the largest has at most this many times the quotes of the smallest,
or while all fit the second bucket: a call costs more than the padding does."""


class Universe(NamedTuple):
    """Rows and slices of all chains, concatenated.

    Over rows: ``k``, ``bid_vol``, ``ask_vol``, ``noise``, ``kind``, ``slice_index`` (into the
    slices here, -1 for none). Over slices: ``years``. ``row_bounds`` and
    ``slice_bounds`` say where each chain's rows and slices begin and end.
    """

    k: Floats
    bid_vol: Floats
    ask_vol: Floats
    noise: Floats
    kind: NDArray[np.int8]
    slice_index: Ints
    years: Floats
    row_bounds: Ints
    slice_bounds: Ints


class Batch(NamedTuple):
    """Slices of like size, padded: arrays (Q, B) with quotes on axis 0 and slices on axis 1.

    ``target`` is the mid vol, or the bound of a one-sided quote; ``above`` and ``below`` are the
    noise that counts for a model vol above or below it, infinite where being there costs nothing
    (the free side of a bound) and for padding, which repeats a valid quote: a nan would poison
    its lane.
    ``lanes``: the slice in each of the first lanes; further lanes are padding.
    """

    lanes: Ints
    k: Floats
    target: Floats
    above: Floats
    below: Floats
    years: Floats


def universe_of(chains: Sequence[Slices], weight: Floats | None = None) -> Universe:
    """The chains' rows and slices side by side; rows of ``weight`` 0 take no part."""
    slice_bounds = np.cumsum([0, *(len(s.expiry) for s in chains)])
    row_bounds = np.cumsum([0, *(len(s.kind) for s in chains)])

    shifted = [
        np.where(s.slice_index >= 0, s.slice_index + first, -1)
        for s, first in zip(chains, slice_bounds, strict=False)
    ]
    kind = np.concatenate([s.kind for s in chains])
    if weight is not None:
        kind = np.where(weight > 0.0, kind, np.int8(QuoteKind.NONE))
    return Universe(
        k=np.concatenate([s.log_moneyness for s in chains]),
        bid_vol=np.concatenate([s.bid_vol for s in chains]),
        ask_vol=np.concatenate([s.ask_vol for s in chains]),
        noise=np.concatenate([s.noise for s in chains]),
        kind=kind,
        slice_index=np.concatenate(shifted),
        years=np.concatenate([s.years for s in chains]),
        row_bounds=row_bounds,
        slice_bounds=slice_bounds,
    )


def row_weights(chains: Sequence[Slices], weights: Sequence[Floats | None]) -> Floats | None:
    """The weights of all rows side by side; None where no chain has any."""
    if all(weight is None for weight in weights):
        return None
    return np.concatenate(
        [np.ones(len(s.kind)) if w is None else w for s, w in zip(chains, weights, strict=True)]
    )


def count_kind(universe: Universe, *kinds: QuoteKind) -> Ints:
    """How many rows of these kinds each slice has."""
    chosen = np.isin(universe.kind, kinds) & (universe.slice_index >= 0)
    return np.bincount(universe.slice_index[chosen], minlength=len(universe.years))


def batches(universe: Universe, wanted: Ints, weight: Floats | None = None) -> Iterator[Batch]:
    """The wanted slices in padded batches, like sizes together; rows count by ``weight``."""
    used = np.flatnonzero((universe.kind != QuoteKind.NONE) & (universe.slice_index >= 0))
    order = used[np.lexsort((universe.k[used], universe.slice_index[used]))]
    counts = np.bincount(universe.slice_index[order], minlength=len(universe.years))
    starts = np.cumsum(counts) - counts

    kind = universe.kind
    target = np.select(
        [kind == QuoteKind.TWO_SIDED, kind == QuoteKind.CEILING],
        [0.5 * (universe.bid_vol + universe.ask_vol), universe.ask_vol],
        universe.bid_vol,
    )
    noise = universe.noise
    if weight is not None:
        with np.errstate(divide="ignore"):
            noise = noise / np.sqrt(weight)
    above = np.where(kind == QuoteKind.FLOOR, np.inf, noise)
    below = np.where(kind == QuoteKind.CEILING, np.inf, noise)

    for members in _alike(wanted, counts):
        lanes = next(size for size in LANE_BUCKETS if size >= len(members))
        quotes = np.arange(_padded_quotes(int(counts[members].max())))[:, None]
        padded = np.append(members, np.full(lanes - len(members), members[0]))
        inside = quotes < counts[padded]
        row = order[starts[padded] + np.where(inside, quotes, 0)]
        yield Batch(
            lanes=members,
            k=universe.k[row],
            target=target[row],
            above=np.where(inside, above[row], np.inf),
            below=np.where(inside, below[row], np.inf),
            years=universe.years[padded],
        )


def _alike(wanted: Ints, counts: Ints) -> Iterator[Ints]:
    """The wanted slices, largest first, in groups that are worth one call."""
    rest = wanted[np.argsort(-counts[wanted], kind="stable")]
    while len(rest):
        group = rest[: LANE_BUCKETS[-1]]
        smallest = 0 if counts[rest[0]] <= QUOTE_BUCKETS[1] else counts[rest[0]] // WIDEST_MIX
        size = int(np.count_nonzero(counts[group] >= smallest))
        if LANE_BUCKETS[0] < size <= LANE_BUCKETS[-1] // 4:
            size = LANE_BUCKETS[0]  # a few small batches cost less than one large, mostly empty
        yield group[:size]
        rest = rest[size:]


def _padded_quotes(largest: int) -> int:
    """The smallest bucket that holds so many quotes; beyond the last, the next multiple of it."""
    for size in QUOTE_BUCKETS:
        if largest <= size:
            return size
    return -(-largest // QUOTE_BUCKETS[-1]) * QUOTE_BUCKETS[-1]
