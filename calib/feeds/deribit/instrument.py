"""Deribit's options by their names: BTC-27MAR26-70000-C, XRP_USDC-27MAR26-2d35-P."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

_NAME = re.compile(r"([A-Z0-9]+(?:_[A-Z0-9]+)?)-(\d{1,2}[A-Z]{3}\d{2})-(\d+(?:d\d+)?)-([CP])")
_SETTLED_AT = np.timedelta64(8, "h")


@dataclass(frozen=True)
class Instrument:
    """An option. ``unit``: its premium is in units of the underlying (inverse) or in quote
    currency (linear)."""

    name: str
    underlying: str
    expiry: np.datetime64
    strike: float
    right: str
    unit: str

    @classmethod
    def named(cls, name: str) -> Instrument | None:
        """The option of that name, which settles at 08:00 UTC; None for what is no option."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        base, day, strike, right = match.groups()
        try:
            date = datetime.strptime(day.title(), "%d%b%y")
        except ValueError:
            return None
        expiry = np.datetime64(date, "us") + _SETTLED_AT
        unit = "linear" if "_" in base else "inverse"
        return cls(name, base, expiry, float(strike.replace("d", ".")), right, unit)

    @classmethod
    def listed(cls, row: Any) -> Instrument | None:
        """The option in a row of ``public/get_instruments``, None for what is none, or not open.

        Its exact instant of expiry counts, not the date in its name.
        """
        if not isinstance(row, dict) or not row.get("is_active", True):
            return None
        name = row.get("instrument_name")
        found = cls.named(name) if isinstance(name, str) else None
        moment = instant_of(row.get("expiration_timestamp"))
        return found if found is None or moment is None else replace(found, expiry=moment)


def instant_of(value: object) -> np.datetime64 | None:
    """The instant of a timestamp, which is whole milliseconds since 1970; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 45:
        return None
    moment: np.datetime64 = np.datetime64(value, "ms").astype("datetime64[us]")
    return moment
