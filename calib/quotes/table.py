"""The quote table: validated, immutable columns, one row a quoted option at one time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from calib.conventions import NO_INSTANT, Bools, Floats, Instants, Ints, Right, Unit, iso
from calib.quotes.labels import Labels, read_only
from calib.quotes.reasons import Reason

Codes = NDArray[np.int8]

_RIGHTS = {
    "c": int(Right.CALL),
    "p": int(Right.PUT),
    "call": int(Right.CALL),
    "put": int(Right.PUT),
}
_UNITS = {unit.name.lower(): int(unit) for unit in Unit}
_EUROPEAN, _AMERICAN = 1, 2
_EXERCISES = {"european": _EUROPEAN, "american": _AMERICAN}

_FIRST_INSTANT = np.datetime64("0001-01-01T00:00:00.000000", "us")
_LAST_INSTANT = np.datetime64("9999-12-31T23:59:59.999999", "us")


@dataclass(frozen=True)
class Problem:
    """One row that cannot be used as it stands."""

    row: int
    column: str
    value: str
    reason: Reason

    def __str__(self) -> str:
        where = f"row {self.row}" + (f", {self.column} {self.value}" if self.column else "")
        return f"{where}: {self.reason.text}"


@dataclass(frozen=True)
class QuoteTable:
    """Quotes as columns of equal length; build it with :func:`calib.quotes.table.validated`.

    ``bid`` and ``ask`` are nan where that side is absent, ``forward``, ``spot`` and the sizes where
    they are not given. ``right`` and ``unit`` hold the numbers of :class:`Right` and :class:`Unit`
    (0 where the text is neither). ``reason`` says which rows cannot be used; ``row`` is the
    position in the table that was read, and survives selection.
    """

    quote_time: Instants
    venue: Labels
    underlying: Labels
    expiry: Instants
    strike: Floats
    right_text: Labels
    unit_text: Labels
    exercise_text: Labels
    bid: Floats
    ask: Floats
    bid_size: Floats
    ask_size: Floats
    forward: Floats
    spot: Floats
    right: Codes
    unit: Codes
    reason: Codes
    row: Ints

    def __post_init__(self) -> None:
        for column in fields(self):
            values = getattr(self, column.name)
            if isinstance(values, np.ndarray):
                object.__setattr__(self, column.name, read_only(values))

    def __len__(self) -> int:
        return len(self.strike)

    @property
    def underlyings(self) -> tuple[str, ...]:
        """The underlyings that occur, sorted."""
        codes = np.unique(self.underlying.codes)
        return tuple(sorted(self.underlying.names[code] for code in codes if code >= 0))

    @property
    def usable(self) -> Bools:
        """Rows that nothing speaks against when looked at alone."""
        usable: Bools = self.reason == Reason.USABLE
        return usable

    def take(self, rows: Ints | Bools) -> QuoteTable:
        """The rows selected by indices or a mask."""
        return QuoteTable(
            quote_time=self.quote_time[rows],
            venue=self.venue.take(rows),
            underlying=self.underlying.take(rows),
            expiry=self.expiry[rows],
            strike=self.strike[rows],
            right_text=self.right_text.take(rows),
            unit_text=self.unit_text.take(rows),
            exercise_text=self.exercise_text.take(rows),
            bid=self.bid[rows],
            ask=self.ask[rows],
            bid_size=self.bid_size[rows],
            ask_size=self.ask_size[rows],
            forward=self.forward[rows],
            spot=self.spot[rows],
            right=self.right[rows],
            unit=self.unit[rows],
            reason=self.reason[rows],
            row=self.row[rows],
        )

    def with_reason(self, reason: Codes) -> QuoteTable:
        """The same rows under other reasons."""
        return replace(self, reason=reason)

    def reason_counts(self) -> dict[Reason, int]:
        """How many rows each reason speaks against, most frequent first."""
        values, counts = np.unique(self.reason, return_counts=True)
        pairs = [(Reason(int(v)), int(c)) for v, c in zip(values, counts, strict=True) if v]
        return dict(sorted(pairs, key=lambda pair: -pair[1]))

    def problems(self) -> Iterator[Problem]:
        """Every row with a reason, in order, naming row, column and value."""
        for i in np.flatnonzero(self.reason):
            reason = Reason(int(self.reason[i]))
            column, value = self._offender(int(i), reason)
            yield Problem(int(self.row[i]), column, value, reason)

    def _offender(self, i: int, reason: Reason) -> tuple[str, str]:
        column = reason.column
        match reason:
            case Reason.BAD_PRICE if _good_amount(self.bid[i]):
                column = "ask"
            case Reason.BAD_SIZE if _good_amount(self.bid_size[i]):
                column = "ask_size"
            case _:
                pass
        if not column:
            return "", ""
        match column:
            case "right" | "unit" | "exercise":
                labels: Labels = getattr(self, f"{column}_text")
                return column, repr(labels[i])
            case "quote_time" | "expiry":
                return column, iso(getattr(self, column)[i])
            case "venue" | "underlying":
                return column, repr(getattr(self, column)[i])
            case _:
                return column, f"{getattr(self, column)[i]:g}"


def validated(
    *,
    quote_time: Instants,
    venue: Labels,
    underlying: Labels,
    expiry: Instants,
    strike: Floats,
    right: Labels,
    unit: Labels,
    bid: Floats,
    ask: Floats,
    bid_size: Floats | None = None,
    ask_size: Floats | None = None,
    forward: Floats | None = None,
    spot: Floats | None = None,
    exercise: Labels | None = None,
) -> QuoteTable:
    """A quote table from columns of equal length, each row judged on its own.

    A zero bid or ask is an absent side and becomes nan; an instant outside the years 1 to 9999 is
    none and becomes NaT. Of several things wrong with a row the first one below is its reason.
    """
    rows = len(strike)
    unknown = np.full(rows, np.nan)
    bid_size = unknown if bid_size is None else bid_size
    ask_size = unknown if ask_size is None else ask_size
    forward = unknown if forward is None else forward
    spot = unknown if spot is None else spot
    exercise = Labels.constant("european", rows) if exercise is None else exercise

    quote_time, expiry = _dated(quote_time), _dated(expiry)
    bid = np.where(bid == 0.0, np.nan, bid)
    ask = np.where(ask == 0.0, np.nan, ask)
    right_code = right.lookup(_RIGHTS)
    unit_code = unit.lookup(_UNITS)
    exercise_code = np.where(exercise.codes < 0, _EUROPEAN, exercise.lookup(_EXERCISES))

    verdicts = (
        (Reason.BAD_QUOTE_TIME, np.isnat(quote_time)),
        (Reason.BAD_VENUE, venue.codes < 0),
        (Reason.BAD_UNDERLYING, underlying.codes < 0),
        (Reason.BAD_EXPIRY, np.isnat(expiry)),
        (Reason.BAD_STRIKE, ~_positive(strike)),
        (Reason.BAD_RIGHT, right_code == 0),
        (Reason.BAD_UNIT, unit_code == 0),
        (Reason.BAD_EXERCISE, exercise_code == 0),
        (Reason.AMERICAN_EXERCISE, exercise_code == _AMERICAN),
        (Reason.BAD_PRICE, ~(_absent_or_amount(bid) & _absent_or_amount(ask))),
        (Reason.BAD_SIZE, ~(_absent_or_amount(bid_size) & _absent_or_amount(ask_size))),
        (Reason.BAD_FORWARD, ~(np.isnan(forward) | _positive(forward))),
        (Reason.BAD_SPOT, ~(np.isnan(spot) | _positive(spot))),
        (Reason.NO_QUOTE, np.isnan(bid) & np.isnan(ask)),
        (Reason.CROSSED, bid > ask),
        (Reason.EXPIRED, expiry <= quote_time),
    )
    reason = np.zeros(rows, np.int8)
    for verdict, holds in reversed(verdicts):
        reason[holds] = verdict
    return QuoteTable(
        quote_time=quote_time,
        venue=venue,
        underlying=underlying,
        expiry=expiry,
        strike=strike,
        right_text=right,
        unit_text=unit,
        exercise_text=exercise,
        bid=bid,
        ask=ask,
        bid_size=bid_size,
        ask_size=ask_size,
        forward=forward,
        spot=spot,
        right=right_code,
        unit=unit_code,
        reason=reason,
        row=np.arange(rows, dtype=np.int64),
    )


def joined(tables: Sequence[QuoteTable]) -> QuoteTable:
    """The rows of all tables (one at least), one after another; ``row`` keeps what each said."""
    return QuoteTable(
        quote_time=np.concatenate([table.quote_time for table in tables]),
        venue=Labels.join([table.venue for table in tables]),
        underlying=Labels.join([table.underlying for table in tables]),
        expiry=np.concatenate([table.expiry for table in tables]),
        strike=np.concatenate([table.strike for table in tables]),
        right_text=Labels.join([table.right_text for table in tables]),
        unit_text=Labels.join([table.unit_text for table in tables]),
        exercise_text=Labels.join([table.exercise_text for table in tables]),
        bid=np.concatenate([table.bid for table in tables]),
        ask=np.concatenate([table.ask for table in tables]),
        bid_size=np.concatenate([table.bid_size for table in tables]),
        ask_size=np.concatenate([table.ask_size for table in tables]),
        forward=np.concatenate([table.forward for table in tables]),
        spot=np.concatenate([table.spot for table in tables]),
        right=np.concatenate([table.right for table in tables]),
        unit=np.concatenate([table.unit for table in tables]),
        reason=np.concatenate([table.reason for table in tables]),
        row=np.concatenate([table.row for table in tables]),
    )


def _dated(instants: Instants) -> Instants:
    """NaT for what no calendar date can be written for: before year 1, after year 9999."""
    inside = (instants >= _FIRST_INSTANT) & (instants <= _LAST_INSTANT)
    return np.where(inside, instants, NO_INSTANT)


def _positive(values: Floats) -> Bools:
    return np.isfinite(values) & (values > 0.0)


def _absent_or_amount(values: Floats) -> Bools:
    return np.isnan(values) | (np.isfinite(values) & (values >= 0.0))


def _good_amount(value: float) -> bool:
    return bool(_absent_or_amount(np.asarray(value)))
