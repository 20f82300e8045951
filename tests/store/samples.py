"""Entries, records and chains for tests of the store."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import numpy as np

from calib.quotes.chain import Chain, chain_at
from calib.quotes.table import joined
from calib.states import ModelName
from calib.store import Batch, Build, Entry, Fitted, Member, Record, RecordKind, SurfaceKey
from calib.surface.surface import Surface
from tests.service.samples import START, micros, smile_quotes


def at(minutes: float) -> np.datetime64:
    return START + micros(timedelta(minutes=minutes))


def published(surfaces: Iterable[Surface]) -> list[Entry]:
    """Surfaces as entries without anything else."""
    return [Entry(surface=one.to_proto()) for one in surfaces]


def record(
    revision: int = 1,
    underlying: str = "BTC",
    kind: RecordKind = RecordKind.METRIC,
    *,
    time: np.datetime64 = START,
    expiry: np.datetime64 | None = None,
    model: ModelName | None = ModelName.SVI,
    epoch: str = "e",
    **values: float | int | str | bool | None,
) -> Record:
    return Record(kind, underlying, time, expiry, model, epoch, revision, values or {"rms": 0.01})


def chain(underlying: str = "BTC", time: np.datetime64 = START, *, strikes: int = 15) -> Chain:
    """A chain of two venues with rows that cannot be used and sides that are absent."""
    first = smile_quotes(underlying, at=time, strikes=strikes)
    second = smile_quotes(underlying, at=time, strikes=strikes, venue="other", forward=70_100.0)
    reason = first.reason.copy()
    reason[3] = 9
    return chain_at(joined([first.with_reason(reason), second]), underlying, time)


def batch_of(chains: Iterable[tuple[Chain, str]], previous: SurfaceKey | None = None) -> Batch:
    members = tuple(Member(one.underlying, one.quote_time, name, previous) for one, name in chains)
    return Batch({"coupling": 4.0}, members, Build("code", "libraries", "processor"))


def fitted(one: Chain, input_hash: str) -> Fitted:
    return Fitted(batch_of([(one, input_hash)]), 0)
