"""Where a published surface comes from: all that is needed to build it again, to the last bit.

A surface is either fitted, as one of the chains that shared a call of the fitter, or a fitted one
whose forwards were moved. Sharing a call matters: the margins of a certificate depend in their
last bits on how many slices are certified with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from calib.conventions import to_instant
from calib.store.build import Build
from calib.store.documents import canonical


class SurfaceKey(NamedTuple):
    """The name of a published surface: no other ever has the same two."""

    epoch: str
    revision: int


@dataclass(frozen=True)
class Member:
    """A chain of a batch, found among the stored quotes by these three, and its last surface.

    ``previous`` is the surface that the fit started from and remembered, None for none.
    """

    underlying: str
    quote_time: np.datetime64
    input_hash: str
    previous: SurfaceKey | None = None


@dataclass(frozen=True)
class Batch:
    """Chains that were fitted in one call, in its order.

    ``settings``: how, as `calib.fitting.settings_document` writes it.
    """

    settings: Mapping[str, Any]
    members: tuple[Member, ...]
    build: Build

    @cached_property
    def digest(self) -> str:
        """A hash of all of it, by which it is stored once."""
        return sha256(canonical(self.to_document()).encode()).hexdigest()

    @property
    def quote_time(self) -> np.datetime64:
        """That of its latest chain."""
        return max(member.quote_time for member in self.members)

    def to_document(self) -> dict[str, Any]:
        """Plain values; `from_document` is its exact inverse."""
        return {
            "settings": dict(self.settings),
            "members": [
                [one.underlying, str(one.quote_time), one.input_hash, _listed(one.previous)]
                for one in self.members
            ],
            "build": asdict(self.build),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Batch:
        """The batch in plain values."""
        return cls(
            settings=document["settings"],
            members=tuple(
                Member(name, to_instant(time), input_hash, _key(previous))
                for name, time, input_hash, previous in document["members"]
            ),
            build=Build(**document["build"]),
        )


@dataclass(frozen=True)
class Fitted:
    """The surface of member number ``place`` of a batch."""

    batch: Batch
    place: int


@dataclass(frozen=True)
class Moved:
    """The surface ``source`` with its forwards and variances multiplied and another spot.

    See `calib.surface.transport.with_levels`.
    """

    source: SurfaceKey
    factors: tuple[float, ...]
    spot: float | None
    variance_scale: float = 1.0

    def to_document(self) -> dict[str, Any]:
        """Plain values; `from_document` is its exact inverse."""
        return {
            "source": list(self.source),
            "factors": [float(factor) for factor in self.factors],
            "spot": None if self.spot is None else float(self.spot),
            "variance_scale": float(self.variance_scale),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Moved:
        """The move in plain values."""
        source = SurfaceKey(*document["source"])
        factors, scale = tuple(map(float, document["factors"])), document["variance_scale"]
        return cls(source, factors, document["spot"], scale)


Provenance: TypeAlias = Fitted | Moved


def _listed(key: SurfaceKey | None) -> list[Any] | None:
    return None if key is None else list(key)


def _key(listed: list[Any] | None) -> SurfaceKey | None:
    return None if listed is None else SurfaceKey(*listed)
