"""A picture of which quotes hold a vol up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from calib.conventions import Floats
from calib.report.smiles import smiles_of
from calib.report.style import (
    FAINT,
    INK,
    MODEL,
    NORMAL,
    QUOTE,
    new_figure,
    plain_axes,
    price_text,
    surface_title,
    tenor_text,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from calib.fitting.fit_value import Fit

_LARGEST = 420.0  # points², of the bubble of the strongest quote


def leverage(fit: Fit, strike: float, expiry: Any) -> Figure:
    """Which quotes hold the vol at a strike and expiry up: a bubble a quote, a bar an expiry.

    The area of a bubble is the derivative of the fitted vol by the quoted one: blue, the vol
    follows the quote; red, it moves against it. Bars are sums by expiry; all together they say what
    the vol moves when every quote moves by one point. The star is the vol in question. Raises what
    `calib.Fit.leverage` raises.
    """
    table = fit.leverage(strike, expiry)
    by_row = table["leverage"].to_numpy(np.float64)
    views = smiles_of(fit)
    owner = fit.slices.slice_index
    k_there, at = fit.surface.place(float(strike), expiry)
    years_there = float(at.years)
    figure = new_figure(9.6, 0.24 * len(views) + 2.6)
    axes, sums = figure.subplots(1, 2, sharey=True, width_ratios=(4, 1.3))
    plain_axes(axes, "normalised strike ln(K/F) / (ATM vol √T)", "")
    plain_axes(sums, "∂vol/∂quote, sum over the expiry", "")
    top = max(float(np.abs(by_row).max()), 1e-12)
    for place, view in enumerate(views):
        rows = owner == place
        total = float(by_row[rows].sum())
        sums.barh(place, total, height=0.6, color=QUOTE if total >= 0.0 else MODEL)
        if view.fitted is None:
            continue
        depth = fit.slices.log_moneyness[rows] / (view.atm_vol * np.sqrt(view.years))
        mine = by_row[rows]
        shown = fit.used[rows]
        axes.scatter(depth[shown], np.full(shown.sum(), place), s=3, color=FAINT, linewidths=0)
        for sign, colour in ((1.0, QUOTE), (-1.0, MODEL)):
            held = sign * mine > 0.0
            axes.scatter(
                depth[held],
                np.full(held.sum(), place),
                s=_LARGEST * sign * mine[held] / top,
                color=colour,
                alpha=0.6,
                linewidths=0,
                gid="follows" if sign > 0.0 else "opposes",
            )
    atm = float(fit.surface.total_variance(0.0, expiry))
    star = float(np.interp(years_there, [v.years for v in views], np.arange(len(views))))
    axes.plot(
        k_there / np.sqrt(atm),
        star,
        "*",
        color="#f2b134",
        markeredgecolor=INK,
        markersize=13,
        zorder=5,
    )
    axes.set_yticks(range(len(views)), [f"{v.label} ({tenor_text(v.years)})" for v in views])
    axes.set_ylim(len(views) - 0.4, -0.6)
    axes.set_xlim(*_reach(axes.get_xlim()))
    sums.axvline(0.0, color=FAINT, linewidth=0.8)
    strongest = table.loc[np.abs(by_row).argmax()]
    axes.set_title(
        f"star: strike {price_text(float(strike))}, {tenor_text(years_there)};   strongest: "
        f"{price_text(float(strongest.strike))} {strongest.right}, {strongest.leverage:+.3f}",
        fontsize=NORMAL,
        color=INK,
        loc="left",
    )
    sums.set_title(f"all together {by_row.sum():+.3f}", fontsize=NORMAL, color=INK, loc="left")
    surface_title(figure, fit.surface, "which quotes hold a vol up")
    return figure


def _reach(limits: tuple[float, float]) -> Floats:
    """Far wings hold little up and would press the rest together."""
    return np.clip(limits, -6.0, 6.0)
