"""Mills' ratio and the logarithm that Black's formula stands on."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np

from calib.market import mills
from calib.market.logarithm import log, log_ratio
from tests.market.black_reference import EPSILON


def exact_mills(y: float) -> Any:
    """(1 - Φ(y))/φ(y)."""
    return mp.sqrt(mp.pi / 2) * mp.exp(mp.mpf(y) ** 2 / 2) * mp.erfc(mp.mpf(y) / mp.sqrt(2))


def relative_error(values: Any, exact: list[Any]) -> float:
    return max(
        abs(float(mp.mpf(v) / e - 1))
        for v, e in zip(np.asarray(values).tolist(), exact, strict=True)
    )


def test_sums_and_differences_of_mills_ratios() -> None:
    rng = np.random.default_rng(7)
    y = np.concatenate([rng.uniform(-0.8, 3, 150), 10 ** rng.uniform(0, 4, 150)])
    gap = 10 ** rng.uniform(-14, 2, 300)
    with jax.enable_x64(True), mp.workdps(60):
        z = y + gap
        gap = z - y  # what is left of it in doubles, exactly
        below, above = [exact_mills(v) for v in y.tolist()], [exact_mills(v) for v in z.tolist()]
        at, beyond, between = (jnp.asarray(v) for v in (y, z, gap))
        minus = mills.mills_combination(at, beyond, between, jnp.full(300, True))
        plus = mills.mills_combination(at, beyond, between, jnp.full(300, False))
        apart = gap > 0
        exact = [a - b for a, b in zip(below, above, strict=True)]
        assert apart.sum() > 200
        assert relative_error(minus[apart], [e for e, a in zip(exact, apart, strict=True) if a]) < (
            8 * EPSILON
        )
        assert (
            relative_error(plus, [a + b for a, b in zip(below, above, strict=True)]) < 8 * EPSILON
        )


def test_coefficients_are_the_chebyshev_series_of_mills_ratio() -> None:
    degree, nodes = len(mills.COEFFICIENTS) - 1, 120
    with mp.workdps(60):
        angles = [mp.pi * (2 * j + 1) / (2 * nodes) for j in range(nodes)]
        values = []
        for angle in angles:
            shifted = mills.SCALE / (1 + mp.cos(angle))
            y = shifted - mills.POLE
            far = y > 1000
            ratio = _far_mills(y) if far else exact_mills(y)
            values.append(shifted * ratio)
        series = [
            (1 if i == 0 else 2)
            / mp.mpf(nodes)
            * sum(v * mp.cos(i * a) for v, a in zip(values, angles, strict=True))
            for i in range(degree + 1)
        ]
        assert abs(series[-1]) < EPSILON
        powers = mp.taylor(
            lambda u: sum(c * mp.chebyt(i, u) for i, c in enumerate(series)), 0, degree
        )
        worst = max(abs(p - c) for p, c in zip(powers, mills.COEFFICIENTS, strict=True))
        assert worst <= EPSILON  # half a unit in the last place of the greatest


def _far_mills(y: Any) -> Any:
    """The asymptotic series, exact to 30 digits beyond 1000."""
    return sum((-1) ** n * mp.fac2(2 * n - 1) / y ** (2 * n) for n in range(8)) / y


def test_logarithms() -> None:
    rng = np.random.default_rng(8)
    x = np.concatenate([10 ** rng.uniform(-300, 300, 300), 1 + rng.uniform(-0.3, 0.5, 300), [1.0]])
    with jax.enable_x64(True):
        got = np.asarray(log(jnp.asarray(x)))
    assert got[-1] == 0
    with mp.workdps(40):
        assert relative_error(got[:-1], [mp.log(mp.mpf(v)) for v in x[:-1].tolist()]) < 2 * EPSILON


def test_logarithms_of_ratios_next_to_one() -> None:
    rng = np.random.default_rng(9)
    b = rng.uniform(1, 1e5, 400)
    a = b * (1 + 10 ** rng.uniform(-15, 0, 400) * rng.choice([-0.99, 1], 400))
    a[:100] = b[:100] * 10 ** rng.uniform(-200, 200, 100)
    a, b = a[a != b], b[a != b]
    with jax.enable_x64(True):
        got = log_ratio(jnp.asarray(a), jnp.asarray(b))
        assert log_ratio(jnp.asarray(3.3), jnp.asarray(3.3)) == 0
    with mp.workdps(40):
        exact = [mp.log(mp.mpf(p) / mp.mpf(q)) for p, q in zip(a.tolist(), b.tolist(), strict=True)]
        assert relative_error(got, exact) < 2.5 * EPSILON
