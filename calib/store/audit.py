"""The audit: published surfaces built again from what is stored, and compared bit for bit.

On the build and processor that made a surface every bit has to be the same. Elsewhere the last
bits of a fit differ, and a surface is held to `VOL_TOLERANCE` and `FORWARD_TOLERANCE` instead, and
said to be. A surface whose forwards were moved between fits is compared with its fit, moved by the
factors on record: the ticks that they came from are not stored. One that carries marks is compared
with its fit under these marks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from math import inf, nan
from typing import Any

import numpy as np

from calib.conventions import NO_INSTANT
from calib.errors import CalibError, InvalidSurface
from calib.modelrisk.marks import apply_marks
from calib.quotes.chain import Chain
from calib.states import ModelName
from calib.store.build import Build, this_build
from calib.store.provenance import Batch, Fitted, Member, Moved, SurfaceKey
from calib.store.store import Store, StoredSurface
from calib.surface.surface import Surface
from calib.surface.transport import with_levels

VOL_TOLERANCE = 1e-6
"""Largest difference of vol, a decimal, over the quoted range of any expiry."""
FORWARD_TOLERANCE = 1e-9
"""Largest relative difference of forwards and discount factors."""

_NODES = 9  # at which vols are compared, across the quoted range
_BATCHES = 32  # rebuilt batches that are remembered: their surfaces come close to each other


class Verdict(StrEnum):
    """What became of a surface in an audit."""

    IDENTICAL = "identical"
    CLOSE = "within tolerance"
    DIFFERENT = "different"
    NOT_AUDITED = "not audited"


@dataclass(frozen=True)
class Finding:
    """What the audit says of one surface.

    ``vol_difference``: the largest over the quoted ranges, nan where nothing was compared.
    ``detail``: what differs, why only a tolerance applied, or what is missing.
    """

    underlying: str
    model: ModelName
    quote_time: np.datetime64
    key: SurfaceKey
    verdict: Verdict
    vol_difference: float = nan
    detail: str = ""


def audit(
    store: Store,
    underlying: str | None = None,
    start: Any = None,
    end: Any = None,
    *,
    model: ModelName | None = None,
    revision: int | None = None,
    build: Build | None = None,
) -> Iterator[Finding]:
    """A finding for every stored surface of an underlying, from ``start`` until before ``end``.

    ``build``: what rebuilds them, this process where it is not given. Raises Unavailable where
    the store cannot be read.
    """
    rebuilding = _Rebuilding(store, build or this_build())
    for stored in store.published(underlying, start, end, model=model, revision=revision):
        verdict, difference, detail = rebuilding.judge(stored)
        yield Finding(
            stored.underlying,
            stored.model,
            stored.quote_time,
            stored.key,
            verdict,
            difference,
            detail,
        )


class _Missing(Exception):
    """What an audit cannot do without is not stored."""


@dataclass(frozen=True)
class _Rebuilt:
    """A surface built again; ``excuse`` says why its bits need not be those of the first one."""

    surface: Surface
    excuse: str


class _Rebuilding:
    """Builds surfaces again, those of one batch together."""

    def __init__(self, store: Store, build: Build) -> None:
        self._store = store
        self._build = build
        self._batches: OrderedDict[str, tuple[Surface, ...] | None] = OrderedDict()

    def judge(self, stored: StoredSurface) -> tuple[Verdict, float, str]:
        try:
            surface = stored.surface()
        except InvalidSurface as error:
            return Verdict.DIFFERENT, nan, str(error)
        try:
            rebuilt = self._rebuilt(stored, surface)
        except _Missing as missing:
            return Verdict.NOT_AUDITED, nan, str(missing)
        except CalibError as error:
            return Verdict.DIFFERENT, nan, f"cannot be built again: {error}"
        differing = _differing(surface, rebuilt.surface)
        if not differing:
            return Verdict.IDENTICAL, 0.0, ""
        vols, forwards = _distance(surface, rebuilt.surface)
        what = f"differs in {', '.join(differing)}"
        if not rebuilt.excuse:
            return Verdict.DIFFERENT, vols, what
        close = vols <= VOL_TOLERANCE and forwards <= FORWARD_TOLERANCE
        verdict = Verdict.CLOSE if close else Verdict.DIFFERENT
        return verdict, vols, f"{what}; {rebuilt.excuse}"

    def _rebuilt(self, stored: StoredSurface, surface: Surface) -> _Rebuilt:
        match stored.provenance:
            case None:
                raise _Missing("where it comes from was not recorded")
            case Moved(source, factors, spot):
                fit = self._surface(source, stored.underlying, stored.model)
                return _Rebuilt(with_levels(fit, factors, spot), "")
            case Fitted(batch, place):
                rebuilt = self._fitted(batch, place)
                if not surface.marks:
                    return rebuilt
                # All of them were in force when the last of them was set.
                set_at = max(mark.at for mark in surface.marks)
                again = apply_marks(rebuilt.surface, surface.marks, set_at)
                return replace(rebuilt, surface=again.surface)

    def _fitted(self, batch: Batch, place: int) -> _Rebuilt:
        differences = batch.build.differences(self._build)
        excuse = f"made by another {' and '.join(differences)}" if differences else ""
        whole = self._whole(batch)
        if whole is not None:
            return _Rebuilt(whole[place], excuse)
        alone = self._fit(batch, [batch.members[place]])
        return _Rebuilt(alone[0], excuse or "the chains that it was fitted with are not all stored")

    def _whole(self, batch: Batch) -> tuple[Surface, ...] | None:
        """The surfaces of a batch, None where not all that it needs is stored."""
        if batch.digest not in self._batches:
            try:
                made = self._fit(batch, batch.members)
            except _Missing:
                made = None
            self._batches[batch.digest] = made
            if len(self._batches) > _BATCHES:
                self._batches.popitem(last=False)
        return self._batches[batch.digest]

    def _fit(self, batch: Batch, members: Sequence[Member]) -> tuple[Surface, ...]:
        from calib.fitting.fit import fit_chains
        from calib.fitting.settings_document import settings_from_document

        settings = settings_from_document(batch.settings)
        chains = [self._chain(member) for member in members]
        previous = [
            None
            if member.previous is None
            else self._surface(member.previous, member.underlying, settings.model)
            for member in members
        ]
        return tuple(fit.surface for fit in fit_chains(chains, previous, settings))

    def _chain(self, member: Member) -> Chain:
        chain = self._store.chain(member)
        if chain is None:
            raise _Missing("the quotes that it was fitted to are not stored")
        return chain

    def _surface(self, key: SurfaceKey, underlying: str, model: ModelName) -> Surface:
        surface = self._store.surface(key, underlying, model)
        if surface is None:
            raise _Missing(f"the surface that it started from, {key.revision}, is not stored")
        return surface


def _anonymous(surface: Surface) -> Surface:
    """A surface without what publishing adds to a fit."""
    return replace(
        surface, epoch="", revision=0, calibration_time=NO_INSTANT, code_version="", input_hash=""
    )


def _differing(surface: Surface, other: Surface) -> list[str]:
    """The names of what differs in any bit."""
    first, second = _anonymous(surface), _anonymous(other)
    if _bits(first) == _bits(second):
        return []
    names = [
        field.name
        for field in fields(Surface)
        if field.name != "expiries" and _told(first, field.name) != _told(second, field.name)
    ]
    if len(first.expiries) != len(second.expiries):
        return [*names, f"the number of expiries ({len(first.expiries)}, {len(second.expiries)})"]
    for one, two in zip(first.expiries, second.expiries, strict=True):
        names += [f.name for f in fields(one) if _told(one, f.name) != _told(two, f.name)]
    return list(dict.fromkeys(names))


def _told(value: object, name: str) -> str:
    """A field as text, which tells every double apart, and finds one nan as good as another."""
    return repr(getattr(value, name))


def _bits(surface: Surface) -> bytes:
    return surface.to_proto().SerializeToString(deterministic=True)


def _distance(surface: Surface, other: Surface) -> tuple[float, float]:
    """The largest difference of vols, and the largest relative one of forwards and discounts."""
    mine, theirs = surface.expiries, other.expiries
    if [one.expiry for one in mine] != [one.expiry for one in theirs]:
        return inf, inf
    vols = forwards = 0.0
    for one, two in zip(mine, theirs, strict=True):
        k = np.linspace(one.log_moneyness_min, one.log_moneyness_max, _NODES)
        first = np.sqrt(surface.total_variance(k, one.expiry) / one.years)
        second = np.sqrt(other.total_variance(k, two.expiry) / two.years)
        vols = max(vols, float(np.max(np.abs(first - second))))
        for a, b in ((one.forward, two.forward), (one.discount_factor, two.discount_factor)):
            forwards = max(forwards, abs(a / b - 1.0))
    return vols, forwards
