"""The judgement of a fit: measured, weighed, held and marked, on the thread that fitted it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import nan
from typing import TYPE_CHECKING

import numpy as np

from calib.modelrisk.comparison import ExpiryComparison
from calib.modelrisk.forecasts import Forecast, forecasts
from calib.modelrisk.holds import GoodSmile, apply_holds
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

    ``newest``: the last good fit, that this one is held against. ``good``: the last good smile of
    each expiry, by its microseconds. ``scores``: whether the newest fit's forecast of these quotes
    is scored too, for the record.
    """

    monitor: MonitorState
    settings: MonitorSettings
    now: np.datetime64
    newest: Surface | None = None
    compared: tuple[ExpiryComparison, ...] = ()
    marks: tuple[Mark, ...] = ()
    good: Mapping[int, GoodSmile] = field(default_factory=dict)
    scores: bool = False

    def still_holds(
        self,
        monitor: MonitorState,
        marks: tuple[Mark, ...],
        good: Mapping[int, GoodSmile],
    ) -> bool:
        """Whether neither the clock nor an operator came in between."""
        return self.monitor is monitor and self.marks is marks and self.good is good


@dataclass(frozen=True)
class Ready:
    """A surface as it may be published: with its holds (``unmarked``), and with them under its
    marks; by how much its variances may follow its forwards, its ``headroom`` (see
    `calib.fitting.headroom`), and its ``lean`` (see `calib.surface.transport`)."""

    unmarked: Surface
    marked: Marked
    headroom: float
    lean: float

    @property
    def surface(self) -> Surface:
        """What is published."""
        return self.marked.surface


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
    ready: Ready | None = None
    if good and surface is not None:
        ready = made_ready(surface, standing(case.good, monitor), case.marks, case.now)
    scored: tuple[Forecast, ...] = ()
    if case.scores and fit is not None and case.newest is not None:
        scored = forecasts(case.newest, fit.slices, case.settings.innovation)
    return Judged(case, monitor, assessment, ready, scored)


def made_ready(
    surface: Surface,
    held: Mapping[int, GoodSmile | None],
    marks: tuple[Mark, ...],
    now: np.datetime64,
) -> Ready:
    """A certified surface whose ``held`` expiries are as they last were good, under its marks;
    proofs are compiled code, which the fit thread runs."""
    from calib.fitting.headroom import variance_headroom  # needs jax, which only that thread loads

    unmarked = apply_holds(surface, held)
    marked = apply_marks(unmarked, marks, now)
    return Ready(unmarked, marked, variance_headroom(marked.surface), lean_of(marked.surface))


def standing(good: Mapping[int, GoodSmile], monitor: MonitorState) -> dict[int, GoodSmile | None]:
    """The last good smiles of the expiries that are held, None where there is none."""
    return {moment: good.get(moment) for moment in sorted(monitor.held)}
