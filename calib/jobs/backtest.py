"""A backtest: history replayed chain by chain, each fitted after the last, and monitored.

Nothing looks ahead: a chain is judged by the surface that stood before it, and a fit starts from
and remembers that surface, as it does live. One chain is one call of the fitter, so that the
surfaces can be audited.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

import numpy as np

from calib.fitting.settings import FitSettings
from calib.fitting.settings_document import settings_to_document
from calib.jobs.attempt import attempt
from calib.jobs.model_comparison import ModelComparison
from calib.modelrisk.breakers import BreakerLevel
from calib.modelrisk.forecasts import Forecast, forecasts
from calib.modelrisk.monitor import Assessment, MonitorSettings, MonitorState, assess
from calib.quotes.chain import Chain
from calib.quotes.fingerprint import fingerprint
from calib.states import ModelName
from calib.store.build import Build, this_build
from calib.store.documents import canonical
from calib.store.provenance import Batch, Fitted, Member, SurfaceKey
from calib.surface.surface import Surface

_LATE = 1.6
_SECOND = np.timedelta64(1, "s")


@dataclass(frozen=True)
class BacktestSettings:
    """How chains are fitted and judged.

    ``monitor`` None: the defaults, with a quote age limit of 1.6 times the usual time between the
    chains of an underlying, so that one missing chain is noticed and none that is a little late.
    """

    fit: FitSettings = field(default_factory=FitSettings)
    monitor: MonitorSettings | None = None


@dataclass(frozen=True)
class Step:
    """One chain: ``surface`` is the one in force after it, under ``key``, None before the first.

    ``provenance`` where this chain's fit put it in force, None where the last one stands.
    ``failure`` says why the chain gave no good surface, empty where it did.
    """

    chain: Chain
    surface: Surface | None
    key: SurfaceKey
    provenance: Fitted | None
    assessment: Assessment
    forecasts: tuple[Forecast, ...]
    failure: str = ""


@dataclass(frozen=True)
class Backtest:
    """What became of a history; ``steps`` by underlying within quote time.

    ``comparisons``: the last chains by several models, where they were compared.
    """

    model: ModelName
    steps: tuple[Step, ...]
    comparisons: tuple[ModelComparison, ...] = ()

    @property
    def underlyings(self) -> tuple[str, ...]:
        """Their names, sorted."""
        return tuple(sorted({step.chain.underlying for step in self.steps}))

    @property
    def failures(self) -> tuple[Step, ...]:
        """The chains that gave no good surface."""
        return tuple(step for step in self.steps if step.failure)

    @property
    def failed_expiries(self) -> int:
        """How many fits of an expiry failed, over all chains."""
        measured = (step.assessment.metrics for step in self.steps)
        return sum(one.failed for each in measured if each is not None for one in each.slices)

    @property
    def halted(self) -> tuple[str, ...]:
        """Underlyings that are HALTED at the end, or an expiry of which is."""
        last = {step.chain.underlying: step.assessment for step in self.steps}
        return tuple(
            name
            for name, one in sorted(last.items())
            if BreakerLevel.HALTED in (one.level, *(each.level for each in one.expiries))
        )


def replayed(history: Sequence[Chain], settings: BacktestSettings | None = None) -> Iterator[Step]:
    """Steps in the order of the chains, which is that of time for each underlying."""
    chosen = settings or BacktestSettings()
    build = this_build()
    epoch = _epoch(history, chosen, build)
    courses = {
        name: _Course(name, chosen.fit, monitor, epoch, build)
        for name, monitor in _monitors(history, chosen).items()
    }
    for chain in history:
        yield courses[chain.underlying].step(chain)


class _Course:
    """One underlying on its way through history: what the engine and the monitor carry along."""

    def __init__(
        self, underlying: str, fit: FitSettings, monitor: MonitorSettings, epoch: str, build: Build
    ) -> None:
        self._fit = fit
        self._document = settings_to_document(fit)
        self._monitor = monitor
        self._build = build
        self._state = MonitorState.start(underlying)
        self._surface: Surface | None = None
        self._key = SurfaceKey(epoch, 0)

    def step(self, chain: Chain) -> Step:
        last, last_key = self._surface, self._key
        fit, failure = attempt(chain, last, self._fit)
        if fit is not None and not failure and fit.surface is not last:
            self._surface = fit.surface
            self._key = last_key._replace(revision=last_key.revision + 1)
        self._state, assessment = assess(
            self._state,
            fit,
            self._surface,
            last,
            chain.quote_time,
            self._monitor,
            failed=bool(failure),
        )
        scored: tuple[Forecast, ...] = ()
        if fit is not None and last is not None and fit.surface is not last:
            scored = forecasts(last, fit.slices, self._monitor.innovation)
        source = None
        if self._key != last_key:
            previous = last_key if last_key.revision else None
            member = Member(chain.underlying, chain.quote_time, fingerprint(chain), previous)
            source = Fitted(Batch(self._document, (member,), self._build), 0)
        return Step(chain, self._surface, self._key, source, assessment, scored, failure)


def _monitors(history: Iterable[Chain], settings: BacktestSettings) -> dict[str, MonitorSettings]:
    times: dict[str, list[np.datetime64]] = {}
    for chain in history:
        times.setdefault(chain.underlying, []).append(chain.quote_time)
    if settings.monitor is not None:
        return dict.fromkeys(times, settings.monitor)
    default = MonitorSettings()
    return {
        name: replace(default, quote_max_age_seconds=_LATE * _usual_gap(at))
        if len(at) > 1
        else default
        for name, at in times.items()
    }


def _usual_gap(times: Sequence[np.datetime64]) -> float:
    return float(np.median(np.diff(np.array(times)) / _SECOND))


def _epoch(history: Iterable[Chain], settings: BacktestSettings, build: Build) -> str:
    """A name by which the same backtest, run again, finds its surfaces stored."""
    digest = sha256(canonical(settings_to_document(settings.fit)).encode())
    digest.update(f"{settings.monitor!r}{build!r}".encode())
    for chain in history:
        digest.update(f"{chain.underlying}\0{chain.quote_time}\0{fingerprint(chain)}\0".encode())
    return f"backtest-{digest.hexdigest()[:16]}"
