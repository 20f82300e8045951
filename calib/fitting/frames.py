"""Residuals and diagnostics of a fit as pandas frames, for people and notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from calib.conventions import Right
from calib.market.slices import QuoteKind
from calib.quotes.reasons import Reason
from calib.states import ForwardSource

if TYPE_CHECKING:
    from calib.fitting.fit_value import Fit


def residual_frame(fit: Fit) -> pd.DataFrame:
    """See :attr:`calib.fitting.fit.Fit.residuals`."""
    slices, quotes = fit.slices, fit.slices.chain.quotes
    used = fit.used
    rights = np.array(["", *(right.name[0] for right in Right)])
    reasons = {reason.value: reason.name for reason in Reason}
    reasons[Reason.USABLE] = ""
    kinds = {kind.value: kind.name.lower() for kind in QuoteKind}
    return pd.DataFrame(
        {
            "row": quotes.row,
            "venue": pd.Categorical(quotes.venue.texts()),
            "expiry": pd.to_datetime(quotes.expiry, utc=True),
            "strike": quotes.strike,
            "right": pd.Categorical(rights[quotes.right]),
            "log_moneyness": slices.log_moneyness,
            "bid_vol": slices.bid_vol,
            "mid_vol": slices.mid_vol,
            "ask_vol": slices.ask_vol,
            "model_vol": fit.model_vol,
            "residual": fit.model_vol - slices.mid_vol,
            "weight": np.where(used, slices.noise**-2.0, 0.0),
            "kind": pd.Categorical([kinds[int(kind)] for kind in slices.kind]),
            "used": used,
            "reason": pd.Categorical([reasons[int(reason)] for reason in fit.reason]),
        }
    )


def leverage_frame(fit: Fit, strike: float, expiry: Any) -> pd.DataFrame:
    """See :meth:`calib.fitting.fit.Fit.leverage`."""
    from calib.fitting.leverage import leverage

    columns = ["row", "venue", "expiry", "strike", "right", "log_moneyness"]
    frame = residual_frame(fit)[[*columns, "bid_vol", "mid_vol", "ask_vol"]]
    found = leverage(
        fit.surface, fit.slices, fit.settings, fit.previous, fit.weights, strike, expiry
    )
    return frame.assign(leverage=found)


def diagnostic_frame(fit: Fit) -> pd.DataFrame:
    """See :attr:`calib.fitting.fit.Fit.diagnostics`."""
    slices, each = fit.slices, fit.slice_diagnostics
    sources = {int(source): source.name for source in ForwardSource}
    frame = pd.DataFrame(
        {
            "expiry": pd.to_datetime(slices.expiry, utc=True),
            "years": slices.years,
            "state": [d.state.name for d in each],
            "forward": slices.forward,
            "forward_error": slices.forward_error,
            "forward_source": [sources.get(int(s), "") for s in slices.forward_source],
            "discount_factor": slices.discount_factor,
        }
    )
    for name in (
        "rms_vol_error",
        "chi2_reduced",
        "in_spread_share",
        "max_abs_residual",
        "quotes_used",
        "quotes_rejected",
        "steps",
        "quote_share",
        "memory_share",
        "noise_scale",
    ):
        frame[name] = [getattr(d, name) for d in each]
    return frame
