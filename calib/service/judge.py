"""The judgement of a fit: measured, weighed and marked, on the thread that fitted it."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING

import numpy as np

from calib.modelrisk.comparison import ExpiryComparison
from calib.modelrisk.forecasts import Forecast, forecasts
from calib.modelrisk.marks import Marked, apply_marks
from calib.modelrisk.monitor import Assessment, MonitorSettings, MonitorState, assess
from calib.surface.marks import Mark
from calib.surface.surface import Surface
from calib.surface.transport import lean_of

if TYPE_CHECKING:
    from calib.fitting.fit_value import Fit


@dataclass(frozen=True)
class Case:
    """What a fit is judged on, as it stood at one moment.

    ``newest``: the last good fit, that this one is held against. ``scores``: whether its forecast
    of these quotes is scored too, for the record.
    """

    monitor: MonitorState
    settings: MonitorSettings
    now: np.datetime64
    newest: Surface | None = None
    compared: tuple[ExpiryComparison, ...] = ()
    marks: tuple[Mark, ...] = ()
    scores: bool = False

    def still_holds(self, monitor: MonitorState, marks: tuple[Mark, ...]) -> bool:
        """Whether neither the clock nor an operator came in between."""
        return self.monitor is monitor and self.marks is marks


@dataclass(frozen=True)
class Ready:
    """A surface as it may be published: under its marks, with its ``headroom`` (see
    `calib.fitting.headroom`) and its ``lean`` (see `calib.surface.transport`)."""

    marked: Marked
    headroom: float
    lean: float


@dataclass(frozen=True)
class Judged:
    """What a case came to. ``ready``: the surface as it may be published; None where the fit
    failed, has no expiry, or is not proved free of arbitrage. ``scored``: the forecasts of the last
    good fit."""

    case: Case
    monitor: MonitorState
    assessment: Assessment
    ready: Ready | None
    scored: tuple[Forecast, ...] = ()


def judge(case: Case, fit: Fit | None, fit_seconds: float = nan) -> Judged:
    """Judge a fit, or (None) the failure of one."""
    surface = None if fit is None else fit.surface
    good = surface is not None and bool(surface.expiries) and surface.certificate.arbitrage_free
    monitor, assessment = assess(
        case.monitor,
        fit,
        surface if good else case.newest,
        case.newest,
        case.now,
        case.settings,
        failed=not good,
        compared=case.compared,
        fit_seconds=fit_seconds,
    )
    ready = made_ready(surface, case.marks, case.now) if good and surface is not None else None
    scored: tuple[Forecast, ...] = ()
    if case.scores and fit is not None and case.newest is not None:
        scored = forecasts(case.newest, fit.slices, case.settings.innovation)
    return Judged(case, monitor, assessment, ready, scored)


def made_ready(surface: Surface, marks: tuple[Mark, ...], now: np.datetime64) -> Ready:
    """A certified surface under its marks; proofs are compiled code, which the fit thread runs."""
    from calib.fitting.headroom import variance_headroom  # needs jax, which only that thread loads

    marked = apply_marks(surface, marks, now)
    return Ready(marked, variance_headroom(marked.surface), lean_of(marked.surface))
