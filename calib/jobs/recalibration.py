"""History calibrated anew: day by day and underlying by underlying, and stored.

A unit is the chains of an underlying on a UTC day. The first is fitted cold and every other one
after the last, so that a unit comes out the same whatever else is calibrated with it, before it, or
by which process. Its epoch is a digest of what goes in (quotes, settings, build): done again it is
the same rows again, and with other quotes another epoch beside the first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from hashlib import sha256
from time import perf_counter
from typing import NamedTuple

import numpy as np

from calib.fitting.settings import FitSettings
from calib.fitting.settings_document import settings_to_document
from calib.jobs.attempt import attempt
from calib.jobs.quote_source import QuoteSource, Unit
from calib.jobs.recording import surface_message
from calib.jobs.workers import working
from calib.quotes.chain import Chain
from calib.quotes.fingerprint import fingerprint
from calib.states import ModelName
from calib.store.build import Build, this_build
from calib.store.documents import canonical
from calib.store.entry import Entry
from calib.store.provenance import Batch, Fitted, Member, SurfaceKey
from calib.store.queries import Cursor
from calib.store.records import Record, RecordKind
from calib.store.store import Store
from calib.surface.surface import Surface

SUBJECT = "recalibration"
"""The subject of the metric that says that a unit is done, and what came of it."""
_RECORDS_PER_READ = 500


@dataclass(frozen=True)
class RecalibrationSettings:
    """How chains are fitted, and by how many processes (``workers``); 1: by this one."""

    fit: FitSettings = field(default_factory=FitSettings)
    workers: int = 1


@dataclass(frozen=True)
class Failure:
    """A chain that gave no good surface, and why."""

    quote_time: np.datetime64
    reason: str


@dataclass(frozen=True)
class UnitResult:
    """What became of a unit, whose day has so many ``rows``. ``known``: it was stored before, and
    was not fitted again; surfaces and failures are those that are stored then."""

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
    few days of an underlying at most, one more than there are ``workers``.
    """
    chosen = settings or RecalibrationSettings()
    build = this_build()
    with working(chosen.workers) as pool:
        waiting: deque[tuple[dict[str, _Stored], Future[UnitResult]]] = deque()

        def stored() -> UnitResult:
            known, future = waiting.popleft()
            result = future.result()
            if result.known:
                surfaces, failures = known[result.epoch]
                return replace(result, surfaces=surfaces, failures=failures)
            store.append(result.entries)
            return replace(result, entries=())  # which hold all of its quotes

        try:
            for unit in units:
                known = _stored(store, unit)
                epochs = frozenset(known)
                future = pool.submit(_calibrated, source.of(unit), unit, chosen.fit, build, epochs)
                waiting.append((known, future))
                while waiting and (len(waiting) > chosen.workers or waiting[0][1].done()):
                    yield stored()
            while waiting:
                yield stored()
        finally:
            for _, one in waiting:
                one.cancel()


def _calibrated(
    source: QuoteSource, unit: Unit, settings: FitSettings, build: Build, known: Collection[str]
) -> UnitResult:
    """A unit with what there is to store of it; nothing where its epoch is ``known``."""
    started = perf_counter()
    table = source.quotes(unit)
    history = source.chains(unit, table)
    epoch = _epoch(unit, history, settings, build)
    rows = int(np.sum(table.quote_time >= unit.day))
    result = UnitResult(unit, epoch, len(history), rows, known=epoch in known)
    if result.known:
        return result
    entries, failures = [], []
    last: Surface | None = None
    key = SurfaceKey(epoch, 0)
    document = settings_to_document(settings)
    for chain in history:
        fit, failure = attempt(chain, last, settings)
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
    done = _done(unit, settings.model, key, result, failures)
    return replace(
        result,
        surfaces=key.revision,
        failures=tuple(failures),
        seconds=perf_counter() - started,
        entries=(*entries, Entry(records=done)),
    )


class _Stored(NamedTuple):
    surfaces: int
    failures: tuple[Failure, ...]


def _stored(store: Store, unit: Unit) -> dict[str, _Stored]:
    """What became of a unit where it was calibrated before, by epoch."""
    done: dict[str, int] = {}
    failures: dict[str, list[Failure]] = {}
    for record in _metrics(store, unit):
        told = record.values
        if told.get("subject") != SUBJECT:
            continue
        if "failure" in told:
            failed = failures.setdefault(record.epoch, [])
            failed.append(Failure(record.quote_time, str(told["failure"])))
        else:
            done[record.epoch] = record.revision
    return {epoch: _Stored(n, tuple(failures.get(epoch, ()))) for epoch, n in done.items()}


def _metrics(store: Store, unit: Unit) -> Iterator[Record]:
    after: Cursor | None = None
    while True:
        page, after = store.records(
            *(RecordKind.METRIC, unit.underlying, unit.day, unit.day + 1),
            after=after,
            limit=_RECORDS_PER_READ,
        )
        yield from page
        if after is None:
            return


def _done(
    unit: Unit,
    model: ModelName,
    key: SurfaceKey,
    result: UnitResult,
    failures: Sequence[Failure],
) -> tuple[Record, ...]:
    """That the unit is done, and each chain that gave nothing."""

    def record(at: np.datetime64, **values: str | int) -> Record:
        told = {"subject": SUBJECT, **values}
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


def _epoch(unit: Unit, history: Iterable[Chain], settings: FitSettings, build: Build) -> str:
    digest = sha256(canonical(settings_to_document(settings)).encode())
    digest.update(f"{build!r}\0{unit}\0".encode())
    for chain in history:
        digest.update(f"{chain.quote_time}\0{fingerprint(chain)}\0".encode())
    return f"recalibration-{digest.hexdigest()[:24]}"
