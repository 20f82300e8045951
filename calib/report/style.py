"""How pictures look: colours, sizes, axes, and the labels of numbers on them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from calib.conventions import Floats, to_datetime
from calib.report.canvas import put_on_canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from calib.surface.surface import Surface

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


REACH = 2.5
"""Pictures of a whole surface reach this many at-the-money standard deviations to either side."""

DASHED = (0, (3, 2))
"""The line beyond the quotes."""


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that many inches, known to no one but its caller.

    It is drawn by Agg; in a notebook that has chosen ``%matplotlib widget`` it can be moved and
    enlarged there.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained", facecolor="white")
    put_on_canvas(figure)
    return figure


def surface_title(figure: Figure, surface: Surface, what: str = "") -> None:
    """Say above a figure which surface it is of, and what of it."""
    text = f"{surface.underlying}  {str(surface.quote_time)[:16].replace('T', ' ')} UTC"
    figure_title(figure, f"{text}  {surface.model.name}" + (f", {what}" if what else ""))


def figure_title(figure: Figure, text: str) -> None:
    """One line above a figure."""
    figure.suptitle(text, fontsize=LARGE, color=INK, x=0.01, ha="left")


def expiry_colours(count: int) -> list[Any]:
    """A colour for each of so many expiries in order of time, dark is near."""
    return [colour_map()(0.88 * i / max(count - 1, 1)) for i in range(count)]


def colour_map() -> Any:
    """From dark to light: vols, and expiries by time."""
    from matplotlib import colormaps

    return colormaps["viridis"]


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


def date_numbers(moments: Any) -> Floats:
    """Instants (datetimes or datetime64, UTC) as matplotlib counts them, in days."""
    import pandas as pd
    from matplotlib import dates

    naive = pd.to_datetime(pd.Series(moments), utc=True).dt.tz_localize(None).to_numpy()
    untyped: Any = dates
    return np.asarray(untyped.date2num(naive), np.float64)


def date_axes(panels: Iterable[Axes]) -> None:
    """Dates along the horizontal axes, as short as can be."""
    from matplotlib import dates

    untyped: Any = dates
    for axes in panels:
        locator = untyped.AutoDateLocator(minticks=4, maxticks=10)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(untyped.ConciseDateFormatter(locator))
        axes.tick_params(axis="x", labelbottom=True)
        axes.xaxis.get_offset_text().set_fontsize(SMALL)


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


def age_text(seconds: float) -> str:
    """An age in the unit that suits it, a dash where there is none."""
    if not np.isfinite(seconds):
        return "–"
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2.0 * size:
            return f"{seconds / size:.0f} {unit}"
    if seconds >= 1.0:
        return f"{seconds:.1f} s"
    return f"{1_000.0 * seconds:.0f} ms"
