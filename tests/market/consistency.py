"""What holds of the slices of any chain."""

from __future__ import annotations

import numpy as np

from calib.market.slices import QuoteKind, Slices
from calib.market.slicing import NOISE_FLOOR
from calib.quotes.reasons import Reason


def consistent(slices: Slices) -> None:
    """What holds of every slices: a row is used or has a reason, and what is used is finite."""
    used, rows = slices.used, len(slices.chain.quotes)
    assert np.array_equal(used, slices.reason == Reason.USABLE)
    assert np.array_equal(used, slices.kind != QuoteKind.NONE)
    for values in (slices.slice_index, slices.log_moneyness, slices.noise, slices.kind):
        assert len(values) == rows
    assert np.isfinite(slices.log_moneyness[used]).all()
    assert np.all(slices.noise[used] >= NOISE_FLOOR)
    assert np.isfinite(slices.noise[used]).all()
    assert np.isnan(slices.noise[~used]).all()
    bid, ask = np.isfinite(slices.bid_vol), np.isfinite(slices.ask_vol)
    assert np.array_equal(used & bid & ask, slices.kind == QuoteKind.TWO_SIDED)
    assert np.array_equal(used & ~bid & ask, slices.kind == QuoteKind.CEILING)
    assert np.array_equal(used & bid & ~ask, slices.kind == QuoteKind.FLOOR)
    assert not np.any((bid | ask) & ~used)
    both = bid & ask
    assert np.all(slices.bid_vol[both] <= slices.ask_vol[both])
    assert np.all((slices.slice_index >= -1) & (slices.slice_index < len(slices.expiry)))
    assert np.all(slices.slice_index[used] >= 0)
    assert np.all(np.diff(slices.expiry.astype(np.int64)) > 0)
    assert np.all(slices.years > 0.0)
    judged = slices.chain.quotes.reason
    assert np.array_equal(slices.reason[judged != 0], judged[judged != 0])
