"""Elementwise kernels over flat arrays of any length, in a few compiled shapes.

Each new shape costs a compilation, so arrays are cut into chunks that stay in a core's cache, and
what is left over is padded to the next of a few bucket lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import jax
import numpy as np
from numpy.typing import NDArray

from calib.conventions import Floats

Kernel: TypeAlias = Callable[..., tuple[Any, ...]]

BUCKETS = (64, 256, 1024, 4096)

# Chunks handed over before the first result is asked for: jax computes while the next is copied.
_IN_FLIGHT = 64


def over_buckets(
    kernel: Kernel, columns: list[Floats], pad: tuple[float, ...]
) -> tuple[NDArray[Any], ...]:
    """What ``kernel`` (compiled, elementwise, a tuple of arrays out) makes of equal-length columns.

    ``pad`` is one valid element, used to fill up the last bucket and dropped again. Computed in
    float64; jax's settings outside are left alone.
    """
    pieces = list(_pieces(len(columns[0])))
    results: list[list[NDArray[Any]]] = []
    with jax.enable_x64(True):
        for i in range(0, len(pieces), _IN_FLIGHT):
            window = pieces[i : i + _IN_FLIGHT]
            pending = [
                kernel(*(_cut(c, p, *piece) for c, p in zip(columns, pad, strict=True)))
                for piece in window
            ]
            results += [
                [np.asarray(out)[: stop - start] for out in outs]
                for (start, stop, _), outs in zip(window, pending, strict=True)
            ]
    return tuple(np.concatenate(parts) for parts in zip(*results, strict=True))


def _pieces(length: int) -> Iterator[tuple[int, int, int]]:
    """(start, stop, bucket) of each chunk; one empty chunk where there is nothing."""
    start = 0
    while length - start > BUCKETS[-1]:
        yield start, start + BUCKETS[-1], BUCKETS[-1]
        start += BUCKETS[-1]
    bucket = next(bucket for bucket in BUCKETS if bucket >= length - start)
    yield start, length, bucket


def _cut(column: Floats, pad: float, start: int, stop: int, bucket: int) -> Floats:
    if stop - start == bucket:
        return column[start:stop]
    full = np.full(bucket, pad)
    full[: stop - start] = column[start:stop]
    return full
