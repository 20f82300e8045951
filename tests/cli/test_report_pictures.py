"""The pictures of model risk show something: the test fails on axes that are empty or of one
colour."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray

from calib.report import risk_plots
from calib.report.history import History, stored_histories
from calib.report.style import new_figure, plain_axes
from calib.store import open_store
from tests.cli.backtest_run import Run

GRID_AND_SHADES = 60.0
"""Distances from white, in 255ths, up to which a colour is taken for grid, shade or paper."""


@pytest.fixture(scope="module")
def history(climbing: Run) -> History:
    with open_store(str(climbing.store)) as store:
        (found,) = stored_histories(store)
    return found


def insides(figure: Figure) -> list[NDArray[np.float64]]:
    """The pixels within each pair of axes, without frame, legend and text."""
    for axes in figure.axes:
        legend = axes.get_legend()
        for drawn in [*axes.texts, *([] if legend is None else [legend])]:
            drawn.set_visible(False)
    figure.canvas.draw()
    image = np.asarray(figure.canvas.buffer_rgba(), np.float64)[..., :3]  # type: ignore[attr-defined]
    found = []
    for axes in figure.axes:
        box = axes.get_window_extent()
        x0, x1 = int(box.x0) + 4, int(box.x1) - 4
        y0, y1 = image.shape[0] - int(box.y1) + 4, image.shape[0] - int(box.y0) - 4
        found.append(image[y0:y1, x0:x1])
    return found


def shows_something(pixels: NDArray[np.float64]) -> bool:
    away = np.sqrt(((255.0 - pixels) ** 2).sum(axis=-1))
    painted = float((away > GRID_AND_SHADES).mean())
    varied = float(np.abs(pixels - pixels.mean(axis=(0, 1))).max())
    return painted > 0.002 and varied > 20.0


DRAWN: tuple[tuple[Callable[[History], Figure], int], ...] = (
    (risk_plots.residual_map, 3),  # two maps and their colour bar
    (risk_plots.control_charts, 4),  # two tenors, level and skew
    (risk_plots.market_course, 3),
    (risk_plots.breaker_timeline, 1),
    (risk_plots.disagreement_map, 2),
)


@pytest.mark.parametrize(("draw", "panels"), DRAWN, ids=lambda one: getattr(one, "__name__", ""))
def test_every_panel_shows_something(
    history: History, draw: Callable[[History], Figure], panels: int
) -> None:
    found = insides(draw(history))
    assert len(found) == panels
    assert all(shows_something(pixels) for pixels in found)


@pytest.mark.parametrize("colour", ["white", "#8f1d1d"])
def test_an_empty_or_constant_panel_does_not(colour: str) -> None:
    figure = new_figure(4.0, 3.0)
    axes = figure.add_subplot()
    plain_axes(axes, "x", "y")
    axes.grid(visible=colour == "white")
    axes.set_facecolor(colour)
    (pixels,) = insides(figure)
    assert not shows_something(pixels)


def test_an_alarm_is_a_dot_beyond_the_limit(history: History) -> None:
    figure = risk_plots.control_charts(history)
    dots = [
        value
        for axes in figure.axes
        for line in axes.get_lines()
        if line.get_marker() == "o"
        for value in np.asarray(line.get_ydata(), np.float64).tolist()
    ]
    assert len(dots) == len(history.alarms) > 0
    np.testing.assert_allclose(
        sorted(dots), sorted(history.alarms["value"] / history.alarms["limit"]), rtol=1e-12
    )
