"""Scales up to which a smile keeps its certificate."""

from __future__ import annotations

import numpy as np
import pytest

from calib.arbitrage.butterfly import certify_butterfly
from calib.arbitrage.levels import certified_scale, scaled
from calib.arbitrage.slices import SviSlices
from tests.arbitrage.dense import lowest_g
from tests.arbitrage.slice_samples import ordinary, rows


def test_every_level_up_to_the_scale_is_free_and_a_little_more_is_not() -> None:
    slices = ordinary(np.random.default_rng(71), 400)
    scale = certified_scale(slices, 8.0)
    found = scale > 0
    slices, scale = slices.take(found), scale[found]
    for share in (0.01, 0.3, 0.7, 1.0):
        assert lowest_g(rows(scaled(slices, scale * share))).min() > 0
    beyond = scale < 8.0
    assert beyond.mean() > 0.3
    over = scaled(slices.take(beyond), scale[beyond] * 1.01 + 1e-3)
    assert lowest_g(rows(over)).max() < 0


def test_scale_is_one_or_more_exactly_where_the_slice_is_certified() -> None:
    slices = ordinary(np.random.default_rng(72), 1_000)
    assert np.array_equal(certified_scale(slices) >= 1.0, certify_butterfly(slices).ok)


def test_flat_slices_reach_the_ceiling_and_no_slices_reach_nothing() -> None:
    assert certified_scale(SviSlices.of(0.04, 0.0, 0.0, 0.0, 0.1), 3.0)[0] == 3.0
    assert certified_scale(SviSlices.of(np.nan, 0.1, 0.0, 0.0, 0.1), 3.0)[0] == 0.0


@pytest.mark.parametrize("ceiling", [0.0, -1.0, np.inf, np.nan])
def test_ceilings_that_are_none_are_refused(ceiling: float) -> None:
    with pytest.raises(ValueError, match="positive number"):
        certified_scale(SviSlices.of(0.04, 0.1, 0.0, 0.0, 0.1), ceiling)
