"""The board: the last assessment of every underlying, and who is told of the next.

Like the hub it holds one mailbox a reader, the latest of each underlying and never a queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property

from calib.modelrisk.forecasts import Forecast
from calib.modelrisk.monitor import Assessment
from calib.service.journal import Place
from calib.service.model_risk_messages import assessment_to_proto
from calib.service.refusals import Overloaded
from calib.store import Record
from calib.store.assessments import Subject, metric_records
from calib.v1 import model_risk_service_pb2

_OF_SURFACES = {Subject.SURFACE.value, Subject.EXPIRY.value}


@dataclass(frozen=True)
class Notice:
    """An assessment and what it belongs to; metrics and message are built when somebody wants them.

    ``scored``: the forecasts of the surface before, where they were scored. ``fitted``: the notice
    of the last fit, where this one is of a look at the clock, or of a chain that gave none.
    """

    assessment: Assessment
    place: Place
    scored: tuple[Forecast, ...] = ()
    fitted: Notice | None = None

    @cached_property
    def metrics(self) -> tuple[Record, ...]:
        """The metrics of this step."""
        return metric_records(self.assessment, self.place.model, self.place.key, self.scored)

    @cached_property
    def message(self) -> model_risk_service_pb2.Assessment:
        """With the metrics of the last fit; shared by all readers, never to be changed."""
        last = self.fitted or self
        told = () if last.assessment.metrics is None else last.metrics
        told = tuple(one for one in told if one.values["subject"] in _OF_SURFACES)
        return assessment_to_proto(self.assessment, told)


class Board:
    """Keeps the last notices and hands new ones to readers; all on the event loop."""

    def __init__(self, *, max_readers: int = 2_000) -> None:
        self._max_readers = max_readers
        self._last: dict[str, Notice] = {}
        self._readers: set[Reader] = set()

    @property
    def readers(self) -> int:
        """How many are being told."""
        return len(self._readers)

    def get(self, underlying: str) -> Notice | None:
        """The last one of an underlying."""
        return self._last.get(underlying)

    def put(self, notice: Notice) -> None:
        """Tell everybody."""
        self._last[notice.assessment.underlying] = notice
        for reader in self._readers:
            reader.offer(notice)

    @contextmanager
    def reading(self, underlyings: frozenset[str]) -> Iterator[Reader]:
        """Be told of some underlyings, or (empty) of all; raises Overloaded when too many are."""
        if len(self._readers) >= self._max_readers:
            raise Overloaded(f"{len(self._readers)} watches are open already", 1.0)
        reader = Reader(underlyings)
        reader.snapshot = [one for one in self._last.values() if reader.wants(one)]
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)


class Reader:
    """What one reader has not been told yet."""

    def __init__(self, underlyings: frozenset[str]) -> None:
        self.snapshot: list[Notice] = []
        self._underlyings = underlyings
        self._mailbox: dict[str, tuple[Notice, int]] = {}
        self._changed = asyncio.Event()

    def wants(self, notice: Notice) -> bool:
        """Whether it is of one of the underlyings asked for."""
        return not self._underlyings or notice.assessment.underlying in self._underlyings

    def offer(self, notice: Notice) -> None:
        """Put a notice into the mailbox, over an older one of its underlying."""
        if not self.wants(notice):
            return
        name = notice.assessment.underlying
        waiting = self._mailbox.pop(name, None)
        self._mailbox[name] = (notice, 0 if waiting is None else waiting[1] + 1)
        self._changed.set()

    async def take(self, patience_seconds: float) -> list[tuple[Notice, int]]:
        """All that came, each with the number skipped before it; empty when nothing does."""
        if not self._changed.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(patience_seconds):
                    await self._changed.wait()
        self._changed.clear()
        taken = list(self._mailbox.values())
        self._mailbox.clear()
        return taken
