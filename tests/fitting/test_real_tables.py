"""Every chain of the real tables yields a surface, and every row that is not used says why."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

import calib
from calib.conventions import ExpiryCalendar
from calib.fitting.fit import fit_chains
from calib.fitting.fit_value import Fit
from calib.fitting.settings import FitSettings
from calib.market.slices import QuoteKind
from calib.quotes.chain import chains
from calib.quotes.reasons import Reason
from calib.states import FitState, ForwardSource

FOLDER = os.environ.get("CALIB_QUOTES_DIR", "")
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not FOLDER, reason="CALIB_QUOTES_DIR names no folder of real quote tables"),
]

# Table, every how many chains (odd, so that both underlyings of a snapshot occur), least median
# share of quotes inside bid–ask. Spreads of SPX near the money are too tight for five parameters.
SAMPLES = (
    ("deribit_2026-01.parquet", 13, 0.95),
    ("deribit_2026-03.parquet", 13, 0.95),
    ("deribit_2026-04-01_07.parquet", 5, 0.95),
    ("spx_2019-04-09.parquet", 1, 0.4),
    ("spx_close_2026-07.parquet", 8, 0.2),
)


@pytest.fixture(scope="module", params=SAMPLES, ids=[name for name, *_ in SAMPLES])
def fitted(request: pytest.FixtureRequest) -> tuple[list[Fit], float]:
    name, every, share = request.param
    path = Path(FOLDER) / name
    if not path.exists():
        pytest.skip(f"{name} is not in CALIB_QUOTES_DIR")
    sample = list(islice(chains(calib.read_quotes(path)), 0, None, every))
    return fit_chains(sample), share


def inside_share(fit: Fit) -> float:
    """Of all two-sided out-of-the-money rows that can be inverted at both sides, fitted or not."""
    both = fit.slices.kind == QuoteKind.TWO_SIDED
    vol = fit.model_vol[both]
    inside = (vol >= fit.slices.bid_vol[both]) & (vol <= fit.slices.ask_vol[both])
    return float(np.mean(inside))


def test_every_chain_has_a_surface(fitted: tuple[list[Fit], float]) -> None:
    for fit in fitted[0]:
        assert fit.surface.expiries, (fit.surface.underlying, fit.surface.quote_time)


def test_every_unused_row_has_a_reason(fitted: tuple[list[Fit], float]) -> None:
    for fit in fitted[0]:
        assert np.array_equal(fit.used, fit.reason == Reason.USABLE)
        frame = fit.residuals
        assert len(frame) == len(fit.slices.chain.quotes)
        assert (frame.used ^ (frame.reason != "")).all()


def test_no_slice_is_degenerate(fitted: tuple[list[Fit], float]) -> None:
    for fit in fitted[0]:
        for expiry in fit.surface.expiries:
            _, b, rho, _, sigma = expiry.parameters
            where = (fit.surface.underlying, fit.surface.quote_time, expiry)
            assert abs(rho) < 0.999, where
            assert sigma > 1e-3 * np.sqrt(expiry.years), where
            assert b * (1.0 + abs(rho)) < 1.94, where


def test_fits_end_well(fitted: tuple[list[Fit], float]) -> None:
    fits, _ = fitted
    states = [state for fit in fits for state in fit.states]
    fine = {FitState.CONVERGED, FitState.STEP_LIMIT, FitState.TOO_FEW_QUOTES}
    assert set(states) <= fine
    assert states.count(FitState.STEP_LIMIT) <= 0.1 * len(states)


def test_most_quotes_are_met(fitted: tuple[list[Fit], float]) -> None:
    fits, share = fitted
    assert np.median([inside_share(fit) for fit in fits]) >= share


def test_vol_table_of_independent_expiries() -> None:
    path = Path(FOLDER) / "spx_vix_vol_2023-02-15.parquet"
    if not path.exists():
        pytest.skip("the SPX and VIX vol table is not in CALIB_QUOTES_DIR")
    for chain in chains(calib.read_quotes(path)):
        calendar = (
            ExpiryCalendar.INDEPENDENT if chain.underlying == "VIX" else ExpiryCalendar.SAME_ASSET
        )
        fit = fit_chains([chain], settings=FitSettings(calendar=calendar))[0]
        assert len(fit.surface.expiries) == len(fit.slices.expiry)
        assert fit.surface.calendar is calendar
        first = fit.surface.expiries[0]
        vol = fit.surface.implied_vol(first.forward, first.expiry)
        assert 0.05 < vol < 3.0
        between = 0.5 * (first.years + fit.surface.expiries[1].years)
        if calendar is ExpiryCalendar.INDEPENDENT:
            with pytest.raises(calib.NotFitted):
                fit.surface.implied_vol(first.forward, between)
        else:
            assert np.isfinite(fit.surface.implied_vol(first.forward, between))


def test_april_fronts_are_implied() -> None:
    path = Path(FOLDER) / "deribit_2026-04-01_07.parquet"
    if not path.exists():
        pytest.skip("the April table is not in CALIB_QUOTES_DIR")
    quotes = calib.read_quotes(path)
    fits = fit_chains(list(islice(chains(quotes), 0, None, 5)))
    source = np.concatenate([fit.slices.forward_source for fit in fits])
    assert (source == ForwardSource.PARITY).any()
    assert (source == ForwardSource.VENUE).any()
    assert np.isin(source, (ForwardSource.PARITY, ForwardSource.VENUE)).all()
