"""What a history of metrics comes to, as data frames: the numbers behind pages and printed tables.

All functions take frames as `calib.store.Store` gives them, of one underlying and model, or rows
of them by `calib.store.assessments.of_subject`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import cast

import numpy as np
import pandas as pd

from calib.conventions import Floats
from calib.modelrisk.breakers import BreakerLevel
from calib.modelrisk.charts import RUN_LENGTHS
from calib.modelrisk.tenors import TENORS

DAY = pd.Timedelta(days=1)
ALL = "all"

HONEST_ONE, HONEST_TWO = 0.6827, 0.9545
"""Shares of a normal variable within one and two standard deviations."""


def column(frame: pd.DataFrame, name: str) -> pd.Series:
    """A column, of missing values where the frame has none such."""
    if name in frame.columns:
        return frame[name]
    return pd.Series(np.nan, index=frame.index, name=name)


def errors_by_tenor(expiries: pd.DataFrame) -> pd.DataFrame:
    """A row a tenor bucket, and one for ALL: in-sample and one-step-ahead errors and coverage.

    Over quotes, so that an expiry counts as often as it is quoted: ``expiries`` and ``quotes``
    fitted; ``in_sample`` rms, ``in_sample_median`` of the expiries' rms, which one absurd quote
    does not move, and ``in_spread`` share; ``forecasts``, the next quotes that were foreseen,
    likewise ``one_step``, ``one_step_median`` and ``ahead_in_spread``; of standardised errors the
    shares
    ``still_one``, ``still_two`` and the standard deviation about zero ``still_sd``; likewise
    ``moving_…`` with the market's process noise.
    """
    tenors = [each.value for each in TENORS if (column(expiries, "tenor") == each.value).any()]
    rows = {tenor: _errors(expiries[expiries["tenor"] == tenor]) for tenor in tenors}
    if tenors:
        rows[ALL] = _errors(expiries[expiries["tenor"].notna()])
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(_ERRORS)).rename_axis("tenor")


_ERRORS = ("expiries", "quotes", "in_sample", "in_sample_median", "in_spread", "forecasts",
           "one_step", "one_step_median", "ahead_in_spread", "still_one", "still_two", "still_sd",
           "moving_one", "moving_two", "moving_sd")  # fmt: skip


def _errors(rows: pd.DataFrame) -> list[float]:
    used = column(rows, "two_sided").where(column(rows, "rms_vol_error").notna(), 0.0)
    ahead = column(rows, "forecast_count").fillna(0.0)

    def mean(weight: pd.Series, name: str, power: int = 1) -> float:
        counted = weight > 0.0
        total = float(weight[counted].sum())
        if not total:
            return np.nan
        return float((weight[counted] * column(rows, name)[counted] ** power).sum()) / total

    return [
        float((used > 0.0).sum()),
        float(used.sum()),
        np.sqrt(mean(used, "rms_vol_error", 2)),
        float(column(rows, "rms_vol_error").median()),
        mean(used, "in_spread_share"),
        float(ahead.sum()),
        np.sqrt(mean(ahead, "forecast_rms", 2)),
        float(column(rows, "forecast_rms").median()),
        mean(ahead, "forecast_inside"),
        mean(ahead, "forecast_still_one"),
        mean(ahead, "forecast_still_two"),
        np.sqrt(mean(ahead, "forecast_still_square")),
        mean(ahead, "forecast_moving_one"),
        mean(ahead, "forecast_moving_two"),
        np.sqrt(mean(ahead, "forecast_moving_square")),
    ]


def course(expiries: pd.DataFrame) -> pd.DataFrame:
    """A row a chain: moves since the chain before it of the same expiries, by quote time.

    ``forward_move``: the median ln(F′/F); ``atm_move``: the median change of the vols at the
    money of expiries of a week or more; ``normal``: the share of expiries that are NORMAL.
    """
    times = pd.Index(column(expiries, "quote_time").unique(), name="quote_time").sort_values()
    moved = _moves(expiries, times[:-1], times[1:])
    level = column(expiries, "trust_level")
    is_normal = (level == BreakerLevel.NORMAL.name).astype(float).where(level.notna())
    found = {
        "forward_move": np.log(moved.groupby("quote_time")["forward"].median()),
        "atm_move": moved[moved["years"] >= _WEEK_YEARS].groupby("quote_time")["atm"].median(),
        "normal": is_normal.groupby(column(expiries, "quote_time")).mean(),
    }
    return pd.DataFrame(found, index=times).reset_index()


_WEEK_YEARS = 7.0 / 365.0


def _moves(
    expiries: pd.DataFrame, before: Collection[pd.Timestamp], now: Collection[pd.Timestamp]
) -> pd.DataFrame:
    """A row for each expiry that both chains of a pair have: ``forward``, the ratio F′/F, and
    ``atm``, the change of the vol at the money."""
    names = ["quote_time", "expiry", "forward_used", "atm_vol", "tenor", "years"]
    rows = expiries.reindex(columns=names)
    pairs = pd.DataFrame({"before": before, "quote_time": now})
    both = pairs.merge(rows, on="quote_time").merge(
        rows.rename(columns={"quote_time": "before"}),
        on=["before", "expiry"],
        suffixes=("", "_before"),
    )
    return both.assign(
        forward=both["forward_used"] / both["forward_used_before"],
        atm=both["atm_vol"] - both["atm_vol_before"],
    )


def _move(
    expiries: pd.DataFrame, before: pd.Timestamp, now: pd.Timestamp, tenors: Sequence[str]
) -> tuple[float, float]:
    """Moves of forward and vol at the money between two chains as `course` gives them, but of vol
    in ``tenors`` where some are named."""
    both = _moves(expiries, [before], [now])
    chosen = both["tenor"].isin(tenors) if tenors else both["years"] >= _WEEK_YEARS
    return float(np.log(both["forward"].median())), float(both["atm"][chosen].median())


def weeks(
    expiries: pd.DataFrame, charts: pd.DataFrame, alarms: pd.DataFrame, transitions: pd.DataFrame
) -> pd.DataFrame:
    """A row a week from the first day on.

    ``alarms`` beside ``design``, how many the run lengths of the charts in control allow for;
    ``largest_forward_move`` and ``largest_atm_move`` between two chains, with their signs;
    ``trips`` of breakers to a higher level; ``normal`` share of expiries;
    ``quiet``: among the half of weeks with the smaller moves of vol, which no alarm has chosen.
    """
    if not len(expiries):
        return pd.DataFrame(columns=["from", *_WEEKS])
    start = expiries["quote_time"].min().floor("D")

    def week(frame: pd.DataFrame) -> pd.Series:
        at = pd.to_datetime(column(frame, "quote_time"), utc=True)
        number: pd.Series = (at - start) // (7 * DAY)
        return number

    moves = course(expiries)
    allowed = column(charts, "chart").map({k: 1.0 / v for k, v in RUN_LENGTHS.items()})
    up = _trips(transitions)
    rows = []
    for number in sorted(week(moves).unique()):
        mine = moves[week(moves) == number]
        rows.append(
            {
                "from": start + 7 * DAY * int(number),
                "chains": len(mine),
                "alarms": int((week(alarms) == number).sum()),
                "design": float(allowed[week(charts) == number].sum()),
                "largest_forward_move": _largest(mine["forward_move"]),
                "largest_atm_move": _largest(mine["atm_move"]),
                "trips": int((week(up) == number).sum()),
                "normal": float(mine["normal"].mean()),
            }
        )
    found = pd.DataFrame(rows)
    size = found["largest_atm_move"].abs()
    return found.assign(quiet=size <= size.median())


_WEEKS = ("chains", "alarms", "design", "largest_forward_move", "largest_atm_move", "trips",
          "normal", "quiet")  # fmt: skip


def _largest(moves: pd.Series) -> float:
    known = moves.dropna()
    return max(known.tolist(), key=abs, default=np.nan)


def _trips(transitions: pd.DataFrame) -> pd.DataFrame:
    """The transitions that raise a level."""
    order = {level.name: int(level) for level in BreakerLevel}
    return transitions[
        column(transitions, "after").map(order) > column(transitions, "before").map(order)
    ]


def alarm_events(alarms: pd.DataFrame, expiries: pd.DataFrame) -> pd.DataFrame:
    """Alarms of one moment, series and direction together, the largest first.

    ``strength``: the largest value over its limit; ``tenors`` and ``charts`` that signalled. What
    moved then: ``forward_step`` and ``atm_step`` since the chain before, ``forward_day`` and
    ``atm_day`` over about 24 hours, the vols of these tenors.
    """
    if not len(alarms):
        return pd.DataFrame(columns=list(_EVENTS))
    times = sorted(expiries["quote_time"].unique())
    rising = alarms["value"] > 0.0
    rows = []
    for key, mine in alarms.groupby(["quote_time", "metric", rising]):
        at, metric, up = cast("tuple[pd.Timestamp, str, bool]", key)
        found = set(mine["tenor"].dropna())
        tenors = [each.value for each in TENORS if each.value in found]
        earlier = [each for each in times if each < at]
        step = day = (np.nan, np.nan)
        if earlier:
            step = _move(expiries, earlier[-1], at, tenors)
            day = _move(expiries, _nearest(earlier, at - DAY), at, tenors)
        strength = float((mine["value"] / mine["limit"]).abs().max())
        charts = sorted(set(mine["chart"]))
        rows.append((at, metric, "up" if up else "down", strength, tenors, charts, *step, *day))
    found_events = pd.DataFrame(rows, columns=list(_EVENTS))
    return found_events.sort_values("strength", ascending=False, ignore_index=True)


_EVENTS = ("quote_time", "metric", "direction", "strength", "tenors", "charts", "forward_step",
           "atm_step", "forward_day", "atm_day")  # fmt: skip


def _nearest(times: Sequence[pd.Timestamp], wanted: pd.Timestamp) -> pd.Timestamp:
    return min(times, key=lambda each: abs(each - wanted))


def trips_by_trigger(transitions: pd.DataFrame) -> pd.DataFrame:
    """How often each trigger raised a breaker to each level: a row a trigger and scope."""
    up = _trips(transitions)
    names = [level.name for level in BreakerLevel][1:]
    scope = np.where(column(up, "expiry").isna(), "underlying", "expiry")
    trigger = column(up, "trigger").fillna("operator")
    counts = pd.DataFrame(
        {"scope": scope, "trigger": trigger.to_numpy(), "to": column(up, "after").to_numpy()}
    )
    table = counts.groupby(["scope", "trigger", "to"]).size().unstack(fill_value=0)
    return table.reindex(columns=names, fill_value=0).reset_index()


def levels_held(expiries: pd.DataFrame) -> dict[str, float]:
    """The share of expiries, chain by chain, that each level was in force at."""
    level = column(expiries, "trust_level").dropna()
    return {
        each.name: float((level == each.name).mean()) if len(level) else np.nan
        for each in BreakerLevel
    }


def causes(findings: pd.DataFrame, expiries: pd.DataFrame) -> pd.DataFrame:
    """A row a cause: how often it was ``found`` and came ``first``, as shares of all expiries chain
    by chain, and its strongest ``evidence`` with its time and expiry."""
    if not len(findings):
        return pd.DataFrame(columns=list(_CAUSES))
    total = max(int(column(expiries, "state").notna().sum()), 1)
    first = column(expiries, "trust_finding").value_counts()
    value, limit = column(findings, "value").abs(), column(findings, "limit").abs()
    ratio = value / limit
    beyond = ratio.where(value >= limit, 1.0 / ratio)
    rows = []
    for key, mine in findings.groupby(["group", "cause"]):
        group, cause = cast("tuple[str, str]", key)
        strongest = mine.iloc[int(beyond[mine.index].fillna(0.0).to_numpy().argmax())]
        rows.append(
            (group, cause, len(mine), len(mine) / total, int(first.get(cause, 0)),
             strongest["text"], strongest["quote_time"], strongest["expiry"])
        )  # fmt: skip
    found = pd.DataFrame(rows, columns=list(_CAUSES))
    return found.sort_values(["first", "found"], ascending=False, ignore_index=True)


_CAUSES = ("group", "cause", "found", "share", "first", "evidence", "quote_time", "expiry")


def bias_by_bucket(expiries: pd.DataFrame, name: str) -> Floats:
    """Means of a bias over quotes: a row a tenor of `TENORS`, a column a delta bucket."""
    from calib.modelrisk.delta_buckets import DELTA_BUCKETS

    found = np.full((len(TENORS), len(DELTA_BUCKETS)), np.nan)
    for i, tenor in enumerate(TENORS):
        mine = expiries[column(expiries, "tenor") == tenor.value]
        for j, bucket in enumerate(DELTA_BUCKETS):
            count = column(mine, f"count_{bucket}").fillna(0.0)
            value = column(mine, f"{name}_{bucket}")
            seen = (count > 0.0) & value.notna()
            if seen.any():
                found[i, j] = float(np.average(value[seen], weights=count[seen]))
    return found
