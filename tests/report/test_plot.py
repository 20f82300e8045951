"""What is drawn is what the numbers say, and matplotlib's global state is left alone."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from calib.conventions import ExpiryCalendar, iso
from calib.errors import NotFitted
from calib.report import plot
from calib.report.smiles import QuotedSurface, smile_at, smiles_of
from calib.report.style import XAxis
from calib.surface.hold import Hold
from calib.surface.surface import Surface
from tests.report.samples import DAYS, NOW, UNFITTED_DAYS, quoted_of, surface_of

MONTH = NOW + np.timedelta64(30, "D")


def labelled(axes: Any) -> dict[str, Any]:
    handles, labels = axes.get_legend_handles_labels()
    return dict(zip(labels, handles, strict=True))


def sticks(container: Any) -> np.ndarray:
    """Lower and upper ends of error-bar sticks, a row each."""
    (bars,) = container.lines[2]
    assert isinstance(bars, LineCollection)
    return np.array([segment[:, 1] for segment in bars.get_segments()])


def test_sticks_run_from_bid_to_ask_in_percent(quoted: QuotedSurface) -> None:
    view = smile_at(quoted, MONTH)
    assert view is not None
    (axes,) = plot.smile(quoted, MONTH).axes
    drawn = sticks(labelled(axes)["bid to ask"])
    bid, ask = view.bid_vol[view.two_sided], view.ask_vol[view.two_sided]
    np.testing.assert_allclose(drawn, 100.0 * np.stack([bid, ask], axis=1), rtol=1e-12)


@pytest.mark.parametrize("x", ["log_moneyness", "strike"])
def test_the_line_is_the_model_over_the_chosen_axis(quoted: QuotedSurface, x: XAxis) -> None:
    view = smile_at(quoted, MONTH)
    assert view is not None
    (axes,) = plot.smile(quoted, MONTH, x).axes
    places, vols = labelled(axes)["SVI"].get_data()
    k = np.log(places / view.forward) if x == "strike" else places
    inside = np.isfinite(vols)
    low, high = view.quoted_range
    assert inside.any()
    assert (k[inside] >= low).all()
    assert (k[inside] <= high).all()
    np.testing.assert_allclose(vols[inside], 100.0 * view.model_vol(k[inside]), rtol=1e-10)
    (place,), (vol,) = labelled(axes)["at the money"].get_data()
    assert place == pytest.approx(view.forward if x == "strike" else 0.0)
    assert vol == pytest.approx(100.0 * view.atm_vol)


def test_one_sided_quotes_are_triangles_at_their_side(quoted: QuotedSurface) -> None:
    view = smile_at(quoted, MONTH)
    assert view is not None
    (axes,) = plot.smile(quoted, MONTH).axes
    ceiling = labelled(axes)["ask only: a ceiling"].get_offsets()
    floor = labelled(axes)["bid only: a floor"].get_offsets()
    np.testing.assert_allclose(ceiling[:, 1], 100.0 * view.ask_vol[view.ceiling])
    np.testing.assert_allclose(floor[:, 1], 100.0 * view.bid_vol[view.floor])


def test_an_expiry_that_was_not_fitted_shows_its_quotes_in_grey_and_says_so(
    quoted: QuotedSurface,
) -> None:
    (axes,) = plot.smile(quoted, NOW + np.timedelta64(UNFITTED_DAYS, "D")).axes
    assert "not fitted" in axes.get_title(loc="left")
    assert set(labelled(axes)) == {"not used"}


def test_a_held_smile_says_so_and_of_when_it_is(quoted: QuotedSurface) -> None:
    hold = Hold(NOW - np.timedelta64(90, "s"), "e", 3, 0.5)
    expiries = tuple(replace(each, hold=hold) for each in quoted.surface.expiries)
    held = replace(quoted, surface=replace(quoted.surface, expiries=expiries))
    (axes,) = plot.smile(held, MONTH).axes
    told = f"held: the smile of {iso(NOW - np.timedelta64(90, 's'))}, 50% of it"
    assert told in axes.get_title(loc="left")
    assert "rms" not in axes.get_title(loc="left")
    assert str(Hold()) == "held, without a good smile: as newly fitted"


def test_the_grid_has_a_panel_for_every_expiry(quoted: QuotedSurface) -> None:
    assert len(plot.smiles(quoted).axes) == len(smiles_of(quoted))


def test_total_variance_has_a_line_an_expiry_and_its_values(quoted: QuotedSurface) -> None:
    (axes,) = plot.total_variance(quoted.surface).axes
    lines = labelled(axes)
    assert len(lines) == len(DAYS)
    for line, each in zip(lines.values(), quoted.surface.expiries, strict=True):
        k, w = line.get_data()
        seen = np.isfinite(w)
        np.testing.assert_allclose(w[seen], quoted.surface.total_variance(k[seen], each.expiry))


def test_residuals_count_the_share_inside_the_spread(quoted: QuotedSurface) -> None:
    left, right = plot.residuals(quoted).axes
    points = np.concatenate([np.array(each.get_offsets())[:, 1] for each in left.collections])
    assert len(points) == sum(view.two_sided.sum() for view in smiles_of(quoted))
    # The quotes were made around the surface itself.
    np.testing.assert_allclose(points, 0.0, atol=1e-10)
    assert right.get_title(loc="left").startswith("100.0% of 24 quotes")


DRAWINGS: list[Callable[[QuotedSurface], Figure]] = [
    plot.smiles,
    plot.residuals,
    lambda quoted: plot.total_variance(quoted.surface),
    lambda quoted: plot.surface(quoted.surface),
]


def bare(surface: Surface) -> Surface:
    from dataclasses import replace

    return replace(surface, expiries=())


@pytest.mark.parametrize("draw", DRAWINGS)
@pytest.mark.parametrize(
    "surface",
    [
        surface_of(),
        surface_of(ExpiryCalendar.INDEPENDENT),
        bare(surface_of()),
    ],
    ids=["same asset", "independent", "no expiries"],
)
def test_every_surface_can_be_drawn(
    draw: Callable[[QuotedSurface], Figure], surface: Surface
) -> None:
    quoted = QuotedSurface(surface, quoted_of(surface_of()).slices)
    buffer = BytesIO()
    draw(quoted).savefig(buffer, format="png")
    assert buffer.getvalue().startswith(b"\x89PNG")


def test_an_expiry_that_the_chain_lacks_is_refused_by_name(quoted: QuotedSurface) -> None:
    with pytest.raises(NotFitted, match=r"2030-01-01.*2026-04-01"):
        plot.smile(quoted, "2030-01-01")


def test_drawing_leaves_the_global_state_of_matplotlib_alone() -> None:
    code = (
        "import matplotlib; before = dict(matplotlib.rcParams)\n"
        "from tests.report.samples import quoted_of, surface_of\n"
        "from calib.report import plot\n"
        "quoted = quoted_of(surface_of())\n"
        "plot.smiles(quoted), plot.surface(quoted.surface)\n"
        "assert dict(matplotlib.rcParams) == before\n"
        "import matplotlib.pyplot as plt; assert plt.get_fignums() == []\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


def test_a_notebook_shows_a_figure_without_having_been_prepared(quoted: QuotedSurface) -> None:
    shown, _ = DisplayFormatter().format(plot.smile(quoted, MONTH))  # type: ignore[no-untyped-call]
    assert shown["image/png"].startswith(b"\x89PNG")
