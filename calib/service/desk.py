"""The operators' desk: breakers forced and released, marks set and cleared, all on record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from calib.conventions import iso
from calib.errors import NotFitted
from calib.modelrisk.breakers import BreakerLevel, Transition
from calib.modelrisk.marks import Marked, apply_marks
from calib.modelrisk.monitor import force_level, release_level
from calib.service.fit_thread import FitThread
from calib.service.journal import Signature, cleared, forced, marked, released
from calib.service.market import Market
from calib.service.publication import Publication
from calib.service.refusals import InvalidField, Refused
from calib.surface.marks import Mark, MarkHandle
from calib.v1 import model_risk_pb2


@dataclass(frozen=True)
class Standing:
    """A mark that is set, and why the surface in force does not carry it; empty: it does."""

    underlying: str
    mark: Mark
    refusal: str


class Desk:
    """What operators may do. ``markets`` are the engine's; ``now`` is the wall's clock.

    Calls raise NotFitted for an underlying that nothing is known of, and InvalidField for what
    cannot be had as asked.
    """

    def __init__(
        self,
        markets: Mapping[str, Market],
        publication: Publication,
        thread: FitThread,
        *,
        now: Callable[[], np.datetime64],
        seconds: Callable[[], float],
    ) -> None:
        self._markets = markets
        self._publication = publication
        self._thread = thread
        self._now = now
        self._seconds = seconds
        self._marking = asyncio.Lock()  # a mark is tried on what no other mark changes meanwhile

    async def force(
        self,
        underlying: str,
        expiry: np.datetime64 | None,
        level: BreakerLevel,
        by: Signature,
        until: np.datetime64 | None,
    ) -> model_risk_pb2.ModelRisk:
        """Set the level of an underlying, or of one expiry of it."""
        market, now = self._known(underlying)
        _check_expiry(market, expiry)
        if until is not None and until <= now:
            raise InvalidField("until", f"{iso(until)} is not after the market's {iso(now)}")
        state, transitions = force_level(
            market.monitor,
            level,
            expiry=expiry,
            actor=by.operator,
            reason=by.reason,
            now=now,
            until=until,
            settings=self._publication.monitor,
        )
        breaker = state.whole if expiry is None else state.breakers[_micros(expiry)]
        assert breaker.force is not None
        place = self._publication.place(market)
        self._publication.record(forced(underlying, expiry, breaker.force, self._now(), place))
        market.monitor = state
        return await self._acted(market, transitions)

    async def release(
        self, underlying: str, expiry: np.datetime64 | None, by: Signature
    ) -> model_risk_pb2.ModelRisk:
        """Let the evidence hold again."""
        market, now = self._known(underlying)
        _check_expiry(market, expiry)
        state, transitions = release_level(
            market.monitor,
            expiry=expiry,
            actor=by.operator,
            reason=by.reason,
            now=now,
            settings=self._publication.monitor,
        )
        if transitions:
            place = self._publication.place(market)
            self._publication.record(released(underlying, expiry, now, by, self._now(), place))
            market.monitor = state
        return await self._acted(market, transitions)

    async def set_mark(
        self,
        underlying: str,
        expiry: np.datetime64,
        handle: MarkHandle,
        value: float,
        *,
        pinned: bool,
        by: Signature,
        until: np.datetime64,
    ) -> tuple[Mark, int]:
        """Mark one handle and publish; gives the mark and the revision of the marked surface.

        Raises Refused where the surface cannot take it.
        """
        async with self._marking:
            market, now = self._known(underlying)
            _check_expiry(market, expiry)
            if until <= now:
                raise InvalidField("until", f"{iso(until)} is not after the market's {iso(now)}")
            mark = Mark(expiry, handle, pinned, value, by.operator, by.reason, now, until)
            others = tuple(one for one in market.marks if not _same_place(one, expiry, handle))
            await self._tried(market, mark, (*others, mark))
            place = self._publication.place(market)
            self._publication.record(marked(underlying, mark, self._now(), place))
            market.marks = (*others, mark)
            await self._publication.refresh(market)
            return mark, self._publication.place(market).revision

    async def clear_mark(
        self, underlying: str, expiry: np.datetime64, handle: MarkHandle, by: Signature
    ) -> Mark:
        """Take a mark away and publish; raises NotFitted where there is none."""
        async with self._marking:
            market, now = self._known(underlying)
            mark = next((one for one in market.marks if _same_place(one, expiry, handle)), None)
            if mark is None:
                raise NotFitted(f"no mark of {handle.name} is set on {underlying!r} {iso(expiry)}")
            place = self._publication.place(market)
            self._publication.record(cleared(underlying, mark, now, by, self._now(), place))
            market.marks = tuple(one for one in market.marks if one is not mark)
            await self._publication.refresh(market)
            return mark

    def marks(self, underlying: str | None = None) -> list[Standing]:
        """The marks that are set, by underlying, expiry and handle."""
        found = [
            Standing(name, mark, market.refusals.get(mark, ""))
            for name, market in self._markets.items()
            if underlying in (None, name)
            for mark in market.marks
        ]
        return sorted(
            found, key=lambda one: (one.underlying, _micros(one.mark.expiry), one.mark.handle)
        )

    async def _tried(self, market: Market, mark: Mark, marks: tuple[Mark, ...]) -> Marked:
        in_force = market.in_force
        if in_force is None:
            raise Refused(
                f"no surface of {market.key.underlying!r} was calibrated since the server started"
            )
        tried = await self._thread.run(lambda: apply_marks(in_force.ready.unmarked, marks, mark.at))
        for refusal in tried.refused:
            if refusal.mark == mark:
                raise Refused(refusal.reason)
        return tried

    async def _acted(
        self, market: Market, transitions: tuple[Transition, ...]
    ) -> model_risk_pb2.ModelRisk:
        self._publication.look(market, transitions)
        if not market.holds:
            await self._publication.refresh(market)
        notice = self._publication.board.get(market.key.underlying)
        assert notice is not None, "it was just told"
        return notice.message.model_risk

    def _known(self, underlying: str) -> tuple[Market, np.datetime64]:
        market = self._markets.get(underlying)
        now = None if market is None else market.now(self._seconds())
        if market is None or now is None:
            raise NotFitted(f"no quotes of {underlying!r} have come")
        return market, now


def _check_expiry(market: Market, expiry: np.datetime64 | None) -> None:
    known = {*market.monitor.breakers}
    if market.newest is not None:
        known |= {_micros(one.expiry) for one in market.newest.expiries}
    if expiry is not None and _micros(expiry) not in known:
        have = ", ".join(iso(np.datetime64(one, "us")) for one in sorted(known))
        raise InvalidField(
            "expiry", f"{iso(expiry)} is none of {market.key.underlying}'s: {have or 'it has none'}"
        )


def _same_place(mark: Mark, expiry: np.datetime64, handle: MarkHandle) -> bool:
    return mark.expiry == expiry and mark.handle is handle


def _micros(expiry: np.datetime64) -> int:
    return int(expiry.astype("datetime64[us]").astype(np.int64))
