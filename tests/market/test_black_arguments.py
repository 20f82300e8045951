"""What the public functions take, give back, refuse, and compile."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import calib
from calib.market import black
from calib.market.batches import BUCKETS

ONE: dict[str, Any] = {"forward": 100.0, "strike": 105.0, "expiry_years": 0.5, "right": "C"}
PRICE = 6.0


def test_scalars_give_numpy_scalars() -> None:
    assert type(calib.implied_vol(PRICE, **ONE)).__name__ == "float64"
    assert type(calib.black_price(0.3, **ONE)).__name__ == "float64"
    assert type(calib.implied_vol_state(PRICE, **ONE)).__name__ == "int8"


@pytest.mark.parametrize(
    "price", [6, np.float32(6), np.int64(6), np.array(6.0), np.float16(6), [6], np.array([6], "i4")]
)
def test_any_real_number_is_read_as_float64(price: Any) -> None:
    vol = calib.implied_vol(price, **ONE)
    assert vol.dtype == np.float64
    assert np.all(vol == calib.implied_vol(PRICE, **ONE))


@pytest.mark.parametrize(
    ("right", "sign"),
    [
        ("C", 1),
        ("P", -1),
        (1, 1),
        (-1.0, -1),
        (np.int8(-1), -1),
        (np.array(["P", "C"]), np.array([-1, 1])),
        (["P", "C"], np.array([-1, 1])),
        (np.array(["P", 1], object), np.array([-1, 1])),
        (np.array([-1.0, 1.0]), np.array([-1, 1])),
    ],
)
def test_rights(right: Any, sign: Any) -> None:
    got = calib.black_price(0.3, 100.0, 105.0, 0.5, right)
    assert np.all(got == calib.black_price(0.3, 100.0, 105.0, 0.5, sign))
    assert np.all((got < 10.0) == (np.asarray(sign) == 1))  # the put is in the money


@pytest.mark.parametrize(
    ("right", "named"),
    [
        ("c", "'c'"),
        ("call", "'call'"),
        (0, "0"),
        (np.nan, "nan"),
        (["C", "X"], "'X'"),
        (None, "None"),
        (True, "True"),
        (np.datetime64("2026-01-01"), "datetime"),
    ],
)
def test_another_right_is_refused_by_name(right: Any, named: str) -> None:
    with pytest.raises(calib.InvalidRequest, match=f"right must be .* not {named}"):
        calib.implied_vol(PRICE, 100.0, 105.0, 0.5, right)


@pytest.mark.parametrize(
    "value", ["6", None, [None, 6.0], 1j, np.datetime64("2026-01-01"), True, [[1.0], [1.0, 2.0]]]
)
def test_what_is_no_number_is_refused_by_name(value: Any) -> None:
    with pytest.raises(calib.InvalidRequest, match="price must"):
        calib.implied_vol(value, **ONE)
    with pytest.raises(calib.InvalidRequest, match="strike must"):
        calib.implied_vol(PRICE, 100.0, value, 0.5, "C")


def test_shapes_that_do_not_broadcast_are_refused_with_the_shapes() -> None:
    with pytest.raises(calib.InvalidRequest, match=r"price.*\(2,\).*strike.*\(3,\)"):
        calib.implied_vol(np.ones(2), 100.0, np.ones(3), 0.5, "C")


def test_shapes_broadcast() -> None:
    strikes = np.array([90.0, 100.0, 110.0])
    years = np.array([[0.25], [1.0]])
    prices = calib.black_price(0.3, 100.0, strikes, years, "C")
    assert prices.shape == (2, 3)
    assert calib.implied_vol(prices, 100.0, strikes, years, "C") == pytest.approx(0.3, rel=1e-13)
    assert calib.implied_vol_state(prices, 100.0, strikes, years, "C").shape == (2, 3)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)])
def test_nothing_in_nothing_out(shape: tuple[int, ...]) -> None:
    nothing = np.empty(shape)
    assert calib.implied_vol(nothing, 100.0, 105.0, 0.5, "C").shape == shape
    assert calib.implied_vol_state(nothing, 100.0, 105.0, 0.5, "C").shape == shape
    assert calib.black_price(nothing, 100.0, 105.0, 0.5, "C").shape == shape
    assert calib.black_price(0.3, 100.0, 105.0, 0.5, np.array([], str)).shape == (0,)


def test_the_length_of_a_batch_changes_no_bit() -> None:
    rng = np.random.default_rng(6)
    count = 2 * BUCKETS[-1] + 77  # full chunks, and a rest in a smaller bucket
    strikes = 100.0 * np.exp(rng.uniform(-0.5, 0.5, count))
    prices = calib.black_price(rng.uniform(0.1, 1.0, count), 100.0, strikes, 0.5, "C")
    vols = calib.implied_vol(prices, 100.0, strikes, 0.5, "C")
    for length in (1, *BUCKETS, BUCKETS[-1] + 1):
        part = slice(count - length, count)
        assert np.array_equal(
            calib.implied_vol(prices[part], 100.0, strikes[part], 0.5, "C"), vols[part]
        )


def test_arrays_that_are_not_contiguous() -> None:
    strikes = np.linspace(80.0, 120.0, 40)
    prices = calib.black_price(0.4, 100.0, strikes, 0.5, "P")
    assert np.array_equal(
        calib.implied_vol(prices[::-3], 100.0, strikes[::-3], 0.5, "P"),
        calib.implied_vol(prices, 100.0, strikes, 0.5, "P")[::-3],
    )


def test_arguments_are_left_as_they_are() -> None:
    strikes = np.linspace(80.0, 120.0, 40)
    strikes.flags.writeable = False
    calib.implied_vol(np.full(40, 25.0), 100.0, strikes, 0.5, "P")


def test_one_compilation_serves_a_whole_bucket() -> None:
    def compiled() -> int:
        return int(black._vols_and_states._cache_size())  # type: ignore[attr-defined]  # jax types it away

    for bucket in BUCKETS:
        calib.implied_vol(np.full(bucket, PRICE), **ONE)
    before = compiled()
    assert before >= len(BUCKETS)
    smaller = (1, *(bucket - 1 for bucket in BUCKETS), *(bucket // 2 for bucket in BUCKETS))
    for length in (*smaller, 3 * BUCKETS[-1] + 5):
        calib.implied_vol(np.full(length, PRICE), **ONE)
    calib.implied_vol(PRICE, **ONE)
    calib.implied_vol(np.full(7, PRICE, np.float32), 100, 105, 0.5, -1)
    with jax.enable_x64(True):
        calib.implied_vol(PRICE, **ONE)
    assert compiled() == before


def test_the_precision_of_the_caller_is_left_alone() -> None:
    calib.implied_vol(PRICE, **ONE)
    assert jnp.zeros(()).dtype == jnp.float32
