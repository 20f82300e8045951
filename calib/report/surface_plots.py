"""Pictures of a surface as a whole: total variance, and vols over strike and time."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from calib.conventions import ExpiryCalendar, Floats
from calib.report.style import (
    GRID,
    INK,
    MODEL,
    REACH,
    SMALL,
    colour_map,
    expiry_colours,
    expiry_texts,
    new_figure,
    plain_axes,
    surface_title,
    tenor_text,
)
from calib.surface.surface import ExpirySlice, Surface

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# A legend of more lines would be taller than its picture.
MOST_NAMED = 16
STRIKE_AXIS = "normalised strike ln(K/F) / (ATM vol √T)"


def total_variance(surface: Surface) -> Figure:
    """Total variance by log-moneyness, a line per expiry: lines that cross are calendar arbitrage.

    The scale is logarithmic, so that short expiries show beside long ones; a line is dashed where
    it leaves its quotes. All lines reach as far as the widest quoted range, cut at a width that
    the longest expiry makes sensible. A × marks where an expiry crosses the one before it, a thick
    red line where it lies below; independent expiries may, and are not marked.
    """
    figure = new_figure(7.6, 4.6)
    axes = figure.add_subplot()
    plain_axes(axes, "log-moneyness ln(K/F)", "total variance, log scale")
    axes.set_yscale("log")
    count = len(surface.expiries)
    texts = expiry_texts(each.expiry for each in surface.expiries)
    named = np.unique(np.linspace(0, max(count - 1, 0), MOST_NAMED).round())
    k = np.linspace(-1.0, 1.0, 401) * REACH * np.sqrt(_longest_atm_variance(surface))
    lines = [np.asarray(surface.total_variance(k, each.expiry)) for each in surface.expiries]
    for i, (each, w, colour) in enumerate(
        zip(surface.expiries, lines, expiry_colours(count), strict=True)
    ):
        inside = (k >= each.log_moneyness_min) & (k <= each.log_moneyness_max)
        axes.plot(k, w, color=colour, linewidth=0.9, linestyle=(0, (2, 2)), alpha=0.7)
        label = f"{texts[i]} ({tenor_text(each.years)})" if i in named else None
        axes.plot(k, np.where(inside, w, np.nan), color=colour, linewidth=1.8, label=label)
    if surface.calendar is not ExpiryCalendar.INDEPENDENT:
        _mark_crossings(axes, k, lines)
    if surface.expiries:
        axes.legend(
            fontsize=SMALL,
            frameon=False,
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
            reverse=True,
            labelcolor=INK,
        )
    surface_title(figure, surface, "total variance by expiry")
    return figure


def surface(surface: Surface) -> Figure:
    """The vol surface in three dimensions, over normalised strike and time to expiry.

    The strike axis counts at-the-money standard deviations, ln(K/F) / (ATM vol √T): short and long
    expiries then cover the same width. Lines stand at fitted expiries. Independent expiries have
    nothing between them and are drawn as lines only.
    """
    figure = new_figure(7.6, 5.2)
    axes: Any = figure.add_subplot(projection="3d")
    depth = np.linspace(-REACH, REACH, 61)
    fitted = np.array([each.years for each in surface.expiries])
    if _is_joined(surface):
        years = _times_between(fitted)
        vols = np.stack([_vols_by_depth(surface, float(t), depth) for t in years])
        x, y = np.meshgrid(depth, np.log(years))
        axes.plot_surface(
            x,
            y,
            100.0 * vols,
            cmap=colour_map(),
            rstride=1,
            cstride=1,
            linewidth=0.0,
            antialiased=True,
            alpha=0.92,
            shade=False,
        )
    for t, each in zip(fitted, surface.expiries, strict=True):
        line = 100.0 * _vols_of(surface, each, depth)
        axes.plot(depth, np.full_like(depth, np.log(t)), line, color=INK, linewidth=0.8)
    shown = _spread_out(np.log(fitted), 0.09)
    axes.set_yticks([np.log(fitted[i]) for i in shown], [tenor_text(fitted[i]) for i in shown])
    axes.set_xlabel("normalised strike", fontsize=SMALL, color=INK)
    axes.set_ylabel("time to expiry", fontsize=SMALL, color=INK, labelpad=8)
    axes.set_zlabel("vol, %", fontsize=SMALL, color=INK)
    axes.tick_params(labelsize=SMALL, colors=INK, pad=1)
    for pane in (axes.xaxis, axes.yaxis, axes.zaxis):
        pane.set_pane_color((1.0, 1.0, 1.0, 0.0))
        pane._axinfo["grid"].update(color=GRID, linewidth=0.6)
    axes.view_init(elev=24, azim=-56)
    axes.set_box_aspect((1.25, 1.3, 0.8))
    figure.set_layout_engine("none")
    axes.set_position((0.0, 0.02, 0.95, 0.98))
    surface_title(figure, surface, "implied vol")
    return figure


def contour(surface: Surface) -> Figure:
    """The vol surface from above: lines of equal vol over normalised strike and time to expiry.

    Ticks on the time axis and faint lines stand at fitted expiries; what lies outside the quoted
    strikes is pale behind a dashed border. Independent expiries have nothing between them: each is
    a strip of its own.
    """
    figure = new_figure(7.6, 4.8)
    axes = figure.add_subplot()
    plain_axes(axes, STRIKE_AXIS, "time to expiry")
    axes.grid(visible=False)
    depth = np.linspace(-REACH, REACH, 121)
    fitted = np.array([each.years for each in surface.expiries])
    filled: Any = None
    if _is_joined(surface):
        years = _times_between(fitted)
        vols = 100.0 * np.stack([_vols_by_depth(surface, float(t), depth) for t in years])
        y = np.log(years)
        levels = _levels(vols)
        filled = axes.contourf(depth, y, vols, levels=levels, cmap=colour_map(), extend="both")
        lines = axes.contour(depth, y, vols, levels=levels, colors="white", linewidths=0.7)
        axes.clabel(lines, fontsize=SMALL - 0.5, fmt="%g")
        _veil(axes, *_quoted_depths(surface, years), y)
        for t in fitted:
            axes.axhline(np.log(t), color="white", linewidth=0.5, alpha=0.6)
        shown = _spread_out(np.log(fitted), 0.035)
        axes.set_yticks([np.log(fitted[i]) for i in shown], [tenor_text(fitted[i]) for i in shown])
    elif len(fitted):
        y = np.arange(len(fitted), dtype=np.float64)
        vols = 100.0 * np.stack([_vols_of(surface, each, depth) for each in surface.expiries])
        filled = axes.pcolormesh(depth, y, vols, cmap=colour_map(), shading="nearest")
        axes.set_yticks(y, expiry_texts(each.expiry for each in surface.expiries))
        for between in y[1:] - 0.5:
            axes.axhline(between, color="white", linewidth=2.0)
    if filled is not None:
        bar = figure.colorbar(filled, ax=axes, shrink=0.9)
        bar.ax.tick_params(labelsize=SMALL, colors=INK)
        bar.set_label("vol, %", fontsize=SMALL, color=INK)
    surface_title(figure, surface, "implied vol")
    return figure


def _mark_crossings(axes: Axes, k: Floats, lines: list[Floats]) -> None:
    """Where an expiry lies below the one before it."""
    places: list[tuple[float, float]] = []
    below_anywhere = False
    for near, far in pairwise(lines):
        gap = np.log(far) - np.log(near)
        below = gap < 0.0
        if not below.any():
            continue
        label = None if below_anywhere else "below the expiry before: arbitrage"
        below_anywhere = True
        axes.plot(
            k, np.where(below, far, np.nan), color=MODEL, linewidth=3.0, alpha=0.55, label=label
        )
        at = np.flatnonzero(below[1:] != below[:-1])
        share = gap[at] / (gap[at] - gap[at + 1])
        w = np.exp((1.0 - share) * np.log(near[at]) + share * np.log(near[at + 1]))
        places += zip(k[at] + share * (k[at + 1] - k[at]), w, strict=True)
    if places:
        x, y = np.array(places).T
        axes.plot(
            x,
            y,
            "x",
            color=MODEL,
            markersize=7,
            markeredgewidth=1.8,
            zorder=5,
            label="expiries cross",
        )


def _veil(axes: Axes, low: Floats, high: Floats, y: Floats) -> None:
    """Pale what lies outside the quoted strikes."""
    for edge, end in ((low, -REACH), (high, REACH)):
        axes.fill_betweenx(y, edge, end, color="white", alpha=0.45, linewidth=0)
        axes.plot(edge, y, color=INK, linewidth=0.9, linestyle=(0, (3, 2)))
    axes.set_xlim(-REACH, REACH)
    axes.set_ylim(y[0], y[-1])


def _quoted_depths(surface: Surface, years: Floats) -> tuple[Floats, Floats]:
    """Both ends of the quoted range at times between expiries, in normalised strikes."""
    at = surface.place(1.0, years)[1]
    smiles = surface.smiles
    root = np.sqrt(np.asarray(surface.total_variance(0.0, years)))

    def between(ends: Floats) -> Floats:
        found = ends[at.lower] + at.fraction * (ends[at.upper] - ends[at.lower])
        return np.asarray(np.clip(found / root, -REACH, REACH))

    return between(smiles.k_min), between(smiles.k_max)


def _levels(vols: Floats) -> Floats:
    from matplotlib.ticker import MaxNLocator

    low, high = np.quantile(vols[np.isfinite(vols)], [0.002, 0.998])
    return np.asarray(MaxNLocator(14).tick_values(float(low), float(high)), np.float64)


def _is_joined(surface: Surface) -> bool:
    """Whether there are values between expiries."""
    return len(surface.expiries) > 1 and surface.calendar is not ExpiryCalendar.INDEPENDENT


def _times_between(fitted: Floats) -> Floats:
    return np.union1d(np.geomspace(fitted[0], fitted[-1], 60)[1:-1], fitted)


def _vols_of(surface: Surface, each: ExpirySlice, depth: Floats) -> Floats:
    return _vols_by_depth(surface, each.expiry, depth, each.years)


def _vols_by_depth(
    surface: Surface, expiry: Any, depth: Floats, years: float | None = None
) -> Floats:
    atm = float(surface.total_variance(0.0, expiry))
    w = surface.total_variance(depth * np.sqrt(atm), expiry)
    return np.asarray(np.sqrt(w / (expiry if years is None else years)), np.float64)


def _longest_atm_variance(surface: Surface) -> float:
    found = [float(surface.total_variance(0.0, each.expiry)) for each in surface.expiries]
    return max(found, default=0.0)


def _spread_out(places: Floats, share: float) -> list[int]:
    """Indices of places that stand a share of their range apart at least, the last among them."""
    kept: list[int] = []
    for i in reversed(range(len(places))):
        if not kept or places[kept[-1]] - places[i] >= share * np.ptp(places):
            kept.append(i)
    return kept[::-1]
