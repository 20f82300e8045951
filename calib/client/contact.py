"""What is heard of a server: signs of life, and what its clock says."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf, nan
from time import monotonic

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from calib.conventions import Clock

_log = logging.getLogger(__name__)


@dataclass
class Contact:
    """The contact with one run of a server over one connection, shared by all that came of it.

    Whatever holds a surface asks here, at the moment of use, whether the server still speaks and
    whether its clock can be believed: a dead connection needs nobody to notice it. Silence of more
    than ``patience_seconds`` is too long, and clocks further apart than ``clock_bound_seconds``
    say nothing about age; a message that was held up on its way makes them so too.
    """

    server: str
    patience_seconds: float
    clock_bound_seconds: float
    clock: Clock
    seconds: Callable[[], float] = monotonic
    _heard_at: float = field(default=-inf, init=False)
    _lead: float = field(default=nan, init=False)
    _later: Contact | None = field(default=None, init=False, repr=False)

    def heard(self, server_time: np.datetime64 | None = None) -> None:
        """A message came just now; some say what the server's clock was when it was sent."""
        self._heard_at = self.seconds()
        if server_time is None:
            return
        agreed = not self.clocks_disagree
        self._lead = float((self.clock() - server_time) / np.timedelta64(1, "s"))
        if agreed and self.clocks_disagree:
            _log.warning(
                "clock of %s differs by %.3f s from ours, or its messages are late",
                self.server,
                self._lead,
            )

    def resumed_by(self, later: Contact) -> None:
        """A later connection has brought all that changed since: what came of this one and was not
        replaced stands as the server says now, and lives on by that connection."""
        self._later = later

    @property
    def silent_seconds(self) -> float:
        """How long nothing has been heard; inf where nothing ever was."""
        return self.seconds() - self._last._heard_at

    @property
    def is_silent(self) -> bool:
        """Whether that is too long."""
        return self.silent_seconds > self.patience_seconds

    @property
    def clock_lead_seconds(self) -> float:
        """Our clock less the server's, when last told; nan before."""
        return self._last._lead

    @property
    def clocks_disagree(self) -> bool:
        """Whether the clocks, as last told, are too far apart."""
        return abs(self.clock_lead_seconds) > self.clock_bound_seconds

    @property
    def _last(self) -> Contact:
        """The contact that this one lives on by."""
        last = self
        while last._later is not None:
            last = last._later
        if last is not self:
            self._later = last  # the way there stays short, however often connections break
        return last


def clock_reading(stamp: Timestamp) -> np.datetime64:
    """What a server's clock said; digits below the microsecond are dropped."""
    return np.datetime64(stamp.ToMicroseconds(), "us")
