"""Pictures of smiles against their quotes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from calib.conventions import to_instant
from calib.errors import NotFitted
from calib.report.axes_smile import draw_smile
from calib.report.smiles import Quoted, smile_at, smiles_of
from calib.report.style import XAxis, new_figure, surface_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    surface_title(figure, quoted.surface)
    return figure


def smiles(quoted: Quoted, x: XAxis = "log_moneyness", columns: int = 3) -> Figure:
    """The smiles of all expiries of the chain, one panel each."""
    views = smiles_of(quoted)
    columns = max(1, min(columns, len(views)))
    rows = max(1, -(-len(views) // columns))
    figure = new_figure(4.1 * columns, 2.9 * rows + 0.4)
    for index, view in enumerate(views):
        draw_smile(figure.add_subplot(rows, columns, index + 1), view, x, legend=index == 0)
    surface_title(figure, quoted.surface)
    return figure
