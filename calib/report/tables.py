"""Tables of model risk as text, the same on a terminal and on a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from calib.modelrisk.breakers import BreakerLevel, Trigger
from calib.report.summaries import (
    HONEST_ONE,
    HONEST_TWO,
    alarm_events,
    causes,
    errors_by_tenor,
    levels_held,
    trips_by_trigger,
    weeks,
)
from calib.report.text_table import TextTable

if TYPE_CHECKING:
    import pandas as pd

    from calib.report.history import History


def error_table(history: History) -> TextTable:
    """In-sample and one-step-ahead errors by tenor bucket, in basis points of vol."""
    found = errors_by_tenor(history.expiries)
    return TextTable(
        ("tenor", "quotes", "in-sample rms", "median", "in bid–ask",
         "next quotes", "one-step rms", "median", "in bid–ask"),
        tuple(
            (row["tenor"], count(row["quotes"]), bp(row["in_sample"]), bp(row["in_sample_median"]),
             share(row["in_spread"]), count(row["forecasts"]), bp(row["one_step"]),
             bp(row["one_step_median"]), share(row["ahead_in_spread"]))
            for row in records(found.reset_index())
        ),
    )  # fmt: skip


def coverage_table(history: History) -> TextTable:
    """How often the next quotes lie within the error bars, by tenor bucket."""
    found = errors_by_tenor(history.expiries)
    honest = ("honest", "", share(HONEST_ONE), share(HONEST_TWO), "1.00",
              share(HONEST_ONE), share(HONEST_TWO), "1.00")  # fmt: skip
    rows = [
        (row["tenor"], count(row["forecasts"]), share(row["still_one"]), share(row["still_two"]),
         number(row["still_sd"]), share(row["moving_one"]), share(row["moving_two"]),
         number(row["moving_sd"]))
        for row in records(found.reset_index())
    ]  # fmt: skip
    return TextTable(
        ("tenor", "next quotes", "bar alone: in 1 s.e.", "in 2 s.e.", "sd",
         "with market's move: in 1", "in 2", "sd"),
        (*rows, honest),
    )  # fmt: skip


def week_table(history: History) -> TextTable:
    """Alarms a week against what the charts allow for, and how much the market moved."""
    found = weeks(history.expiries, history.charts, history.alarms, history.transitions)
    rows = [
        (
            day_text(row["from"]), "quiet" if row["quiet"] else "", str(row["chains"]),
            str(row["alarms"]), number(row["design"], 1),
            signed_percent(row["largest_forward_move"]), signed_points(row["largest_atm_move"]),
            str(row["trips"]), share(row["normal"]),
        )
        for row in records(found)
    ]  # fmt: skip
    quiet = found[found["quiet"].astype(bool)] if len(found) else found
    rows += [
        (name, "", f"{part['chains'].sum():.0f}", f"{part['alarms'].sum():.0f}",
         f"{part['design'].sum():.1f}", "", "", f"{part['trips'].sum():.0f}", "")
        for name, part in (("all quiet weeks", quiet), ("all weeks", found))
        if len(part)
    ]  # fmt: skip
    return TextTable(
        ("week from", "", "chains", "alarms", "by design", "largest forward move",
         "largest ATM vol move, points", "breaker trips", "expiries NORMAL"),
        tuple(rows),
        words=2,
    )  # fmt: skip


def alarm_table(history: History, most: int | None = None) -> TextTable:
    """Alarms, the largest first, and what moved in the market then."""
    found = alarm_events(history.alarms, history.expiries)
    return TextTable(
        ("time (UTC)", "what", "tenors", "charts", "over limit", "forward: last step", "last 24 h",
         "ATM vol points: last step", "last 24 h"),
        tuple(
            (moment_text(row["quote_time"]), row["metric"] + " " + row["direction"],
             ", ".join(row["tenors"]), ", ".join(row["charts"]).upper(),
             "×" + number(row["strength"]),
             signed_percent(row["forward_step"]), signed_percent(row["forward_day"]),
             signed_points(row["atm_step"]), signed_points(row["atm_day"]))
            for row in records(found[:most])
        ),
        words=4,
    )  # fmt: skip


def trip_table(history: History) -> TextTable:
    """Breaker trips by trigger and level, and how long each level was in force."""
    found = trips_by_trigger(history.transitions)
    names = [level.name for level in BreakerLevel][1:]
    rows = [
        (row["scope"], row["trigger"], *(str(int(row[name])) for name in names))
        for row in records(found)
    ]
    held = levels_held(history.expiries)
    rows.append(("expiry", "share of time in force", *(share(held[name], 2) for name in names)))
    return TextTable(("scope", "trigger", *names), tuple(rows), words=2)


def cause_table(history: History) -> TextTable:
    """Sources of error by how often they were found, each with its strongest evidence."""
    found = causes(history.findings, history.expiries)
    return TextTable(
        ("source", "cause", "found", "of all", "came first", "strongest evidence", "when",
         "expiry"),
        tuple(
            (row["group"], row["cause"], str(row["found"]), share(row["share"]), str(row["first"]),
             row["evidence"], moment_text(row["quote_time"]), day_text(row["expiry"]))
            for row in records(found)
        ),
        words=2,
        left=("strongest evidence", "when", "expiry"),
    )  # fmt: skip


def expiry_table(history: History) -> TextTable:
    """Each expiry of the last chain: how far it may be trusted, and why not further."""
    newest = history.expiries
    newest = newest[newest["quote_time"] == newest["quote_time"].max()] if len(newest) else newest
    wanted = ("expiry", "tenor", "trust_level", "trust_multiplier", "trust_min_half_spread",
              "atm_vol", "two_sided", "rms_vol_error", "in_spread_share", "state",
              "trust_cause", "trust_finding")  # fmt: skip
    rows = records(newest.reindex(columns=list(wanted)))
    return TextTable(
        ("expiry", "tenor", "level", "error bars ×", "least half-spread, bp", "ATM vol", "quotes",
         "rms, bp", "in bid–ask", "fit", "why", "finding"),
        tuple(
            (moment_text(row["expiry"]), word(row["tenor"]), word(row["trust_level"]),
             number(row["trust_multiplier"], 1), bp(row["trust_min_half_spread"]),
             share(row["atm_vol"]), count(row["two_sided"]), bp(row["rms_vol_error"]),
             share(row["in_spread_share"]), word(row["state"]).lower().replace("_", " "),
             cause_text(word(row["trust_cause"])),
             word(row["trust_finding"]))
            for row in rows
        ),
        words=3,
        left=("fit", "why", "finding"),
    )  # fmt: skip


def prudence_table(history: History) -> TextTable:
    """The two prudent-valuation lines of each expiry, in basis points of vol."""
    found = history.prudence
    if not len(found):
        return TextTable((), ())
    shown = {"vol_10P": "10P vol", "vol_ATM": "ATM vol", "vol_10C": "10C vol",
             "variance_swap": "variance swap"}  # fmt: skip
    rows = []
    for expiry in sorted(found["expiry"].unique()):
        mine = found[found["expiry"] == expiry].set_index("quantity")
        cells = [day_text(expiry)]
        for name in shown:
            line = mine.loc[name]
            cells += [
                share(line["value"]),
                bp(line["market_price_uncertainty"]),
                bp(line["model_uncertainty"]),
            ]
        rows.append(tuple(cells))
    headings = [heading for name in shown.values() for heading in (name, "price ±", "model ±")]
    return TextTable(("expiry", *headings), tuple(rows))


def bp(value: float) -> str:
    """A vol in basis points, a dash where there is none."""
    return f"{1e4 * value:,.0f}" if np.isfinite(value) else "–"


def share(value: float, decimals: int = 1) -> str:
    """A share in percent."""
    return f"{value:.{decimals}%}" if np.isfinite(value) else "–"


def count(value: float) -> str:
    """A whole number."""
    return f"{value:,.0f}" if np.isfinite(value) else "–"


def word(value: object) -> str:
    """Text, a dash where there is none."""
    return value if isinstance(value, str) and value else "–"


def number(value: float, decimals: int = 2) -> str:
    """A number with so many decimals."""
    return f"{value:.{decimals}f}" if np.isfinite(value) else "–"


def signed_percent(value: float) -> str:
    """A relative move in percent, with its sign."""
    return f"{round(value, 3) + 0.0:+.1%}" if np.isfinite(value) else "–"


def signed_points(value: float) -> str:
    """A move of vol in points, with its sign."""
    return f"{round(100.0 * value, 1) + 0.0:+.1f}" if np.isfinite(value) else "–"


def moment_text(moment: pd.Timestamp) -> str:
    """``31 Jan 2026 15:33``, UTC."""
    return f"{moment:%d %b %Y %H:%M}"


def day_text(moment: pd.Timestamp) -> str:
    """``31 Jan 2026``."""
    return f"{moment:%d %b %Y}"


def cause_text(cause: str) -> str:
    """What a breaker says of its cause, in words that need no knowledge of breakers."""
    trigger, said, reading = cause.partition(" is ")
    if not said or trigger not in _TRIGGERS:
        return cause
    words = _TRIGGERS[trigger]
    return words if trigger == Trigger.ALARM.value else f"{words}: {reading}"


_TRIGGERS = {
    Trigger.FIT_FAILURE.value: "fits failed in a row",
    Trigger.RESIDUALS.value: "model off the quotes, in half-spreads",
    Trigger.INNOVATION.value: "vol jumped, in sd",
    Trigger.FORWARD_JUMP.value: "forward jumped or contradicts parity, in sd",
    Trigger.STARVATION.value: "quotes are missing, usual over now",
    Trigger.STALE_FEED.value: "quotes are old, age over limit",
    Trigger.MODELS_DISAGREE.value: "models disagree",
    Trigger.ALARM.value: "control chart signalled",
    Trigger.EXPIRIES.value: "expiries are held, share",
}


def trigger_text(cause: str) -> str:
    """The same without its numbers."""
    return _TRIGGERS.get(cause.partition(" is ")[0], cause)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame, values by column."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
