"""Symmetric positive definite block-tridiagonal systems, many at once, by block elimination.

Golub & Van Loan, Matrix Computations, 4th ed., §4.5.1: cost linear in the number of blocks. The
blocks of one place of all systems are eliminated together, systems lying on the last axis.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax


class BlockTridiagonal(NamedTuple):
    """``diagonal`` and ``upper``, both (N, P, P, B): B systems of N blocks of P × P.

    ``upper[i]`` couples block i to block i + 1; the last one counts for nothing.
    """

    diagonal: Array
    upper: Array


def solve_block_tridiagonal(matrix: BlockTridiagonal, right: Array) -> Array:
    """x of shape (N, P, B) with matrix·x = right.

    Without pivoting between blocks or inside: every Schur complement of a positive definite matrix
    is positive definite. Where rounding makes a pivot negative it is replaced by a tiny one.
    """
    size = matrix.diagonal.shape[1]
    solved = _eliminated(matrix, right[:, :, None])

    def up(following: Array, solved: Array) -> tuple[Array, Array]:
        x = solved[:, size] - product(solved[:, :size], following[:, None])[:, 0]
        return x, x

    _, x = lax.scan(up, jnp.zeros_like(right[0]), solved, reverse=True)
    return x


def inverse_diagonal(matrix: BlockTridiagonal) -> Array:
    """The diagonal blocks (N, P, P, B) of the inverse.

    With S the Schur complements of the elimination, G_N = S_N⁻¹ and
    G_i = S_i⁻¹ + S_i⁻¹U_i G_{i+1} (S_i⁻¹U_i)ᵀ: the recurrence of Takahashi, Fagan & Chin (1973).
    """
    size = matrix.diagonal.shape[1]
    eye = jnp.broadcast_to(jnp.eye(size)[None, :, :, None], matrix.diagonal.shape)
    solved = _eliminated(matrix, eye, decoupled=True)

    def up(following: Array, solved: Array) -> tuple[Array, Array]:
        gain, own = solved[:, :size], solved[:, size:]
        block = own + product(product(gain, following), gain.swapaxes(0, 1))
        return block, block

    _, blocks = lax.scan(up, jnp.zeros_like(matrix.diagonal[0]), solved, reverse=True)
    return blocks


def _eliminated(matrix: BlockTridiagonal, right: Array, decoupled: bool = False) -> Array:
    """S⁻¹[U, right] of every block, (N, P, P + R, B); ``right`` (N, P, R, B) passed on from block
    to block unless it is ``decoupled``."""
    diagonal, upper = matrix
    size = diagonal.shape[1]
    last = jnp.arange(upper.shape[0]) == upper.shape[0] - 1
    upper = jnp.where(last[:, None, None, None], 0.0, upper)

    def down(
        carry: tuple[Array, Array], block: tuple[Array, Array, Array]
    ) -> tuple[tuple[Array, Array], Array]:
        coupling, solved = carry
        own, to_next, side = block
        passed = product(coupling.swapaxes(0, 1), solved)
        side = side if decoupled else side - passed[:, size:]
        solved = eliminate(jnp.concatenate([own - passed[:, :size], to_next, side], axis=1))
        return (to_next, solved), solved

    zero = jnp.zeros_like(diagonal[0])
    first = (zero, jnp.zeros((size, size + right.shape[2], *zero.shape[2:])))
    _, solved = lax.scan(down, first, (diagonal, upper, right))
    return solved


def product(left: Array, right: Array) -> Array:
    """Matrix products of (P, M, …) with (M, R, …), lane by lane, as one kernel."""
    return jnp.sum(left[:, :, None] * right[None], axis=1)


def eliminate(table: Array) -> Array:
    """matrix⁻¹·right of tables [matrix, right] (P, P + R, …), by Gauss–Jordan elimination."""
    size = table.shape[0]
    diagonal = [table[i, i] for i in range(size)]
    lanes = (1,) * (table.ndim - 2)
    for i in range(size):
        pivot = jnp.maximum(table[i, i], 1e-14 * diagonal[i] + 1e-300)
        row = table[i] / pivot
        others = (jnp.arange(size) != i).reshape(-1, 1, *lanes)
        table = jnp.where(others, table - table[:, i, None] * row, row)
    return table[:, size:]
