"""A surface as a data frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from calib.surface.handles import SmileHandles
    from calib.surface.surface import Surface


def surface_frame(surface: Surface) -> pd.DataFrame:
    """One row per expiry, in order of time.

    Columns: expiry (UTC), years, variance_time, forward, forward_error, forward_source,
    discount_factor, atm_vol (at k = 0), the parameters by their names, the quoted range of k, and
    the diagnostics.
    """
    from calib.surface.validation import PARAMETER_NAMES

    names = PARAMETER_NAMES[surface.model]
    rows = [
        {
            "expiry": one.expiry,
            "years": one.years,
            "variance_time": one.variance_time,
            "forward": one.forward,
            "forward_error": one.forward_error,
            "forward_source": one.forward_source.name,
            "discount_factor": one.discount_factor,
            "atm_vol": sqrt(surface.total_variance(0.0, one.years) / one.years),
            **dict(zip(names, one.parameters, strict=True)),
            "log_moneyness_min": one.log_moneyness_min,
            "log_moneyness_max": one.log_moneyness_max,
            **asdict(one.diagnostics),
            "state": one.diagnostics.state.name,
        }
        for one in surface.expiries
    ]
    columns = [
        "expiry",
        "years",
        "variance_time",
        "forward",
        "forward_error",
        "forward_source",
        "discount_factor",
        "atm_vol",
        *names,
        "log_moneyness_min",
        "log_moneyness_max",
        "state",
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
        "covariance_scale",
    ]
    frame = pd.DataFrame(rows, columns=columns)
    frame["expiry"] = pd.to_datetime(frame["expiry"], utc=True).astype("datetime64[us, UTC]")
    return frame


def handles_frame(rows: Sequence[SmileHandles]) -> pd.DataFrame:
    """One row per smile: expiry (UTC), years, and each handle with ``<name>_error`` beside it."""
    from calib.surface.handles import Handles

    columns: dict[str, object] = {
        "expiry": pd.Series(
            np.array([row.expiry for row in rows], "datetime64[us]")
        ).dt.tz_localize("UTC"),
        "years": [row.years for row in rows],
    }
    for name in Handles._fields:
        columns[name] = [getattr(row.value, name) for row in rows]
        columns[f"{name}_error"] = [getattr(row.error, name) for row in rows]
    return pd.DataFrame(columns)
