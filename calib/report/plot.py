"""Pictures of smiles and surfaces as matplotlib figures; vols in percent, log-moneyness ln(K/F).

Every function takes a :class:`calib.Fit` (or any value with ``surface`` and ``slices``) or a bare
:class:`calib.Surface`, and returns a new figure: ``figure.savefig("smile.png")`` writes it, and a
notebook shows it. matplotlib's global state is neither read nor changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from calib.conventions import ExpiryCalendar, Floats, to_instant
from calib.errors import NotFitted
from calib.report.axes_smile import draw_smile
from calib.report.smiles import Quoted, Smile, smile_at, smiles_of
from calib.report.style import (
    FAINT,
    GRID,
    INK,
    LARGE,
    MODEL,
    NORMAL,
    SMALL,
    XAxis,
    expiry_texts,
    new_figure,
    plain_axes,
    tenor_text,
)
from calib.surface.surface import Surface

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Pictures of a whole surface reach this many at-the-money standard deviations to either side.
REACH = 2.5
# A legend of more lines would be taller than its picture.
MOST_NAMED = 16


def smile(quoted: Quoted, expiry: Any, x: XAxis = "log_moneyness") -> Figure:
    """The smile of one expiry against its quotes.

    ``expiry`` is datetime-like and one of the chain's. Raises NotFitted where the chain has none
    such.
    """
    found = smile_at(quoted, to_instant(expiry))
    if found is None:
        held = ", ".join(str(each)[:16] for each in quoted.slices.expiry) or "none"
        raise NotFitted(f"no expiry {expiry} in the chain; it has {held}")
    figure = new_figure(7.6, 4.6)
    draw_smile(figure.add_subplot(), found, x, legend=True)
    _title(figure, quoted.surface)
    return figure


def smiles(quoted: Quoted, x: XAxis = "log_moneyness", columns: int = 3) -> Figure:
    """The smiles of all expiries of the chain, one panel each."""
    views = smiles_of(quoted)
    columns = max(1, min(columns, len(views)))
    rows = max(1, -(-len(views) // columns))
    figure = new_figure(4.1 * columns, 2.9 * rows + 0.4)
    for index, view in enumerate(views):
        draw_smile(figure.add_subplot(rows, columns, index + 1), view, x, legend=index == 0)
    _title(figure, quoted.surface)
    return figure


def total_variance(surface: Surface) -> Figure:
    """Total variance by log-moneyness, a line per expiry: lines that cross are calendar arbitrage.

    The scale is logarithmic, so that short expiries show beside long ones; a line is dashed where
    it leaves its quotes. All lines reach as far as the widest quoted range, cut at a width that
    the longest expiry makes sensible.
    """
    figure = new_figure(7.6, 4.6)
    axes = figure.add_subplot()
    plain_axes(axes, "log-moneyness ln(K/F)", "total variance, log scale")
    axes.set_yscale("log")
    count = len(surface.expiries)
    texts = expiry_texts(each.expiry for each in surface.expiries)
    named = np.unique(np.linspace(0, max(count - 1, 0), MOST_NAMED).round())
    for i, (each, colour) in enumerate(zip(surface.expiries, _by_expiry(count), strict=True)):
        reach = REACH * np.sqrt(_longest_atm_variance(surface))
        low, high = each.log_moneyness_min, each.log_moneyness_max
        k = np.linspace(-reach, reach, 401)
        w = surface.total_variance(k, each.expiry)
        inside = (k >= low) & (k <= high)
        axes.plot(k, w, color=colour, linewidth=0.9, linestyle=(0, (2, 2)), alpha=0.7)
        label = f"{texts[i]} ({tenor_text(each.years)})" if i in named else None
        axes.plot(k, np.where(inside, w, np.nan), color=colour, linewidth=1.8, label=label)
    if surface.expiries:
        axes.legend(
            fontsize=SMALL,
            frameon=False,
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
            reverse=True,
            labelcolor=INK,
        )
    _title(figure, surface, "total variance by expiry")
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
    if len(fitted) > 1 and surface.calendar is not ExpiryCalendar.INDEPENDENT:
        years = np.union1d(np.geomspace(fitted[0], fitted[-1], 60)[1:-1], fitted)
        vols = np.stack([_vols_by_depth(surface, float(t), depth) for t in years])
        x, y = np.meshgrid(depth, np.log(years))
        axes.plot_surface(
            x,
            y,
            100.0 * vols,
            cmap=_colour_map(),
            rstride=1,
            cstride=1,
            linewidth=0.0,
            antialiased=True,
            alpha=0.92,
            shade=False,
        )
    for t, each in zip(fitted, surface.expiries, strict=True):
        line = 100.0 * _vols_by_depth(surface, each.expiry, depth)
        axes.plot(depth, np.full_like(depth, np.log(t)), line, color=INK, linewidth=0.8)
    shown = _spread_out(np.log(fitted), 0.09 * np.ptp(np.log(fitted))) if len(fitted) else []
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
    _title(figure, surface, "implied vol")
    return figure


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
    for view, colour in zip(views, _by_expiry(len(views)), strict=True):
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
    _title(figure, quoted.surface, "residuals")
    return figure


def _misses(view: Smile) -> tuple[Floats, Floats, Floats]:
    k = view.log_moneyness[view.two_sided]
    bid, ask = view.bid_vol[view.two_sided], view.ask_vol[view.two_sided]
    depth = k / (view.atm_vol * np.sqrt(view.years))
    return depth, view.model_vol(k) - 0.5 * (bid + ask), 0.5 * (ask - bid)


def _vols_by_depth(surface: Surface, expiry: Any, depth: Floats) -> Floats:
    atm = float(surface.total_variance(0.0, expiry))
    w = surface.total_variance(depth * np.sqrt(atm), expiry)
    years = expiry if isinstance(expiry, float) else _years_of(surface, expiry)
    return np.asarray(np.sqrt(w / years), np.float64)


def _years_of(surface: Surface, expiry: np.datetime64) -> float:
    return next(each.years for each in surface.expiries if each.expiry == expiry)


def _longest_atm_variance(surface: Surface) -> float:
    return max(float(surface.total_variance(0.0, each.expiry)) for each in surface.expiries)


def _spread_out(places: Floats, gap: float) -> list[int]:
    """Indices of places that stand at least ``gap`` apart, the last one among them."""
    kept: list[int] = []
    for i in reversed(range(len(places))):
        if not kept or places[kept[-1]] - places[i] >= gap:
            kept.append(i)
    return kept[::-1]


def _by_expiry(count: int) -> list[Any]:
    return [_colour_map()(0.88 * i / max(count - 1, 1)) for i in range(count)]


def _colour_map() -> Any:
    from matplotlib import colormaps

    return colormaps["viridis"]


def _title(figure: Figure, surface: Surface, what: str = "") -> None:
    text = f"{surface.underlying}  {str(surface.quote_time)[:16].replace('T', ' ')} UTC"
    text += f"  {surface.model.name}" + (f", {what}" if what else "")
    figure.suptitle(text, fontsize=LARGE, color=INK, x=0.01, ha="left")
