"""A clock of weekends, a holiday and an event, in exact fractions and without the package."""

from __future__ import annotations

from fractions import Fraction

from tests.conformance.reference import MICROSECONDS_PER_YEAR, micros


def turns_of(quote_time: str) -> list[tuple[int, Fraction]]:
    """Where the clock changes its speed, from the quote time on, and the speed from there.

    Saturday 06:00 to Sunday 18:00 UTC counts 0.4 of another hour, Good Friday 0.6; a minute at
    18:00 on 18 March has 0.7 days more. The mean over an ordinary week is 1.
    """
    weekend, holiday = Fraction(4, 10), Fraction(6, 10)
    open_speed = Fraction(168) / (168 - 36 + 36 * weekend)
    event = open_speed * (1 + Fraction(7, 10) * 24 * 60)
    return [
        (micros(quote_time), open_speed),
        (micros("2026-03-14T06:00:00Z"), weekend * open_speed),
        (micros("2026-03-15T18:00:00Z"), open_speed),
        (micros("2026-03-18T18:00:00Z"), event),
        (micros("2026-03-18T18:01:00Z"), open_speed),
        (micros("2026-03-21T06:00:00Z"), weekend * open_speed),
        (micros("2026-03-22T18:00:00Z"), open_speed),
        (micros("2026-03-28T06:00:00Z"), weekend * open_speed),
        (micros("2026-03-29T18:00:00Z"), open_speed),
        (micros("2026-04-03T00:00:00Z"), holiday * open_speed),
        (micros("2026-04-04T00:00:00Z"), open_speed),
        (micros("2026-04-04T06:00:00Z"), weekend * open_speed),
        (micros("2026-04-05T18:00:00Z"), open_speed),
        (micros("2026-04-09T14:20:00.000457Z"), Fraction(1)),
    ]


def told(turns: list[tuple[int, Fraction]], at: int) -> float:
    """Variance time in years from the first turn to an instant in microseconds."""
    ends = [*(turn for turn, _ in turns[1:]), at]
    passed = (
        speed * max(min(end, at) - start, 0)
        for (start, speed), end in zip(turns, ends, strict=True)
    )
    return float(sum(passed) / MICROSECONDS_PER_YEAR)
