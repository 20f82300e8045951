import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.modelrisk.delta_buckets import DELTA_BUCKETS, DeltaBucket, bucket_numbers, call_delta
from calib.modelrisk.tenors import TENOR_DAYS, TENORS, Tenor, tenor_of


@pytest.mark.parametrize(
    ("days", "tenor"),
    [(0.1, "<2d"), (2.0, "2d-1w"), (6.99, "2d-1w"), (7.0, "1w-1m"), (364.9, "3m-1y"), (365, ">1y")],
)
def test_a_tenor_bucket_holds_its_lower_end_and_not_its_upper(days: float, tenor: str) -> None:
    assert tenor_of(days / 365.0) is Tenor(tenor)


@given(st.floats(0.0, 20.0), st.floats(0.0, 20.0))
def test_later_expiries_are_never_in_earlier_buckets(one: float, two: float) -> None:
    assert TENORS.index(tenor_of(min(one, two))) <= TENORS.index(tenor_of(max(one, two)))


def test_every_tenor_has_a_range() -> None:
    assert len(TENORS) == len(TENOR_DAYS) + 1


@pytest.mark.parametrize(
    ("delta", "bucket"),
    [(0.90, "10P"), (0.75, "25P"), (0.5, "ATM"), (0.25, "25C"), (0.10, "10C"), (0.625, "25P")],
)
def test_the_points_at_which_smiles_are_quoted_lie_in_buckets_of_their_name(
    delta: float, bucket: str
) -> None:
    assert DELTA_BUCKETS[int(bucket_numbers(delta))] is DeltaBucket(bucket)


def test_strikes_without_a_delta_are_in_no_bucket() -> None:
    delta = call_delta([0.0, 0.1, 0.0], [0.04, -0.01, 0.0])
    assert bucket_numbers(delta).tolist() == [2, -1, -1]


def test_delta_at_the_forward_is_that_of_half_a_deviation() -> None:
    assert call_delta(0.0, 0.04) == pytest.approx(0.5398278372770290, abs=1e-15)  # Φ(.1)


@given(st.floats(0.001, 2.0))
def test_buckets_follow_in_order_of_strike(w: float) -> None:
    k = np.linspace(-6.0, 6.0, 201) * np.sqrt(w)
    numbers = bucket_numbers(call_delta(k, w))
    assert (np.diff(numbers) >= 0).all()
    assert set(numbers.tolist()) == set(range(len(DELTA_BUCKETS)))
