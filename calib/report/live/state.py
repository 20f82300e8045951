"""What is known of a server at one moment: its surfaces, its judgements, and whether it speaks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import inf

from calib.client.update import SurfaceUpdate
from calib.report.live.assessments import HEARTBEATS, Assessed
from calib.report.live.events import MOST_EVENTS, SPAN, Event


class Watched(StrEnum):
    """What is watched at the server, each over a connection of its own."""

    SURFACES = "surfaces"
    RISK = "model risk"


@dataclass(frozen=True)
class LiveState:
    """All that every open page shows.

    ``risk_heard_at`` and ``assessed_at`` are readings of a monotonic clock, in seconds: when the
    watch of model risk was last heard, and when the assessment of each underlying came.
    ``risk_trouble`` says why that watch was lost, empty while it stands. ``events`` are the newest
    first, each once, none older than a day before the present of its underlying. ``store_trouble``
    says why the server's store fails, empty where it does not.
    """

    server: str
    updates: Mapping[str, SurfaceUpdate] = field(default_factory=dict)
    assessed: Mapping[str, Assessed] = field(default_factory=dict)
    assessed_at: Mapping[str, float] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    risk_heard_at: float = -inf
    risk_trouble: str = ""
    store_trouble: str = ""

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
        each = {event.key: event for event in (*self.events, *events) if not self._is_over(event)}
        newest_first = sorted(each.values(), key=lambda event: event.at, reverse=True)
        kept = tuple(newest_first[:MOST_EVENTS])
        return self if kept == self.events else replace(self, events=kept)

    def _is_over(self, event: Event) -> bool:
        assessed = self.assessed.get(event.underlying)
        return assessed is not None and bool(event.at < assessed.risk.assess_time - SPAN)

    def risk_heard(self, at: float) -> LiveState:
        """After any message of the watch of model risk."""
        return replace(self, risk_heard_at=at, risk_trouble="")

    def risk_lost(self, reason: str) -> LiveState:
        """After the watch of model risk was lost."""
        return replace(self, risk_trouble=reason)

    def with_store_trouble(self, trouble: str) -> LiveState:
        """After a look at the server's store."""
        return replace(self, store_trouble=trouble)

    def silent_seconds(self, at: float) -> Mapping[Watched, float]:
        """How long nothing has been heard of each; inf where nothing ever was. Without surfaces
        there is none that could be told of."""
        silent = {Watched.RISK: at - self.risk_heard_at}
        # A connection that is made again has a contact of its own.
        contacts = [one.contact for one in self.updates.values() if one.contact is not None]
        if contacts:
            silent[Watched.SURFACES] = min(contact.silent_seconds for contact in contacts)
        return silent

    def is_risk_silent(self, at: float) -> bool:
        """Whether nothing has been heard of model risk for too long."""
        return self.silent_seconds(at)[Watched.RISK] > HEARTBEATS.patience_seconds
