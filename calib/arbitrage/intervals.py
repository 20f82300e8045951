"""Cells of bounded pieces of the log-moneyness line: [start, end] each, as fine as asked."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from calib.arbitrage.cells import Indices
from calib.arbitrage.slices import UNIT_ROUNDOFF, Floats

_MOST = 64  # first cells of a piece; more come by dividing


class Intervals(NamedTuple):
    """Intervals of k, arrays of shape (c,); `owner` is the index of what each belongs to."""

    owner: Indices
    start: Floats
    end: Floats

    @property
    def centre(self) -> Floats:
        """The middles, as rounded."""
        return np.asarray(0.5 * (self.start + self.end))

    @property
    def half_width(self) -> Floats:
        """Rounded up, so that centre ± half-width, taken exactly, cover all of [start, end]."""
        size = np.maximum(np.abs(self.start), np.abs(self.end))
        return np.asarray(0.5 * (self.end - self.start) + 4.0 * UNIT_ROUNDOFF * size)

    def take(self, which: Indices) -> Intervals:
        """The intervals at these indices."""
        return Intervals(self.owner[which], self.start[which], self.end[which])

    def divided(self, parts: int) -> Intervals:
        """Every interval cut into equal parts: all first parts, all second parts…"""
        fractions = np.arange(parts + 1)[:, None] / parts
        ends = self.start + fractions * (self.end - self.start)
        # The last end is the interval's own: nothing may be left out between neighbours.
        ends[-1] = self.end
        owner = np.concatenate([self.owner] * parts)
        return Intervals(owner, ends[:-1].ravel(), ends[1:].ravel())


def samples(pieces: Intervals, number: int) -> Floats:
    """Evenly spaced k, shape (number, c), the ends included."""
    fractions = np.linspace(0.0, 1.0, number)[:, None]
    return np.asarray(pieces.start + fractions * (pieces.end - pieces.start))


def partition(pieces: Intervals, k: Floats, fineness: Floats) -> Intervals:
    """Pieces cut where the integral of `fineness` (number, c) at the `samples` k passes wholes.

    Cells of one piece have about the same integral, at most 1, so that fineness is one over the
    wanted width of a cell. Every piece has a cell, and neighbours share their ends.
    """
    steps = 0.5 * (fineness[1:] + fineness[:-1]) * np.diff(k, axis=0)
    passed = np.zeros_like(k)
    np.cumsum(steps, axis=0, out=passed[1:])
    total = passed[-1]
    # No number: infinitely fine over no width, a range of a single strike.
    cells = np.clip(np.where(np.isnan(total), 1.0, np.ceil(total)), 1, _MOST).astype(np.intp)
    # All pieces behind each other on one axis, two units each: one interpolation for all.
    shift = 2.0 * np.arange(total.size)
    share = np.where(total > 0.0, passed / np.where(total > 0.0, total, 1.0), 0.0)
    piece = np.repeat(np.arange(total.size), cells)
    number = np.arange(piece.size) - np.repeat(np.cumsum(cells) - cells, cells)
    first = number == 0
    start = np.interp(number / cells[piece] + shift[piece], (share + shift).T.ravel(), k.T.ravel())
    start = np.minimum(np.maximum(start, pieces.start[piece]), pieces.end[piece])
    start[first] = pieces.start
    end = np.append(start[1:], 0.0)
    end[np.append(first[1:], True)] = pieces.end
    return Intervals(pieces.owner[piece], start, end)
