"""The one thread on which surfaces are fitted: batches in, fits out, failures kept apart.

JAX is imported, compiled and run on this thread alone; the event loop only waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import TYPE_CHECKING, Protocol, TypeVar

from calib.conventions import ExpiryCalendar
from calib.market.variance_clock import VarianceClock
from calib.quotes.chain import Chain
from calib.quotes.fingerprint import fingerprint
from calib.service.judge import Case, Judged, judge
from calib.states import ModelName
from calib.store import Batch, Build, Fitted, Member, SurfaceKey, this_build
from calib.surface.surface import Surface

if TYPE_CHECKING:
    from calib.fitting.fit_value import Fit
    from calib.fitting.settings import FitSettings

_T = TypeVar("_T")


@dataclass(frozen=True)
class FitJob:
    """A chain to fit, how, and the last surface, to start from and to remember.

    ``previous_key``: under which that surface was published. ``case``: what the fit is judged on,
    None where it is not.
    """

    chain: Chain
    model: ModelName
    calendar: ExpiryCalendar
    previous: Surface | None = None
    clock: VarianceClock | None = None
    previous_key: SurfaceKey | None = None
    case: Case | None = field(default=None, repr=False)


@dataclass(frozen=True)
class FitOutcome:
    """What became of a job: a fit, or the error that it ended with; and when it ran.

    ``provenance``: all that is needed to fit it again. ``started`` and ``ended`` are seconds of
    the monotonic clock, of the whole batch. ``judged``: what was made of the case of the job.
    """

    fit: Fit | None
    error: Exception | None
    input_hash: str
    provenance: Fitted
    started: float = 0.0
    ended: float = 0.0
    judged: Judged | None = field(default=None, repr=False)


class Fitter(Protocol):
    """Fits jobs as one batch; all of one model and calendar."""

    def __call__(self, jobs: Sequence[FitJob], /) -> Sequence[Fit]:
        """A fit for each job, in their order."""


def fit_batch(jobs: Sequence[FitJob]) -> list[Fit]:
    """Fit jobs of one model and calendar with the project's fitter."""
    from calib.fitting.fit import fit_chains

    chains, previous = [job.chain for job in jobs], [job.previous for job in jobs]
    return fit_chains(chains, previous, _settings_of(jobs))


def _settings_of(jobs: Sequence[FitJob]) -> FitSettings:
    """How jobs of one model and calendar are fitted together."""
    from calib.fitting.settings import FitSettings

    clocks = {job.chain.underlying: job.clock for job in jobs if job.clock is not None}
    return FitSettings(model=jobs[0].model, calendar=jobs[0].calendar, clocks=clocks)


class FitThread:
    """Runs a fitter on a thread of its own; ``build`` is what surfaces are said to be made by."""

    def __init__(self, fitter: Fitter = fit_batch, build: Build | None = None) -> None:
        self._fitter = fitter
        self._build = this_build() if build is None else build
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="calib-fit")

    async def fit(self, jobs: Sequence[FitJob]) -> list[FitOutcome]:
        """Fit all jobs; one that fails does not stop the others."""
        return await self.run(lambda: _fit_apart(self._fitter, self._build, jobs))

    async def fit_alone(self, job: Callable[[], FitJob], conclude: Callable[[Fit], _T]) -> _T:
        """Make a job, fit it and conclude from it; raises whatever any of them raises."""
        return await self.run(lambda: conclude(self._fitter([job()])[0]))

    async def run(self, work: Callable[[], _T]) -> _T:
        """Run anything on the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """End when what runs has ended; what has not begun is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _fit_apart(fitter: Fitter, build: Build, jobs: Sequence[FitJob]) -> list[FitOutcome]:
    """Fit groups of one model and calendar; where a group fails, each of its jobs alone."""
    started = monotonic()
    outcomes: dict[int, FitOutcome] = {}
    groups: dict[tuple[ModelName, ExpiryCalendar], list[int]] = {}
    for i, job in enumerate(jobs):
        groups.setdefault((job.model, job.calendar), []).append(i)
    for members in groups.values():
        found = _fit_group(fitter, build, [jobs[i] for i in members])
        outcomes |= dict(zip(members, found, strict=True))
    ended = monotonic()
    timed = (
        replace(outcome, started=started, ended=ended) for _, outcome in sorted(outcomes.items())
    )
    return [_judged(job.case, outcome) for job, outcome in zip(jobs, timed, strict=True)]


def _judged(case: Case | None, outcome: FitOutcome) -> FitOutcome:
    """The outcome with its judgement; one that cannot be judged is an error like that of a fit."""
    if case is None:
        return outcome
    try:
        judged = judge(case, outcome.fit, outcome.ended - outcome.started)
    except Exception as error:  # noqa: BLE001 - whatever it is, the others must go on
        failed = replace(outcome, fit=None, error=error)
        return replace(failed, judged=judge(case, None))
    return replace(outcome, judged=judged)


def _fit_group(fitter: Fitter, build: Build, jobs: Sequence[FitJob]) -> list[FitOutcome]:
    try:
        fits: list[Fit | Exception] = [*fitter(jobs)]
        if len(fits) != len(jobs):
            raise AssertionError(f"{len(fits)} fits of {len(jobs)} jobs")
    except Exception as error:  # noqa: BLE001 - whatever it is, the others must go on
        if len(jobs) > 1:
            return [outcome for job in jobs for outcome in _fit_group(fitter, build, [job])]
        fits = [error]
    hashes = [_hash_of(job, fit) for job, fit in zip(jobs, fits, strict=True)]
    batch = _batch_of(jobs, hashes, build)
    return [
        FitOutcome(
            None if isinstance(fit, Exception) else fit,
            fit if isinstance(fit, Exception) else None,
            hashes[i],
            Fitted(batch, i),
        )
        for i, fit in enumerate(fits)
    ]


def _hash_of(job: FitJob, fit: Fit | Exception) -> str:
    """What was fitted, as the fit says, or as a job that failed must be asked."""
    known = "" if isinstance(fit, Exception) else fit.surface.input_hash
    return known or fingerprint(job.chain)


def _batch_of(jobs: Sequence[FitJob], hashes: Sequence[str], build: Build) -> Batch:
    from calib.fitting.settings_document import settings_to_document

    return Batch(
        settings=settings_to_document(_settings_of(jobs)),
        members=tuple(
            Member(job.chain.underlying, job.chain.quote_time, input_hash, job.previous_key)
            for job, input_hash in zip(jobs, hashes, strict=True)
        ),
        build=build,
    )
