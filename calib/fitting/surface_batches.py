"""Chains as padded batches of whole surfaces, in few shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from calib.conventions import Bools, ExpiryCalendar, Floats, Ints
from calib.fitting.surface_quotes import SurfaceQuotes
from calib.market.slices import QuoteKind, Slices

EXPIRY_BUCKETS = (4, 8, 16, 32, 64)
QUOTE_BUCKETS = (16, 64, 128, 256, 512, 1024)
_LANES = 8
_CACHED = 32_768  # quotes in a batch: their columns stay in a core's second-level cache


class SurfaceBatch(NamedTuple):
    """``chains``: which chain lies in each of the first lanes (further lanes repeat the first);
    ``expiries``: for each of them the expiries, by number in the chain, that lie in its rows."""

    chains: tuple[int, ...]
    expiries: tuple[Ints, ...]
    quotes: SurfaceQuotes


def fitted_expiries(slices: Slices, min_quotes: int) -> Ints:
    """Expiries with time left, a forward and at least so many two-sided quotes."""
    two_sided = (slices.kind == QuoteKind.TWO_SIDED) & (slices.slice_index >= 0)
    count = np.bincount(slices.slice_index[two_sided], minlength=len(slices.expiry))
    forward = np.isfinite(slices.forward) & (slices.forward_source > 0)
    return np.flatnonzero((count >= min_quotes) & (slices.years > 0.0) & forward)


def surface_batches(chains: Sequence[Slices], expiries: Sequence[Ints]) -> Iterator[SurfaceBatch]:
    """The chosen expiries of all chains that have any, chains of like shape and of one
    calendar together."""
    rows = [_rows_of(slices) for slices in chains]
    shapes: dict[tuple[int, int, ExpiryCalendar], list[int]] = {}
    for i, chosen in enumerate(expiries):
        if len(chosen):
            most = int(rows[i].counts[chosen].max())
            sizes = _bucket(most, QUOTE_BUCKETS), _bucket(len(chosen), EXPIRY_BUCKETS)
            shapes.setdefault((*sizes, chains[i].calendar), []).append(i)
    for (depth, length, _), members in shapes.items():
        lanes = _LANES if len(members) > 1 and depth * length * _LANES <= _CACHED else 1
        for first in range(0, len(members), lanes):
            taken = members[first : first + lanes]
            padded = taken + [taken[0]] * (lanes - len(taken))
            columns = [_columns(chains[i], rows[i], expiries[i], depth, length) for i in padded]
            stacked: list[Any] = [np.stack(parts, axis=-1) for parts in zip(*columns, strict=True)]
            yield SurfaceBatch(
                tuple(taken), tuple(expiries[i] for i in taken), SurfaceQuotes(*stacked)
            )


class _Rows(NamedTuple):
    """Used rows, expiry by expiry and by strike, with their number and place by expiry."""

    order: Ints
    counts: Ints
    starts: Ints
    target: Floats
    above: Floats
    below: Floats


def _rows_of(slices: Slices) -> _Rows:
    used = np.flatnonzero(slices.used & (slices.slice_index >= 0))
    order = used[np.lexsort((slices.log_moneyness[used], slices.slice_index[used]))]
    counts = np.bincount(slices.slice_index[order], minlength=len(slices.expiry))
    kind = slices.kind
    target = np.select(
        [kind == QuoteKind.TWO_SIDED, kind == QuoteKind.CEILING],
        [slices.mid_vol, slices.ask_vol],
        slices.bid_vol,
    )
    above = np.where(kind == QuoteKind.FLOOR, np.inf, slices.noise)
    below = np.where(kind == QuoteKind.CEILING, np.inf, slices.noise)
    return _Rows(order, counts, np.cumsum(counts) - counts, target, above, below)


def _columns(
    slices: Slices, rows: _Rows, expiries: Ints, depth: int, length: int
) -> tuple[Floats, Floats, Floats, Floats, Floats, Bools, Bools]:
    """One surface's columns, as `SurfaceQuotes` without lanes; the last expiry pads."""
    number = np.arange(length)
    place = expiries[np.minimum(number, len(expiries) - 1)]
    present = number < len(expiries)
    quote = np.arange(depth)[:, None]
    inside = quote < rows.counts[place]
    row = rows.order[rows.starts[place] + np.where(inside, quote, 0)]
    counts = inside & present
    # An expiry that pads keeps one quote of its own, as good as none, to start from.
    faint = ~present & (quote == 0)
    linked = present & (number < len(expiries) - 1)
    return (
        slices.log_moneyness[row],
        rows.target[row],
        np.where(counts, rows.above[row], np.where(faint, _FAINT, np.inf)),
        np.where(counts, rows.below[row], np.where(faint, _FAINT, np.inf)),
        slices.years[place],
        present,
        linked & (slices.calendar == ExpiryCalendar.SAME_ASSET),
    )


_FAINT = 1e6


def _bucket(size: int, buckets: tuple[int, ...]) -> int:
    """The bucket's shape; beyond the last one, the next multiple of it."""
    for bucket in buckets:
        if size <= bucket:
            return bucket
    return -(-size // buckets[-1]) * buckets[-1]
