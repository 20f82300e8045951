"""Block-tridiagonal systems against dense ones."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from calib.fitting.block_tridiagonal import BlockTridiagonal, solve_block_tridiagonal


@pytest.mark.parametrize(("blocks", "size"), [(1, 3), (2, 5), (7, 5)])
def test_agrees_with_a_dense_solution(blocks: int, size: int) -> None:
    rng = np.random.default_rng(blocks)
    lanes, whole = 3, blocks * size
    near = np.abs(np.subtract.outer(np.arange(blocks), np.arange(blocks))) <= 1
    dense = np.zeros((lanes, whole, whole))
    for lane in range(lanes):
        # A product of banded factors keeps the band and is positive definite.
        factor = np.tril(rng.normal(size=(whole, whole))) * np.kron(near, np.ones((size, size)))
        lower = np.kron(np.eye(blocks), np.ones((size, size))) * factor
        below = factor - lower
        dense[lane] = (lower + below) @ (lower + below).T + 0.1 * np.eye(whole)
    right = rng.normal(size=(blocks, size, lanes))

    places = dense.reshape(lanes, blocks, size, blocks, size)
    diagonal = np.stack([places[:, i, :, i].transpose(1, 2, 0) for i in range(blocks)])
    upper = np.stack(
        [places[:, i, :, min(i + 1, blocks - 1)].transpose(1, 2, 0) for i in range(blocks)]
    )
    with jax.enable_x64(True):
        matrix = BlockTridiagonal(jax.numpy.asarray(diagonal), jax.numpy.asarray(upper))
        found = np.asarray(jax.jit(solve_block_tridiagonal)(matrix, jax.numpy.asarray(right)))
    for lane in range(lanes):
        expected = np.linalg.solve(dense[lane], right[:, :, lane].ravel())
        np.testing.assert_allclose(found[:, :, lane].ravel(), expected, rtol=1e-8, atol=1e-10)
