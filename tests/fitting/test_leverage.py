"""Leverage is what refits of moved quotes do, and adds up to what all of them do together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from calib.errors import InvalidRequest, NotFitted
from calib.fitting.fit import fit
from calib.fitting.fit_value import Fit
from calib.fitting.settings import FitSettings
from calib.quotes.reading import quotes_from_frame
from calib.states import ModelName
from calib.surface.smiles import Smiles
from tests.fitting.surface_samples import QUOTE_TIME, Smile, hostile_smiles, true_smiles

FORWARD, STRIKE = 100.0, 104.0
USUAL = FitSettings()
STEP = 0.2  # half-spreads: a few more, and quotes come out of where they cost little


def quotes() -> pd.DataFrame:
    """A row a strike, around arbitrage-free smiles."""
    return table_of(true_smiles(quotes=12, noise=1e-3))


def table_of(smiles: Sequence[Smile]) -> pd.DataFrame:
    parts = [
        pd.DataFrame(
            {
                "quote_time": QUOTE_TIME,
                "venue": "X",
                "underlying": "U",
                "expiry": QUOTE_TIME + pd.Timedelta(days=smile.days),
                "strike": FORWARD * np.exp(smile.k),
                "right": np.where(smile.k < 0.0, "P", "C"),
                "unit": "vol",
                "bid": smile.bid,
                "ask": smile.ask,
                "forward": FORWARD,
            }
        )
        for smile in smiles
    ]
    return pd.concat(parts, ignore_index=True)


def fitted(table: pd.DataFrame, settings: FitSettings = USUAL, model: str = "svi") -> Fit:
    return fit(quotes_from_frame(table), model, settings=settings)


def vol(one: Fit, years: float) -> float:
    return float(one.surface.implied_vol(STRIKE, years))


@pytest.mark.parametrize(
    "model", ["svi", "essvi", pytest.param("sabr", marks=pytest.mark.drill)]
)  # SABR's compilation takes half a minute
def test_leverage_is_what_refits_do(model: str) -> None:
    table = quotes()
    whole = fitted(table, model=model)
    years = whole.surface.expiries[1].years
    found = whole.leverage(STRIKE, years)["leverage"].to_numpy()
    half = 0.5 * (table["ask"] - table["bid"]).to_numpy()
    for row in np.argsort(-np.abs(found))[:3]:
        moved = []
        for sign in (1.0, -1.0):
            shifted = table.copy()
            shifted.loc[row, ["bid", "ask"]] += sign * STEP * half[row]
            moved.append(vol(fitted(shifted, model=model), years))
        assert found[row] == pytest.approx(
            (moved[0] - moved[1]) / (2.0 * STEP * half[row]), rel=0.1
        )


def test_leverages_add_up_to_a_parallel_shift() -> None:
    table = quotes()
    whole = fitted(table)
    up, down = table.copy(), table.copy()
    up[["bid", "ask"]] += 2e-4
    down[["bid", "ask"]] -= 2e-4
    for years in (whole.surface.expiries[1].years, 0.75 * whole.surface.expiries[1].years):
        total = whole.leverage(STRIKE, years)["leverage"].sum()
        shift = vol(fitted(up), years) - vol(fitted(down), years)
        assert total == pytest.approx(shift / 4e-4, abs=0.03)
        assert 0.9 < total < 1.1


def test_a_fit_that_found_no_rest_has_no_leverage() -> None:
    """Quotes that agree with nothing: its conditions hold the surface where it would not stay."""
    rng, smiles = np.random.default_rng(6), dict[float, Smile]()
    for _ in range(4):
        smiles = {one.days: one for one in hostile_smiles(rng)} | smiles
    restless = fitted(table_of([smiles[days] for days in sorted(smiles)]))
    assert restless.surface.certificate.arbitrage_free
    with pytest.raises(InvalidRequest, match="come to rest"):
        restless.leverage(STRIKE, restless.surface.expiries[0].years)


def test_quotes_that_take_no_part_hold_nothing_up() -> None:
    table = quotes()
    weights = np.ones(len(table))
    weights[[3, 7]] = 0.0
    whole = fit(quotes_from_frame(table), weights=weights)
    found = whole.leverage(STRIKE, whole.surface.expiries[1].years)["leverage"].to_numpy()
    assert (found[[3, 7]] == 0.0).all()
    assert np.count_nonzero(found) > 20


def test_smiles_fitted_alone_have_no_leverage_to_tell() -> None:
    whole = fitted(quotes(), FitSettings(arbitrage_free=False))
    with pytest.raises(InvalidRequest, match="fitted as a whole"):
        whole.leverage(STRIKE, whole.surface.expiries[0].years)


def test_what_has_no_fit_to_ask_says_so() -> None:
    table = quotes()
    whole = fitted(table)
    again = fit(quotes_from_frame(table), previous=whole.surface)
    assert again.surface is whole.surface
    with pytest.raises(InvalidRequest, match="had not changed"):
        again.leverage(STRIKE, whole.surface.expiries[0].years)
    thin = fitted(table.iloc[:2])
    with pytest.raises(NotFitted):
        thin.leverage(STRIKE, 0.1)


@pytest.mark.parametrize("reach", [-2.5, 0.4, 2.5])
def test_the_gradient_of_a_smile_is_that_of_its_published_rule(reach: float) -> None:
    parameters = np.array([[0.5, 0.5], [1.0, 1.0], [-0.3, 0.1], [0.9, 0.6]])
    years = np.array([0.1, 0.5])
    low, high = np.array([-0.3, -0.5]), np.array([0.3, 0.5])
    smiles = Smiles(ModelName.SABR, parameters, years, low, high, np.zeros((2, 4, 4)), np.zeros(2))
    k = reach * (high[0] if reach > 0.0 else -low[0])
    found = smiles.parameter_gradient(0, k)
    for i in (0, 2, 3):  # β is fixed
        moved = []
        for sign in (1.0, -1.0):
            tried = parameters.copy()
            tried[i, 0] += sign * 1e-5
            moved.append(replace(smiles, parameters=tried).total_variance(0, k))
        assert found[i] == pytest.approx((moved[0] - moved[1]) / 2e-5, rel=1e-4, abs=1e-9)
