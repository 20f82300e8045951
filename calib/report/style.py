"""How pictures look: colours, sizes, axes, and the labels of numbers on them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import numpy as np

from calib.conventions import to_datetime

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1b2733"
FAINT = "#8895a3"
GRID = "#e4e8ed"
QUOTE = "#3b5b7c"
MODEL = "#c8322b"
BAND = "#f6d5d0"
REJECTED = "#c3cad2"
CEILING = "#b06a00"
FLOOR = "#2b7f5e"
QUOTED = "#f3f6fa"

SMALL, NORMAL, LARGE = 7.5, 8.5, 10.0

XAxis = Literal["log_moneyness", "strike"]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that many inches, drawn by Agg and known to no one but its caller."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def plain_axes(axes: Axes, xlabel: str = "", ylabel: str = "") -> None:
    """Light axes: a faint grid behind, no box, small labels."""
    axes.set_axisbelow(True)
    axes.grid(visible=True, color=GRID, linewidth=0.7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=SMALL, length=2.5, color=FAINT)
    axes.set_xlabel(xlabel, fontsize=SMALL, color=INK)
    axes.set_ylabel(ylabel, fontsize=SMALL, color=INK)


def date_text(moment: np.datetime64) -> str:
    """``27 Mar 2026``, in UTC."""
    date = to_datetime(moment)
    return f"{date.day} {date:%b %Y}"


def expiry_texts(expiries: Iterable[np.datetime64]) -> list[str]:
    """The dates of expiries, with the time of day for those that share a date."""
    moments = list(expiries)
    dates = [date_text(each) for each in moments]
    return [
        f"{date} {to_datetime(each):%H:%M}" if dates.count(date) > 1 else date
        for date, each in zip(dates, moments, strict=True)
    ]


def tenor_text(years: float) -> str:
    """Time to expiry as people say it: hours, days, months or years."""
    days = years * 365.0
    if days < 2.0:
        return f"{days * 24.0:.0f} h"
    if days < 100.0:
        return f"{days:.0f} d"
    if days < 700.0:
        return f"{days / 365.0 * 12.0:.0f} m"
    return f"{years:.1f} y"


def price_text(price: float) -> str:
    """A forward or strike with as many decimals as its size needs."""
    if not np.isfinite(price):
        return "–"
    decimals = int(np.clip(5 - np.floor(np.log10(max(abs(price), 1e-12))) - 1, 0, 6))
    return f"{price:,.{decimals}f}"


def percent_text(value: float, decimals: int = 1) -> str:
    """A decimal in percent, a dash where there is none."""
    return f"{100.0 * value:.{decimals}f}%" if np.isfinite(value) else "–"
