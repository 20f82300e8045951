from collections.abc import Callable
from math import nan, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.modelrisk.charts import (
    CusumSettings,
    CusumState,
    EwmaSettings,
    EwmaState,
    Reading,
    cusum_start,
    cusum_step,
    ewma_step,
)

Values = st.lists(st.floats(-8.0, 8.0), max_size=30)


def run_lengths(
    step: Callable[[object, float], tuple[object, Reading]], start: object, shift: float, runs: int
) -> np.ndarray:
    """How long each of ``runs`` charts runs until its signal, on normal values about ``shift``."""
    rng = np.random.default_rng(20260301)
    lengths = []
    values: list[float] = []
    for _ in range(runs):
        state, length, signal = start, 0, False
        while not signal:
            if not values:
                values = (shift + rng.standard_normal(50_000)).tolist()
            state, reading = step(state, values.pop())
            length, signal = length + 1, reading.signal
        lengths.append(length)
    return np.array(lengths)


def assert_mean(lengths: np.ndarray, expected: float) -> None:
    """Within four standard errors of the mean: and that is at most a tenth of it."""
    error = lengths.std() / sqrt(len(lengths))
    assert 4.0 * error < 0.1 * expected
    assert lengths.mean() == pytest.approx(expected, abs=4.0 * error)


# Lucas & Saccucci (1990), table 3; Montgomery, tables 9.11 and 9.3: in control and by shift.
@pytest.mark.parametrize(
    ("shift", "expected"), [(0.0, 500.0), (0.5, 31.3), (1.0, 10.3), (2.0, 4.36)]
)
def test_run_lengths_of_the_ewma_chart(shift: float, expected: float) -> None:
    settings = EwmaSettings(weight=0.1, limit=2.814)
    lengths = run_lengths(lambda s, x: ewma_step(s, x, settings), EwmaState(), shift, 2_000)  # type: ignore[arg-type]
    assert_mean(lengths, expected)


@pytest.mark.parametrize(
    ("shift", "expected"), [(0.0, 465.0), (0.5, 38.0), (1.0, 10.4), (2.0, 4.01)]
)
def test_run_lengths_of_the_cusum_chart(shift: float, expected: float) -> None:
    settings = CusumSettings(slack=0.5, limit=5.0)
    start = cusum_start(settings)
    lengths = run_lengths(lambda s, x: cusum_step(s, x, settings), start, shift, 2_000)  # type: ignore[arg-type]
    assert_mean(lengths, expected)


# Lucas & Crosier (1982), table 1; Montgomery, table 9.6 (one-sided start of both sums).
def test_a_headstart_finds_what_is_wrong_from_the_start_sooner() -> None:
    settings = CusumSettings(slack=0.5, limit=5.0, headstart=2.5)
    start = cusum_start(settings)
    lengths = run_lengths(lambda s, x: cusum_step(s, x, settings), start, 1.0, 2_000)  # type: ignore[arg-type]
    assert_mean(lengths, 6.35)


def test_limits_that_widen_with_time_end_at_the_fixed_ones() -> None:
    settings = EwmaSettings(time_varying=True)
    state, first = ewma_step(EwmaState(), 0.0, settings)
    assert first.limit == pytest.approx(settings.limit * settings.weight, rel=1e-14)
    for _ in range(300):
        state, last = ewma_step(state, 0.0, settings)
    assert last.limit == pytest.approx(ewma_step(state, 0.0, EwmaSettings())[1].limit, rel=1e-12)


@given(Values)
def test_an_average_is_that_of_its_weights(values: list[float]) -> None:
    state = EwmaState()
    for x in values:
        state, _ = ewma_step(state, x, EwmaSettings())
    weights = 0.1 * 0.9 ** np.arange(len(values))[::-1]
    assert state.value == pytest.approx(float(weights @ np.array(values)), abs=1e-12)


@given(Values)
def test_sums_of_mirrored_values_change_places(values: list[float]) -> None:
    one = two = cusum_start(CusumSettings())
    for x in values:
        one, here = cusum_step(one, x, CusumSettings())
        two, there = cusum_step(two, -x, CusumSettings())
        assert (one.up, one.down) == (two.down, two.up)
        assert abs(here.value) == abs(there.value)


def test_a_value_that_does_not_exist_changes_nothing() -> None:
    assert ewma_step(EwmaState(0.3, 4), nan, EwmaSettings())[0] == EwmaState(0.3, 4)
    assert cusum_step(CusumState(1.0, 2.0), nan, CusumSettings())[0] == CusumState(1.0, 2.0)


def test_the_reading_of_a_cusum_has_the_sign_of_its_side() -> None:
    _, up = cusum_step(CusumState(5.0, 0.0), 1.0, CusumSettings())
    _, down = cusum_step(CusumState(0.0, 5.0), -1.0, CusumSettings())
    assert (up.value, down.value) == (5.5, -5.5)
    assert up.signal
    assert down.signal
