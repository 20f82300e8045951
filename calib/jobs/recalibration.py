"""History calibrated anew: day by day and underlying by underlying, and stored.

A unit is the chains of an underlying on a UTC day. The first is fitted cold and every other one
after the last, so that a unit comes out the same whatever else is calibrated with it, before it, or
on which thread. Its epoch is a digest of what goes in (quotes, settings, build): done again it is
the same rows again, and with other quotes another epoch beside the first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from hashlib import sha256
from time import perf_counter

import numpy as np

from calib.fitting.settings import FitSettings
from calib.fitting.settings_document import settings_to_document
from calib.jobs.attempt import attempt
from calib.jobs.quote_source import QuoteSource, Unit
from calib.jobs.recording import surface_message
from calib.quotes.chain import Chain
from calib.quotes.fingerprint import fingerprint
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
    """How chains are fitted, and on how many ``threads``."""

    fit: FitSettings = field(default_factory=FitSettings)
    threads: int = 2


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


def _calibrated(
    source: QuoteSource, store: Store, unit: Unit, settings: RecalibrationSettings, build: Build
) -> UnitResult:
    started = perf_counter()
    table = source.quotes(unit)
    history = source.chains(unit, table)
    epoch = _epoch(unit, history, settings, build)
    rows = int(np.sum(table.quote_time >= unit.day))
    result = UnitResult(unit, epoch, len(history), rows)
    known = _stored(store, result)
    if known is not None:
        return known
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
    return replace(
        result,
        surfaces=key.revision,
        failures=tuple(failures),
        seconds=perf_counter() - started,
        entries=(*entries, Entry(records=done)),
    )


def _stored(store: Store, result: UnitResult) -> UnitResult | None:
    """What became of a unit when it was calibrated before; None where it was not."""
    unit = result.unit
    if not store.has_metric(unit.underlying, unit.day, result.epoch):
        return None
    surfaces, failures = 0, []
    for record in _metrics(store, unit):
        told = record.values
        if record.epoch != result.epoch or told.get("subject") != SUBJECT:
            continue
        if "failure" in told:
            failures.append(Failure(record.quote_time, str(told["failure"])))
        else:
            surfaces = record.revision
    return replace(result, surfaces=surfaces, failures=tuple(failures), known=True)


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
