"""Bounds on strips in blocks of one size, compiled once: see `calib.arbitrage.strips`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from calib.arbitrage.cells import Cells
from calib.arbitrage.slices import Floats, SviSlices
from calib.arbitrage.strips import StripBounds, Strips, bounds

_BLOCK = 256  # what a block needs stays in a core's cache
# A pair of slices, the floors of both, u, v, u_end, v_end, and all of λ: what fills a block up.
_PAD = (0.04, 0.1, 0.0, 0.0, 0.1, 0.05, 0.1, 0.0, 0.0, 0.1, 0.0, 0.0, 0.0, 1.0, 0.1, 1.0, 0.0, 1.0)


def compiled_bounds(parameters: Floats, strips: Strips, floors: Floats) -> StripBounds:
    """`calib.arbitrage.strips.bounds` of strips of n pairs, arrays of shape (strips,).

    Parameters (5, 2, n) of both slices and `floors` (2, n) are looked up by the cells' owners.
    """
    cells, begin, end = strips
    count = begin.size
    pairs = np.concatenate([parameters.swapaxes(0, 1).reshape(10, -1), floors])
    found = np.empty((2, count))
    with jax.enable_x64(True):
        for start in range(0, count, _BLOCK):
            part = slice(start, min(start + _BLOCK, count))
            size = part.stop - start
            block = np.empty((len(_PAD), _BLOCK))
            block[:, size:] = np.array(_PAD)[:, None]
            block[:12, :size] = np.take(pairs, cells.owner[part], axis=1)
            for row, column in enumerate((*cells[1:5], begin, end), 12):
                block[row, :size] = column[part]
            wing = np.zeros(_BLOCK, np.bool_)
            wing[:size] = cells.wing[part]
            found[:, part] = np.asarray(_bounds(block, wing))[:, :size]
    return StripBounds(*found)


@jax.jit
def _bounds(block: Any, wing: Any) -> Any:
    pair = (SviSlices(*block[:5]), SviSlices(*block[5:10]))
    u, v, u_end, v_end, begin, end = block[12:]
    cells = Cells(np.arange(_BLOCK), u, v, u_end, v_end, wing)
    return jnp.stack(bounds(pair, Strips(cells, begin, end), (block[10], block[11])))
