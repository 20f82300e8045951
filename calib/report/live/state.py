"""What is known of a server at one moment: its surfaces, its judgements, and whether it speaks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import inf

from calib.client.update import SurfaceUpdate
from calib.report.live.assessments import PATIENCE_SECONDS, Assessed, Event

MOST_EVENTS = 200
"""Events that are kept, the newest."""


@dataclass(frozen=True)
class LiveState:
    """All that every open page shows.

    ``heard_at`` and ``assessed_at`` are readings of a monotonic clock, in seconds: when the server
    was last heard, and when the assessment of each underlying came. ``trouble`` says why the
    connection was lost, empty while it stands. ``events`` are the newest first, each once.
    """

    server: str
    updates: Mapping[str, SurfaceUpdate] = field(default_factory=dict)
    assessed: Mapping[str, Assessed] = field(default_factory=dict)
    assessed_at: Mapping[str, float] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    heard_at: float = -inf
    trouble: str = ""

    @property
    def underlyings(self) -> tuple[str, ...]:
        """All that were heard of, by name."""
        return tuple(sorted({*self.updates, *self.assessed}))

    def with_update(self, update: SurfaceUpdate) -> LiveState:
        """After a surface came."""
        return replace(self, updates={**self.updates, update.underlying: update})

    def with_assessed(self, assessed: Assessed, at: float) -> LiveState:
        """After an assessment came; a watch that was taken up again tells the last one once more,
        whose events are known."""
        return replace(
            self,
            assessed={**self.assessed, assessed.underlying: assessed},
            assessed_at={**self.assessed_at, assessed.underlying: at},
        ).with_events(assessed.events)

    def with_events(self, events: Iterable[Event]) -> LiveState:
        """After these events were told, some of them perhaps once more."""
        each = {event.key: event for event in (*self.events, *events)}
        if len(each) == len(self.events):
            return self
        newest_first = sorted(each.values(), key=lambda event: event.at, reverse=True)
        return replace(self, events=tuple(newest_first[:MOST_EVENTS]))

    def heard(self, at: float) -> LiveState:
        """After any message."""
        return replace(self, heard_at=at, trouble="")

    def lost(self, reason: str) -> LiveState:
        """After the connection was lost."""
        return replace(self, trouble=reason)

    def silent_seconds(self, at: float) -> float:
        """How long the server has said nothing; inf where it never did."""
        return at - self.heard_at

    def is_silent(self, at: float) -> bool:
        """Whether that is too long."""
        return self.silent_seconds(at) > PATIENCE_SECONDS
