"""Quote batches, ticks and acknowledgements: messages on one side, columns on the other.

Used by the server and by the client, in opposite directions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from calib.conventions import NO_INSTANT, Floats, Instants, Ints, Right, Unit, iso
from calib.quotes.book import Taken
from calib.quotes.labels import Labels
from calib.quotes.reasons import Reason
from calib.quotes.table import QuoteTable, validated
from calib.service.refusals import InvalidField
from calib.surface.messages import timestamp
from calib.v1 import quote_service_pb2, quotes_pb2

MOST_ROWS = 50_000
"""Rows of one batch, as the protocol states."""
MOST_EXPIRIES = 1_000
"""Expiries of one batch, as the protocol states."""
MOST_REJECTED_ROWS = 1_000
"""Rejected rows that an acknowledgement lists, as the protocol states."""

_FIRST_SECOND = -62_135_596_800  # 0001-01-01
_LAST_SECOND = 253_402_300_799  # 9999-12-31
_FIRST_MICRO, _LAST_MICRO = _FIRST_SECOND * 10**6, _LAST_SECOND * 10**6 + 999_999
_NO_MICRO = int(np.iinfo(np.int64).min)  # what NaT is as a number

_MUST, _MAY = (
    ("expiry_index", "right", "bid", "ask"),
    ("quote_time_offset_micros", "bid_size", "ask_size", "forward"),
)
"""Columns of a batch beside ``strike``: those that it has, and those that it may have."""

_RIGHT_NAMES = {int(Right.CALL): "C", int(Right.PUT): "P"}
_UNIT_NAMES = {int(unit): unit.name.lower() for unit in Unit}
_EXERCISE_NAMES = {0: "european", 1: "european", 2: "american"}


@dataclass(frozen=True)
class Ticks:
    """A tick batch: levels of one underlying on one venue. ``spot`` is None where not given."""

    venue: str
    underlying: str
    quote_time: np.datetime64
    expiry: Instants
    forward: Floats
    spot: float | None


@dataclass(frozen=True)
class Heartbeat:
    """A sign of life of a venue, for one underlying or (empty) for all of its."""

    venue: str
    underlying: str
    time: np.datetime64


def quotes_of(batch: quotes_pb2.QuoteBatch, field: str = "quotes") -> QuoteTable:
    """The rows of a batch, each judged on its own.

    Raises InvalidField, with ``field`` before the column's name, for what makes the batch invalid
    as a whole.
    """
    rows = len(batch.strike)
    if rows > MOST_ROWS:
        raise InvalidField(f"{field}.strike", f"{rows} rows are more than {MOST_ROWS}")
    if len(batch.expiries) > MOST_EXPIRIES:
        raise InvalidField(
            f"{field}.expiries", f"{len(batch.expiries)} are more than {MOST_EXPIRIES}"
        )
    for name in _MUST:
        _check_length(field, name, len(getattr(batch, name)), rows, optional=False)
    for name in _MAY:
        _check_length(field, name, len(getattr(batch, name)), rows, optional=True)

    right = np.array(batch.right, np.int32)
    return validated(
        quote_time=_quote_times(batch, rows),
        venue=_constant(batch.venue, rows),
        underlying=_constant(batch.underlying, rows),
        expiry=_expiries(batch),
        strike=np.array(batch.strike, np.float64),
        right=_labels(right, _RIGHT_NAMES),
        unit=_constant(_UNIT_NAMES.get(batch.unit, str(batch.unit or "")), rows),
        exercise=_constant(_EXERCISE_NAMES.get(batch.exercise, str(batch.exercise)), rows),
        bid=np.array(batch.bid, np.float64),
        ask=np.array(batch.ask, np.float64),
        bid_size=np.array(batch.bid_size, np.float64) if batch.bid_size else None,
        ask_size=np.array(batch.ask_size, np.float64) if batch.ask_size else None,
        forward=np.array(batch.forward, np.float64) if batch.forward else None,
        spot=np.full(rows, batch.spot) if batch.HasField("spot") else None,
    )


def with_rows(batch: quotes_pb2.QuoteBatch, rows: Sequence[int]) -> quotes_pb2.QuoteBatch:
    """The batch with these of its rows, whose expiries must be its own, and all that it says but
    once; expiries that none of them has are left out."""
    chosen, columns = quotes_pb2.QuoteBatch(), ("strike", *_MUST, *_MAY)
    run = bool(rows) and rows[-1] - rows[0] + 1 == len(rows)
    for field, value in batch.ListFields():
        if field.name in columns:
            kept = value[rows[0] : rows[-1] + 1] if run else [value[row] for row in rows]
            getattr(chosen, field.name).extend(kept)
        elif field.message_type is None:
            setattr(chosen, field.name, value)
        elif field.name != "expiries":
            getattr(chosen, field.name).CopyFrom(value)
    used = sorted(set(chosen.expiry_index))
    chosen.expiries.extend(batch.expiries[old] for old in used)
    places = {old: new for new, old in enumerate(used)}
    chosen.expiry_index[:] = [places[old] for old in chosen.expiry_index]
    return chosen


def ticks_of(batch: quotes_pb2.TickBatch, field: str = "ticks") -> Ticks:
    """The levels of a tick batch; raises InvalidField for what makes it invalid as a whole."""
    if len(batch.expiries) > MOST_EXPIRIES:
        raise InvalidField(
            f"{field}.expiries", f"{len(batch.expiries)} are more than {MOST_EXPIRIES}"
        )
    _check_length(field, "forward", len(batch.forward), len(batch.expiries), optional=False)
    return Ticks(
        venue=batch.venue,
        underlying=batch.underlying,
        quote_time=_instant(batch, "quote_time"),
        expiry=instants_of(batch.expiries),
        forward=np.array(batch.forward, np.float64),
        spot=batch.spot if batch.HasField("spot") else None,
    )


def heartbeat_of(message: quotes_pb2.VenueHeartbeat, field: str = "heartbeat") -> Heartbeat:
    """A sign of life; raises InvalidField for a number without an underlying."""
    if message.sequence and not message.underlying.strip():
        raise InvalidField(f"{field}.sequence", "counts the messages of an underlying; name it")
    return Heartbeat(message.venue, message.underlying, _instant(message, "heartbeat_time"))


def quote_ack(quotes: QuoteTable, taken: Taken, sequence: int) -> quote_service_pb2.QuoteAck:
    """What became of a batch."""
    if not taken.reason.any():
        return _ack(taken, [], sequence)
    problems = islice(quotes.with_reason(taken.reason).problems(), MOST_REJECTED_ROWS)
    rejected = [_rejected(p.row, p.reason, p.column, p.value) for p in problems]
    return _ack(taken, rejected, sequence)


def heartbeat_ack(beat: Heartbeat, taken: Taken, sequence: int) -> quote_service_pb2.QuoteAck:
    """What became of a heartbeat, which counts as one row."""
    why = Reason(int(taken.reason[0]))
    rejected = [] if why is Reason.USABLE else [_rejected(0, why, why.column, iso(beat.time))]
    return _ack(taken, rejected, sequence)


def tick_ack(ticks: Ticks, taken: Taken, sequence: int) -> quote_service_pb2.QuoteAck:
    """What became of a tick batch: a reason a forward, then one for the spot if it was given."""
    rejected, reason = [], taken.reason
    for row in np.flatnonzero(reason)[:MOST_REJECTED_ROWS].tolist():
        why = Reason(int(reason[row]))
        level = ticks.forward[row] if row < len(ticks.forward) else ticks.spot
        values = {
            "forward": f"{level:g}",
            "spot": f"{level:g}",
            "quote_time": iso(ticks.quote_time),
            "expiry": iso(ticks.expiry[row]) if row < len(ticks.expiry) else "",
        }
        rejected.append(_rejected(row, why, why.column, values.get(why.column, "")))
    return _ack(taken, rejected, sequence)


def batches_of(
    quotes: QuoteTable, *, snapshot_complete: bool = False
) -> Iterator[tuple[quotes_pb2.QuoteBatch, Ints]]:
    """Batches that carry all rows of a table, each with the positions of its rows in the table.

    Rows of one venue, underlying, unit and exercise style, in their order, share batches;
    ``snapshot_complete``: the first batch of each venue and underlying begins a full chain and the
    last one ends it.
    """
    keys = [quotes.venue, quotes.underlying, quotes.unit_text, quotes.exercise_text]
    codes = np.stack([labels.codes for labels in keys] + [np.isnat(quotes.quote_time)], axis=1)
    groups = [np.arange(len(quotes))]
    if len(quotes) and (codes != codes[0]).any():
        _, group = np.unique(codes, axis=0, return_inverse=True)
        groups = [np.flatnonzero(group == i) for i in range(int(group.max()) + 1)]
    parts = [
        rows[start : start + MOST_ROWS]
        for rows in groups
        for start in range(0, len(rows), MOST_ROWS)
    ]
    chains = [tuple(codes[rows[0], :2].tolist()) for rows in parts]
    last = {chain: i for i, chain in enumerate(chains)}
    first = {chain: i for i, chain in reversed([*enumerate(chains)])}
    for i, rows in enumerate(parts):
        whole = len(rows) == len(quotes)
        message = _batch(quotes if whole else quotes.take(rows))
        message.snapshot_begin = snapshot_complete and i in first.values()
        message.snapshot_complete = snapshot_complete and i in last.values()
        yield message, rows


def _batch(quotes: QuoteTable) -> quotes_pb2.QuoteBatch:
    """One batch of rows that agree on what a batch says only once."""
    message = quotes_pb2.QuoteBatch(
        venue=quotes.venue[0],
        underlying=quotes.underlying[0],
        unit=quotes_pb2.Unit.ValueType(int(quotes.unit[0])),
        exercise=_exercise(quotes.exercise_text[0]),
        strike=quotes.strike.tolist(),
        right=quotes.right.tolist(),
        bid=quotes.bid.tolist(),
        ask=quotes.ask.tolist(),
    )
    time = quotes.quote_time.astype(np.int64)
    if time[0] != _NO_MICRO:
        base = int(time.max())
        message.quote_time.CopyFrom(timestamp(np.datetime64(base, "us")))
        if (time != base).any():
            message.quote_time_offset_micros.extend((time - base).tolist())
    moments, index = np.unique(quotes.expiry.astype(np.int64), return_inverse=True)
    index = np.where(quotes.expiry.astype(np.int64) == _NO_MICRO, -1, index)
    if len(moments) and moments[0] == _NO_MICRO:
        moments, index = moments[1:], index - 1
    message.expiries.extend(timestamp(moment) for moment in moments.astype("datetime64[us]"))
    message.expiry_index.extend(np.maximum(index, -1).tolist())
    for name in ("bid_size", "ask_size", "forward"):
        values: Floats = getattr(quotes, name)
        if not np.isnan(values).all():
            getattr(message, name).extend(values.tolist())
    given = quotes.spot[~np.isnan(quotes.spot)]
    good = given[np.isfinite(given) & (given > 0.0)]
    if len(given):
        message.spot = float((good if len(good) else given)[-1])
    return message


def _exercise(text: str) -> quotes_pb2.ExerciseStyle.ValueType:
    match text.strip().lower():
        case "" | "european":
            return quotes_pb2.EXERCISE_STYLE_EUROPEAN
        case "american":
            return quotes_pb2.EXERCISE_STYLE_AMERICAN
        case _:
            return quotes_pb2.ExerciseStyle.ValueType(-1)  # none that any version knows


def _check_length(field: str, name: str, length: int, rows: int, *, optional: bool) -> None:
    if length != rows and not (optional and length == 0):
        whole = f"{field}.strike" if name != "forward" or optional else f"{field}.expiries"
        raise InvalidField(f"{field}.{name}", f"has {length} entries, {whole} has {rows}")


def _constant(text: str, rows: int) -> Labels:
    return Labels.constant(text, rows) if text.strip() else Labels(np.full(rows, -1, np.int32), ())


def _labels(numbers: NDArray[np.int32], names: dict[int, str]) -> Labels:
    """Numbers as texts; numbers that have no name appear as themselves, 0 as absent."""
    found = np.unique(numbers).tolist()
    texts = tuple(names.get(number, str(number)) for number in found)
    codes = np.searchsorted(found, numbers).astype(np.int32)
    return Labels(np.where(numbers == 0, np.int32(-1), codes), texts)


def _quote_times(batch: quotes_pb2.QuoteBatch, rows: int) -> Instants:
    base = _instant(batch, "quote_time")
    if np.isnat(base) or not batch.quote_time_offset_micros:
        return np.full(rows, base)
    offset = np.array(batch.quote_time_offset_micros, np.int64)
    start = int(base.astype(np.int64))
    # Offsets whose sum would leave the calendar (or overflow) name no time.
    inside = (offset >= _FIRST_MICRO - start) & (offset <= _LAST_MICRO - start)
    return np.where(inside, start + np.where(inside, offset, 0), _NO_MICRO).view("datetime64[us]")


def _expiries(batch: quotes_pb2.QuoteBatch) -> Instants:
    moments = np.append(instants_of(batch.expiries), NO_INSTANT)
    index = np.array(batch.expiry_index, np.int64)
    return moments[np.where((index < 0) | (index >= len(batch.expiries)), -1, index)]


def instants_of(stamps: Sequence[Timestamp]) -> Instants:
    """Timestamps as instants, digits below the microsecond dropped; NaT outside years 1 to 9999."""
    return np.array([_micros(stamp) for stamp in stamps], np.int64).view("datetime64[us]")


def _instant(message: Message, name: str) -> np.datetime64:
    if not message.HasField(name):
        return NO_INSTANT
    return np.datetime64(_micros(getattr(message, name)), "us")


def _micros(stamp: Timestamp) -> int:
    """Microseconds since the epoch, digits below dropped; NaT's number outside the calendar."""
    valid = _FIRST_SECOND <= stamp.seconds <= _LAST_SECOND and 0 <= stamp.nanos < 10**9
    return stamp.seconds * 10**6 + stamp.nanos // 1_000 if valid else _NO_MICRO


def _ack(
    taken: Taken, rejected: list[quote_service_pb2.RejectedRow], sequence: int
) -> quote_service_pb2.QuoteAck:
    counts = np.bincount(taken.reason, minlength=1)
    counts[0] = 0
    return quote_service_pb2.QuoteAck(
        sequence=sequence,
        missed_count=taken.missed,
        repeated=taken.repeated,
        snapshot_needed=taken.incomplete,
        accepted_rows=len(taken.reason) - int(counts.sum()),
        rejected_rows=int(counts.sum()),
        reject_counts=[
            quote_service_pb2.RejectCount(
                reason=quotes_pb2.RejectReason.ValueType(code), rows=int(counts[code])
            )
            for code in np.flatnonzero(counts).tolist()
        ],
        rejected=rejected,
    )


def _rejected(row: int, reason: Reason, column: str, value: str) -> quote_service_pb2.RejectedRow:
    return quote_service_pb2.RejectedRow(
        row=row,
        reason=quotes_pb2.RejectReason.ValueType(reason),
        column=column,
        value=value,
        message=reason.text,
    )
