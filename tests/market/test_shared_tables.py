"""Forwards and slices on real quote tables."""

from __future__ import annotations

import numpy as np
import pytest

from calib.market.slicing import slices_of
from calib.quotes.reasons import Reason
from calib.states import ForwardSource
from tests.market.consistency import consistent
from tests.market.shared_tables import (
    FOLDER,
    NAMES,
    blinded,
    implied_against_venue,
    needs_tables,
    shared_chains,
    shared_table,
)

pytestmark = [pytest.mark.real_data, needs_tables]

JANUARY = "deribit_2026-01.parquet"
APRIL = "deribit_2026-04-01_07.parquet"


def test_there_are_tables() -> None:
    assert len(NAMES) >= 6, f"{FOLDER} holds {NAMES}"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("blind", [False, True], ids=["as_shown", "without_venue_forwards"])
def test_every_row_is_used_or_has_a_reason(name: str, blind: bool) -> None:
    rows = 0
    for chain in shared_chains(name):
        slices = slices_of(blinded(chain, spot=True) if blind else chain)
        consistent(slices)
        rows += len(chain.quotes)
        # Nearly all that is out of the money and has a price has a vol.
        priced = ~np.isin(
            slices.reason, (Reason.IN_THE_MONEY, Reason.NO_QUOTE, Reason.EXPIRED, Reason.NO_FORWARD)
        )
        assert slices.used.sum() >= 0.99 * priced.sum()
        if name != "spx_vix_vol_2023-02-15.parquet" or not blind:
            assert slices.used.any()
    assert rows == len(shared_table(name))


@pytest.mark.parametrize("spot", [True, False], ids=["spot", "no_spot"])
def test_implied_forwards_are_those_of_the_venue_within_their_errors(spot: bool) -> None:
    implied = implied_against_venue(JANUARY, spot=spot)
    assert len(implied.error) > 2_800
    assert np.isfinite(implied.error).all()
    sizes = np.abs(implied.error)
    assert np.median(sizes) < 2e-4  # asked for: 3 bp
    assert np.quantile(sizes, 0.99) < 15e-4
    standardised = implied.error / implied.stated
    assert 0.8 < np.sqrt(np.mean(standardised**2)) < 1.2
    assert np.abs(standardised).max() < 6.0
    assert np.mean(implied.source == ForwardSource.PARITY) > 0.99


def test_front_expiries_of_april_have_their_forwards_from_parity() -> None:
    """The venue showed its index instead, and no forward."""
    implied = 0
    for chain in shared_chains(APRIL):
        slices = slices_of(chain)
        given = np.isfinite(chain.quotes.forward)
        for i in range(len(slices.expiry)):
            shown = given[slices.slice_index == i].any()
            expected = ForwardSource.VENUE if shown else ForwardSource.PARITY
            assert slices.forward_source[i] == expected
            implied += not shown
            if not shown:
                assert slices.forward_error[i] < 2e-3 * slices.forward[i]
                assert abs(np.log(slices.forward[i] / slices.spot)) < 0.02
    assert implied > 100


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("spx_close")])
def test_rates_of_the_index_are_plausible_at_every_expiry(name: str) -> None:
    for chain in shared_chains(name):
        slices = slices_of(chain)
        rates = -np.log(slices.discount_factor) / slices.years
        assert np.all((rates > 0.02) & (rates < 0.08))
        assert np.all(slices.forward_error < 0.01 * slices.forward)
