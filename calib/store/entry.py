"""What is handed to the store together."""

from __future__ import annotations

from dataclasses import dataclass

from calib.quotes.chain import Chain
from calib.store.provenance import Provenance
from calib.store.records import Record
from calib.v1 import surface_pb2

_BYTES_A_ROW = 120
_BYTES_A_RECORD = 1_000


@dataclass(frozen=True)
class Entry:
    """A published surface with where it comes from, the quotes behind it, and records; any of it.

    Quotes come without a surface where they gave none: they are what a person then looks for, and
    they shared the call of the fitter with those of others.
    """

    surface: surface_pb2.Surface | None = None
    provenance: Provenance | None = None
    chain: Chain | None = None
    records: tuple[Record, ...] = ()

    @property
    def size(self) -> int:
        """About how many bytes of memory it holds."""
        message = 0 if self.surface is None else self.surface.ByteSize()
        rows = 0 if self.chain is None else len(self.chain.quotes)
        return message + _BYTES_A_ROW * rows + _BYTES_A_RECORD * (1 + len(self.records))
