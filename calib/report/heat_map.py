"""A table of numbers on one pair of axes, coloured by size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from calib.conventions import Floats
from calib.report.style import INK, SMALL, plain_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_heat(
    axes: Axes,
    values: Floats,
    texts: Sequence[Sequence[str]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    colours: str,
    limits: tuple[float, float],
) -> Any:
    """Draw values (rows, columns) with a text in each cell, and give the image, for its bar.

    ``limits`` that begin below 0 are those of diverging ``colours``, with 0 in their middle.
    """
    plain_axes(axes)
    axes.grid(visible=False)
    image = axes.imshow(
        values, aspect="auto", cmap=colours, vmin=limits[0], vmax=limits[1], interpolation="nearest"
    )
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    middle, half = 0.5 * (limits[0] + limits[1]), 0.5 * (limits[1] - limits[0])
    for i, line in enumerate(texts):
        for j, text in enumerate(line):
            depth = abs(values[i, j] - middle) / half if limits[0] < 0 else values[i, j] / limits[1]
            colour = "white" if depth > 0.7 else INK
            axes.text(j, i, text, ha="center", va="center", fontsize=SMALL, color=colour)
    return image
