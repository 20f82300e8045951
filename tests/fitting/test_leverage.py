"""Leverage is what refits of moved quotes do, and adds up to what all of them do together."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from calib.errors import InvalidRequest
from calib.fitting.fit import fit
from calib.fitting.fit_value import Fit
from calib.fitting.settings import FitSettings
from calib.fitting.smile import LossName
from calib.quotes.reading import quotes_from_frame
from tests.fitting.surface_samples import QUOTE_TIME, true_smiles

FORWARD, STRIKE = 100.0, 104.0
SQUARE = FitSettings(loss=LossName.SQUARE)


def quotes() -> pd.DataFrame:
    """A row a strike, around arbitrage-free smiles."""
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
        for smile in true_smiles(quotes=12, noise=1e-3)
    ]
    return pd.concat(parts, ignore_index=True)


def fitted(table: pd.DataFrame, settings: FitSettings = SQUARE, model: str = "svi") -> Fit:
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
            shifted.loc[row, ["bid", "ask"]] += sign * half[row]
            moved.append(vol(fitted(shifted, model=model), years))
        assert found[row] == pytest.approx((moved[0] - moved[1]) / (2.0 * half[row]), rel=0.1)


def test_leverages_add_up_to_a_parallel_shift() -> None:
    table = quotes()
    whole = fitted(table, FitSettings())
    up, down = table.copy(), table.copy()
    up[["bid", "ask"]] += 2e-4
    down[["bid", "ask"]] -= 2e-4
    for years in (whole.surface.expiries[1].years, 0.75 * whole.surface.expiries[1].years):
        total = whole.leverage(STRIKE, years)["leverage"].sum()
        shift = vol(fitted(up, FitSettings()), years) - vol(fitted(down, FitSettings()), years)
        assert total == pytest.approx(shift / 4e-4, abs=0.03)
        assert 0.9 < total < 1.1


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
