"""Entries for tests of the store."""

from __future__ import annotations

from collections.abc import Iterable

from calib.store import Entry
from calib.surface.surface import Surface


def published(surfaces: Iterable[Surface]) -> list[Entry]:
    """Surfaces as entries without anything else."""
    return [Entry(surface=one.to_proto()) for one in surfaces]
