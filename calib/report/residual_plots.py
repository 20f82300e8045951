"""Pictures of how far a surface lies from its quotes."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

from calib.conventions import Floats, Ints
from calib.modelrisk.delta_buckets import DELTA_BUCKETS, bucket_numbers, call_delta
from calib.report.heat_map import draw_heat
from calib.report.smiles import Quoted, Smile, smiles_of
from calib.report.style import (
    FAINT,
    INK,
    MODEL,
    NORMAL,
    SMALL,
    expiry_colours,
    new_figure,
    plain_axes,
    surface_title,
    tenor_text,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STRIKE_EDGES = np.linspace(-2.5, 2.5, 11)
"""Where a column of normalised strikes ends and the next begins; the outer two go on outward."""


def residuals(quoted: Quoted) -> Figure:
    """How far the model lies from the mids: in vol points by strike, and in half-spreads.

    Left, model minus mid of every two-sided quote used, over normalised strike; right, the same in
    units of the half-spread: what lies between −1 and 1 is inside bid–ask.
    """
    views = [view for view in smiles_of(quoted) if view.fitted is not None]
    figure = new_figure(9.6, 3.8)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    plain_axes(left, "normalised strike ln(K/F) / (ATM vol √T)", "model − mid, vol points")
    plain_axes(right, "(model − mid) / half-spread", "quotes")
    left.axhline(0.0, color=FAINT, linewidth=0.8)
    right.axvspan(-1.0, 1.0, color="#e9f3ec", zorder=0)
    ratios = []
    for view, colour in zip(views, expiry_colours(len(views)), strict=True):
        depth, miss, half = _misses(view)
        left.scatter(depth, 100.0 * miss, s=7, color=colour, alpha=0.8, linewidths=0)
        ratios.append(miss / np.maximum(half, 1e-12))
    everything = np.concatenate(ratios) if ratios else np.empty(0)
    if len(everything):
        inside = float(np.mean(np.abs(everything) <= 1.0))
        bins = np.linspace(-3.0, 3.0, 49)
        right.hist(np.clip(everything, -3.0, 3.0), bins=list(bins), color=MODEL, alpha=0.75)
        right.set_title(
            f"{100 * inside:.1f}% of {len(everything)} quotes inside bid–ask",
            fontsize=NORMAL,
            color=INK,
            loc="left",
        )
    left.set_title("colour: expiry, dark is near", fontsize=NORMAL, color=FAINT, loc="left")
    surface_title(figure, quoted.surface, "residuals")
    return figure


def residual_map(quoted: Quoted, by: Literal["delta", "strike"] = "delta") -> Figure:
    """Where the model lies above its mids (red) and where below (blue), in half-spreads.

    A row per expiry, a column per delta bucket or range of normalised strikes; a cell is the mean
    over its two-sided quotes, in brackets in bp of vol. Beyond ±1 the model leaves bid–ask.
    """
    views = [view for view in smiles_of(quoted) if view.fitted is not None and view.two_sided.any()]
    columns = [each.value for each in DELTA_BUCKETS] if by == "delta" else _strike_texts()
    ratio = np.full((len(views), len(columns)), np.nan)
    points = ratio.copy()
    for row, view in enumerate(views):
        depth, miss, half = _misses(view)
        column = _delta_columns(view, depth) if by == "delta" else _strike_columns(depth)
        for each in np.unique(column[column >= 0]):
            mine = column == each
            ratio[row, each] = np.mean(miss[mine] / np.maximum(half[mine], 1e-12))
            points[row, each] = 1e4 * np.mean(miss[mine])
    texts = [
        [f"{a:+.2f} ({b:+.0f})" if np.isfinite(a) else "" for a, b in zip(*line, strict=True)]
        for line in zip(ratio, points, strict=True)
    ]
    figure = new_figure(7.2 if by == "delta" else 10.4, 0.27 * max(len(views), 1) + 1.5)
    axes = figure.add_subplot()
    names = [f"{view.label} ({tenor_text(view.years)})" for view in views]
    shown = ratio if len(views) else np.full((1, len(columns)), np.nan)
    image = draw_heat(axes, shown, texts, names, columns, colours="RdBu_r", limits=(-1.0, 1.0))
    axes.set_facecolor("#f2f2f2")
    label = "delta" if by == "delta" else "normalised strike ln(K/F) / (ATM vol √T)"
    axes.set_xlabel(label, fontsize=SMALL, color=INK)
    bar = figure.colorbar(image, ax=axes, shrink=0.95, extend="both")
    bar.ax.tick_params(labelsize=SMALL, colors=INK)
    bar.set_label("model − mid, half-spreads", fontsize=SMALL, color=INK)
    surface_title(figure, quoted.surface, "mean residuals, half-spreads (bp of vol)")
    return figure


def _misses(view: Smile) -> tuple[Floats, Floats, Floats]:
    """Of each two-sided quote: normalised strike, model less mid, half-spread."""
    k = view.log_moneyness[view.two_sided]
    bid, ask = view.bid_vol[view.two_sided], view.ask_vol[view.two_sided]
    depth = k / (view.atm_vol * np.sqrt(view.years))
    return depth, view.model_vol(k) - 0.5 * (bid + ask), 0.5 * (ask - bid)


def _delta_columns(view: Smile, depth: Floats) -> Ints:
    k = view.log_moneyness[view.two_sided]
    w = view.model_vol(k) ** 2 * view.years
    return bucket_numbers(call_delta(k, w))


def _strike_columns(depth: Floats) -> Ints:
    return np.searchsorted(STRIKE_EDGES[1:-1], depth)


def _strike_texts() -> list[str]:
    inner = [f"{a:g} to {b:g}" for a, b in pairwise(STRIKE_EDGES[1:-1])]
    return [f"< {STRIKE_EDGES[1]:g}", *inner, f"> {STRIKE_EDGES[-2]:g}"]
