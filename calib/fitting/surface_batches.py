"""Chains as padded batches of one surface each, in few shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calib.conventions import Bools, ExpiryCalendar, Floats, Ints
from calib.fitting.surface_quotes import STRIP, SurfaceQuotes
from calib.market.slices import QuoteKind, Slices

EXPIRY_BUCKETS = (4, 8, 12, 16, 24, 32, 48, 64)
STRIP_BUCKETS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Shapes that are compiled: a step of a half empty batch costs twice what it should."""

LEAST_ALONE = 3
"""Two-sided quotes without which a smile that nothing else lends a shape is not fitted."""


class SurfaceBatch(NamedTuple):
    """``chain``: which of the chains it is; ``expiries``: those, by number in the chain, that lie
    in its rows."""

    chain: int
    expiries: Ints
    quotes: SurfaceQuotes


def chosen_expiries(
    chains: Sequence[Slices], min_quotes: int, weights: Sequence[Floats | None] = ()
) -> list[Ints]:
    """The expiries of each chain that are fitted; ``weights`` as in `surface_batches`."""
    each = weights or [None] * len(chains)
    return [
        _expiries(slices, min_quotes, weight) for slices, weight in zip(chains, each, strict=True)
    ]


def _expiries(slices: Slices, min_quotes: int, weights: Floats | None) -> Ints:
    """Expiries with time left, a forward and at least so many two-sided quotes of some weight.

    Where nothing lends an expiry its shape, in a chain of independent ones, it needs three; so
    does the chain as a whole.
    """
    alone = slices.calendar != ExpiryCalendar.SAME_ASSET
    two_sided = (slices.kind == QuoteKind.TWO_SIDED) & (slices.slice_index >= 0)
    if weights is not None:
        two_sided &= weights > 0.0
    count = np.bincount(slices.slice_index[two_sided], minlength=len(slices.expiry))
    forward = np.isfinite(slices.forward) & (slices.forward_source > 0)
    least = max(min_quotes, LEAST_ALONE if alone else 1)
    chosen = np.flatnonzero((count >= least) & (slices.years > 0.0) & forward)
    return chosen if count[chosen].sum() >= LEAST_ALONE else chosen[:0]


def surface_batches(
    chains: Sequence[Slices], expiries: Sequence[Ints], weights: Sequence[Floats | None] = ()
) -> Iterator[SurfaceBatch]:
    """The chosen expiries of all chains that have any, a chain a batch: a surface alone takes no
    longer than its share of a batch, and waits for no other.

    ``weights``: of each chain's rows, see `calib.fitting.fit.fit`; None, or empty, for ones.
    """
    for i, chosen in enumerate(expiries):
        if len(chosen):
            rows = _rows_of(chains[i], chosen, weights[i] if weights else None)
            shape = bucket(rows.strips, STRIP_BUCKETS), bucket(len(chosen), EXPIRY_BUCKETS)
            columns: list[Any] = [
                part[..., None] for part in _columns(chains[i], rows, chosen, *shape)
            ]
            yield SurfaceBatch(i, chosen, SurfaceQuotes(*columns))


class _Rows(NamedTuple):
    """Used rows, expiry by expiry and by strike, with their number and place by chosen expiry."""

    order: Ints
    counts: Ints
    starts: Ints
    target: Floats
    above: Floats
    below: Floats

    @property
    def strips(self) -> int:
        return int(np.sum(-(-self.counts // STRIP)))


def _rows_of(slices: Slices, chosen: Ints, weights: Floats | None) -> _Rows:
    place = np.full(len(slices.expiry) + 1, -1)
    place[chosen] = np.arange(len(chosen))
    used = np.flatnonzero(slices.used)
    mine = place[slices.slice_index[used]]
    used, mine = used[mine >= 0], mine[mine >= 0]
    order = np.lexsort((slices.log_moneyness[used], mine))
    row = used[order]
    counts = np.bincount(mine, minlength=len(chosen))
    kind = slices.kind[row]
    ask, bid = slices.ask_vol[row], slices.bid_vol[row]
    ceiling, floor = kind == QuoteKind.CEILING, kind == QuoteKind.FLOOR
    target = np.where(ceiling, ask, np.where(floor, bid, 0.5 * (bid + ask)))
    noise = slices.noise[row]
    if weights is not None:
        with np.errstate(divide="ignore"):
            noise = noise / np.sqrt(weights[row])
    above = np.where(floor, np.inf, noise)
    below = np.where(ceiling, np.inf, noise)
    return _Rows(row, counts, np.cumsum(counts) - counts, target, above, below)


def row_places(slices: Slices, expiries: Ints, strips: int) -> Ints:
    """The chain's row that lies in each place (Q, C) of a surface alone; −1 for padding."""
    rows = _rows_of(slices, expiries, None)
    layout = _laid_out(rows, len(expiries), strips)
    return np.where(layout.inside, rows.order[layout.row], -1)


class _Layout(NamedTuple):
    """``owner`` (C,): the expiry of a strip; ``row`` (Q, C): which of `_Rows` lies there, or, not
    ``inside``, pads it."""

    owner: NDArray[np.int32]
    row: Ints
    inside: Bools


def _laid_out(rows: _Rows, count: int, strips: int) -> _Layout:
    each = -(-rows.counts // STRIP)
    owner = np.zeros(strips, np.int32)
    owner[: rows.strips] = np.repeat(np.arange(count), each)
    within = np.arange(strips) - (np.cumsum(each) - each)[owner]
    quote = np.arange(STRIP)[:, None] + STRIP * within
    inside = (quote < rows.counts[owner]) & (np.arange(strips) < rows.strips)
    return _Layout(owner, np.where(inside, rows.starts[owner] + quote, 0), inside)


def _columns(
    slices: Slices, rows: _Rows, expiries: Ints, strips: int, length: int
) -> tuple[Any, ...]:
    """One surface's columns, as `SurfaceQuotes` without lanes; the last expiry pads."""
    count = len(expiries)
    owner, row, inside = _laid_out(rows, count, strips)
    number = np.arange(length)
    place = expiries[np.minimum(number, count - 1)]
    present = number < count
    linked = present & (number < count - 1) & (slices.calendar == ExpiryCalendar.SAME_ASSET)
    return (
        slices.log_moneyness[rows.order[row]],
        rows.target[row],
        np.where(inside, rows.above[row], np.inf),
        np.where(inside, rows.below[row], np.inf),
        owner,
        slices.years[place],
        present,
        linked,
    )


def bucket(size: int, buckets: tuple[int, ...]) -> int:
    """The bucket's shape; beyond the last one, the next multiple of it."""
    for shape in buckets:
        if size <= shape:
            return shape
    return -(-size // buckets[-1]) * buckets[-1]
