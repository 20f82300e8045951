"""Units and conventions that every room shares.

Time is counted ACT/365 fixed, in years from a surface's ``quote_time``; log-moneyness is
k = ln(K/F); vols, rates and weights are decimals; w = vol² · years is total variance.
Instants are ``numpy.datetime64[us]`` in UTC.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum
from time import time_ns
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calib.errors import InvalidRequest

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]
Instants: TypeAlias = NDArray[np.datetime64]

MICROSECONDS_PER_YEAR = 365 * 86_400 * 1_000_000
NO_INSTANT = np.datetime64("NaT", "us")


Clock: TypeAlias = Callable[[], np.datetime64]
"""Gives the present instant, UTC."""


def utc_now() -> np.datetime64:
    """The present by this machine's clock."""
    return np.datetime64(time_ns() // 1_000, "us")


class Right(IntEnum):
    """Call or put; the numbers are those of ``calib.v1.Right``."""

    CALL = 1
    PUT = 2


class Unit(IntEnum):
    """What a premium is counted in; the numbers are those of ``calib.v1.Unit``.

    LINEAR: quote currency. INVERSE: units of the underlying. VOL: Black volatility, decimal.
    """

    LINEAR = 1
    INVERSE = 2
    VOL = 3


class ExpiryCalendar(IntEnum):
    """How the expiries of one underlying hang together; numbers of ``calib.v1.ExpiryCalendar``.

    SAME_ASSET: all expiries are options on one asset, so total variance may not fall with expiry.
    INDEPENDENT: each expiry is an asset of its own (VIX or gas futures): no calendar constraint,
    no interpolation between them.
    """

    SAME_ASSET = 1
    INDEPENDENT = 2


def years_between(start: ArrayLike, end: ArrayLike) -> Floats:
    """ACT/365F years from ``start`` to ``end``, datetime64 that broadcast; NaT gives nan."""
    delta = np.asarray(end, "datetime64[us]") - np.asarray(start, "datetime64[us]")
    micros = delta.astype(np.int64).astype(np.float64)
    return np.where(np.isnat(delta), np.nan, micros / MICROSECONDS_PER_YEAR)


def log_moneyness(strike: ArrayLike, forward: ArrayLike) -> Floats:
    """k = ln(K/F), elementwise."""
    k: Floats = np.log(np.asarray(strike, np.float64) / np.asarray(forward, np.float64))
    return k


def to_instant(value: object) -> np.datetime64:
    """One UTC instant from a datetime, date, ISO text, pandas Timestamp or datetime64.

    Naive datetimes and text without an offset are read as UTC.
    Raises InvalidRequest where ``value`` is none of these.
    """
    try:
        if isinstance(value, np.datetime64):
            return _in_microseconds(value)
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):  # pandas.Timestamp is one
            if value.tzinfo is not None:
                value = value.astimezone(UTC).replace(tzinfo=None)
            return np.datetime64(value, "us")
        if isinstance(value, date):
            return np.datetime64(value, "us")
    except (ValueError, OverflowError, TypeError) as error:  # TypeError: pandas' NaT
        raise InvalidRequest(f"{value!r} is not an instant: {error}") from error
    raise InvalidRequest(f"{value!r} is not an instant: give a datetime, ISO text or datetime64")


def iso(instant: np.datetime64) -> str:
    """The instant as ISO 8601 text with a Z, to the second where it falls on one."""
    if np.isnat(instant):
        return "NaT"
    text = str(_in_microseconds(instant))
    return (text[:-7] if text.endswith(".000000") else text) + "Z"


def micros_of(instant: np.datetime64) -> int:
    """Microseconds since 1970."""
    return int(_in_microseconds(instant).astype(np.int64))


def to_datetime(instant: np.datetime64) -> datetime:
    """The instant as a timezone-aware ``datetime`` in UTC."""
    moment: datetime = _in_microseconds(instant).astype(datetime)
    return moment.replace(tzinfo=UTC)


_MICROSECONDS = np.dtype("datetime64[us]")


def _in_microseconds(instant: np.datetime64) -> np.datetime64:
    if instant.dtype == _MICROSECONDS:  # the usual case, at a tenth of a conversion's cost
        return instant
    moment: np.datetime64 = instant.astype(_MICROSECONDS)
    return moment


_SPAN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|min|h|d)\s*")
_SPAN_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}


def span_of(name: str, text: str) -> timedelta:
    """A positive span of time from text like ``500ms``, ``30s``, ``10min``, ``1h`` or ``2d``.

    Raises InvalidRequest, calling the argument ``name``, for anything else.
    """
    match = _SPAN.fullmatch(text)
    try:
        span = float(match[1]) * _SPAN_UNITS[match[2]] if match else timedelta(0)
    except OverflowError:
        raise InvalidRequest(f"{name}={text!r} is longer than any table") from None
    if span <= timedelta(0):
        raise InvalidRequest(
            f"{name} must be a positive span such as 30s, 10min or 1h, not {text!r}"
        )
    return span


ADDRESS = r"^.+:(\d{1,4}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d{2}|655[0-2]\d|6553[0-5])$"
"""The pattern of HOST:PORT with a port up to 65535; gRPC would silently take 99999 modulo 65536."""
