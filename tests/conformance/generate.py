"""Writes the conformance cases beside this file: ``python -m tests.conformance.generate``.

Surfaces are chosen to reach every clause of the rule; expected values come from `reference`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from math import exp, sqrt
from operator import mul
from pathlib import Path
from typing import Any

from tests.conformance.clock import told, turns_of
from tests.conformance.reference import MICROSECONDS_PER_YEAR, Json, evaluate, micros, standing

FOLDER = Path(__file__).parent


def fixtures() -> Iterator[tuple[str, Json]]:
    """Every fixture by the name of its file."""
    for name, about, surface, queries in (
        ("svi", *_svi()),
        ("essvi", *_essvi()),
        ("sabr", *_sabr()),
        ("sabr_steep", *_sabr_steep()),
        ("sabr_errors", *_sabr_errors()),
        ("defaults", *_defaults()),
        ("independent", *_independent()),
        ("single", *_single()),
        ("empty", *_empty()),
        ("clock", *_clock()),
        ("states", *_states()),
    ):
        cases = [{**query, "expected": _expected(surface, query)} for query in queries]
        yield name, {"about": about, "surface": surface, "cases": cases}


def _expected(surface: Json, query: Json) -> Json:
    if "update" in query:
        return standing(query["update"], surface, query["now"])
    return evaluate(surface, query)


def main() -> None:
    """Write the files."""
    for name, fixture in fixtures():
        text = json.dumps(fixture, indent=1, allow_nan=False)
        (FOLDER / f"{name}.json").write_text(text + "\n")


def _svi() -> tuple[str, Json, list[Json]]:
    """Six expiries with spot, a clock that runs slower on weekends, and all error bars."""
    quote_time = "2026-03-06T08:00:00Z"
    draw = random.Random(20260306)
    expiries = []
    for days, clock in ((1, 0.8), (3, 0.55), (14, 0.83), (56, 0.9), (112.5, 0.95), (294, 0.97)):
        t = days / 365
        root = sqrt(t)
        parameters = {
            "a": round(0.12 * t, 6),
            "b": round(0.16 * root, 4),
            "rho": round(draw.uniform(-0.45, 0.1), 3),
            "m": round(draw.uniform(-0.05, 0.05) * root, 4),
            "sigma": round(0.55 * root, 4),
        }
        scale = {
            "a": 0.01 * t,
            "b": 0.02 * root,
            "rho": 0.03,
            "m": 0.03 * root,
            "sigma": 0.1 * root,
        }
        expiries.append(
            _expiry(
                quote_time,
                days,
                "svi",
                parameters,
                clock=clock,
                forward=round(91250.5 * exp(0.07 * t), 2),
                forward_error=round(15 * root + 2, 2),
                discount_factor=round(exp(-0.043 * t), 6),
                quoted=(round(-1.1 * root, 3), round(0.9 * root, 3)),
                covariance=_covariance(draw, list(scale.values())),
            )
        )
    surface = _surface("BTC", quote_time, "SVI", expiries, spot=91250.5)
    return "raw SVI, spot known, variance time slower than the calendar", surface, _grid(surface)


def _essvi() -> tuple[str, Json, list[Json]]:
    """No spot; expiries hours apart; one without covariance, one without forward error."""
    quote_time = "2019-04-09T19:45:00.123456Z"
    draw = random.Random(20190409)
    expiries = []
    for i, days in enumerate((9.73, 10.01, 38.01, 101.01, 254.5)):
        t = days / 365
        theta = round(0.0135 * t**0.9, 7)
        parameters = {
            "theta": theta,
            "rho": round(-0.72 + 0.03 * i, 3),
            "psi": round(0.9 * sqrt(theta), 5),
        }
        scale = [0.04 * theta, 0.05, 0.05 * sqrt(theta)]
        expiries.append(
            _expiry(
                quote_time,
                days,
                "essvi",
                parameters,
                forward=round(2878.2 * exp(0.006 * t), 3),
                forward_error="NaN" if i == 4 else round(0.2 + 0.5 * t, 3),
                discount_factor=round(exp(-0.025 * t), 7),
                quoted=(round(-1.2 * sqrt(t), 3), round(0.35 * sqrt(t), 3)),
                covariance=[] if i == 2 else _covariance(draw, scale),
            )
        )
    surface = _surface("SPX", quote_time, "ESSVI", expiries)
    return "eSSVI, no spot, error bars in part unknown", surface, _grid(surface)


def _sabr() -> tuple[str, Json, list[Json]]:
    """Elasticities 1, 0.6 and 0, either sign of the correlation, and no vol of vol at all."""
    quote_time = "2024-02-29T00:00:00Z"
    draw = random.Random(20240229)
    expiries = []
    for days, parameters in (
        (30, {"alpha": 0.62, "beta": 1.0, "rho": -0.21, "nu": 1.9}),
        (91, {"alpha": 0.58, "beta": 0.6, "rho": 0.12, "nu": 1.1}),
        (182, {"alpha": 0.57, "beta": 0.0, "rho": 0.35, "nu": 0.8}),
        (366, {"alpha": 0.61, "beta": 0.6, "rho": -0.3, "nu": 0.0}),
    ):
        t = days / 365
        expiries.append(
            _expiry(
                quote_time,
                days,
                "sabr",
                parameters,
                forward=round(3.39 * exp(0.05 * t), 5),
                forward_error=0.002,
                discount_factor=round(exp(-0.05 * t), 6),
                quoted=(round(-1.0 * sqrt(t), 3), round(0.8 * sqrt(t), 3)),
                covariance=_covariance(draw, [0.004, 0.0, 0.02, 0.05]),
            )
        )
    surface = _surface("ETH", quote_time, "SABR", expiries, spot=3.37)
    return "SABR, continued outside the quoted range", surface, _grid(surface)


def _sabr_steep() -> tuple[str, Json, list[Json]]:
    """Quoted ranges that lie on one side of the smile, and one where the slope meets its limit."""
    quote_time = "2025-10-10T12:30:00Z"
    expiries = [
        _expiry(
            quote_time,
            days,
            "sabr",
            {"alpha": alpha, "beta": 1.0, "rho": rho, "nu": nu},
            forward=100.0,
            forward_error=0.0,
            discount_factor=1.0,
            quoted=quoted,
            covariance=[],
        )
        for days, alpha, rho, nu, quoted in (
            (60, 0.5, -0.4, 1.2, (-0.6, -0.25)),  # falls at both ends: flat to the right
            (200, 0.6, 0.5, 1.4, (0.3, 0.9)),  # rises at both ends: flat to the left
            (730, 0.9, 0.4, 2.2, (-1.5, 4.0)),  # steeper than the limit on the right
            (1460, 1.1, 0.1, 2.0, (0.2, 0.2)),  # one strike
        )
    ]
    surface = _surface("XYZ", quote_time, "SABR", expiries)
    return "SABR where the continued slopes meet their limits", surface, _grid(surface)


def _sabr_errors() -> tuple[str, Json, list[Json]]:
    """Errors of all four parameters, correlations near their ends, and strikes by the money."""
    quote_time = "2026-05-04T16:00:00Z"
    draw = random.Random(20260504)
    expiries = [
        _expiry(
            quote_time,
            days,
            "sabr",
            {"alpha": alpha, "beta": beta, "rho": rho, "nu": nu},
            forward=round(4200.0 * exp(0.03 * days / 365), 3),
            forward_error=round(0.4 + days / 365, 3),
            discount_factor=round(exp(-0.03 * days / 365), 6),
            quoted=(round(-1.3 * sqrt(days / 365), 3), round(0.9 * sqrt(days / 365), 3)),
            covariance=_covariance(draw, [0.003, 0.02, 0.01, 0.05]),
        )
        for days, alpha, beta, rho, nu in (
            (14, 0.21, 0.5, -0.93, 3.1),
            (60, 0.2, 0.9, 0.88, 1.4),
            (200, 0.24, 0.3, 0.0, 0.6),
        )
    ]
    surface = _surface("SPX", quote_time, "SABR", expiries, spot=4198.5)
    queries = [
        # On both sides of the money, where the ratio z / x of the formula is close to 0 / 0.
        {"expiry": one["expiry"], "strike": float(f"{one['forward'] * exp(k):.12g}")}
        for one in expiries
        for k in (-1e-3, -1e-6, 0.0, 1e-9, 1e-4, 0.02)
    ]
    return "SABR with errors of all its parameters", surface, [*_grid(surface), *queries]


def _defaults() -> tuple[str, Json, list[Json]]:
    """Fields that hold 0 are absent, as JSON may leave them: flat smiles about the forward."""
    quote_time = "2026-02-02T00:00:00Z"
    expiries = []
    for days in (10, 40):
        one = _expiry(
            quote_time,
            days,
            "svi",
            {"a": round(0.09 * days / 365, 9), "sigma": 0.1},  # b, rho and m are 0
            forward=100.0,
            forward_error=0.0,
            discount_factor=1.0,
            quoted=(-0.2, 0.0) if days == 10 else (0.0, 0.3),
            covariance=_covariance(random.Random(days), [1e-4, 2e-3, 0.02, 0.01, 0.01]),
        )
        expiries.append({name: value for name, value in one.items() if value != 0.0})
    surface = _surface("FLAT", quote_time, "SVI", expiries)
    return "fields that hold a default are absent", surface, _absent(surface)


def _absent(surface: Json) -> list[Json]:
    years = [one["years"] for one in surface["expiries"]]
    times = [*years, 0.5 * years[0], 0.5 * sum(years), 2.0 * years[1]]
    return [{"years": t, "strike": strike} for t in times for strike in (80.0, 100.0, 130.0)]


def _states() -> tuple[str, Json, list[Json]]:
    """What an update says of its surface, read at an instant: said, absent, and unheard of."""
    _, whole, _ = _svi()
    surface = {**whole, "expiries": whole["expiries"][:2]}
    near, far = (one["expiry"] for one in surface["expiries"])
    now, before, after = (f"2026-03-06T08:{minute}:00Z" for minute in ("10", "09", "11"))
    live = {"state": "SURFACE_STATE_LIVE"}
    judged = {"level": "BREAKER_LEVEL_NORMAL"}
    updates: list[Json] = [
        {**live, "risk": judged},
        {"state": "SURFACE_STATE_STALE", "risk": judged},
        {"risk": judged},  # no state
        {"state": 9, "risk": judged},  # of a later version
        {**live, "validUntil": after, "risk": judged},
        {**live, "validUntil": now, "risk": judged},  # the instant itself is too late
        {**live, "validUntil": before, "risk": judged},
        live,  # not judged
        {**live, "risk": {}},
        *({**live, "risk": {"level": level}} for level in (1, 2, 3, 4, 9)),
    ]
    for level in ("NORMAL", "WIDENED", "HELD", "HALTED", "UNSPECIFIED"):
        risks = [
            {"expiry": near, "level": f"BREAKER_LEVEL_{level}"},
            {"expiry": far, "level": "BREAKER_LEVEL_WIDENED"},
        ]
        updates.append({**live, "risk": {"level": "BREAKER_LEVEL_WIDENED", "expiries": risks}})
        updates.append({**live, "risk": {**judged, "expiries": risks[:1]}})
    updates.append({**live, "risk": {**judged, "expiries": [{"expiry": near, "level": 7}]}})
    # What readers of the whole message may insist on, and what has no part in the answer.
    for update in updates:
        if "risk" in update:
            update["risk"] = {**update["risk"], "multiplier": 1.0, "assessTime": now}
    cases = [{"update": update, "now": now} for update in updates]
    return "how far an update may be relied on", surface, cases


def _independent() -> tuple[str, Json, list[Json]]:
    """Expiries that are different assets: total variance falls, and nothing lies in between."""
    quote_time = "2023-02-15T21:00:00Z"
    draw = random.Random(20230215)
    expiries = []
    for days, level, forward in ((7, 1.4, 19.1), (35, 0.9, 20.35), (63, 0.4, 20.9)):
        t = days / 365
        parameters = {
            "a": round(0.3 * level * t, 6),
            "b": 0.12,
            "rho": 0.7,
            "m": 0.05,
            "sigma": 0.1,
        }
        expiries.append(
            _expiry(
                quote_time,
                days,
                "svi",
                parameters,
                forward=forward,
                forward_error=0.03,
                discount_factor=round(exp(-0.045 * t), 7),
                quoted=(-0.3, 1.2),
                covariance=_covariance(draw, [0.001, 0.003, 0.01, 0.005, 0.005]),
            )
        )
    surface = _surface("VIX", quote_time, "SVI", expiries, calendar="INDEPENDENT", spot=18.23)
    return "raw SVI on expiries that are different assets", surface, _grid(surface)


def _single() -> tuple[str, Json, list[Json]]:
    """One expiry, quoted on one side of the money only."""
    quote_time = "2026-01-01T00:00:00Z"
    expiry = _expiry(
        quote_time,
        0.25,
        "svi",
        {"a": -0.00002, "b": 0.011, "rho": 0.2, "m": 0.0031, "sigma": 0.011},
        forward=1.1e-4,
        forward_error=1e-9,
        discount_factor=1.0,
        quoted=(0.004, 0.031),
        covariance=_covariance(random.Random(1), [1e-6, 1e-4, 0.02, 2e-4, 3e-4]),
    )
    surface = _surface("TINY", quote_time, "SVI", [expiry], spot=1.0999e-4)
    return "one expiry six hours away, quoted above the money only", surface, _grid(surface)


def _clock() -> tuple[str, Json, list[Json]]:
    """Weekends at 0.4, a holiday, an event; expiries across them, on turns and minutes apart."""
    quote_time = "2026-03-12T14:20:00.000457Z"  # a Thursday
    turns = turns_of(quote_time)
    draw = random.Random(20260312)
    expiries = []
    for instant in (
        "2026-03-14T08:00:00Z",  # within a weekend
        "2026-03-15T18:00:00Z",  # where it ends
        "2026-03-16T08:00:00Z",
        "2026-03-18T18:00:00Z",  # when the event begins
        "2026-03-18T18:00:30Z",  # while it lasts
        "2026-03-27T08:00:00Z",
    ):
        days = (micros(instant) - micros(quote_time)) / (86_400 * 10**6)
        t = days / 365
        root = sqrt(t)
        parameters = {
            "a": round(0.1 * t, 7),
            "b": round(0.14 * root, 5),
            "rho": round(draw.uniform(-0.3, 0.1), 3),
            "m": round(draw.uniform(-0.03, 0.03) * root, 5),
            "sigma": round(0.5 * root, 5),
        }
        one = _expiry(
            quote_time,
            days,
            "svi",
            parameters,
            forward=round(71_820.0 * exp(0.05 * t), 2),
            forward_error=round(12 * root + 1, 2),
            discount_factor=round(exp(-0.04 * t), 7),
            quoted=(round(-1.0 * root, 4), round(0.8 * root, 4)),
            covariance=_covariance(draw, [0.01 * t, 0.02 * root, 0.03, 0.03 * root, 0.1 * root]),
        )
        expiries.append({**one, "expiry": instant, "varianceTime": told(turns, micros(instant))})
    surface = _surface("BTC", quote_time, "SVI", expiries, spot=71_820.0)
    start = micros(quote_time)
    surface["varianceClock"] = [
        {"years": (at - start) / MICROSECONDS_PER_YEAR, "varianceTime": told(turns, at)}
        for at, _ in turns[1:]
    ]
    strikes = [round(71_820.0 * exp(k), -1) for k in (-0.2, 0.0, 0.05)]
    moments = [
        "2026-03-13T12:00:00Z",  # before the first expiry
        "2026-03-14T06:00:00Z",  # there too, on a turn
        "2026-03-15T08:00:00Z",
        "2026-03-16T00:00:00Z",
        "2026-03-18T18:00:10Z",
        "2026-03-18T18:00:45Z",
        "2026-03-21T06:00:00Z",
        "2026-03-22T03:00:00Z",
        "2026-03-29T00:00:00Z",  # beyond the last, by the clock
        "2026-04-03T12:00:00Z",
        "2026-04-09T14:20:00.000457Z",  # its last turn
        "2026-05-01T08:00:00Z",
    ]
    queries = [{"expiry": at, "strike": strike} for at in moments for strike in strikes]
    about = "raw SVI, variance time by a clock of weekends, a holiday and an event"
    return about, surface, [*_grid(surface), *queries]


def _empty() -> tuple[str, Json, list[Json]]:
    surface = _surface("NONE", "2026-01-01T00:00:00Z", "SVI", [], spot=100.0)
    return "a surface without expiries", surface, [{"years": 0.5, "strike": 100.0}]


def _grid(surface: Json) -> list[Json]:
    """Times at, between, before and beyond the expiries; strikes inside, in the wings, absurd."""
    start = micros(surface["quoteTime"])
    expiries = surface["expiries"]
    years = [one["years"] for one in expiries]
    times: list[tuple[Json, float]] = [
        ({"expiry": one["expiry"]}, one["years"]) for one in expiries
    ]
    times += [({"years": t}, t) for t in (years[0], years[-1])]
    times += [({"years": t}, t) for t in (0.31 * years[0], 2.7 * years[-1])]
    for one, other in pairwise(years):
        moment = start + int((0.37 * one + 0.63 * other) * MICROSECONDS_PER_YEAR)
        instant = datetime(1970, 1, 1) + timedelta(microseconds=moment)
        t = (moment - start) / MICROSECONDS_PER_YEAR
        times.append(({"expiry": instant.isoformat() + "Z"}, t))
    queries = []
    for time, t in times:
        nearest = min(expiries, key=lambda one: abs(one["years"] - t))
        low, high = nearest["logMoneynessMin"], nearest["logMoneynessMax"]
        for k in (0.0, low + 0.41 * (high - low), low - 0.15, high + 0.4, 3 * low, 9 * high):
            strike = float(f"{nearest['forward'] * exp(k):.6g}")
            queries.append({**time, "strike": strike})
    forward = expiries[0]["forward"]
    queries += [{"years": years[0], "strike": strike} for strike in (0.0, -1.0, forward)]
    queries += [{"years": t, "strike": forward} for t in (0.0, -0.01)]
    return queries


def _surface(
    underlying: str,
    quote_time: str,
    model: str,
    expiries: list[Json],
    calendar: str = "SAME_ASSET",
    spot: float | None = None,
) -> Json:
    surface: Json = {
        "underlying": underlying,
        "quoteTime": quote_time,
        "model": f"MODEL_{model}",
        "calendar": f"EXPIRY_CALENDAR_{calendar}",
        "expiries": expiries,
        "certificate": {
            "arbitrageFree": False,
            "scope": "CERTIFICATE_SCOPE_NOT_CHECKED",
            "butterflyMargin": "-Infinity",
            "calendarMargin": "-Infinity",
        },
    }
    if spot is not None:
        surface["spot"] = spot
    return surface


def _expiry(
    quote_time: str,
    days: float,
    model: str,
    parameters: Json,
    *,
    forward: float,
    forward_error: float | str,
    discount_factor: float,
    quoted: tuple[float, float],
    covariance: list[float],
    clock: float = 1.0,
) -> Json:
    start = datetime.fromisoformat(quote_time.replace("Z", ""))
    elapsed = timedelta(days=days)
    years = (elapsed // timedelta(microseconds=1)) / MICROSECONDS_PER_YEAR
    expiry: Json = {
        "expiry": (start + elapsed).isoformat() + "Z",
        "years": years,
        "varianceTime": years if clock == 1.0 else round(clock * years, 9),
        "forward": forward,
        "forwardError": forward_error,
        "forwardSource": "FORWARD_SOURCE_PARITY",
        "discountFactor": discount_factor,
        model: parameters,
        "logMoneynessMin": quoted[0],
        "logMoneynessMax": quoted[1],
        "diagnostics": {"state": "FIT_STATE_CONVERGED", "quotesUsed": 17, "rmsVolError": "NaN"},
    }
    if covariance:
        expiry["covariance"] = {
            "coordinates": "COVARIANCE_COORDINATES_PARAMETERS",
            "values": covariance,
        }
    return expiry


def _covariance(draw: random.Random, errors: list[float]) -> list[float]:
    """A symmetric matrix with these standard errors about, and correlations of every size."""
    size = len(errors)
    rows: list[list[Any]] = [[draw.gauss(0, 1) for _ in range(size)] for _ in range(size)]
    # Six digits, so that no platform's last bit gets into the files.
    return [
        float(f"{errors[i] * errors[j] * sum(map(mul, rows[i], rows[j])) / size:.6g}")
        for i in range(size)
        for j in range(size)
    ]


if __name__ == "__main__":
    main()
