"""Black prices and implied vols for numpy users; undiscounted, elementwise, any shape.

The numerics are in :mod:`calib.market.black_kernel` and :mod:`calib.market.implied_vol`; here the
arguments are read, brought to flat float64 arrays and computed in compiled batches.
"""

from __future__ import annotations

from typing import Any, TypeAlias, TypeVar

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

from calib.conventions import Floats
from calib.errors import InvalidRequest
from calib.market.batches import over_buckets
from calib.market.black_kernel import black_price_kernel
from calib.market.implied_vol import VolState, implied_vol_kernel

__all__ = ["VolState", "black_price", "implied_vol", "implied_vol_and_state", "implied_vol_state"]

Right: TypeAlias = ArrayLike
"""``"C"`` or ``"P"``, +1 or -1, or an array of either."""

States: TypeAlias = NDArray[np.int8]


_Scalar = TypeVar("_Scalar", bound=np.generic)


@jax.jit
def _prices(*columns: jax.Array) -> tuple[jax.Array]:
    return (black_price_kernel(*columns),)


_vols_and_states = jax.jit(implied_vol_kernel)

# A valid element, to fill up batches: value, forward, strike, years, sign.
_PAD = (0.1, 1.0, 1.0, 1.0, 1.0)


def black_price(
    vol: ArrayLike,
    forward: ArrayLike,
    strike: ArrayLike,
    expiry_years: ArrayLike,
    right: Right,
) -> Floats:
    """ω(F·Φ(ω·d₁) - K·Φ(ω·d₂)), d₁,₂ = ln(F/K)/(vol√T) ± vol√T/2: undiscounted Black prices.

    ``vol`` is a decimal, ``expiry_years`` are ACT/365F years, ω is +1 for a call (``right`` "C" or
    +1) and -1 for a put ("P" or -1); arrays broadcast, scalars give a NumPy scalar. Zero vol or
    time gives the intrinsic value; nan stands where an argument is outside the formula's domain.
    Raises InvalidRequest for arguments that are not numbers, rights or do not broadcast.

    Source: Black (1976, "The pricing of commodity contracts", J. Financial Economics 3).
    """
    columns, shape = _columns(
        right, vol=vol, forward=forward, strike=strike, expiry_years=expiry_years
    )
    (prices,) = over_buckets(_prices, columns, _PAD)
    return _shaped(prices, shape)


def implied_vol(
    price: ArrayLike,
    forward: ArrayLike,
    strike: ArrayLike,
    expiry_years: ArrayLike,
    right: Right,
) -> Floats:
    """The vol at which :func:`black_price` gives ``price`` (undiscounted), to machine precision.

    nan where there is none; :func:`implied_vol_state` says why. Arguments, shapes and errors as in
    :func:`black_price`. A price carries its own rounding, at best half a unit in its last place:
    no inversion knows the vol of a price better than eps·price/vega, which is negligible
    except in the money and far in the wings.

    Source: the method is described in :mod:`calib.market.implied_vol`.
    """
    vol, _ = implied_vol_and_state(price, forward, strike, expiry_years, right)
    return vol


def implied_vol_state(
    price: ArrayLike,
    forward: ArrayLike,
    strike: ArrayLike,
    expiry_years: ArrayLike,
    right: Right,
) -> States:
    """Why :func:`implied_vol` of the same arguments is nan: :class:`VolState` numbers (int8)."""
    return implied_vol_and_state(price, forward, strike, expiry_years, right)[1]


def implied_vol_and_state(
    price: ArrayLike,
    forward: ArrayLike,
    strike: ArrayLike,
    expiry_years: ArrayLike,
    right: Right,
) -> tuple[Floats, States]:
    """:func:`implied_vol` and :func:`implied_vol_state` in one pass."""
    columns, shape = _columns(
        right, price=price, forward=forward, strike=strike, expiry_years=expiry_years
    )
    vols, states = over_buckets(_vols_and_states, columns, _PAD)
    return _shaped(vols, shape), _shaped(states, shape)


def _columns(right: Right, **numbers: ArrayLike) -> tuple[list[Floats], tuple[int, ...]]:
    """The arguments, the sign last, as flat float64 arrays of one length, and their shape."""
    arrays = [_floats(name, value) for name, value in numbers.items()] + [_signs(right)]
    try:
        full = np.broadcast_arrays(*arrays)
    except ValueError:
        shapes = dict(zip([*numbers, "right"], [a.shape for a in arrays], strict=True))
        raise InvalidRequest(f"shapes do not broadcast: {shapes}") from None
    return [array.ravel() for array in full], full[0].shape


def _floats(name: str, value: ArrayLike) -> Floats:
    array = _array(name, value)
    if array.dtype.kind not in "fiu":
        raise InvalidRequest(f"{name} must hold real numbers, not {_shown(value)}")
    return array.astype(np.float64, copy=False)


def _signs(right: Right) -> Floats:
    """+1 for calls and -1 for puts; InvalidRequest names the first entry that is neither."""
    array = _array("right", right)
    call = put = np.zeros(array.shape, bool)
    if array.dtype.kind in "UO":
        call, put = array == "C", array == "P"
    if array.dtype.kind in "fiuO":
        call, put = call | (array == 1), put | (array == -1)
    bad = ~(call | put)
    if bad.any():
        entry = array[np.unravel_index(int(np.argmax(bad)), array.shape)]
        raise InvalidRequest(f'right must be "C" or "P" (or +1, -1), not {_shown(entry)}')
    return np.where(call, 1.0, -1.0)


def _array(name: str, value: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(value)
    except ValueError:  # lists of unequal lengths
        raise InvalidRequest(f"{name} must be an array, not {_shown(value)}") from None


def _shown(value: Any) -> str:
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= 80 else text[:77] + "..."


def _shaped(flat: NDArray[_Scalar], shape: tuple[int, ...]) -> NDArray[_Scalar]:
    """The result in the shape of the arguments; a NumPy scalar where all were scalars."""
    shaped: NDArray[_Scalar] = flat.reshape(shape)[()]
    return shaped
