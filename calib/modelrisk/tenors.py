"""Tenor buckets: what expiries are grouped by, so that a history outlives each of them."""

from __future__ import annotations

from bisect import bisect_right
from enum import StrEnum


class Tenor(StrEnum):
    """A range of times to expiry, the lower end included, the upper one not."""

    DAY = "<2d"
    WEEK = "2d-1w"
    MONTH = "1w-1m"
    QUARTER = "1m-3m"
    YEAR = "3m-1y"
    LONG = ">1y"


TENORS = tuple(Tenor)
"""All of them, in order of time."""

TENOR_DAYS = (2.0, 7.0, 30.0, 91.0, 365.0)
"""Where one bucket ends and the next begins, in days."""


def tenor_of(years: float) -> Tenor:
    """The bucket of a time to expiry in ACT/365F years."""
    return TENORS[bisect_right(TENOR_DAYS, years * 365.0)]
