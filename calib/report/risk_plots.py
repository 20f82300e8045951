"""Pictures of model risk: where residuals lie, how charts and breakers went, how models differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from calib.conventions import Floats
from calib.modelrisk.breakers import BreakerLevel
from calib.modelrisk.delta_buckets import DELTA_BUCKETS
from calib.modelrisk.tenors import TENORS
from calib.report.heat_map import draw_heat
from calib.report.style import (
    INK,
    MODEL,
    NORMAL,
    QUOTE,
    SMALL,
    date_axes,
    date_numbers,
    expiry_colours,
    figure_title,
    new_figure,
    plain_axes,
)
from calib.report.summaries import bias_by_bucket, column

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from calib.report.history import History

LEVEL_COLOURS = {
    BreakerLevel.NORMAL.name: "#cfe6da",
    BreakerLevel.WIDENED.name: "#f0b04a",
    BreakerLevel.HELD.name: "#d9602b",
    BreakerLevel.HALTED.name: "#8f1d1d",
}
MOST_EXPIRIES = 40
"""Rows of the timeline; of more expiries those that were NORMAL throughout are left out first."""

_SERIES = {"level": "level of vol", "skew": "skew"}
_CHARTS = {"ewma": (QUOTE, "EWMA"), "cusum": (MODEL, "CUSUM")}


def residual_map(history: History) -> Figure:
    """Mean residuals by tenor and delta bucket: over the whole period, and of the last fit."""
    expiries = history.expiries[column(history.expiries, "rms_vol_error").notna()]
    figure = new_figure(10.4, 3.6)
    left, right = figure.subplots(1, 2)
    newest = expiries[expiries["quote_time"] == expiries["quote_time"].max()]
    for axes, part, title in (
        (left, expiries, "all chains"),
        (right, newest, "last fit"),
    ):
        shown = bias_by_bucket(part, "bias_half_spreads")
        vols = bias_by_bucket(part, "bias")
        kept = [i for i in range(len(TENORS)) if np.isfinite(shown[i]).any()]
        texts = [[_bias_text(shown[i, j], vols[i, j]) for j in range(shown.shape[1])] for i in kept]
        image = draw_heat(
            axes,
            shown[kept],
            texts,
            [TENORS[i].value for i in kept],
            [each.value for each in DELTA_BUCKETS],
            colours="RdBu_r",
            limits=(-1.0, 1.0),
        )
        axes.set_title(title, fontsize=NORMAL, color=INK, loc="left")
    bar = figure.colorbar(image, ax=[left, right], shrink=0.9, extend="both")
    bar.ax.tick_params(labelsize=SMALL, colors=INK)
    bar.set_label("model − mid, half-spreads", fontsize=SMALL, color=INK)
    return _titled(figure, history, "mean residuals, in half-spreads (in bp of vol)")


def control_charts(history: History) -> Figure:
    """The control charts of each tenor bucket, each over its own limit: beyond ±1 is an alarm."""
    charts = history.charts
    tenors = [each.value for each in TENORS if (charts["tenor"] == each.value).any()]
    figure = new_figure(11.0, 1.35 * max(len(tenors), 1) + 0.7)
    grid = figure.subplots(max(len(tenors), 1), 2, squeeze=False, sharex=True, sharey=True)
    for row, tenor in zip(grid, tenors, strict=False):
        for axes, (metric, words) in zip(row, _SERIES.items(), strict=True):
            plain_axes(axes, "", tenor if metric == "level" else "")
            axes.axhspan(-1.0, 1.0, color="#eef4f0", zorder=0)
            mine = charts[(charts["tenor"] == tenor) & (charts["metric"] == metric)]
            for chart, (colour, name) in _CHARTS.items():
                one = mine[mine["chart"] == chart]
                at, value = (
                    date_numbers(one["quote_time"]),
                    (one["value"] / one["limit"]).to_numpy(),
                )
                axes.plot(at, value, color=colour, linewidth=1.1, label=name)
                beyond = np.abs(value) > 1.0
                axes.plot(
                    at[beyond],
                    value[beyond],
                    "o",
                    color=colour,
                    markersize=4.5,
                    markeredgecolor="white",
                    markeredgewidth=0.6,
                )
            if tenor == tenors[0]:
                axes.set_title(words, fontsize=NORMAL, color=INK, loc="left")
                if metric == "level":
                    axes.legend(fontsize=SMALL, frameon=False, loc="upper left", ncols=2)
    grid[0, 0].set_ylim(-1.7, 1.7)
    date_axes(grid[-1])
    return _titled(figure, history, "control charts over their limits; a dot is an alarm")


def market_course(history: History) -> Figure:
    """The forward, the vols at the money and how well each chain was met, alarms as lines."""
    expiries = history.expiries
    figure = new_figure(11.0, 5.6)
    top, bottom, met = figure.subplots(3, 1, sharex=True, height_ratios=(2, 3, 1.6))
    plain_axes(met, "", "inside bid–ask, %")
    plain_axes(top, "", "forward")
    plain_axes(bottom, "", "ATM vol, %")
    chain = expiries.groupby("quote_time")
    forward = chain["forward_used"].median()
    top.plot(date_numbers(forward.index.to_series()), forward.to_numpy(), color=INK, linewidth=1.3)
    tenors = [each.value for each in TENORS if (expiries["tenor"] == each.value).any()]
    for tenor, colour in zip(tenors, expiry_colours(len(tenors)), strict=True):
        vol = expiries[expiries["tenor"] == tenor].groupby("quote_time")["atm_vol"].median()
        at = date_numbers(vol.index.to_series())
        bottom.plot(at, 100.0 * vol.to_numpy(), color=colour, linewidth=1.3, label=tenor)
    quotes = column(expiries, "two_sided") * column(expiries, "in_spread_share")
    seen = expiries.assign(inside=quotes)[quotes.notna()].groupby("quote_time")
    share = 100.0 * seen["inside"].sum() / seen["two_sided"].sum()
    met.plot(date_numbers(share.index.to_series()), share.to_numpy(), color=QUOTE, linewidth=1.3)
    met.set_ylim(min(60.0, float(share.min())) - 2.0, 102.0)
    for axes in (top, bottom, met):
        for at in date_numbers(column(history.alarms, "quote_time").drop_duplicates()):
            axes.axvline(at, color=MODEL, linewidth=0.8, alpha=0.55, zorder=0)
    bottom.legend(fontsize=SMALL, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    date_axes([met])
    return _titled(figure, history, "the market; red lines are alarms")


def breaker_timeline(history: History) -> Figure:
    """The level of the underlying and of each expiry over time."""
    lines = _level_lines(history)
    figure = new_figure(11.0, 0.19 * len(lines) + 1.1)
    axes = figure.add_subplot()
    plain_axes(axes)
    axes.grid(visible=False, axis="y")
    for place, (_, at, levels) in enumerate(lines):
        for name, colour in LEVEL_COLOURS.items():
            mine = levels == name
            spans = list(zip(at[:-1][mine], np.diff(at)[mine], strict=True))
            axes.broken_barh(
                spans, (place - 0.38, 0.76), facecolors=colour, linewidth=0, antialiased=False
            )
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.set_yticks(range(len(lines)), [name for name, *_ in lines])
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=colour, label=name) for name, colour in LEVEL_COLOURS.items()]
    axes.legend(
        handles=handles,
        fontsize=SMALL,
        frameon=False,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=4,
    )
    date_axes([axes])
    return _titled(figure, history, "breaker levels")


def disagreement_map(history: History) -> Figure:
    """The range of vols between models, by expiry and delta: in bp, and in what quotes leave open.

    The second is the range over √(h² + e²), the median half-spread and the error at the money.
    """
    compared = history.comparisons
    buckets = [each.value for each in DELTA_BUCKETS]
    models = models_compared(compared)
    ranges = np.stack(
        [
            np.ptp(compared[[f"vol_{bucket}_{model}" for model in models]].to_numpy(), axis=1)
            for bucket in buckets
        ],
        axis=1,
    )
    known = history.expiries.drop_duplicates(["quote_time", "expiry"]).set_index(
        ["quote_time", "expiry"]
    )
    same = pd.MultiIndex.from_frame(compared[["quote_time", "expiry"]])
    open_ = known.reindex(same)
    scale = np.hypot(
        column(open_, "stated_noise").to_numpy(np.float64),
        column(open_, "atm_error").fillna(0.0).to_numpy(np.float64),
    )
    names = [f"{each:%d %b %Y}" for each in compared["expiry"]]
    figure = new_figure(10.4, 0.27 * len(names) + 1.4)
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, values, top, decimals, title in (
        (left, 1e4 * ranges, 100.0, 0, "bp of vol"),
        (right, ranges / scale[:, None], 5.0, 1, "over what the quotes leave open"),
    ):
        texts = [[f"{x:.{decimals}f}" if np.isfinite(x) else "" for x in line] for line in values]
        draw_heat(axes, values, texts, names, buckets, colours="YlOrRd", limits=(0.0, top))
        axes.set_title(title, fontsize=NORMAL, color=INK, loc="left")
    words = ", ".join(model.upper() for model in models)
    return _titled(figure, history, f"range of vols between {words}")


def models_compared(compared: pd.DataFrame) -> list[str]:
    """The models of a comparison, as its columns name them, the one in force first."""
    return [name.rpartition("_")[2] for name in compared.columns if name.startswith("vol_ATM_")]


def _level_lines(history: History) -> list[tuple[str, Floats, np.ndarray]]:
    """A name, the edges of its steps and the level in each, for each line of the timeline."""
    whole, expiries = history.surfaces, history.expiries
    times = sorted(whole["quote_time"].unique())
    after = times[-1] + (times[-1] - times[0]) / max(len(times) - 1, 1)
    edges = dict(zip(times, [*times[1:], after], strict=True))

    def line(name: str, frame: pd.DataFrame, level: str) -> tuple[str, Floats, np.ndarray]:
        known = frame[column(frame, level).notna()]
        at = list(known["quote_time"])
        return (
            name,
            date_numbers(pd.Series([*at, edges[at[-1]]])),
            known[level].to_numpy(str),
        )

    found = [line("underlying", whole, "level")]
    groups = [
        (f"{expiry:%d %b %Y}", mine)
        for expiry, mine in expiries.groupby("expiry")
        if column(mine, "trust_own_level").notna().any()
    ]
    if len(groups) > MOST_EXPIRIES:
        troubled = [g for g in groups if (g[1]["trust_own_level"].dropna() != "NORMAL").any()]
        groups = troubled[-MOST_EXPIRIES:]
    return found + [line(name, mine, "trust_own_level") for name, mine in groups]


def _bias_text(half_spreads: float, vol: float) -> str:
    return f"{half_spreads:+.2f} ({1e4 * vol:+.0f})" if np.isfinite(half_spreads) else ""


def _titled(figure: Figure, history: History, what: str) -> Figure:
    text = f"{history.underlying} {history.model.name}: {what}"
    figure_title(figure, text)
    return figure
