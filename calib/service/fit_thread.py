"""The one thread on which surfaces are fitted: batches in, fits out, failures kept apart.

JAX is imported, compiled and run on this thread alone; the event loop only waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Protocol, TypeVar

from calib.conventions import ExpiryCalendar
from calib.market.variance_clock import VarianceClock
from calib.quotes.chain import Chain
from calib.quotes.fingerprint import fingerprint
from calib.states import ModelName
from calib.surface.surface import Surface

if TYPE_CHECKING:
    from calib.fitting.fit_value import Fit

_T = TypeVar("_T")


@dataclass(frozen=True)
class FitJob:
    """A chain to fit, how, and the last surface, to start from and to remember."""

    chain: Chain
    model: ModelName
    calendar: ExpiryCalendar
    previous: Surface | None = None
    clock: VarianceClock | None = None


@dataclass(frozen=True)
class FitOutcome:
    """What became of a job: a fit, or the error that it ended with; and when it ran.

    ``started`` and ``ended`` are seconds of the monotonic clock, of the whole batch.
    """

    fit: Fit | None
    error: Exception | None
    input_hash: str
    started: float
    ended: float


class Fitter(Protocol):
    """Fits jobs as one batch; all of one model and calendar."""

    def __call__(self, jobs: Sequence[FitJob], /) -> Sequence[Fit]:
        """A fit for each job, in their order."""


def fit_batch(jobs: Sequence[FitJob]) -> list[Fit]:
    """Fit jobs of one model and calendar with the project's fitter."""
    from calib.fitting.fit import fit_chains
    from calib.fitting.settings import FitSettings

    clocks = {job.chain.underlying: job.clock for job in jobs if job.clock is not None}
    settings = FitSettings(model=jobs[0].model, calendar=jobs[0].calendar, clocks=clocks)
    return fit_chains([job.chain for job in jobs], [job.previous for job in jobs], settings)


class FitThread:
    """Runs a fitter on a thread of its own."""

    def __init__(self, fitter: Fitter = fit_batch) -> None:
        self._fitter = fitter
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="calib-fit")

    async def fit(self, jobs: Sequence[FitJob]) -> list[FitOutcome]:
        """Fit all jobs; one that fails does not stop the others."""
        return await self.run(lambda: _fit_apart(self._fitter, jobs))

    async def fit_alone(self, job: Callable[[], FitJob], conclude: Callable[[Fit], _T]) -> _T:
        """Make a job, fit it and conclude from it; raises whatever any of them raises."""
        return await self.run(lambda: conclude(self._fitter([job()])[0]))

    async def run(self, work: Callable[[], _T]) -> _T:
        """Run anything on the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """End when what runs has ended; what has not begun is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _fit_apart(fitter: Fitter, jobs: Sequence[FitJob]) -> list[FitOutcome]:
    """Fit groups of one model and calendar; where a group fails, each of its jobs alone."""
    started = monotonic()
    fits: dict[int, Fit | Exception] = {}
    groups: dict[tuple[ModelName, ExpiryCalendar], list[int]] = {}
    for i, job in enumerate(jobs):
        groups.setdefault((job.model, job.calendar), []).append(i)
    for members in groups.values():
        fits |= _fit_group(fitter, jobs, members)
    ended = monotonic()
    return [
        FitOutcome(
            None if isinstance(fit, Exception) else fit,
            fit if isinstance(fit, Exception) else None,
            _hash_of(jobs[i], fit),
            started,
            ended,
        )
        for i, fit in sorted(fits.items())
    ]


def _hash_of(job: FitJob, fit: Fit | Exception) -> str:
    """What was fitted, as the fit says, or as a job that failed must be asked."""
    known = "" if isinstance(fit, Exception) else fit.surface.input_hash
    return known or fingerprint(job.chain)


def _fit_group(
    fitter: Fitter, jobs: Sequence[FitJob], members: list[int]
) -> dict[int, Fit | Exception]:
    try:
        return dict(zip(members, fitter([jobs[i] for i in members]), strict=True))
    except Exception as error:  # noqa: BLE001 - whatever it is, the others must go on
        if len(members) == 1:
            return {members[0]: error}
    apart: dict[int, Fit | Exception] = {}
    for i in members:
        apart |= _fit_group(fitter, jobs, [i])
    return apart
