"""What became of one chain: its surface, and every row with what the surface says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calib.conventions import Bools, Floats
from calib.fitting.settings import FitSettings
from calib.market.slices import Slices
from calib.quotes.reasons import Reason
from calib.states import FitState
from calib.surface.surface import SliceDiagnostics, Surface

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Fit:
    """What became of one chain.

    ``surface`` holds the expiries that could be fitted (none, where nothing could); ``slices``
    the chain in vol; ``states`` how each expiry of ``slices`` ended. Arrays over the chain's rows:
    ``model_vol`` (nan where no slice was fitted) and ``reason``.
    """

    surface: Surface
    slices: Slices
    states: tuple[FitState, ...]
    model_vol: Floats
    reason: NDArray[np.int8]
    slice_diagnostics: tuple[SliceDiagnostics, ...]
    settings: FitSettings
    previous: Surface | None = None
    weights: Floats | None = None

    @property
    def used(self) -> Bools:
        """Rows that took part in the fit of a slice."""
        used: Bools = self.slices.used & (self.reason == Reason.USABLE)
        if self.weights is not None:
            used = used & (self.weights > 0.0)
        return used

    @property
    def residuals(self) -> pd.DataFrame:
        """A row per input quote: what was quoted, what the model says, and why it was not used.

        Columns: row, venue, expiry, strike, right, log_moneyness, bid_vol, mid_vol, ask_vol,
        model_vol, residual (model − mid), weight (1/noise², 0 if unused), used, reason.
        """
        from calib.fitting.frames import residual_frame

        return residual_frame(self)

    @property
    def diagnostics(self) -> pd.DataFrame:
        """A row per expiry of the chain, fitted or not.

        Columns: expiry, years, state, forward, forward_error, forward_source, discount_factor,
        rms_vol_error, chi2_reduced, in_spread_share, max_abs_residual, quotes_used,
        quotes_rejected, steps, quote_share, memory_share, noise_scale.
        """
        from calib.fitting.frames import diagnostic_frame

        return diagnostic_frame(self)

    def leverage(self, strike: float, expiry: Any) -> pd.DataFrame:
        """Which quotes hold the vol at a strike and expiry up: a row per input quote.

        Columns as in `residuals` up to ask_vol, and leverage: the derivative of the fitted vol by
        the vol that was quoted (see `calib.fitting.leverage`). They add up to what the vol moves
        when all quotes move by one. The first call of a shape compiles for some seconds.
        Raises InvalidRequest where each expiry was fitted alone, and for a surface that was blended
        or whose fit found no rest.
        """
        from calib.fitting.frames import leverage_frame

        return leverage_frame(self, strike, expiry)
