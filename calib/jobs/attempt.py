"""One fit of a job, which goes on whatever comes of it."""

from __future__ import annotations

from jax.errors import JaxRuntimeError

from calib.conventions import iso
from calib.errors import Unavailable
from calib.fitting.fit import fit_chains
from calib.fitting.fit_value import Fit
from calib.fitting.settings import FitSettings
from calib.quotes.chain import Chain
from calib.surface.surface import Surface


def attempt(chain: Chain, last: Surface | None, settings: FitSettings) -> tuple[Fit | None, str]:
    """The fit of a chain after ``last``, and why its surface is not to be put in force.

    Raises Unavailable where this machine could not do it, which says nothing about the chain.
    """
    try:
        (fit,) = fit_chains([chain], [last], settings)
    except (MemoryError, OSError, JaxRuntimeError) as error:
        what = f"{chain.underlying} at {iso(chain.quote_time)}"
        raise Unavailable(
            f"{what} could not be fitted on this machine: {type(error).__name__} {error}"
        ) from error
    except Exception as error:  # noqa: BLE001 - told, and history goes on, as it does live
        return None, f"{type(error).__name__}: {error}"
    if not fit.surface.expiries:
        return fit, "no expiry could be fitted"
    if settings.arbitrage_free and not fit.surface.certificate.arbitrage_free:
        return fit, f"not certified: {fit.surface.certificate.detail}"
    return fit, ""
