from itertools import pairwise, product
from math import isnan, sqrt

import numpy as np
import pytest

from calib.modelrisk.runs import runs_test


@pytest.mark.parametrize(("positive", "negative"), [(1, 1), (3, 4), (5, 2), (6, 6)])
def test_mean_and_variance_are_those_of_all_arrangements(positive: int, negative: int) -> None:
    signs = [
        s for s in product((-1.0, 1.0), repeat=positive + negative) if s.count(1.0) == positive
    ]
    runs = np.array([1 + sum(a != b for a, b in pairwise(s)) for s in signs])
    found = runs_test(signs[0])
    assert found.mean == pytest.approx(runs.mean(), rel=1e-14)
    assert found.variance == pytest.approx(runs.var(), rel=1e-12, abs=1e-15)


def test_a_known_case() -> None:
    # 11 signs, 5 and 6 of each, 3 runs: mean 71/11, variance 60·49/(121·10).
    found = runs_test([1, 1, 1, -1, -1, -1, -1, -1, -1, 1, 1])
    assert (found.runs, found.positive, found.negative) == (3, 5, 6)
    assert found.z == pytest.approx((3.0 - 71.0 / 11.0) / sqrt(2940.0 / 1210.0), rel=1e-14)


def test_residuals_without_a_sign_are_left_out() -> None:
    assert runs_test([1.0, 0.0, -1.0, float("nan"), 2.0]) == runs_test([1.0, -1.0, 2.0])


def test_there_is_no_score_where_there_is_no_choice() -> None:
    assert isnan(runs_test([1.0, 2.0, 3.0]).z)
    assert isnan(runs_test([]).z)
    assert isnan(runs_test([-1.0]).z)


def test_a_bend_scores_low_and_a_zigzag_high() -> None:
    bend = np.cos(np.linspace(0.0, 2.0 * np.pi, 40))
    assert runs_test(bend).z < -5.0
    assert runs_test(np.tile([1.0, -1.0], 20)).z > 5.0
