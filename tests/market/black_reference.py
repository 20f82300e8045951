"""Black prices and their exact inverses in 50 digits: what the double-precision code is held to."""

from __future__ import annotations

import math
from itertools import chain
from typing import Any, NamedTuple

import mpmath as mp
import numpy as np
from numpy.typing import NDArray

from calib.conventions import Floats

EPSILON = 2.0**-52


class Option(NamedTuple):
    """An option whose price was computed in 50 digits and then rounded to a double.

    ``exact_stdev`` is the total standard deviation at which the rounded price is exact, nan where
    rounding has left it none; ``condition`` is the standard deviation that one unit of rounding
    of the price is worth, eps·price/vega.
    """

    price: float
    exact_price: Any
    exact_stdev: Any
    condition: float


class Options(NamedTuple):
    """Columns over many options; ``sign`` is +1 for calls, -1 for puts."""

    forward: Floats
    strike: Floats
    stdev: Floats
    sign: Floats
    price: Floats
    condition: Floats
    references: list[Option]

    def stdev_errors(self, stdev: Floats) -> Floats:
        """``stdev`` minus the exact inverse of the rounded price, subtracted in 50 digits."""
        return np.array(
            [
                float(mp.mpf(s) - o.exact_stdev)
                for s, o in zip(stdev.tolist(), self.references, strict=True)
            ]
        )

    def price_errors(self, price: Floats) -> Floats:
        """Relative errors of ``price``, against the price before it was rounded."""
        return np.array(
            [
                float(mp.mpf(p) / o.exact_price - 1)
                for p, o in zip(price.tolist(), self.references, strict=True)
            ]
        )

    def has_vol(self) -> NDArray[np.bool_]:
        """Whether a vol is left in the rounded price."""
        return np.array([not mp.isnan(o.exact_stdev) for o in self.references])

    def first(self, count: int) -> Options:
        """The first ``count`` of them."""
        return joined([self], count)


def joined(parts: list[Options], count: int | None = None) -> Options:
    """One after the other, and of these the first ``count``."""

    def column(name: str) -> Floats:
        return np.concatenate([getattr(part, name) for part in parts])[:count]

    return Options(
        forward=column("forward"),
        strike=column("strike"),
        stdev=column("stdev"),
        sign=column("sign"),
        price=column("price"),
        condition=column("condition"),
        references=list(chain.from_iterable(part.references for part in parts))[:count],
    )


def options(forward: Floats, log_moneyness: Floats, stdev: Floats, sign: Floats) -> Options:
    """References for options at strikes F·exp(k), the strike rounded to a double first."""
    strike = forward * np.exp(log_moneyness)
    with mp.workdps(50):
        references = [
            _option(*row)
            for row in zip(
                forward.tolist(), strike.tolist(), stdev.tolist(), sign.tolist(), strict=True
            )
        ]
    return Options(
        forward=forward,
        strike=strike,
        stdev=stdev,
        sign=sign,
        price=np.array([o.price for o in references]),
        condition=np.array([o.condition for o in references]),
        references=references,
    )


def random_options(rng: np.random.Generator, count: int) -> Options:
    """Calls and puts, in and out of the money: |k| <= 1.5, total standard deviation 0.02 to 2."""
    return options(
        forward=rng.uniform(50.0, 150.0, count),
        log_moneyness=rng.uniform(-1.5, 1.5, count),
        stdev=rng.uniform(0.02, 2.0, count),
        sign=rng.choice([-1.0, 1.0], count),
    )


def _option(forward: float, strike: float, stdev: float, sign: float) -> Option:
    f, k = mp.mpf(forward), mp.mpf(strike)
    intrinsic = max(int(sign) * (f - k), mp.mpf(0))
    lower, xi = min(f, k), abs(mp.log(f / k))
    value, vega, slope = _time_value(lower, xi, mp.mpf(stdev))
    exact = value + intrinsic
    price = float(exact)
    left = mp.mpf(price) - intrinsic
    condition = EPSILON * price / float(vega) if float(vega) > 0 else math.inf
    if not lower * mp.mpf(2) ** -1022 <= left < lower:
        return Option(price, exact, mp.nan, condition)
    # Halley's method on the logarithm of the time value.
    s = mp.mpf(stdev)
    for _ in range(100):
        g = vega / value
        newton = mp.log(left / value) / g
        change = newton / (1 + newton * (slope - g) / 2)
        s = s + change if change > -s / 2 else s / 2
        # The next change would be of the order of the cube of this one.
        if abs(change) < 1e-7 * s:
            return Option(price, exact, s, condition)
        value, vega, slope = _time_value(lower, xi, s)
    raise AssertionError(f"no inverse for {forward=} {strike=} {stdev=} {sign=}")


def _time_value(lower: Any, xi: Any, s: Any) -> tuple[Any, Any, Any]:
    """Time value, its derivative with respect to s, and that one's logarithmic derivative."""
    y, z = xi / s - s / 2, xi / s + s / 2
    root = mp.sqrt(2)
    value = lower * (mp.erfc(y / root) - mp.exp(xi) * mp.erfc(z / root)) / 2
    return value, lower * mp.exp(-y * y / 2) / mp.sqrt(2 * mp.pi), y * z / s
