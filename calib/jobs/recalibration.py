"""History calibrated anew: day by day and underlying by underlying, and stored.

A unit is a UTC day of an underlying. Its first chain is fitted cold and every other one after the
last, so that a unit comes out the same whatever else is calibrated with it, before it, or on which
thread. Its epoch is a digest of what goes in (quotes, settings, build): done again it is the same
rows again, and with other quotes another epoch beside the first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from time import perf_counter

import numpy as np

from calib.fitting.settings import FitSettings
from calib.fitting.settings_document import settings_to_document
from calib.jobs.attempt import attempt
from calib.jobs.quote_source import QuoteSource, Unit
from calib.jobs.recording import surface_message
from calib.quotes.chain import Chain, chains
from calib.quotes.fingerprint import fingerprint
from calib.store.build import Build, this_build
from calib.store.documents import canonical
from calib.store.entry import Entry
from calib.store.provenance import Batch, Fitted, Member, SurfaceKey
from calib.store.records import Record, RecordKind
from calib.store.store import Store
from calib.surface.surface import Surface

SUBJECT = "recalibration"
"""The subject of the metric that says that a unit is done, and what came of it."""


@dataclass(frozen=True)
class RecalibrationSettings:
    """How chains are made (see `calib.quotes.chain.chains`) and fitted; on how many ``threads``."""

    fit: FitSettings = field(default_factory=FitSettings)
    every: timedelta | None = None
    max_age: timedelta | None = None
    threads: int = 2


@dataclass(frozen=True)
class Failure:
    """A chain that gave no good surface, and why."""

    quote_time: np.datetime64
    reason: str


@dataclass(frozen=True)
class UnitResult:
    """What became of a unit. ``known``: it was stored before, and was not fitted again."""

    unit: Unit
    epoch: str
    chains: int
    rows: int
    surfaces: int = 0
    failures: tuple[Failure, ...] = ()
    known: bool = False
    seconds: float = 0.0
    entries: tuple[Entry, ...] = field(default=(), repr=False)


def recalibrate(
    source: QuoteSource,
    store: Store,
    units: Sequence[Unit],
    settings: RecalibrationSettings | None = None,
) -> Iterator[UnitResult]:
    """Calibrate units and store them, in their order; what is stored already is left alone.

    A unit is one transaction: after a kill it is there as a whole or not at all. In memory are a
    few days of an underlying at most, one more than ``threads``.
    """
    chosen = settings or RecalibrationSettings()
    build = this_build()
    with ThreadPoolExecutor(chosen.threads, thread_name_prefix="calib-recalibrate") as pool:
        waiting: deque[Future[UnitResult]] = deque()

        def stored() -> UnitResult:
            result = waiting.popleft().result()
            if not result.known:
                store.append(result.entries)
            return result

        try:
            for unit in units:
                waiting.append(pool.submit(_calibrated, source, store, unit, chosen, build))
                if len(waiting) > chosen.threads:
                    yield stored()
            while waiting:
                yield stored()
        finally:
            for one in waiting:
                one.cancel()


def chosen_units(
    units: Iterable[Unit],
    underlyings: Sequence[str] = (),
    first: np.datetime64 | None = None,
    last: np.datetime64 | None = None,
) -> list[Unit]:
    """The units of these underlyings (empty: of all) from the ``first`` day up to before ``last``,
    by day: a run that is interrupted has whole days behind it."""
    chosen = [
        unit
        for unit in units
        if (not underlyings or unit.underlying in underlyings)
        and (first is None or unit.day >= first)
        and (last is None or unit.day < last)
    ]
    return sorted(chosen, key=lambda unit: (unit.day, unit.underlying))


def _calibrated(
    source: QuoteSource, store: Store, unit: Unit, settings: RecalibrationSettings, build: Build
) -> UnitResult:
    started = perf_counter()
    table = source.quotes(unit)
    history = list(chains(table, every=settings.every, max_age=settings.max_age))
    epoch = _epoch(unit, history, settings, build)
    result = UnitResult(unit, epoch, len(history), len(table))
    if store.has_metric(unit.underlying, unit.day.astype("datetime64[us]"), epoch):
        return UnitResult(unit, epoch, len(history), len(table), known=True)
    entries, failures = [], []
    last: Surface | None = None
    key = SurfaceKey(epoch, 0)
    document = settings_to_document(settings.fit)
    for chain in history:
        fit, failure = attempt(chain, last, settings.fit)
        if failure or fit is None:
            failures.append(Failure(chain.quote_time, failure))
            entries.append(Entry(chain=chain))
            continue
        previous = key if key.revision else None
        member = Member(chain.underlying, chain.quote_time, fingerprint(chain), previous)
        if fit.surface is last:  # the same quotes again
            continue
        last, key = fit.surface, key._replace(revision=key.revision + 1)
        provenance = Fitted(Batch(document, (member,), build), 0)
        entries.append(Entry(surface_message(last, key), provenance, chain))
    done = _done(unit, settings, key, result, failures)
    return UnitResult(
        unit,
        epoch,
        len(history),
        len(table),
        key.revision,
        tuple(failures),
        seconds=perf_counter() - started,
        entries=(*entries, Entry(records=done)),
    )


def _done(
    unit: Unit,
    settings: RecalibrationSettings,
    key: SurfaceKey,
    result: UnitResult,
    failures: Sequence[Failure],
) -> tuple[Record, ...]:
    """That the unit is done, and each chain that gave nothing."""

    def record(at: np.datetime64, **values: str | int) -> Record:
        told = {"subject": SUBJECT, **values}
        model = settings.fit.model
        return Record(RecordKind.METRIC, unit.underlying, at, None, model, *key, told)

    return (
        *(record(one.quote_time, failure=one.reason) for one in failures),
        record(
            unit.day,
            chains=result.chains,
            rows=result.rows,
            surfaces=key.revision,
            failures=len(failures),
        ),
    )


def _epoch(
    unit: Unit, history: Iterable[Chain], settings: RecalibrationSettings, build: Build
) -> str:
    digest = sha256(canonical(settings_to_document(settings.fit)).encode())
    digest.update(f"{build!r}\0{unit}\0".encode())
    for chain in history:
        digest.update(f"{chain.quote_time}\0{fingerprint(chain)}\0".encode())
    return f"recalibration-{digest.hexdigest()[:24]}"
