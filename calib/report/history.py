"""What a report is made of: the recorded course of one underlying under one model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from calib.fitting.settings_document import settings_from_document
from calib.jobs.backtest import Backtest
from calib.jobs.frames import frames_of
from calib.jobs.model_comparison import compared
from calib.market.slicing import slices_of
from calib.report.smiles import QuotedSurface
from calib.states import ModelName
from calib.store.assessments import Subject, comparison_records, of_subject
from calib.store.frames import record_frame
from calib.store.provenance import Fitted, SurfaceKey

if TYPE_CHECKING:
    from calib.fitting.settings import FitSettings
    from calib.quotes.chain import Chain
    from calib.store.published import StoredSurface
    from calib.store.store import Store
    from calib.surface.surface import Surface


@dataclass(frozen=True)
class LastFit:
    """The last surface of a history; ``chain`` and ``settings`` where its quotes were kept."""

    surface: Surface
    chain: Chain | None = None
    settings: FitSettings | None = None

    @cached_property
    def quoted(self) -> QuotedSurface | None:
        """The surface beside its quotes."""
        if self.chain is None or self.settings is None:
            return None
        clock = self.settings.clocks.get(self.chain.underlying)
        return QuotedSurface(self.surface, slices_of(self.chain, self.settings.calendar, clock))


@dataclass(frozen=True)
class History:
    """Records of one underlying and model, in order of time, as `calib.store.Store` gives them.

    ``last`` None where no surface is among them.
    """

    underlying: str
    model: ModelName
    metrics: pd.DataFrame
    alarms: pd.DataFrame
    transitions: pd.DataFrame
    last: LastFit | None

    @cached_property
    def surfaces(self) -> pd.DataFrame:
        """Metrics of the underlying as a whole."""
        return of_subject(self.metrics, Subject.SURFACE)

    @cached_property
    def expiries(self) -> pd.DataFrame:
        """Metrics by expiry."""
        return of_subject(self.metrics, Subject.EXPIRY)

    @cached_property
    def charts(self) -> pd.DataFrame:
        """Where the control charts stood."""
        return of_subject(self.metrics, Subject.CHART)

    @cached_property
    def findings(self) -> pd.DataFrame:
        """Causes with their evidence."""
        return of_subject(self.metrics, Subject.FINDING)

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """The last comparison of models, a row an expiry."""
        return _latest(of_subject(self.metrics, Subject.COMPARISON))

    @cached_property
    def prudence(self) -> pd.DataFrame:
        """The last prudent-valuation lines."""
        return _latest(of_subject(self.metrics, Subject.PRUDENCE))


def backtest_histories(backtest: Backtest, settings: FitSettings) -> list[History]:
    """A history for each underlying of a backtest."""
    frames, found = frames_of(backtest), []
    for name in backtest.underlyings:
        good = [s for s in backtest.steps if s.chain.underlying == name and s.provenance]
        last = None
        if good and good[-1].surface is not None:
            last = LastFit(good[-1].surface, good[-1].chain, settings)
        parts = (frames.metrics, frames.alarms, frames.transitions)
        metrics, alarms, transitions = (
            part[part["underlying"] == name].reset_index(drop=True) for part in parts
        )
        found.append(History(name, backtest.model, metrics, alarms, transitions, last))
    return found


def stored_histories(
    store: Store,
    underlyings: Sequence[str] | None = None,
    start: Any = None,
    end: Any = None,
) -> Iterator[History]:
    """Histories of what is stored, by underlying and model, bounded as `Store.surfaces` is."""
    names: Sequence[str | None] = underlyings or [None]
    for name in names:
        frames = [
            read(name, start, end) for read in (store.metrics, store.alarms, store.transitions)
        ]
        last = _last_stored(store, name, start, end)
        told = {
            (one, ModelName[model])
            for frame in frames
            for one, model in zip(frame["underlying"], frame["model"], strict=True)
            if model
        }
        for underlying, model in sorted({*told, *last}):
            metrics, alarms, transitions = (_of(frame, underlying, model) for frame in frames)
            stored = last.get((underlying, model))
            fit = None if stored is None else _last_fit(store, stored)
            yield History(underlying, model, metrics, alarms, transitions, fit)


def with_comparison(history: History) -> History:
    """The other models fitted to the last quotes as well; the same history where none are kept."""
    last = history.last
    if last is None or last.chain is None or last.settings is None:
        return history
    made = compared(last.chain, last.surface, last.settings)
    records = comparison_records(
        history.underlying,
        last.surface.quote_time,
        history.model,
        SurfaceKey(last.surface.epoch, last.surface.revision),
        made.expiries,
        made.lines,
    )
    both = pd.concat([history.metrics, record_frame(records)], ignore_index=True)
    return replace(history, metrics=both)


def _of(frame: pd.DataFrame, underlying: str, model: ModelName) -> pd.DataFrame:
    """Rows of an underlying and model; what names no model counts for each."""
    mine = (frame["underlying"] == underlying) & frame["model"].isin((model.name, ""))
    return frame[mine].reset_index(drop=True)


def _last_stored(
    store: Store, underlying: str | None, start: Any, end: Any
) -> dict[tuple[str, ModelName], StoredSurface]:
    return {
        (one.underlying, one.model): one
        for one in store.published(underlying, start, end)
        if isinstance(one.provenance, Fitted | None)
    }


def _last_fit(store: Store, stored: StoredSurface) -> LastFit:
    surface = stored.surface()
    if not isinstance(stored.provenance, Fitted):
        return LastFit(surface)
    batch = stored.provenance.batch
    chain = store.chain(batch.members[stored.provenance.place])
    return LastFit(surface, chain, settings_from_document(batch.settings))


def _latest(frame: pd.DataFrame) -> pd.DataFrame:
    newest = frame["quote_time"] == frame["quote_time"].max()
    found: pd.DataFrame = frame.loc[newest].reset_index(drop=True)
    return found
