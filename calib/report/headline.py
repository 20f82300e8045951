"""The state of an underlying in a few sentences: what holds now, since when, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from calib.modelrisk.breakers import BreakerLevel
from calib.report.summaries import ALL, column, errors_by_tenor, weeks
from calib.report.tables import bp, cause_text, moment_text, number, share, trigger_text

if TYPE_CHECKING:
    import pandas as pd

    from calib.report.history import History

UNKNOWN = "UNKNOWN"
WEEK_DAYS = 7


@dataclass(frozen=True)
class Headline:
    """``level`` by name, the most cautious of the underlying and its expiries; ``verdict`` says why
    in plain words; ``facts`` are numbers by name."""

    level: str
    verdict: tuple[str, ...]
    facts: dict[str, str]


def headline(history: History) -> Headline:
    """The state at the end of a history."""
    whole = history.surfaces
    if not len(whole):
        return Headline(UNKNOWN, ("Nothing was measured: the store holds no metrics.",), {})
    last = whole.iloc[-1]
    now = last["quote_time"]
    expiries = history.expiries[history.expiries["quote_time"] == now]
    own = column(expiries, "trust_level").dropna()
    level = max([last["level"], *own], key=lambda name: BreakerLevel[name])
    return Headline(
        level,
        (
            _underlying(last, level),
            _expiries(expiries),
            _found(expiries),
            _fits(whole),
            _alarms(history.alarms, now),
        ),
        _facts(history, whole),
    )


def _underlying(last: pd.Series, level: str) -> str:
    if last["level"] != BreakerLevel.NORMAL.name:
        return f"The underlying as a whole is {last['level']}: {cause_text(last['cause'])}."
    if level != BreakerLevel.NORMAL.name:
        return "The underlying as a whole is NORMAL; some of its expiries are not."
    return "The underlying and all of its expiries are NORMAL: quote as published."


def _expiries(expiries: pd.DataFrame) -> str:
    counts = Counter(column(expiries, "trust_level").dropna())
    parts = [f"{counts[each.name]} {each.name}" for each in BreakerLevel if counts[each.name]]
    text = f"Of {counts.total()} expiries, {', '.join(parts)}." if counts else "No expiry is known."
    troubled = expiries[column(expiries, "trust_own_level") != BreakerLevel.NORMAL.name]
    causes = Counter(
        trigger_text(cause) for cause in column(troubled, "trust_cause").dropna() if cause
    )
    if causes:
        text += " Why: " + "; ".join(f"{cause} ({n})" for cause, n in causes.most_common()) + "."
    return text


def _found(expiries: pd.DataFrame) -> str:
    """What explains trouble in the last chain, whether or not it tripped a breaker."""
    found = Counter(column(expiries, "trust_finding").dropna())
    inside = column(expiries, "in_spread_share")
    used = column(expiries, "two_sided").where(inside.notna(), 0.0)
    text = "The last chain"
    if used.sum() > 0.0:
        text += f" has {share(float((inside * used).sum() / used.sum()))} of quotes inside bid–ask"
        text += ", and" if found else "."
    if not found:
        return f"{text} No source of error was found in it."
    told = ", ".join(f"{cause} ({n})" for cause, n in found.most_common())
    return f"{text} shows, by expiries: {told}."


def _fits(whole: pd.DataFrame) -> str:
    missed = int((~whole["fitted_chain"].astype(bool) | (column(whole, "fitted") == 0)).sum())
    if missed:
        return f"{missed} of {len(whole)} chains gave no surface."
    return f"All {len(whole)} chains gave a surface."


def _alarms(alarms: pd.DataFrame, now: pd.Timestamp) -> str:
    if not len(alarms):
        return "No chart has signalled."
    recent = int(((now - alarms["quote_time"]).dt.days < WEEK_DAYS).sum())
    newest = alarms["quote_time"].max()
    return (
        f"{recent} of {len(alarms)} alarms came within the last week, the newest on "
        f"{moment_text(newest)}."
    )


def _facts(history: History, whole: pd.DataFrame) -> dict[str, str]:
    errors = errors_by_tenor(history.expiries)
    found = {
        "model": history.model.name,
        "from": moment_text(whole["quote_time"].iloc[0]),
        "to": moment_text(whole["quote_time"].iloc[-1]),
        "chains": str(len(whole)),
    }
    if ALL in errors.index:
        row = errors.loc[ALL].to_dict()
        found |= {
            "in-sample error, median": f"{bp(row['in_sample_median'])} bp",
            "inside bid–ask": share(row["in_spread"]),
            "one step ahead, median": f"{bp(row['one_step_median'])} bp",
            "within 2 s.e. (honest 95.5 %)": share(row["moving_two"]),
        }
    by_week = weeks(history.expiries, history.charts, history.alarms, history.transitions)
    if len(by_week):
        allowed = number(by_week["design"].sum(), 1)
        found["alarms (by design)"] = f"{by_week['alarms'].sum()} ({allowed})"
    return found
