"""The hub: surfaces in force, and who is told when they change.

One mailbox a subscriber, which holds the latest of each surface and never a queue: a reader that is
slower than the market skips surfaces and is told how many. Everything runs on the event loop, and
only a few subscribers are written to at a time: however many there are, quotes do not wait until
all of them have been told, and whoever's turn comes gets the latest. One that is slow to take what
is written keeps nobody waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from hashlib import blake2b
from secrets import token_hex
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from calib.service.refusals import Overloaded
from calib.states import ModelName, SurfaceState
from calib.surface.messages import timestamp
from calib.surface.surface import Surface
from calib.v1 import model_risk_pb2, surface_pb2, surface_service_pb2

if TYPE_CHECKING:
    from calib.store.provenance import Moved

_AT_ONCE = 50
"""Subscribers that are written to at a time: to all of these it takes milliseconds."""
_SLOW_SECONDS = 0.02
"""After so long a write that has not ended waits for its reader, and no longer counts as one of
these."""


class Key(NamedTuple):
    """What has one surface in force."""

    underlying: str
    model: ModelName


@dataclass(frozen=True)
class Published:
    """A surface in force, its message and how it stands.

    ``surface`` is as it was fitted or moved; ``update`` holds it with epoch and revision, built
    once and shared by all who read it. ``sequence`` counts the changes of the hub, of surfaces and
    of states alike. ``shape`` is the message that a ``move`` makes it from, its own where it was
    not moved, and ``headroom`` how far the variances of that may be scaled.
    """

    key: Key
    surface: Surface
    update: surface_service_pb2.SurfaceUpdate
    sequence: int
    shape: surface_pb2.Surface
    headroom: float
    move: surface_service_pb2.SurfaceMove | None = None
    _events: dict[tuple[str, int], bytes] = field(default_factory=dict, repr=False, compare=False)

    @property
    def state(self) -> SurfaceState:
        """How far the surface may be relied on."""
        return SurfaceState(self.update.state)

    @property
    def quotable(self) -> bool:
        """Whether it may be quoted from, be it with wider error bars: live, and not halted."""
        halted = model_risk_pb2.BREAKER_LEVEL_HALTED
        judged = model_risk_pb2.BREAKER_LEVEL_UNSPECIFIED < self.update.risk.level < halted
        return judged and self.state is SurfaceState.LIVE

    @property
    def revision(self) -> int:
        """Its revision within the hub's epoch."""
        return self.update.surface.revision

    def event(self, epoch: str, token: str, conflated_count: int) -> bytes:
        """The event of a watch that carries it, a WatchSurfacesResponse: serialized once for all
        watches with the same token that missed as many."""
        event = self._events.get((token, conflated_count))
        if event is None:
            response = surface_service_pb2.WatchSurfacesResponse(
                surface=self._short or self.update, epoch=epoch, resume_token=token
            )
            response.surface.conflated_count = conflated_count
            event = self._events[token, conflated_count] = response.SerializeToString()
        return event

    @cached_property
    def shape_update(self) -> surface_service_pb2.SurfaceUpdate:
        """What a reader that does not have the shape needs first, as things stand now."""
        told = self._told(surface=self.shape)
        told.variance_scale_max = self.headroom
        return told

    @cached_property
    def _short(self) -> surface_service_pb2.SurfaceUpdate | None:
        return None if self.move is None else self._told(move=self.move)

    def _told(self, **content: Any) -> surface_service_pb2.SurfaceUpdate:
        told, update = surface_service_pb2.SurfaceUpdate(**content), self.update
        told.state, told.variance_scale_max = update.state, update.variance_scale_max
        for name in ("valid_until", "risk", "age"):
            if update.HasField(name):
                getattr(told, name).CopyFrom(getattr(update, name))
        return told


class Delivery(NamedTuple):
    """A surface for one subscriber, how many of its kind that subscriber missed before it, and
    whether it has what the surface was moved from."""

    published: Published
    conflated_count: int
    has_shape: bool = True


@dataclass(frozen=True)
class Filter:
    """Which surfaces a subscriber wants; an empty set is all."""

    underlyings: frozenset[str] = frozenset()
    models: frozenset[ModelName] = frozenset()

    def accepts(self, key: Key) -> bool:
        """Whether this surface is wanted."""
        return (not self.underlyings or key.underlying in self.underlyings) and (
            not self.models or key.model in self.models
        )

    @cached_property
    def digest(self) -> str:
        """Short text that differs between filters."""
        parts = [*sorted(self.underlyings), "", *(str(int(m)) for m in sorted(self.models))]
        return blake2b("\0".join(parts).encode(), digest_size=6).hexdigest()


def new_epoch(now: datetime | None = None) -> str:
    """A name for a run of the server: later runs sort behind earlier ones."""
    moment = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%S.%fZ")
    return f"{moment}-{token_hex(4)}"


class Hub:
    """Keeps the surfaces in force and hands changes to subscribers."""

    def __init__(
        self,
        epoch: str,
        *,
        valid_for: np.timedelta64 | None = None,
        max_subscribers: int = 2_000,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.epoch = epoch
        self.sequence = 0
        self._valid_for = valid_for
        self._max_subscribers = max_subscribers
        self._clock = clock
        self._revision = 0
        self._in_force: dict[Key, Published] = {}
        self._subscribers: set[Subscription] = set()
        self._due: dict[Subscription, None] = {}  # in the order in which they will be woken
        self._busy: dict[Subscription, float] = {}  # since when they are written to, in that order
        self._look_again: asyncio.TimerHandle | None = None

    def __iter__(self) -> Iterator[Published]:
        return iter(self._in_force.values())

    def get(self, key: Key) -> Published | None:
        """The surface in force."""
        return self._in_force.get(key)

    def publish(
        self,
        surface: Surface,
        state: SurfaceState = SurfaceState.LIVE,
        *,
        risk: model_risk_pb2.ModelRisk | None = None,
        headroom: float = 0.0,
        age: np.timedelta64 | None = None,
        input_hash: str = "",
        code_version: str = "",
    ) -> surface_pb2.Surface:
        """Put a surface in force under the next revision; returns its message, never to be changed.

        What the surface itself says of its calibration stands; a calibration time that it does
        not have is now. ``risk`` is the judgement that goes with it, ``headroom`` how far its
        variances may be scaled, ``age`` that of its quotes.
        """
        message = surface.to_proto()
        message.input_hash = message.input_hash or input_hash
        message.code_version = message.code_version or code_version
        if not message.HasField("calibration_time"):
            message.calibration_time.FromDatetime(self._clock().replace(tzinfo=None))
        update = self._update(message, surface, state, risk, headroom, age)
        key = Key(surface.underlying, surface.model)
        self._spread(
            Published(key, surface, update, self._next_sequence(), update.surface, headroom)
        )
        return update.surface

    def move(
        self,
        key: Key,
        surface: Surface,
        source: Moved,
        *,
        risk: model_risk_pb2.ModelRisk | None = None,
        age: np.timedelta64 | None = None,
    ) -> surface_pb2.Surface:
        """Put the surface in force under other levels: what ``source`` makes of its shape.

        Its message, which is returned, says the same of its calibration as that of the shape.
        """
        before = self._in_force[key]
        shape, message = before.shape, surface.to_proto()
        message.input_hash, message.code_version = shape.input_hash, shape.code_version
        message.calibration_time.CopyFrom(shape.calibration_time)
        left = before.headroom / source.variance_scale
        update = self._update(message, surface, before.state, risk, left, age)
        move = surface_service_pb2.SurfaceMove(
            underlying=key.underlying,
            model=surface_pb2.Model.ValueType(key.model),
            shape_revision=shape.revision,
            revision=update.surface.revision,
            forward_factor=source.factors,
            spot=source.spot,
            variance_scale=source.variance_scale,
        )
        number = self._next_sequence()
        self._spread(Published(key, surface, update, number, shape, before.headroom, move))
        return update.surface

    def restate(
        self,
        key: Key,
        state: SurfaceState | None = None,
        risk: model_risk_pb2.ModelRisk | None = None,
        age: np.timedelta64 | None = None,
    ) -> bool:
        """Say that the surface in force now stands differently, or is judged so; None: as before.
        ``age``: that of its quotes by now.

        False where it already does.
        """
        published = self._in_force.get(key)
        if published is None:
            return False
        as_before = state in (None, published.state)
        if as_before and (risk is None or risk == published.update.risk):
            return False
        update = surface_service_pb2.SurfaceUpdate()
        update.CopyFrom(published.update)
        if state is not None:
            update.state = _wire(state)
        if risk is not None:
            update.risk.CopyFrom(risk)
        if age is not None:
            update.age.FromMicroseconds(int(age / np.timedelta64(1, "us")))
        again = replace(published, update=update, sequence=self._next_sequence(), _events={})
        self._spread(again)
        return True

    @contextmanager
    def subscribe(self, wanted: Filter, resume_token: str = "") -> Iterator[Subscription]:
        """Be told of changes while inside; raises Overloaded when there are too many already."""
        if len(self._subscribers) >= self._max_subscribers:
            raise Overloaded(f"{len(self._subscribers)} watches are open already", 1.0)
        covered = self._covered(resume_token, wanted)
        snapshot = sorted(
            (p for p in self if wanted.accepts(p.key) and p.sequence > covered),
            key=lambda p: p.sequence,
        )
        subscription = Subscription(self, wanted, snapshot)
        self._subscribers.add(subscription)
        try:
            yield subscription
        finally:
            self._subscribers.discard(subscription)
            self._due.pop(subscription, None)
            self.has_taken(subscription)

    @property
    def subscribers(self) -> int:
        """How many are being told of changes."""
        return len(self._subscribers)

    def token(self, wanted: Filter, sequence: int) -> str:
        """The resume token of a subscriber that has everything up to ``sequence``."""
        return f"{self.epoch}/{sequence}/{wanted.digest}"

    def _covered(self, token: str, wanted: Filter) -> int:
        """Up to which change a token covers what is wanted; 0 where it is not one of ours."""
        parts = token.rsplit("/", 2)
        if len(parts) != 3 or parts[0] != self.epoch or parts[2] != wanted.digest:
            return 0
        known = parts[1].isascii() and parts[1].isdigit() and len(parts[1]) < 19
        sequence = int(parts[1]) if known else 0
        return sequence if sequence <= self.sequence else 0

    def _update(
        self,
        message: surface_pb2.Surface,
        surface: Surface,
        state: SurfaceState,
        risk: model_risk_pb2.ModelRisk | None,
        headroom: float,
        age: np.timedelta64 | None,
    ) -> surface_service_pb2.SurfaceUpdate:
        """The update of a new revision."""
        self._revision += 1
        message.epoch, message.revision = self.epoch, self._revision
        valid_until: Timestamp | None = None
        if self._valid_for is not None:
            valid_until = timestamp(surface.quote_time + self._valid_for)
        update = surface_service_pb2.SurfaceUpdate(
            surface=message,
            state=_wire(state),
            valid_until=valid_until,
            risk=risk,
            variance_scale_max=headroom,
        )
        if age is not None:
            update.age.FromMicroseconds(int(age / np.timedelta64(1, "us")))
        return update

    def _next_sequence(self) -> int:
        self.sequence += 1
        return self.sequence

    def _spread(self, published: Published) -> None:
        self._in_force[published.key] = published
        for subscription in self._subscribers:
            if subscription.offer(published) and subscription.waits:
                self._due[subscription] = None
        self._wake_some()

    def awaits_turn(self, subscription: Subscription) -> None:
        """A subscriber that has been told all that it took waits for more, or has more already."""
        if subscription.has_mail:
            self._due[subscription] = None
        self.has_taken(subscription)

    def has_taken(self, subscription: Subscription) -> None:
        """A subscriber is not written to any more."""
        self._busy.pop(subscription, None)
        self._wake_some()

    def is_told(self, subscription: Subscription) -> None:
        """A subscriber takes what it has, be it its turn or not."""
        self._due.pop(subscription, None)

    def _wake_some(self) -> None:
        if not self._due:
            return
        now = monotonic()
        while self._busy:
            longest = next(iter(self._busy))
            if now - self._busy[longest] < _SLOW_SECONDS:
                break
            del self._busy[longest]
        while self._due and len(self._busy) < _AT_ONCE:
            subscription = next(iter(self._due))
            del self._due[subscription]
            self._busy[subscription] = now
            subscription.wake()
        if self._due and self._look_again is None:
            loop = asyncio.get_running_loop()
            self._look_again = loop.call_later(_SLOW_SECONDS, self._wake_late)

    def _wake_late(self) -> None:
        self._look_again = None
        self._wake_some()


class Subscription:
    """What one subscriber has not been told yet."""

    def __init__(self, hub: Hub, wanted: Filter, snapshot: Sequence[Published]) -> None:
        self.wanted = wanted
        self.snapshot = [Delivery(published, 0, has_shape=False) for published in snapshot]
        self.snapshot_sequence = hub.sequence
        self._hub = hub
        self._mailbox: dict[Key, Delivery] = {}
        self._told = {published.key: published.revision for published in snapshot}
        self._shapes = {published.key: published.shape.revision for published in snapshot}
        self._woken = asyncio.Event()
        self.waits = False

    @property
    def has_mail(self) -> bool:
        """Whether there is anything that it has not been told."""
        return bool(self._mailbox)

    def offer(self, published: Published) -> bool:
        """Put a change into the mailbox, over an older one of the same surface; False where it is
        not wanted."""
        if not self.wanted.accepts(published.key):
            return False
        key, missed = published.key, 0
        waiting = self._mailbox.get(key)
        if waiting is not None:
            # A change of state alone skips no surface, neither one that waits nor one already told.
            skipped = waiting.published.revision not in (published.revision, self._told.get(key))
            missed = waiting.conflated_count + skipped
        self._mailbox[key] = Delivery(published, missed)
        return True

    def wake(self) -> None:
        """Its turn has come."""
        self.waits = False
        self._woken.set()

    async def take(self, patience_seconds: float) -> list[Delivery]:
        """All that changed, in order, when its turn comes; empty when nothing does for that long.
        What was taken before is told by now."""
        self._woken.clear()
        self._hub.awaits_turn(self)
        if not self._woken.is_set():
            # Cheaper than a timeout, of which nearly none ever comes.
            patience = asyncio.get_running_loop().call_later(patience_seconds, self._woken.set)
            self.waits = True
            try:
                await self._woken.wait()
            finally:
                self.waits = False
                patience.cancel()
        self._hub.is_told(self)
        taken = sorted(self._mailbox.values(), key=lambda delivery: delivery.published.sequence)
        self._mailbox.clear()
        self._told |= {one.published.key: one.published.revision for one in taken}
        shapes = {one.published.key: one.published.shape.revision for one in taken}
        taken = [
            one._replace(has_shape=self._shapes.get(key) == revision)
            for one, (key, revision) in zip(taken, shapes.items(), strict=True)
        ]
        self._shapes |= shapes
        return taken


def _wire(state: SurfaceState) -> surface_service_pb2.SurfaceState.ValueType:
    return surface_service_pb2.SurfaceState.ValueType(state)
