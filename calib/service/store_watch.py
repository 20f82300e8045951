"""A watch over the store's writer: an alarm when it fails, and when anything is lost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from calib.conventions import to_instant
from calib.modelrisk.alarms import Alarm
from calib.store import WriterState


class StoreWatch:
    """Remembers what was said of the writer; ``state`` tells how writing goes now.

    One alarm when writing begins to fail, and one for every look at which more entries are lost.
    """

    def __init__(
        self, state: Callable[[], WriterState], *, now: Callable[[], np.datetime64]
    ) -> None:
        self._state = state
        self._now = now
        self._failing = False
        self._lost = 0

    @property
    def state(self) -> WriterState:
        """How writing goes now."""
        return self._state()

    @property
    def standing(self) -> Alarm | None:
        """The alarm while writing fails."""
        state = self._state()
        if state.failing_since is None:
            return None
        cause = (
            f"nothing was stored since {state.failing_since:%Y-%m-%dT%H:%M:%SZ}, "
            f"{state.waiting} entries wait: {state.error}"
        )
        seconds = float((self._now() - to_instant(state.failing_since)) / np.timedelta64(1, "s"))
        return self._alarm("failing", cause, seconds, 0.0)

    def look(self) -> tuple[Alarm, ...]:
        """What is news since the last look."""
        alarms: list[Alarm] = []
        standing, state = self.standing, self._state()
        if standing is not None and not self._failing:
            alarms.append(standing)
        self._failing = standing is not None
        if state.lost > self._lost:
            more = state.lost - self._lost
            cause = f"{more} entries were given up and are not stored, {state.lost} in all"
            alarms.append(self._alarm("lost", cause, float(state.lost), float(self._lost)))
        self._lost = state.lost
        return tuple(alarms)

    def _alarm(self, metric: str, cause: str, value: float, limit: float) -> Alarm:
        return Alarm("", self._now(), None, None, "store", metric, cause, value, limit)
