"""What operators do, as records."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from calib.conventions import iso
from calib.modelrisk.breakers import Force
from calib.states import ModelName
from calib.store import Record, RecordKind, SurfaceKey
from calib.store.records import Scalar
from calib.surface.marks import Mark


class Place(NamedTuple):
    """What records belong to: a model (None: the service) and the surface in force, revision 0 for
    none."""

    model: ModelName | None
    epoch: str
    revision: int

    @property
    def key(self) -> SurfaceKey:
        """That of the surface."""
        return SurfaceKey(self.epoch, self.revision)


class Signature(NamedTuple):
    """Who acts, and why."""

    operator: str
    reason: str


def forced(
    underlying: str, expiry: np.datetime64 | None, force: Force, acted: np.datetime64, place: Place
) -> Record:
    """An operator has forced a breaker."""
    values: dict[str, Scalar] = {
        "action": "force",
        "level": force.level.name,
        "until": None if force.until is None else iso(force.until),
    }
    by = Signature(force.actor, force.reason)
    return _action(underlying, expiry, force.at, by, acted, place, values)


def released(
    underlying: str,
    expiry: np.datetime64 | None,
    at: np.datetime64,
    by: Signature,
    acted: np.datetime64,
    place: Place,
) -> Record:
    """An operator has released a breaker."""
    return _action(underlying, expiry, at, by, acted, place, {"action": "release"})


def marked(underlying: str, mark: Mark, acted: np.datetime64, place: Place) -> Record:
    """An operator has set a mark."""
    values: dict[str, Scalar] = {
        "action": "set mark",
        "handle": mark.handle.name,
        "pinned": mark.pinned,
        "value": mark.value,
        "until": iso(mark.until),
    }
    by = Signature(mark.author, mark.reason)
    return _action(underlying, mark.expiry, mark.at, by, acted, place, values)


def cleared(
    underlying: str,
    mark: Mark,
    at: np.datetime64,
    by: Signature,
    acted: np.datetime64,
    place: Place,
) -> Record:
    """An operator has cleared a mark."""
    values: dict[str, Scalar] = {"action": "clear mark", "handle": mark.handle.name}
    return _action(underlying, mark.expiry, at, by, acted, place, values)


def _action(
    underlying: str,
    expiry: np.datetime64 | None,
    at: np.datetime64,
    by: Signature,
    acted: np.datetime64,
    place: Place,
    values: dict[str, Scalar],
) -> Record:
    """``at`` is the market's time; ``acted`` the wall's, by which actions are in order."""
    told = values | {"operator": by.operator, "reason": by.reason, "acted": iso(acted)}
    return Record(RecordKind.ACTION, underlying, at, expiry, *place, told)
