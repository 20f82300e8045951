"""Bates prices against QuantLib and 40 digits, and what any option price must obey."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.conventions import Floats
from calib.errors import InvalidRequest
from calib.feeds.simulated.bates import (
    Bates,
    expected_variance,
    explosion_years,
    jump_variance,
    log_moment,
)
from calib.feeds.simulated.contour import option_value, time_value
from calib.market.black import black_price, implied_vol
from tests.feeds.bates_reference import exact_values, quantlib_values

MODELS = {
    "crypto": (Bates(3.0, 0.24, 1.3, -0.25, 9.0, -0.012, 0.05), 0.19),
    "index": (Bates(4.0, 0.026, 0.75, -0.72, 0.8, -0.07, 0.06), 0.017),
    "no jumps": (Bates(1.5, 0.09, 0.9, -0.5), 0.05),
    "no variance left": (Bates(2.0, 0.1, 1.0, 0.3, 3.0, 0.05, 0.1), 0.0),
    "wild": (Bates(0.6, 0.3, 2.8, 0.6, 8.0, 0.1, 0.2), 0.8),
}
HOUR = 1.0 / (24 * 365)


def deviation(model: Bates, years: float, variance: float) -> float:
    t = np.asarray(years)
    return float(np.sqrt(expected_variance(model, t, variance) + jump_variance(model, t)))


def drawn(random: np.random.Generator, jumps: bool) -> tuple[Bates, float]:
    model = Bates(
        kappa=random.uniform(0.5, 8.0),
        theta=random.uniform(0.02, 1.0),
        sigma=np.exp(random.uniform(np.log(0.1), np.log(3.0))),
        rho=random.uniform(-0.9, 0.9),
        jump_rate=random.uniform(0.2, 10.0) if jumps else 0.0,
        jump_mean=random.uniform(-0.2, 0.2),
        jump_std=random.uniform(0.03, 0.3),
    )
    return model, model.theta * float(np.exp(0.6 * random.standard_normal()))


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize(("jumps", "tolerance"), [(False, 1e-12), (True, 5e-9)])
def test_prices_are_quantlibs_from_an_hour_to_five_years(
    seed: int, jumps: bool, tolerance: float
) -> None:
    # QuantLib's Bates engine offers no better rule than one that ends near 1e-9 itself.
    random = np.random.default_rng(seed)
    model, variance = drawn(random, jumps)
    days = float(np.exp(random.uniform(np.log(1.0 / 24.0), np.log(5 * 365.0))))
    days = round(days) if days > 1.0 else days
    scale = deviation(model, days / 365.0, variance)
    k = np.array([-8.0, -4.0, -2.0, -0.5, 0.0, 0.5, 2.0, 4.0, 8.0]) * scale
    ours = time_value(model, k, days / 365.0, variance)
    theirs = quantlib_values(model, k, days, variance)
    assert np.all(np.abs(ours - theirs) < tolerance * np.maximum(1.0, np.exp(k)))


@pytest.mark.parametrize(
    ("name", "years", "width", "last"),
    [
        ("crypto", 0.25, 10.0, 220),
        ("index", 1.0, 6.0, 400),
        ("no jumps", 0.5, 10.0, 360),
        ("wild", 0.5, 10.0, 120),
    ],
)
def test_far_out_of_the_money_values_keep_their_digits(
    name: str, years: float, width: float, last: int
) -> None:
    model, variance = MODELS[name]
    k = np.linspace(-width, width, 7) * deviation(model, years, variance)
    exact = exact_values(model, list(k), years, variance, "0.06", last)
    np.testing.assert_allclose(time_value(model, k, years, variance), exact, rtol=1e-9)


@pytest.mark.parametrize("years", [1e-6, HOUR, 1.0 / 365.0, 0.1, 3.0])
def test_a_calm_variance_gives_blacks_prices(years: float) -> None:
    model = Bates(2.0, 0.09, 1e-8, -0.5)
    k = np.linspace(-6.0, 6.0, 41) * 0.3 * np.sqrt(years)
    sign = np.where(k < 0, -1, 1)
    black = black_price(0.3, 1.0, np.exp(k), years, sign)
    np.testing.assert_allclose(time_value(model, k, years, 0.09), black, rtol=1e-6)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("years", [1.0 / 365.0 / 86_400.0, HOUR, 0.02, 0.3, 2.0])
def test_prices_admit_no_static_arbitrage(name: str, years: float) -> None:
    model, variance = MODELS[name]
    strike = np.exp(np.linspace(-9.0, 9.0, 301) * deviation(model, years, variance))
    call = option_value(model, np.log(strike), years, variance, True)
    put = option_value(model, np.log(strike), years, variance, False)
    np.testing.assert_allclose(call - put, 1.0 - strike, atol=2e-15 * strike.max())
    slope = np.diff(call) / np.diff(strike)
    assert np.all((call >= 0) & (call <= 1))
    assert np.all((slope <= 1e-10) & (slope >= -1 - 1e-10))
    gap = np.diff(strike)
    assert np.all(np.diff(slope) > -1e-14 / np.minimum(gap[1:], gap[:-1]))


@pytest.mark.parametrize("name", MODELS)
def test_calls_at_one_moneyness_grow_with_expiry(name: str) -> None:
    model, variance = MODELS[name]
    years = np.array([1, 24, 72, 168, 720, 2190, 8760, 26_280]) * HOUR
    k = np.linspace(-1.0, 1.0, 41)
    values = time_value(model, k, years[:, None], variance)
    assert np.all(np.diff(values, axis=0) >= -1e-60)


@given(
    st.sampled_from(sorted(MODELS)),
    st.floats(1e-4, 4.0),
    st.floats(-12.0, 12.0),
)
def test_half_the_step_changes_nothing(name: str, years: float, x: float) -> None:
    from calib.feeds.simulated import contour

    model, variance = MODELS[name]
    k = np.array([x * deviation(model, years, variance)])
    value = time_value(model, k, years, variance)
    row, tenors = np.zeros(1, np.int64), contour.tenors_of(model, np.array([years]), variance)
    contours, serving = contour.contours_for(model, tenors, k, row)
    fine, _ = contour.integrals(model, contours, k, serving, 0.02)
    scale = np.exp(contours.peak + (1.0 - contours.p) * k)
    np.testing.assert_allclose(value, fine * scale, rtol=1e-8)


def test_options_are_worth_the_same_alone_and_in_company() -> None:
    model, variance = MODELS["crypto"]
    years = np.array([0.5, 3.0, 30.0, 300.0])[:, None] / 365.0
    k = np.linspace(-5.0, 5.0, 21) * np.sqrt(years) * 0.5
    together = time_value(model, k, years, variance)
    alone = [
        [float(time_value(model, x, t[0], variance)) for x in row]
        for row, t in zip(k, years, strict=True)
    ]
    np.testing.assert_allclose(together, alone, rtol=1e-8)


@pytest.mark.parametrize("name", MODELS)
def test_the_moments_are_a_martingales(name: str) -> None:
    model, variance = MODELS[name]
    ends = np.array([1e-9, 1.0 - 1e-9, 0.5], np.complex128)
    moments = log_moment(model, ends, 0.7, variance).real
    np.testing.assert_allclose(moments[:2], 0.0, atol=1e-8)
    assert moments[2] < 0.0


@pytest.mark.parametrize("p", [-30.0, -4.0, 2.5, 8.0, 30.0])
@pytest.mark.parametrize("rho", [-0.8, 0.0, 0.8])
def test_moments_explode_when_they_are_said_to(p: float, rho: float) -> None:
    model = Bates(1.2, 0.1, 1.1, rho)
    end = float(explosion_years(model, np.array(p)))
    span = 50.0 if np.isinf(end) else end
    years = span * np.array([0.5, 0.9, 0.99, 0.999, 0.9999])
    grown: Floats = log_moment(model, np.full(5, p, np.complex128), years, 0.1).real
    assert np.all(np.isfinite(grown))
    growth = grown[1:] / grown[:-1]
    if np.isinf(end):
        assert growth[-1] < 1.01  # linear in time: the exponent's slope has settled
    else:
        assert np.all(growth > 1.05)  # D(T) runs away like 1/(end − T)
        assert growth[-1] > 4.0


def test_smiles_are_not_flat_and_differ_between_markets() -> None:
    skews = {}
    for name in ("crypto", "index"):
        model, variance = MODELS[name]
        k = np.array([-0.1, 0.0, 0.1])
        sign = np.where(k < 0, -1, 1)
        worth = time_value(model, k, 0.1, variance)
        skews[name] = implied_vol(worth, 1.0, np.exp(k), 0.1, sign)
    assert skews["index"][0] - skews["index"][2] > 0.05
    assert skews["crypto"][0] > skews["crypto"][1] > 0.3


@pytest.mark.parametrize(
    "changes",
    [
        {"kappa": 0.0},
        {"theta": -0.1},
        {"sigma": float("nan")},
        {"rho": 1.0},
        {"jump_rate": -1.0},
        {"jump_rate": 1.0, "jump_std": 0.0},
        {"jump_mean": float("inf")},
    ],
)
def test_parameters_outside_the_domain_are_refused_by_name(changes: dict[str, float]) -> None:
    with pytest.raises(InvalidRequest, match=list(changes)[-1]):
        Bates(**({"kappa": 1.0, "theta": 0.1, "sigma": 1.0, "rho": 0.0} | changes))


@pytest.mark.parametrize(
    ("k", "years", "variance"), [(0.0, 0.0, 0.1), (0.0, 1.0, -0.1), (np.nan, 1.0, 0.1)]
)
def test_options_that_have_no_price_are_refused(k: float, years: float, variance: float) -> None:
    with pytest.raises(InvalidRequest, match="years > 0"):
        time_value(MODELS["crypto"][0], k, years, variance)
