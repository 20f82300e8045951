"""Derivatives of prices and vols, and the kernels inside other compiled code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calib.errors import InvalidRequest
from calib.market.black_kernel import black_price_kernel
from calib.market.implied_vol import VolState, implied_vol_kernel

VOL, FORWARD, STRIKE, YEARS = 0.35, 100.0, 112.0, 0.6


@pytest.fixture
def wide() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def vol_of(*arguments: Any) -> Any:
    return implied_vol_kernel(*arguments)[0]


def central_difference(f: Any, arguments: tuple[float, ...], i: int) -> float:
    """Fourth-order difference: truncation and rounding both near 1e-11."""
    h = 1e-3 * arguments[i]

    def at(steps: int) -> float:
        return float(f(*arguments[:i], arguments[i] + steps * h, *arguments[i + 1 :]))

    return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * h)


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_price_slopes_are_differences(sign: float) -> None:
    price = jax.jit(black_price_kernel)
    slopes = jax.jit(jax.grad(price, range(4)))(VOL, FORWARD, STRIKE, YEARS, sign)
    for i, slope in enumerate(slopes):
        difference = central_difference(price, (VOL, FORWARD, STRIKE, YEARS, sign), i)
        assert slope == pytest.approx(difference, rel=1e-8)


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_vol_slopes_are_differences(sign: float) -> None:
    vol = jax.jit(vol_of)
    price = float(jax.jit(black_price_kernel)(VOL, FORWARD, STRIKE, YEARS, sign))
    slopes = jax.jit(jax.grad(vol, range(4)))(price, FORWARD, STRIKE, YEARS, sign)
    for i, slope in enumerate(slopes):
        difference = central_difference(vol, (price, FORWARD, STRIKE, YEARS, sign), i)
        # In the money the time value, a fraction of the price, takes the whole step.
        assert slope == pytest.approx(difference, rel=1e-6)


@pytest.mark.usefixtures("wide")
def test_vol_undoes_price_to_second_order() -> None:
    def there_and_back(vol: Any) -> Any:
        return vol_of(
            black_price_kernel(vol, FORWARD, STRIKE, YEARS, 1.0), FORWARD, STRIKE, YEARS, 1.0
        )

    slope = jax.jit(jax.grad(there_and_back))
    assert jax.jit(there_and_back)(VOL) == pytest.approx(VOL, rel=1e-14)
    assert slope(VOL) == pytest.approx(1.0, rel=1e-12)
    assert jax.jit(jax.grad(slope))(VOL) == pytest.approx(0.0, abs=1e-10)


@pytest.mark.usefixtures("wide")
def test_kernels_live_in_compiled_and_mapped_code() -> None:
    market = (FORWARD, STRIKE, YEARS, 1.0)
    prices = jnp.array([3.0, 4.0, 5.0])
    whole, _ = jax.jit(implied_vol_kernel)(prices, *market)

    def vol_and_slope(price: Any) -> Any:
        return jax.value_and_grad(implied_vol_kernel, has_aux=True)(price, *market)

    (mapped, state), slopes = jax.jit(jax.vmap(vol_and_slope))(prices)
    assert np.asarray(mapped) == pytest.approx(np.asarray(whole), rel=1e-14)
    assert state.dtype == jnp.int8
    vega = jax.jit(jax.vmap(jax.grad(black_price_kernel), (0, None, None, None, None)))
    assert np.asarray(slopes) == pytest.approx(1 / np.asarray(vega(whole, *market)), rel=1e-12)


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("derivative", [jax.grad, jax.jacfwd])
def test_elements_without_a_vol_do_not_spoil_a_masked_gradient(derivative: Any) -> None:
    price = jnp.array([5.0, -1.0, 200.0, 5.0, jnp.nan, 5.0, 5.0])
    forward = jnp.array([100.0, 100.0, 100.0, 100.0, 100.0, -1.0, 100.0])
    years = jnp.array([1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0])
    sign = jnp.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, jnp.nan])

    def total(price: Any, forward: Any, years: Any) -> Any:
        vol, state = implied_vol_kernel(price, forward, 100.0, years, sign)
        return jnp.where(state == VolState.OK, vol, 0.0).sum()

    for slope in jax.jit(derivative(total, (0, 1, 2)))(price, forward, years):
        assert slope[0] != 0
        assert np.all(np.asarray(slope[1:]) == 0)


@pytest.mark.usefixtures("wide")
def test_slopes_are_finite_where_there_is_no_time_or_vol() -> None:
    slopes = jax.jit(jax.grad(black_price_kernel, range(4)))
    for vol, years in ((0.0, 1.0), (0.2, 0.0), (0.0, 0.0)):
        for strike in (90.0, 100.0, 110.0):
            assert np.all(np.isfinite(slopes(vol, 100.0, strike, years, 1.0)))


def test_single_precision_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="enable_x64"):
        implied_vol_kernel(5.0, 100.0, 100.0, 1.0, 1.0)
    with pytest.raises(InvalidRequest, match="enable_x64"):
        black_price_kernel(0.2, 100.0, 100.0, 1.0, 1.0)
