"""One fit of a job, which goes on whatever comes of it."""

from __future__ import annotations

from calib.fitting.fit import fit_chains
from calib.fitting.fit_value import Fit
from calib.fitting.settings import FitSettings
from calib.quotes.chain import Chain
from calib.surface.surface import Surface


def attempt(chain: Chain, last: Surface | None, settings: FitSettings) -> tuple[Fit | None, str]:
    """The fit of a chain after ``last``, and why its surface is not to be put in force."""
    try:
        (fit,) = fit_chains([chain], [last], settings)
    except Exception as error:  # noqa: BLE001 - told, and history goes on, as it does live
        return None, f"{type(error).__name__}: {error}"
    if not fit.surface.expiries:
        return fit, "no expiry could be fitted"
    if settings.arbitrage_free and not fit.surface.certificate.arbitrage_free:
        return fit, f"not certified: {fit.surface.certificate.detail}"
    return fit, ""
