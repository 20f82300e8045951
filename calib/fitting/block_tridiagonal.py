"""Symmetric positive definite block-tridiagonal systems, many at once, by cyclic reduction.

Each pass eliminates every other block, all of them and all systems in the same few kernels: log₂N
passes instead of N dependent steps (Golub & Van Loan, Matrix Computations, 4th ed., §4.5).
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax


class BlockTridiagonal(NamedTuple):
    """``diagonal`` and ``upper``, both (P, P, N, B): B systems of N blocks of P × P.

    ``upper[..., i, :]`` couples block i to block i + 1; that of the last block must be zero. N is
    a power of two.
    """

    diagonal: Array
    upper: Array


def solve_block_tridiagonal(matrix: BlockTridiagonal, right: Array) -> Array:
    """x of shape (P, N, B) with matrix·x = right.

    Without pivoting between blocks or inside: every Schur complement of a positive definite matrix
    is positive definite. Where rounding makes a pivot negative it is replaced by a tiny one.
    """
    diagonal, upper = matrix
    size, blocks = diagonal.shape[0], diagonal.shape[2]
    if blocks == 1:
        return eliminate(diagonal, right[:, None])[:, 0]
    even, odd = diagonal[:, :, 0::2], diagonal[:, :, 1::2]
    to_odd, to_even = upper[:, :, 0::2], upper[:, :, 1::2]
    right_even, right_odd = right[:, 0::2], right[:, 1::2]
    sides = jnp.concatenate([to_odd.swapaxes(0, 1), to_even, right_odd[:, None]], axis=1)
    solved = eliminate(odd, sides)
    after = product(to_odd, solved)
    # From the block before: the first even block has none.
    before = product(to_even.swapaxes(0, 1), solved[:, size:])
    before = jnp.concatenate([jnp.zeros_like(before[:, :, :1]), before[:, :, :-1]], axis=2)
    reduced = BlockTridiagonal(
        even - after[:, :size] - before[:, :size], -after[:, size : 2 * size]
    )
    found = solve_block_tridiagonal(reduced, right_even - after[:, -1] - before[:, -1])
    following = jnp.concatenate([found[:, 1:], jnp.zeros_like(found[:, :1])], axis=1)
    others = (
        solved[:, -1]
        - product(solved[:, :size], found[:, None])[:, 0]
        - product(solved[:, size : 2 * size], following[:, None])[:, 0]
    )
    return jnp.stack([found, others], axis=2).reshape(right.shape)


def product(left: Array, right: Array) -> Array:
    """Matrix products of (P, M, …) with (M, R, …), lane by lane, as one kernel."""
    total = left[:, 0, None] * right[None, 0]
    for m in range(1, left.shape[1]):
        total = total + left[:, m, None] * right[None, m]
    return total


def eliminate(matrix: Array, right: Array) -> Array:
    """matrix⁻¹·right for (P, P, …) and (P, R, …), by Gauss–Jordan elimination of whole tables."""
    size = matrix.shape[0]
    table = jnp.concatenate([matrix, right], axis=1)
    lanes = (1,) * (matrix.ndim - 2)
    for i in range(size):
        pivot = jnp.maximum(table[i, i], 1e-14 * matrix[i, i] + 1e-300)
        row = table[i] / pivot
        others = (jnp.arange(size) != i).reshape(-1, 1, *lanes)
        table = lax.optimization_barrier(jnp.where(others, table - table[:, i, None] * row, row))
    return table[:, size:]
