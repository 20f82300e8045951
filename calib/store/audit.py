"""The audit: published surfaces built again from what is stored, and compared bit for bit.

On the build and processor that made a surface every bit has to be the same. Elsewhere the last
bits of a fit differ, and the vols, forwards and discount factors of a surface are held to a
tolerance instead, and said to be; what it claims and how its fits ended are the same everywhere. A
surface whose forwards were moved between fits is compared with its fit, moved by the factors on
record: the ticks that they came from are not stored. One that carries marks is compared with its
fit under these marks, and one that holds smiles with its fit holding the same ones, as they were
published.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from math import inf, nan
from typing import Any

import numpy as np

from calib.conventions import NO_INSTANT, Floats, micros_of
from calib.errors import CalibError, InvalidSurface
from calib.modelrisk.holds import GoodSmile, apply_holds, good_smiles
from calib.modelrisk.marks import apply_marks
from calib.quotes.chain import Chain
from calib.states import ModelName
from calib.store.build import Build, this_build
from calib.store.provenance import Batch, Fitted, Member, Moved, SurfaceKey
from calib.store.published import StoredSurface
from calib.store.store import Store
from calib.surface.hold import Hold
from calib.surface.surface import ExpirySlice, Surface
from calib.surface.transport import with_levels

VOL_TOLERANCE = 1e-6
ERROR_TOLERANCE = 0.1
"""Largest difference of vol over the quoted range of any expiry: as a decimal, or, where that is
more, as a share of the vol's standard error, the smaller of the two surfaces'; the standard errors
themselves may differ by the sum of both. With the instructions of another processor (AVX2 in
place of AVX-512) 230 of 238 surfaces of BTC and ETH in March 2026 came within 5.3e-7; the others,
most of which had run out of steps in a direction that quotes hardly decide, within a twentieth
of a standard error."""
FORWARD_TOLERANCE = 1e-9
"""Largest relative difference of forwards, discount factors and the strikes of the quoted range."""

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
        what = f"differs in {', '.join(differing)}"
        vols, excess = _distance(surface, rebuilt.surface)
        if not rebuilt.excuse:
            return Verdict.DIFFERENT, vols, what
        # A nan is not within any tolerance.
        close = excess <= 1.0 and _structure(surface) == _structure(rebuilt.surface)
        verdict = Verdict.CLOSE if close else Verdict.DIFFERENT
        return verdict, vols, f"{what}; {rebuilt.excuse}"

    def _rebuilt(self, stored: StoredSurface, surface: Surface) -> _Rebuilt:
        match stored.provenance:
            case None:
                raise _Missing("where it comes from was not recorded")
            case Moved(source, factors, spot, scale):
                fit = self._surface(source, stored.underlying, stored.model)
                return _Rebuilt(with_levels(fit, factors, spot, scale), "")
            case Fitted(batch, place):
                rebuilt = self._fitted(batch, place)
                held: dict[int, GoodSmile | None] = {}
                for one in surface.expiries:
                    if one.hold is not None:
                        held[micros_of(one.expiry)], excuse = self._good(
                            surface, one.expiry, one.hold
                        )
                        rebuilt = replace(rebuilt, excuse=rebuilt.excuse or excuse)
                again = apply_holds(rebuilt.surface, held)
                if surface.marks:
                    # All of them were in force when the last of them was set.
                    set_at = max(mark.at for mark in surface.marks)
                    again = apply_marks(again, surface.marks, set_at).surface
                return replace(rebuilt, surface=again)

    def _good(
        self, surface: Surface, expiry: np.datetime64, hold: Hold
    ) -> tuple[GoodSmile | None, str]:
        """The smile that is held, None where nothing of one stands, and an excuse; as the surface
        has it that it was taken from."""
        if not hold.share:
            return None, ""
        key, excuse = SurfaceKey(hold.epoch, hold.revision), ""
        source = self._surface(key, surface.underlying, surface.model)
        if any(mark.expiry == expiry for mark in source.marks):
            source, excuse = self._unmarked(source, key)
        found = good_smiles(source, key).get(micros_of(expiry))
        if found is None:
            raise _Missing(f"surface {hold.revision} does not have the smile that is held")
        return found, excuse

    def _unmarked(self, surface: Surface, key: SurfaceKey) -> tuple[Surface, str]:
        """A surface that was published under marks, built again without them."""
        # A move keeps the quote time, so that it and what it moves lie at one.
        at = surface.quote_time
        for stored in self._store.published(
            surface.underlying, at, at + np.timedelta64(1, "us"), revision=key.revision
        ):
            if stored.key == key and stored.model is surface.model:
                rebuilt = self._rebuilt(stored, replace(surface, marks=()))
                return rebuilt.surface, rebuilt.excuse
        raise _Missing(f"surface {key.revision} is not stored")

    def _fitted(self, batch: Batch, place: int) -> _Rebuilt:
        differences = batch.build.differences(self._build)
        excuse = f"made by another {' and '.join(differences)}" if differences else ""
        whole = self._whole(batch)
        if whole is not None:
            return _Rebuilt(whole[place], excuse)
        alone = self._fit(batch, [batch.members[place]])
        return _Rebuilt(
            alone[0], excuse or "what it was fitted with is not all stored, or not all of it whole"
        )

    def _whole(self, batch: Batch) -> tuple[Surface, ...] | None:
        """The surfaces of a batch, None where not all that it needs is stored and whole."""
        if batch.digest not in self._batches:
            try:
                made = self._fit(batch, batch.members)
            except (_Missing, CalibError):  # of one member, which must not condemn the others
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


def _structure(surface: Surface) -> tuple[Any, ...]:
    """What a last bit moves nowhere: inputs, states, what is proved, which numbers there are."""
    return (
        (surface.underlying, surface.quote_time, surface.model, surface.calendar, surface.spot),
        (surface.variance_clock, surface.marks, surface.blend),
        (surface.certificate.arbitrage_free, surface.certificate.scope),
        [
            (
                (one.expiry, one.years, one.variance_time, one.forward_source),
                (one.diagnostics.state, len(one.covariance), len(one.anchor)),
                None if one.hold is None else (one.hold.epoch, one.hold.revision),
            )
            for one in surface.expiries
        ],
    )


def _distance(surface: Surface, other: Surface) -> tuple[float, float]:
    """The largest difference of vols, as a decimal, and that of any number, in its tolerances.

    Nan where a surface has no vol, or where one of them alone has an error bar.
    """
    mine, theirs = surface.expiries, other.expiries
    if [one.expiry for one in mine] != [one.expiry for one in theirs]:
        return inf, inf
    vols, excess = [0.0], [0.0]
    for one, two in zip(mine, theirs, strict=True):
        k = np.linspace(two.log_moneyness_min, two.log_moneyness_max, _NODES)
        with np.errstate(all="ignore"):  # numbers that were damaged may give anything
            vol = np.abs(_vols(surface, k, one) - _vols(other, k, two))
            first, second = _errors(surface, k, one), _errors(other, k, two)
            # The smaller one, so that no stored error widens what its surface is held to.
            known = np.fmax(0.0, ERROR_TOLERANCE * np.minimum(first, second))
            error = np.abs(first - second)
            error[np.isnan(first) & np.isnan(second)] = 0.0
        vols += list(vol)
        excess += list(vol / np.fmax(VOL_TOLERANCE, known)) + list(error / (VOL_TOLERANCE + known))
        excess += list(np.abs(_levels(one) - _levels(two)) / FORWARD_TOLERANCE)
    # Unlike Python's max, this keeps a nan.
    return float(np.max(vols)), float(np.max(excess))


def _levels(one: ExpirySlice) -> Floats:
    """What a relative error adds to: logarithms, and the quoted range, which is one of strikes."""
    levels = np.log([one.forward, one.discount_factor])
    return np.array([*levels, one.log_moneyness_min, one.log_moneyness_max])


def _vols(surface: Surface, k: Floats, one: ExpirySlice) -> Floats:
    return np.asarray(np.sqrt(surface.total_variance(k, one.expiry) / one.years))


def _errors(surface: Surface, k: Floats, one: ExpirySlice) -> Floats:
    return np.asarray(surface.vol_error(one.forward * np.exp(k), one.expiry))
