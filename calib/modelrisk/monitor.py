"""The monitor of one underlying: from a fit to a judgement of trust, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from typing import TYPE_CHECKING

import numpy as np

from calib.conventions import NO_INSTANT, iso, micros_of
from calib.modelrisk.alarms import Alarm
from calib.modelrisk.attribution import AttributionSettings, attribute
from calib.modelrisk.breakers import (
    BreakerLevel,
    BreakerSettings,
    BreakerState,
    Evidence,
    Limits,
    Transition,
    Trigger,
    force,
    release,
    step,
)
from calib.modelrisk.comparison import ExpiryComparison
from calib.modelrisk.evidence import (
    disagreements,
    expiry_readings,
    failures_in_a_row,
    whole_readings,
)
from calib.modelrisk.findings import Finding
from calib.modelrisk.innovations import (
    Innovation,
    InnovationSettings,
    Standing,
    innovations,
    pooled,
    standing_residuals,
)
from calib.modelrisk.measurement import measure
from calib.modelrisk.metrics import SliceMetrics, SurfaceMetrics
from calib.modelrisk.plain_values import Value
from calib.modelrisk.prudence import CONFIDENCE_POINT
from calib.modelrisk.usual import Usual, accustomed
from calib.modelrisk.venues import VenueSettings, VenueState
from calib.modelrisk.watches import ChartPoint, Charts, ChartSettings, chart_step
from calib.surface.surface import Surface

if TYPE_CHECKING:
    from calib.fitting.fit_value import Fit

_SECOND = np.timedelta64(1, "s")
_USUAL_SECONDS = 6.0 * 3_600.0
_SERIES = {"level": "level_z", "skew": "skew_z"}


@dataclass(frozen=True)
class MonitorSettings:
    """All thresholds of model risk.

    ``quote_max_age_seconds``: the age that counts as 1 in the breakers' STALE_FEED.
    ``usual_weight``: the weight of the newest six hours in what an expiry is used to, however many
    fits they hold; while its quotes are too few by the breakers' limits it gets used to nothing.
    """

    innovation: InnovationSettings = field(default_factory=InnovationSettings)
    charts: ChartSettings = field(default_factory=ChartSettings)
    breakers: BreakerSettings = field(default_factory=BreakerSettings)
    attribution: AttributionSettings = field(default_factory=AttributionSettings)
    venues: VenueSettings = field(default_factory=VenueSettings)
    quote_max_age_seconds: float = 60.0
    usual_weight: float = 0.1


@dataclass(frozen=True)
class MonitorState:
    """What the monitor carries from one step to the next; expiries by microseconds since 1970.

    ``breakers`` of the expiries and ``whole``, that of the underlying; ``charts``; what each expiry
    is ``usual``ly like as of the quotes at ``usual_at``, its ``failures`` in a row, the last
    ``disagreement`` between models and the ``standing`` residuals of the last good fit.
    """

    underlying: str
    whole: BreakerState
    breakers: Mapping[int, BreakerState] = field(default_factory=dict)
    charts: Charts = field(default_factory=dict)
    usual: Mapping[int, Usual] = field(default_factory=dict)
    usual_at: np.datetime64 = NO_INSTANT
    failures: Mapping[int, int] = field(default_factory=dict)
    whole_failures: int = 0
    disagreement: Mapping[int, float] = field(default_factory=dict)
    standing: Mapping[int, Standing] = field(default_factory=dict)

    @classmethod
    def start(cls, underlying: str) -> MonitorState:
        """Before the first fit."""
        return cls(underlying, BreakerState(underlying))

    @property
    def held(self) -> frozenset[int]:
        """The expiries whose own breakers are HELD or HALTED."""
        return frozenset(
            moment for moment, one in self.breakers.items() if one.level >= BreakerLevel.HELD
        )


@dataclass(frozen=True)
class ExpiryAssessment:
    """How far one expiry may be trusted.

    ``level`` is the more cautious of its own ``breaker`` and the underlying's. ``multiplier``: what
    its error bars are to be multiplied by. ``min_half_spread``: the least half-spread to quote at
    the money, a vol: Φ⁻¹(.9) standard errors so multiplied, nan where the error is not known.
    """

    expiry: np.datetime64
    level: BreakerLevel
    breaker: BreakerState
    multiplier: float
    min_half_spread: float
    findings: tuple[Finding, ...] = ()

    def values(self) -> dict[str, Value]:
        """The fields as plain values, and the first finding's cause."""
        return {
            "expiry": iso(self.expiry),
            "level": self.level.name,
            "own_level": self.breaker.level.name,
            "probing": self.breaker.probing,
            "forced": self.breaker.force is not None,
            "cause": self.breaker.cause,
            "multiplier": self.multiplier,
            "min_half_spread": self.min_half_spread,
            "finding": self.findings[0].cause.value if self.findings else None,
        }


@dataclass(frozen=True)
class Assessment:
    """What one step came to: what was measured, what left its limits, why, and what follows.

    ``metrics`` None where there was no fit. ``expiries`` are those of the surface in force and of
    the chain, in order. ``venues``: how those that quote the underlying stand, where somebody looks
    after them.
    """

    underlying: str
    at: np.datetime64
    metrics: SurfaceMetrics | None
    innovations: tuple[Innovation, ...]
    points: tuple[ChartPoint, ...]
    alarms: tuple[Alarm, ...]
    breaker: BreakerState
    expiries: tuple[ExpiryAssessment, ...]
    transitions: tuple[Transition, ...]
    venues: tuple[VenueState, ...] = ()

    @property
    def level(self) -> BreakerLevel:
        """That of the underlying."""
        return self.breaker.level

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Those of all expiries."""
        return tuple(finding for one in self.expiries for finding in one.findings)

    def of(self, expiry: np.datetime64) -> ExpiryAssessment | None:
        """That of one expiry."""
        return next((one for one in self.expiries if one.expiry == expiry), None)


def assess(
    state: MonitorState,
    fit: Fit | None,
    surface: Surface | None,
    previous: Surface | None,
    now: np.datetime64,
    settings: MonitorSettings,
    *,
    failed: bool = False,
    compared: Sequence[ExpiryComparison] = (),
    fit_seconds: float = nan,
) -> tuple[MonitorState, Assessment]:
    """One step of the monitor.

    ``fit``: the newest, None where there is none (a look at the clock, or a fit that ``failed``).
    ``surface``: the one in force, whose quotes age; ``previous``: the last good one before the
    fit, that it is held against. ``compared``: what models say of the fit's quotes, where somebody
    compared them; it stands until the next comparison.
    """
    metrics = measure(fit, previous, fit_seconds=fit_seconds) if fit is not None else None
    found: tuple[Innovation, ...] = ()
    if fit is not None and previous is not None and fit.surface is not previous:
        found = innovations(previous, fit.slices, settings.innovation, state.standing)
    quote_time = now if fit is None else fit.slices.chain.quote_time
    charts, points, alarms = _charted(state, found, settings, quote_time)
    seen = {micros_of(one.expiry): one for one in metrics.slices} if metrics else {}
    innovation = {micros_of(one.expiry): one for one in found}
    disagreement = {**state.disagreement, **disagreements(compared, seen)}
    errors = _atm_errors(surface)
    good = fit is not None and not failed
    moments = sorted(
        moment for moment in {*seen, *errors, *state.breakers} if np.datetime64(moment, "us") > now
    )

    failures: dict[int, int] = {}
    breakers: dict[int, BreakerState] = {}
    findings: dict[int, tuple[Finding, ...]] = {}
    transitions: list[Transition] = []
    for moment in moments:
        one, usual = seen.get(moment), state.usual.get(moment)
        mine = tuple(alarm for alarm in alarms if one is not None and alarm.tenor is one.tenor)
        before = state.failures.get(moment, 0)
        failures[moment] = failures_in_a_row(before, one, good=good, failed=failed)
        readings = expiry_readings(
            one,
            innovation.get(moment),
            failures=failures[moment],
            usual=usual,
            disagreement=disagreement.get(moment, nan),
            alarms=len(mine),
            good=good,
        )
        breakers[moment], changed = step(
            _breaker(state, np.datetime64(moment, "us")),
            Evidence(readings, fitted=good and one is not None and not one.failed),
            settings.breakers,
            now,
        )
        transitions += changed
        if one is not None and metrics is not None:
            findings[moment] = attribute(
                one,
                innovation.get(moment),
                blend=metrics.blend,
                usual=usual,
                disagreement=disagreement.get(moment, nan),
                alarms=mine,
                settings=settings.attribution,
            )

    usuals = _usuals(state, seen, moments, quote_time, settings)
    whole_failures = 0 if good else state.whole_failures + failed
    age = nan
    if surface is not None:
        age = float((now - surface.quote_time) / _SECOND) / settings.quote_max_age_seconds
    whole, changed = step(
        state.whole,
        Evidence(
            whole_readings(
                found,
                [breakers[moment] for moment in moments if usuals[moment].quotes > 0.0],
                failures=whole_failures,
                age=age,
            ),
            fitted=good,
        ),
        settings.breakers,
        now,
    )
    after = replace(
        state,
        whole=whole,
        breakers=breakers,
        charts=charts,
        usual=usuals,
        usual_at=state.usual_at if fit is None else quote_time,
        failures=failures,
        whole_failures=whole_failures,
        disagreement={m: x for m, x in disagreement.items() if m in breakers},
        standing=standing_residuals(fit) if fit is not None and good else state.standing,
    )
    return after, Assessment(
        underlying=state.underlying,
        at=now,
        metrics=metrics,
        innovations=found,
        points=points,
        alarms=alarms,
        breaker=whole,
        expiries=tuple(
            _assessment(errors.get(moment, nan), breaker, whole, findings.get(moment, ()))
            for moment, breaker in breakers.items()
        ),
        transitions=(*changed, *transitions),
    )


def with_errors_of(assessment: Assessment, surface: Surface) -> Assessment:
    """The assessment with the least half-spreads of the expiries of a surface, the one in force,
    which need not be the newest fit."""
    errors = _atm_errors(surface)
    return replace(
        assessment,
        expiries=tuple(
            replace(
                one, min_half_spread=_half_spread(one.multiplier, errors[micros_of(one.expiry)])
            )
            if micros_of(one.expiry) in errors
            else one
            for one in assessment.expiries
        ),
    )


def force_level(
    state: MonitorState,
    level: BreakerLevel,
    *,
    expiry: np.datetime64 | None = None,
    actor: str,
    reason: str,
    now: np.datetime64,
    until: np.datetime64 | None = None,
    settings: MonitorSettings | None = None,
) -> tuple[MonitorState, tuple[Transition, ...]]:
    """Set the level of one expiry, or of the underlying, by hand; see `breakers.force`."""
    breaker, transitions = force(
        _breaker(state, expiry),
        level,
        actor=actor,
        reason=reason,
        now=now,
        until=until,
        settings=(settings or MonitorSettings()).breakers,
    )
    return _with_breaker(state, breaker), transitions


def release_level(
    state: MonitorState,
    *,
    expiry: np.datetime64 | None = None,
    actor: str,
    reason: str,
    now: np.datetime64,
    settings: MonitorSettings | None = None,
) -> tuple[MonitorState, tuple[Transition, ...]]:
    """Let the evidence hold again for one expiry, or for the underlying."""
    breaker, transitions = release(
        _breaker(state, expiry),
        actor=actor,
        reason=reason,
        now=now,
        settings=(settings or MonitorSettings()).breakers,
    )
    return _with_breaker(state, breaker), transitions


def _breaker(state: MonitorState, expiry: np.datetime64 | None) -> BreakerState:
    if expiry is None:
        return state.whole
    return state.breakers.get(micros_of(expiry), BreakerState(state.underlying, expiry))


def _with_breaker(state: MonitorState, breaker: BreakerState) -> MonitorState:
    if breaker.expiry is None:
        return replace(state, whole=breaker)
    return replace(state, breakers={**state.breakers, micros_of(breaker.expiry): breaker})


def _usuals(
    state: MonitorState,
    seen: Mapping[int, SliceMetrics],
    moments: Sequence[int],
    quote_time: np.datetime64,
    settings: MonitorSettings,
) -> dict[int, Usual]:
    """What each expiry is used to after a fit: 1 − (1 − weight)^(time/six hours) is its weight."""
    elapsed = 0.0 if np.isnat(state.usual_at) else float((quote_time - state.usual_at) / _SECOND)
    weight = 1.0 - (1.0 - settings.usual_weight) ** (max(elapsed, 0.0) / _USUAL_SECONDS)
    starved = settings.breakers.limits.get(Trigger.STARVATION, Limits()).lowest
    return {
        moment: accustomed(seen[moment], state.usual.get(moment), weight, starved)
        if moment in seen
        else state.usual.get(moment, Usual())
        for moment in moments
    }


def _charted(
    state: MonitorState,
    found: Sequence[Innovation],
    settings: MonitorSettings,
    quote_time: np.datetime64,
) -> tuple[Charts, tuple[ChartPoint, ...], tuple[Alarm, ...]]:
    charts = state.charts
    points: list[ChartPoint] = []
    alarms: list[Alarm] = []
    for metric, name in _SERIES.items():
        series = pooled(found, settings.innovation.noise, name)
        charts, more, signals = chart_step(
            charts, metric, series, settings.charts, state.underlying, quote_time
        )
        points += more
        alarms += signals
    return charts, tuple(points), tuple(alarms)


def _atm_errors(surface: Surface | None) -> dict[int, float]:
    """The error of the vol at each expiry's forward."""
    if surface is None or not surface.expiries:
        return {}
    years = np.array([one.years for one in surface.expiries])
    forward = np.array([one.forward for one in surface.expiries])
    moments = (micros_of(one.expiry) for one in surface.expiries)
    return dict(zip(moments, surface.vol_error(forward, years).tolist(), strict=True))


def _half_spread(multiplier: float, error: float) -> float:
    return CONFIDENCE_POINT * multiplier * error


def _assessment(
    error: float, breaker: BreakerState, whole: BreakerState, findings: tuple[Finding, ...]
) -> ExpiryAssessment:
    multiplier = max(breaker.multiplier, whole.multiplier)
    return ExpiryAssessment(
        expiry=breaker.expiry if breaker.expiry is not None else NO_INSTANT,
        level=max(breaker.level, whole.level),
        breaker=breaker,
        multiplier=multiplier,
        min_half_spread=_half_spread(multiplier, error),
        findings=findings,
    )
