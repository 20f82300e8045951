"""What a fit remembers: nothing moves without news, thin smiles keep their shape, news wins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from calib.conventions import Floats
from calib.fitting.fit import fit_chains
from calib.fitting.fit_value import Fit
from calib.fitting.memory import Memory, remember
from calib.fitting.settings import FitSettings
from calib.market.slicing import slices_of
from calib.models import svi
from calib.quotes.chain import Chain, chains
from calib.quotes.reading import quotes_from_frame
from calib.states import FitState
from tests.fitting.surface_samples import QUOTE_TIME, true_smiles


def chain(
    minutes: float = 0.0,
    *,
    bump: float = 0.0,
    forward: float = 100.0,
    fresh: tuple[float, ...] | None = None,
    quotes: int = 12,
) -> Chain:
    """The sample market some minutes on; only rows of expiries in ``fresh`` are new (None: all)."""
    now = QUOTE_TIME + pd.Timedelta(minutes=minutes)
    rows = []
    for smile in true_smiles(quotes=quotes, noise=1e-3):
        new = fresh is None or smile.days in fresh
        shift = bump if new else 0.0
        rows += [
            {
                "quote_time": now if new else QUOTE_TIME,
                "venue": "X",
                "underlying": "U",
                "expiry": QUOTE_TIME + pd.Timedelta(days=smile.days),
                "strike": 100.0 * np.exp(k),
                "right": "put" if k < np.log(forward / 100.0) else "call",
                "unit": "vol",
                "bid": bid + shift,
                "ask": ask + shift,
                "forward": forward,
            }
            for k, bid, ask in zip(smile.k, smile.bid, smile.ask, strict=True)
        ]
    table = quotes_from_frame(pd.DataFrame(rows))
    (only,) = chains(
        replace(table, quote_time=np.full(len(table), np.datetime64(now.tz_localize(None))))
    )
    return Chain(only.underlying, only.quote_time, table)


def parameters(fit: Fit) -> Floats:
    return np.array([one.parameters for one in fit.surface.expiries])


def test_unchanged_quotes_move_nothing_to_the_last_bit() -> None:
    (first,) = fit_chains([chain()])
    (second,) = fit_chains([chain()], [first.surface])
    assert second.surface is first.surface
    np.testing.assert_array_equal(second.model_vol, first.model_vol)
    assert second.states == first.states
    # A heartbeat of one expiry is a new input: of what it holds nothing is new.
    (third,) = fit_chains([chain(1.0, fresh=(30.0,))], [first.surface])
    vol = first.model_vol[first.used]
    assert np.abs(third.model_vol[third.used] - vol).max() < 1e-5


def test_other_weights_are_other_input() -> None:
    first = chain()
    weights = np.ones(len(first.quotes))
    weights[:5] = 0.0
    (weighted,) = fit_chains([first], weights=[weights])
    (same,) = fit_chains([first], [weighted.surface], weights=[weights])
    (plain,) = fit_chains([first], [weighted.surface])
    assert same.surface is weighted.surface
    assert plain.surface is not weighted.surface
    assert plain.used.sum() == weighted.used.sum() + 5


def test_an_expiry_of_which_no_quote_counts_is_left_out_and_no_other() -> None:
    first = chain()
    weights = np.where(first.quotes.expiry == first.quotes.expiry.min(), 0.0, 1.0)
    for previous in ([], [fit_chains([first])[0].surface]):
        (fit,) = fit_chains([first], previous, weights=[weights])
        assert fit.states[0] is FitState.TOO_FEW_QUOTES
        assert set(fit.states[1:]) == {FitState.CONVERGED}
        assert len(fit.surface.expiries) == len(fit.states) - 1


def test_a_warm_fit_of_new_quotes_is_that_of_a_cold_one_within_its_errors() -> None:
    (before,) = fit_chains([chain()])
    moved = chain(10.0, bump=0.01)
    (cold,) = fit_chains([moved])
    (warm,) = fit_chains([moved], [before.surface])
    assert all(one.memory_share > 0.0 for one in warm.slice_diagnostics)
    assert all(one.memory_share == 0.0 for one in cold.slice_diagnostics)
    for one in cold.surface.expiries:
        strikes = one.forward * np.exp(np.linspace(-1.0, 1.0, 9) * 0.05)
        error = cold.surface.vol_error(strikes, one.expiry)
        gap = warm.surface.implied_vol(strikes, one.expiry) - cold.surface.implied_vol(
            strikes, one.expiry
        )
        assert (np.abs(gap) < 3.0 * error).all()


def test_without_memory_the_last_surface_has_no_say() -> None:
    settings = FitSettings(memory=None)
    (before,) = fit_chains([chain()], settings=settings)
    moved = chain(10.0, bump=0.01)
    (cold,) = fit_chains([moved], settings=settings)
    (warm,) = fit_chains([moved], [before.surface], settings)
    np.testing.assert_array_equal(parameters(warm), parameters(cold))


def test_memory_counts_by_the_share_of_quotes_that_are_gone_and_fades_with_time() -> None:
    (before,) = fit_chains([chain()])
    some = slices_of(chain(1.0, fresh=(30.0, 75.0)))
    known = remember(before.surface, some, np.arange(5), Memory())
    assert known.known.all()
    np.testing.assert_array_equal(known.superseded, [0.0, 0.0, 1.0, 1.0, 0.0])
    soon, late = (
        remember(before.surface, slices_of(chain(m)), np.arange(5), Memory()) for m in (1.0, 4.0)
    )
    np.testing.assert_allclose(late.drift / soon.drift, 4.0, rtol=0.02)
    earlier = remember(before.surface, slices_of(chain(-5.0)), np.arange(5), Memory())
    assert earlier.known.all()
    assert not earlier.superseded.any()


def test_the_smile_follows_the_forward_as_the_skew_stickiness_says() -> None:
    (before,) = fit_chains([chain()])
    slices = slices_of(chain(1.0, forward=101.0))
    old = before.surface.expiries[2]
    for stickiness, stays_with in ((1.0, "strike"), (0.0, "moneyness")):
        known = remember(before.surface, slices, np.arange(5), Memory(skew_stickiness=stickiness))
        carried = known.parameters[:, 2]
        k = np.linspace(-0.2, 0.2, 9)
        seen_from = k + np.log(1.01) if stays_with == "strike" else k
        vol = np.sqrt(svi.total_variance(carried, k) / slices.years[2])
        expected = np.sqrt(svi.total_variance(old.parameters, seen_from) / old.years)
        np.testing.assert_allclose(vol, expected, rtol=1e-12)


def test_a_smile_that_lost_its_quotes_keeps_its_shape_and_says_so() -> None:
    (before,) = fit_chains([chain(quotes=16)])
    full = chain(5.0, quotes=16)
    # One quote is left of the third expiry.
    expiry = np.unique(full.quotes.expiry)[2]
    mine = np.flatnonzero(full.quotes.expiry == expiry)
    keep = np.ones(len(full.quotes), bool)
    keep[np.delete(mine, 8)] = False
    thin = Chain(full.underlying, full.quote_time, full.quotes.take(keep))
    (after,) = fit_chains([thin], [before.surface])
    one = after.surface.expiries[2]
    assert one.diagnostics.quote_share < 0.4
    assert one.diagnostics.memory_share > 0.5
    k = np.linspace(one.log_moneyness_min - 0.1, one.log_moneyness_max + 0.1, 9)
    gap = np.sqrt(
        after.surface.total_variance(k, one.expiry) / before.surface.total_variance(k, one.expiry)
    )
    assert np.abs(gap - 1.0).max() < 0.03


def test_a_market_that_jumped_is_met_as_well_as_from_scratch() -> None:
    before = fit_chains([chain()])[0]
    for bump in (0.04, 0.15, -0.08):
        jumped = chain(360.0, bump=bump, forward=94.0)
        (warm,) = fit_chains([jumped], [before.surface])
        (cold,) = fit_chains([jumped])
        assert set(warm.states) == {FitState.CONVERGED}
        for one, other in zip(warm.slice_diagnostics, cold.slice_diagnostics, strict=True):
            assert one.in_spread_share > other.in_spread_share - 0.1
