"""How far live surfaces have drifted from what a cold fit of the same quotes gives.

A live fit starts from the last surface and remembers it; a fit that knows nothing but the quotes is
what it is held against.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np

from calib.fitting.settings_document import settings_from_document
from calib.jobs.attempt import attempt
from calib.states import ModelName
from calib.store.provenance import Fitted
from calib.store.store import Store
from calib.surface.surface import ExpirySlice, Surface

_NODES = 9


@dataclass(frozen=True)
class Drift:
    """One expiry of a stored surface against the cold fit of its quotes.

    ``rms`` and ``largest``: of the difference of vols, decimals, at strikes evenly over the quoted
    range; ``deviations``: the root mean square of the difference in standard errors of the live
    vols. nan where they could not be compared, which ``missing`` explains.
    """

    underlying: str
    model: ModelName
    quote_time: np.datetime64
    revision: int
    expiry: np.datetime64 | None
    rms: float = nan
    largest: float = nan
    deviations: float = nan
    missing: str = ""


def drifts(
    store: Store, underlying: str | None = None, start: Any = None, end: Any = None
) -> Iterator[Drift]:
    """The drift of every expiry of every stored surface that was fitted, in order of time.

    Surfaces that are moved between two fits are left out, and so are those of an operator's marks.
    """
    for stored in store.published(underlying, start, end):
        source = stored.provenance
        if not isinstance(source, Fitted):
            continue
        surface = stored.surface()
        if surface.marks:
            continue
        member = source.batch.members[source.place]
        chain = store.chain(member)
        told = (surface.underlying, surface.model, surface.quote_time, surface.revision)
        if chain is None:
            yield Drift(*told, None, missing="its quotes are not stored")
            continue
        fit, failure = attempt(chain, None, settings_from_document(source.batch.settings))
        if fit is None or failure:
            yield Drift(*told, None, missing=f"no cold fit: {failure}")
            continue
        cold = {one.expiry: one for one in fit.surface.expiries}
        for one in surface.expiries:
            if one.expiry not in cold:
                yield Drift(*told, one.expiry, missing="the cold fit has no such expiry")
                continue
            apart = _apart(surface, fit.surface, one)
            unknown = "" if np.isfinite(apart).all() else "a vol or its standard error is not known"
            yield Drift(*told, one.expiry, *apart, missing=unknown)


def _apart(live: Surface, cold: Surface, one: ExpirySlice) -> tuple[float, float, float]:
    k = np.linspace(one.log_moneyness_min, one.log_moneyness_max, _NODES)
    strike = one.forward * np.exp(k)
    difference = live.implied_vol(strike, one.expiry) - cold.implied_vol(strike, one.expiry)
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = difference / live.vol_error(strike, one.expiry)
    scaled = np.where(difference == 0.0, 0.0, scaled)  # it is no drift whatever the error
    return (
        float(np.sqrt(np.mean(np.square(difference)))),
        float(np.max(np.abs(difference))),
        float(np.sqrt(np.mean(np.square(scaled)))),
    )
