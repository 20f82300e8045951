"""One venue's part of a quote book: columns with a slot for each option, and the venue's levels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from calib.conventions import Bools, Floats, Ints
from calib.quotes.labels import Labels
from calib.quotes.levels import VenueLevels
from calib.quotes.reasons import Reason
from calib.quotes.sequence import Sequence, Step
from calib.quotes.table import Codes, QuoteTable, validated

NEVER = int(np.iinfo(np.int64).min)
"""The time of what has not happened, before all others."""

MOST_EXPIRIES = 1_000
"""So many a venue may have of one underlying: a tick alone opens one, and nothing has to end it."""

_KEY = ("expiry", "strike", "right")
_PRICES = ("bid", "ask", "bid_size", "ask_size", "forward", "spot")
_DTYPES: dict[str, type[np.generic]] = {
    "quote_time": np.int64,
    "expiry": np.int64,
    "group": np.int64,  # which level the option follows
    "snapshot": np.int64,  # the count of full chains when it was last named
    "strike": np.float64,
    **dict.fromkeys(_PRICES, np.float64),
    "right": np.int8,
    "unit": np.int8,
    "reason": np.int8,
}
_RIGHTS = ("C", "P")
_UNITS = ("linear", "inverse", "vol")
_EXERCISES = ("european", "american")

_ACCEPTED = np.isin(np.arange(128), (Reason.USABLE, Reason.NO_QUOTE))

_Key = tuple[int, float, int]  # expiry in microseconds, strike, right


class VenueBook:
    """The last row of every option of one venue; options fill the slots 0 to ``size`` - 1."""

    def __init__(self) -> None:
        self.size = 0
        self.latest = NEVER  # the latest quote time ever written
        self.alive = NEVER  # the same, or that of a later heartbeat or tick
        self.moved = NEVER  # the latest quote time of a row with another price or a new option
        self.complete = False  # whether a full chain was ended, and nothing is missing since
        self.sequence = Sequence()
        self.missing = 0  # messages that never came since the last full chain
        self._columns = {name: np.empty(0, dtype) for name, dtype in _DTYPES.items()}
        self._slots: dict[_Key, int] = {}
        self._ended: dict[_Key, tuple[int, int]] = {}  # see `withdrawn`: quote time and unit
        self._groups: dict[int, int] = {}
        self._level = np.empty(0)
        self._level_time = np.empty(0, np.int64)
        self._spot, self._spot_time = float("nan"), NEVER
        self._snapshot = 0
        self._whole = True  # whether nothing is missing since the chain began
        self._last_keys: tuple[Ints, Floats, Codes] | None = None
        self._last_slots = np.empty(0, np.int64)

    def write(self, quotes: QuoteTable) -> tuple[Bools, bool]:
        """Write rows whose options can be read: which came late, and whether any told news."""
        if not len(quotes):
            return np.zeros(0, bool), False
        known, time = self.size, quotes.quote_time.astype(np.int64)
        slots = self._slots_of(quotes.expiry.astype(np.int64), quotes.strike, quotes.right)
        column = self._columns
        late = _late(slots, time, column["quote_time"][slots])
        column["snapshot"][slots] = self._snapshot
        if late.any():
            on_time = np.flatnonzero(~late)
            quotes, slots, time = quotes.take(on_time), slots[on_time], time[on_time]
            if not len(time):
                return late, False
        values: dict[str, NDArray[np.generic]] = {
            "quote_time": time,
            "unit": quotes.unit,
            "reason": quotes.reason,
            **{name: getattr(quotes, name) for name in _PRICES},
        }
        told = [
            name
            for name, value in values.items()
            if not np.array_equal(column[name][slots], value, equal_nan=name in _PRICES)
        ]
        news = self.size > known or bool(told)
        if news:
            accepted = bool(_ACCEPTED[quotes.reason].all())
            stake = None if accepted else self._at_stake(slots, quotes)
            if len(repriced := time[self._repriced(slots, known, quotes)]):
                self.moved = max(self.moved, int(repriced.max()))
            for name in told:
                column[name][slots] = values[name]
            self.latest = max(self.latest, int(time.max()))
            self.alive = max(self.alive, self.latest)
            self._follow(column["group"][slots], time, quotes.forward, quotes.spot)
            if stake is not None:
                self._refused(slots, *stake)
        return late, news

    def withdrawn(self, venue: str, underlying: str) -> QuoteTable | None:
        """A row without prices for each option that had some when this was last asked, or since,
        and of which no row stands that was accepted; None where there is no such option. Options
        that have expired are not among them."""
        ended = {key: value for key, value in self._ended.items() if not self._stands(key)}
        self._ended = {}
        if not ended:
            return None
        expiry, strike, right = zip(*ended, strict=True)
        time, unit = zip(*ended.values(), strict=True)
        size = len(ended)
        return validated(
            quote_time=np.array(time, np.int64).view("datetime64[us]"),
            venue=Labels.constant(venue, size),
            underlying=Labels.constant(underlying, size),
            expiry=np.array(expiry, np.int64).view("datetime64[us]"),
            strike=np.array(strike, np.float64),
            right=Labels(np.array(right, np.int32) - 1, _RIGHTS),
            unit=Labels(np.array(unit, np.int32) - 1, _UNITS),
            bid=np.full(size, np.nan),
            ask=np.full(size, np.nan),
        )

    def new_options(self, quotes: QuoteTable) -> int:
        """How many options these rows name that the venue does not quote yet."""
        keys = zip(
            quotes.expiry.astype(np.int64).tolist(),
            quotes.strike.tolist(),
            quotes.right.tolist(),
            strict=True,
        )
        return len({key for key in keys if key not in self._slots})

    @property
    def expiries(self) -> int:
        """How many expiries are known, those that are over included."""
        return len(self._groups)

    def expiries_with(self, expiry: Ints) -> int:
        """How many expiries the venue has together with these, without those that are over by its
        own time."""
        return len({one for one in self._groups if one > self.alive} | set(expiry.tolist()))

    def make_room(self) -> None:
        """What is over by the venue's own time leaves, where there are as many expiries as may
        be."""
        if self.expiries >= MOST_EXPIRIES:
            self.drop_expired(self.alive)

    def hear(self, number: int) -> Step:
        """A message of this number is there; where something is missing before it, the venue is not
        complete any more, and where the count begins again, all of it is forgotten."""
        missed = self.sequence.missed
        self.sequence, step = self.sequence.heard(number)
        self.missing += self.sequence.missed - missed
        if step is Step.GAP:
            self.complete = self._whole = False
        elif step is Step.RESTART:
            self._forget()
        return step

    def live(self, time: int) -> None:
        """What stands is still quoted at this time."""
        self.alive = max(self.alive, time)

    def begin_snapshot(self) -> None:
        """What was named before is no part of the chain that the next end ends."""
        self._whole = True
        self._snapshot += 1

    def end_snapshot(self) -> bool:
        """Withdraw what no row has named since the chain began; whether that makes another chain.

        A chain that messages are missing of says nothing about what it does not name.
        """
        if not self._whole:
            self.begin_snapshot()
            return False
        first, self.complete, self.missing = not self.complete, True, 0
        named = self._named()
        self._snapshot += 1
        if named.all():
            return first
        gone = np.flatnonzero(~named)
        self._end(gone, np.full(len(gone), self.latest))
        self._keep(named)
        return True

    def drop_expired(self, now: int) -> None:
        """Options and levels whose expiry is not after ``now`` leave."""
        alive = self._columns["expiry"][: self.size] > now
        gone = [expiry for expiry in self._groups if expiry <= now]
        if not alive.all():
            self._keep(alive)
        if gone:
            kept = {expiry: old for expiry, old in self._groups.items() if expiry > now}
            old = np.array(list(kept.values()), np.int64)
            new_of_old = np.zeros(len(self._level), np.int64)
            new_of_old[old] = np.arange(len(old))
            self._groups = {expiry: new for new, expiry in enumerate(kept)}
            self._level, self._level_time = self._level[old], self._level_time[old]
            group = self._columns["group"][: self.size]
            group[:] = new_of_old[group]

    def set_forward(self, expiry: int, time: int, forward: float) -> bool:
        """The venue's forward for an expiry; False where a later one stands."""
        group = self._group(expiry)
        if time < self._level_time[group]:
            return False
        self.live(time)
        self._level[group], self._level_time[group] = forward, time
        return True

    def set_spot(self, time: int, spot: float) -> bool:
        """The venue's spot; False where a later one stands."""
        if time < self._spot_time:
            return False
        self.live(time)
        self._spot, self._spot_time = spot, time
        return True

    def levels(self) -> VenueLevels:
        """Forwards and spot as they stand now."""
        forwards = {
            expiry: float(self._level[group])
            for expiry, group in self._groups.items()
            if np.isfinite(self._level[group])
        }
        return VenueLevels(forwards, self._spot)

    def rows(self, venue: str, underlying: str) -> QuoteTable:
        """The last row of every option as it came."""
        column = {name: values[: self.size].copy() for name, values in self._columns.items()}
        reason, right, unit = (column[name] for name in ("reason", "right", "unit"))
        american = (reason == Reason.AMERICAN_EXERCISE).astype(np.int32)
        return QuoteTable(
            quote_time=column["quote_time"].view("datetime64[us]"),
            venue=Labels.constant(venue, self.size),
            underlying=Labels.constant(underlying, self.size),
            expiry=column["expiry"].view("datetime64[us]"),
            strike=column["strike"],
            right_text=Labels(right.astype(np.int32) - 1, _RIGHTS),
            unit_text=Labels(unit.astype(np.int32) - 1, _UNITS),
            exercise_text=Labels(american, _EXERCISES),
            **{name: column[name] for name in _PRICES},
            right=right,
            unit=unit,
            reason=reason,
            row=np.arange(self.size, dtype=np.int64),
        )

    def table(
        self, venue: str, underlying: str, oldest: int | None, left_out: Reason | None = None
    ) -> QuoteTable:
        """The rows, those before ``oldest`` marked STALE, under the venue's latest levels; all that
        could be used marked with the reason for which the venue is ``left_out``, if any.

        A row stands until it is replaced, so that the forward and spot that hold for it are the
        latest ones, not those of the moment in which it was last touched.
        """
        rows = self.rows(venue, underlying)
        time, reason = rows.quote_time.astype(np.int64), rows.reason.copy()
        if left_out is not None:
            reason[reason == Reason.USABLE] = left_out
        elif oldest is not None:
            reason[(reason == Reason.USABLE) & (time < oldest)] = Reason.STALE
        group = self._columns["group"][: self.size]
        level = self._level[group]
        overtaken = (time < self._level_time[group]) & np.isfinite(level)
        return replace(
            rows,
            forward=np.where(overtaken, level, rows.forward),
            spot=np.where(time < self._spot_time, self._spot, rows.spot),
            reason=reason,
        )

    def _named(self) -> Bools:
        named: Bools = self._columns["snapshot"][: self.size] == self._snapshot
        return named

    def _repriced(self, slots: Ints, known: int, quotes: QuoteTable) -> Bools:
        """Which rows change a price of one of the ``known`` options, or bring another option: who
        quotes by moneyness has others with every forward."""
        same = slots < known
        for name in ("bid", "ask"):
            old, new = self._columns[name][slots], getattr(quotes, name)
            same &= (old == new) | (np.isnan(old) & np.isnan(new))
        return ~same

    def _slots_of(self, expiry: Ints, strike: Floats, right: Codes) -> Ints:
        """Each row's slot; options that are new get one."""
        # Publishers repeat themselves: the same options in the same order make the usual batch.
        last = self._last_keys
        if (
            last is not None
            and np.array_equal(strike, last[1])
            and np.array_equal(expiry, last[0])
            and np.array_equal(right, last[2])
        ):
            return self._last_slots
        keys = list(zip(expiry.tolist(), strike.tolist(), right.tolist(), strict=True))
        fresh = [key for key in dict.fromkeys(keys) if key not in self._slots]
        if fresh:
            self._open(fresh)
        slots = np.array([self._slots[key] for key in keys], np.int64)
        self._last_keys, self._last_slots = (expiry.copy(), strike.copy(), right.copy()), slots
        return slots

    def _open(self, keys: list[_Key]) -> None:
        first, self.size = self.size, self.size + len(keys)
        if self.size > len(self._columns["expiry"]):
            spare = self.size  # doubles, so that growing stays cheap
            self._columns = {
                name: np.concatenate([values, np.empty(spare, values.dtype)])
                for name, values in self._columns.items()
            }
        slots = slice(first, self.size)
        self._slots.update(zip(keys, range(first, self.size), strict=True))
        for name, values in zip(
            ("expiry", "strike", "right"), zip(*keys, strict=True), strict=True
        ):
            self._columns[name][slots] = values
        self._columns["group"][slots] = [self._group(expiry) for expiry, _, _ in keys]
        self._columns["quote_time"][slots] = NEVER

    def _group(self, expiry: int) -> int:
        group = self._groups.get(expiry)
        if group is None:
            group = self._groups[expiry] = len(self._groups)
            self._level = np.append(self._level, np.nan)
            self._level_time = np.append(self._level_time, NEVER)
        return group

    def _follow(self, group: Ints, time: Ints, forward: Floats, spot: Floats) -> None:
        """Levels follow the rows that carry them, by quote time; of equal times the last wins."""
        if time.min() != time.max():
            order = np.argsort(time, kind="stable")
            group, time, forward, spot = group[order], time[order], forward[order], spot[order]
        newer = np.isfinite(forward) & (forward > 0.0) & (time >= self._level_time[group])
        self._level[group[newer]] = forward[newer]
        self._level_time[group[newer]] = time[newer]
        given = np.flatnonzero(np.isfinite(spot) & (spot > 0.0))
        if len(given):
            self.set_spot(int(time[given[-1]]), float(spot[given[-1]]))

    def _forget(self) -> None:
        """As one that was never heard, but for the count: stamps of a clock that was wrong must not
        make those of one that was set right late."""
        # Each as of its own time: it may be told again with that time, which is then the last word.
        slots = np.arange(self.size)
        self._end(slots, self._columns["quote_time"][slots])
        self._keep(np.zeros(self.size, bool))
        self.latest = self.alive = self.moved = NEVER
        self._level[:], self._level_time[:] = np.nan, NEVER
        self._spot, self._spot_time = float("nan"), NEVER
        self.complete, self.missing, self._whole = False, 0, True

    def _priced(self, slots: Ints) -> Bools:
        """Where a row with prices stands; a slot that is new holds none."""
        column = self._columns
        stands = column["quote_time"][slots] > NEVER
        return np.asarray(stands & (column["reason"][slots] == Reason.USABLE))

    def _end(self, slots: Ints, times: Ints) -> None:
        """What has prices in these slots is over, as of these times."""
        over = (self._columns["expiry"][slots] > self.latest) & self._priced(slots)
        self._note_ended(slots[over], times[over], self._columns["unit"][slots[over]])

    def _at_stake(self, slots: Ints, quotes: QuoteTable) -> tuple[Bools, Codes]:
        """Which of these rows are of options that have prices, or get some by them, and in what
        unit."""
        stands = self._priced(slots)
        unit = np.where(stands, self._columns["unit"][slots], quotes.unit)
        return stands | (quotes.reason == Reason.USABLE), unit

    def _refused(self, slots: Ints, had: Bools, unit: Codes) -> None:
        """Note which options have lost the prices that they ``had``: those of which the row that
        stands was refused."""
        lost = had & ~_ACCEPTED[self._columns["reason"][slots]]
        slots = slots[lost]
        self._note_ended(slots, self._columns["quote_time"][slots], unit[lost])

    def _note_ended(self, slots: Ints, times: Ints, units: Codes) -> None:
        told = zip(times.tolist(), units.tolist(), strict=True)
        self._ended.update(zip(self._keys(slots), told, strict=True))

    def _stands(self, key: _Key) -> bool:
        """Whether a row of this option stands that was accepted."""
        slot = self._slots.get(key)
        return slot is not None and bool(_ACCEPTED[self._columns["reason"][slot]])

    def _keys(self, slots: Ints) -> Iterable[_Key]:
        columns = (self._columns[name][slots].tolist() for name in _KEY)
        return zip(*columns, strict=True)

    def _keep(self, kept: Bools) -> None:
        """Only these options stay, in their order."""
        rows = np.flatnonzero(kept)
        self.size = len(rows)
        self._columns = {name: values[rows] for name, values in self._columns.items()}
        self._slots = {key: slot for slot, key in enumerate(self._keys(np.arange(self.size)))}
        self._last_keys = None


def _late(slots: Ints, time: Ints, standing: Ints) -> Bools:
    """Rows that are older than what stands in their slot, or than an earlier row of the batch."""
    late = time < standing
    if np.bincount(slots).max() > 1:
        order = np.argsort(slots, kind="stable")
        rank = np.unique(time, return_inverse=True)[1]
        reach = slots[order] * (len(time) + 1) + rank[order]
        late[order] |= reach < np.maximum.accumulate(reach)
    return late
