"""Contours, densities, crossings, residual maps, histories, leverage: drawn as the numbers are."""

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure

from calib.conventions import ExpiryCalendar, years_between
from calib.errors import InvalidRequest, NotFitted
from calib.fitting.fit import fit
from calib.fitting.fit_value import Fit
from calib.modelrisk.delta_buckets import bucket_numbers, call_delta
from calib.report import plot
from calib.report.smiles import QuotedSurface, smiles_of
from calib.surface.surface import Surface
from tests.report.samples import DAYS, NOW, quoted_of, surface_of

MONTH = NOW + np.timedelta64(30, "D")


def labelled(axes: Any) -> dict[str, Any]:
    handles, labels = axes.get_legend_handles_labels()
    return dict(zip(labels, handles, strict=True))


def axes_of(figure: Figure) -> list[Any]:
    """Typed as loosely as matplotlib's artists are."""
    return list(figure.axes)


def steeper(surface: Surface) -> Surface:
    """With a middle expiry whose wings rise above the last one."""
    first, middle, last = surface.expiries
    width = 0.5 * float(np.sqrt(middle.years))
    bent = (0.1 * width**2, 4.0 * width, 0.0, 0.0, 0.2 * width)
    return replace(surface, expiries=(first, replace(middle, parameters=bent), last))


def later(surface: Surface, hours: int, level: float) -> Surface:
    """The same smiles hours later, with the vols at the money moved by a factor."""
    now = surface.quote_time + np.timedelta64(hours, "h")
    expiries = tuple(
        replace(
            each,
            years=float(years_between(now, each.expiry)),
            variance_time=float(years_between(now, each.expiry)),
            parameters=(*(level**2 * p for p in each.parameters[:2]), *each.parameters[2:]),
            covariance=tuple(np.diag([0.0, 0.0, 0.04, 0.0, 0.0]).ravel()),
        )
        for each in surface.expiries
    )
    return replace(surface, quote_time=now, expiries=expiries)


def test_crossings_are_marked_where_the_lines_cross() -> None:
    surface = steeper(surface_of())
    (axes,) = axes_of(plot.total_variance(surface))
    marks = labelled(axes)["expiries cross"]
    k, w = marks.get_data()
    assert len(k) == 2
    assert k[0] < 0.0 < k[1]
    for expiry in surface.expiries[1:]:
        np.testing.assert_allclose(surface.total_variance(k, expiry.expiry), w, rtol=2e-3)
    below_k, below_w = labelled(axes)["below the expiry before: arbitrage"].get_data()
    seen = np.isfinite(below_w)
    assert ((below_k < k[0]) | (below_k > k[1]) == seen).mean() > 0.99
    last = surface.expiries[2].expiry
    np.testing.assert_allclose(below_w[seen], surface.total_variance(below_k[seen], last))


def test_a_surface_without_crossings_has_no_marks_and_independent_expiries_may_cross() -> None:
    independent = steeper(surface_of(ExpiryCalendar.INDEPENDENT))
    for surface in (surface_of(), independent):
        (axes,) = axes_of(plot.total_variance(surface))
        assert len(labelled(axes)) == len(DAYS)


def test_the_contour_has_the_vols_of_the_surface() -> None:
    surface = surface_of()
    axes, bar = axes_of(plot.contour(surface))
    assert bar.get_ylabel() == "vol, %"
    lines = next(c for c in axes.collections if isinstance(c, QuadContourSet) and not c.filled)
    levels, paths = lines.levels, lines.get_paths()
    checked = 0
    for level, path in zip(levels, paths, strict=True):
        for depth, y in np.asarray(path.vertices)[::7]:
            years = float(np.exp(y))
            root = np.sqrt(surface.total_variance(0.0, years))
            vol = np.sqrt(surface.total_variance(depth * root, years) / years)
            assert 100.0 * vol == pytest.approx(level, abs=0.25)
            checked += 1
    assert checked > 50
    ticks = np.exp(axes.get_yticks()) * 365.0
    np.testing.assert_allclose(ticks, DAYS, rtol=1e-9)


def test_beyond_the_quoted_strikes_the_contour_is_behind_a_dashed_border() -> None:
    surface = surface_of()
    axes, _ = axes_of(plot.contour(surface))
    low, high = (line.get_data() for line in axes.lines[:2])
    for each in surface.expiries:
        root = float(np.sqrt(surface.total_variance(0.0, each.expiry)))
        for (depth, y), k in ((low, each.log_moneyness_min), (high, each.log_moneyness_max)):
            expected = np.clip(k / root, -2.5, 2.5)
            assert np.interp(np.log(each.years), y, depth) == pytest.approx(expected, rel=1e-9)


def test_independent_expiries_are_strips_of_their_own() -> None:
    surface = surface_of(ExpiryCalendar.INDEPENDENT)
    axes, _ = axes_of(plot.contour(surface))
    (mesh,) = axes.collections
    vols = np.asarray(mesh.get_array()).reshape(len(DAYS), -1)
    atm = [
        100.0 * np.sqrt(surface.total_variance(0.0, e.expiry) / e.years) for e in surface.expiries
    ]
    np.testing.assert_allclose(vols[:, vols.shape[1] // 2], atm)


def test_the_density_of_one_expiry_is_that_of_the_surface_and_its_integral_is_told() -> None:
    surface = surface_of()
    (axes,) = axes_of(plot.density(surface, MONTH))
    lines = labelled(axes)
    strike, value = lines["SVI"].get_data()
    seen = np.isfinite(value)
    np.testing.assert_allclose(value[seen], surface.density(strike[seen], MONTH), rtol=1e-9)
    each = surface.expiries[1]
    k = np.log(strike / each.forward)
    assert (seen == ((k >= each.log_moneyness_min) & (k <= each.log_moneyness_max))).all()
    assert np.isfinite(lines["beyond the quotes"].get_data()[1]).all()
    _, plain = lines["lognormal at the ATM vol"].get_data()
    assert np.trapezoid(plain, strike) == pytest.approx(1.0, abs=2e-3)
    ends = each.forward * np.exp([each.log_moneyness_min, each.log_moneyness_max])
    inside = np.diff(surface.distribution(ends, MONTH))[0]
    assert f"∫ 1.0000, of it {100.0 * inside:.1f}%" in axes.get_title(loc="left")


def test_the_densities_of_all_expiries_integrate_to_one() -> None:
    (axes,) = axes_of(plot.density(surface_of()))
    lines = labelled(axes)
    assert len(lines) == 1 + len(DAYS)
    dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert len(dashed) == len(DAYS)
    for line in dashed:
        depth, value = line.get_data()
        assert 0.95 < np.trapezoid(value, depth) <= 1.0 + 1e-9
    assert all(label == "normal" or label.endswith("∫ 1.0000") for label in lines)


def test_a_density_below_zero_is_named() -> None:
    surface = surface_of()
    first, middle, last = surface.expiries
    bent = replace(middle, parameters=(*middle.parameters[:3], 0.0, 0.002))
    (axes,) = axes_of(plot.density(replace(surface, expiries=(first, bent, last)), MONTH))
    assert "below 0: arbitrage" not in labelled(axes)  # a kink upward is no arbitrage
    shallow = replace(middle, parameters=(-0.012, 0.15, 0.0, 0.0, 0.1))
    (axes,) = axes_of(plot.density(replace(surface, expiries=(first, shallow, last)), MONTH))
    assert "below 0: arbitrage" in labelled(axes)


def test_an_expiry_without_a_density_is_refused_by_name() -> None:
    with pytest.raises(NotFitted, match=r"2030-01-01.*2026-04-01"):
        plot.density(surface_of(), "2030-01-01")


@pytest.fixture(scope="module")
def shifted() -> QuotedSurface:
    """The quotes of the sample beside a surface whose middle expiry lies too high."""
    quoted = quoted_of(surface_of())
    first, middle, last = quoted.surface.expiries
    a, *rest = middle.parameters
    moved = replace(middle, parameters=(a * 1.05, *rest))
    return QuotedSurface(replace(quoted.surface, expiries=(first, moved, last)), quoted.slices)


def test_the_residual_map_has_the_mean_residual_of_each_bucket(shifted: QuotedSurface) -> None:
    axes, bar = axes_of(plot.residual_map(shifted))
    (image,) = axes.images
    drawn = np.ma.filled(image.get_array(), np.nan)
    views = [view for view in smiles_of(shifted) if view.fitted is not None]
    assert drawn.shape == (len(views), 5)
    for row, view in enumerate(views):
        k = view.log_moneyness[view.two_sided]
        mid = 0.5 * (view.bid_vol + view.ask_vol)[view.two_sided]
        half = 0.5 * (view.ask_vol - view.bid_vol)[view.two_sided]
        ratio = (view.model_vol(k) - mid) / half
        buckets = bucket_numbers(call_delta(k, view.model_vol(k) ** 2 * view.years))
        for bucket in range(5):
            mine = ratio[buckets == bucket]
            assert drawn[row, bucket] == pytest.approx(
                mine.mean() if len(mine) else np.nan, nan_ok=True
            )
    assert np.nanmin(drawn[1]) > 0.1
    assert np.nanmax(np.abs(drawn[[0, 2]])) < 1e-9
    assert image.norm.vmin == -image.norm.vmax  # colours diverge about 0
    assert bar.get_ylabel() == "model − mid, half-spreads"


def test_by_strike_the_map_counts_every_quote_once(shifted: QuotedSurface) -> None:
    axes, _ = axes_of(plot.residual_map(shifted, "strike"))
    drawn = np.ma.filled(axes.images[0].get_array(), np.nan)
    texts = [label.get_text() for label in axes.get_xticklabels()]
    assert (texts[0], texts[4], texts[-1]) == ("< -2", "-0.5 to 0", "> 2")
    # Eight two-sided quotes an expiry, by sample 0.4 standard deviations of its width apart.
    assert np.isfinite(drawn).any(axis=1).all()
    assert (np.nan_to_num(drawn[1]) >= 0.0).all()


def test_the_history_of_a_handle_is_its_values_with_their_errors() -> None:
    surfaces = [later(surface_of(), hours, 1.0 + 0.02 * hours) for hours in (6, 0, 3)]
    figure = plot.history(surfaces, ["atm_vol", "rho"])
    panels = axes_of(figure)
    assert [axes.get_title(loc="left") for axes in panels] == ["ATM vol, %", "rho of SVI"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "4 Mar 2026",
        "1 Apr 2026",
        "18 Sep 2026",
    ]
    ordered = sorted(surfaces, key=lambda each: each.quote_time)
    for line, expiry in zip(panels[0].lines, [e.expiry for e in ordered[0].expiries], strict=True):
        at, value = line.get_data()
        days = [
            (each.quote_time - np.datetime64(0, "us")) / np.timedelta64(1, "D") for each in ordered
        ]
        np.testing.assert_allclose(at, days, rtol=1e-12)
        expected = [100.0 * each.handle_values(expiry)[0].value.atm_vol for each in ordered]
        np.testing.assert_allclose(value, expected, rtol=1e-12)
    rho = panels[1].lines[0].get_data()[1]
    np.testing.assert_allclose(rho, -0.4)
    band = panels[1].collections[0].get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose([band.min(), band.max()], [-0.6, -0.2])


def test_one_very_wide_band_does_not_press_a_history_flat() -> None:
    surfaces = [later(surface_of(), hours, 1.0) for hours in range(5)]
    unsure = tuple(np.diag([0.0, 0.0, 1e4, 0.0, 0.0]).ravel())
    expiries = tuple(replace(each, covariance=unsure) for each in surfaces[2].expiries)
    surfaces[2] = replace(surfaces[2], expiries=expiries)
    (axes,) = axes_of(plot.history(surfaces, ["rho"]))
    low, high = axes.get_ylim()
    assert -0.8 < low < -0.6  # rho is -0.4, its usual error 0.2
    assert -0.2 < high < 0.0


def test_a_history_at_constant_times_to_expiry() -> None:
    surfaces = [later(surface_of(), hours, 1.0) for hours in (0, 3)]
    (axes,) = axes_of(plot.history(surfaces, ["atm_vol"], [0.2]))
    expected = [100.0 * np.sqrt(each.total_variance(0.0, 0.2) / 0.2) for each in surfaces]
    np.testing.assert_allclose(axes.lines[0].get_data()[1], expected)
    with pytest.raises(InvalidRequest, match="only fitted expiries have parameters"):
        plot.history(surfaces, ["rho"], [0.2])


def test_histories_that_cannot_be_drawn_say_why() -> None:
    with pytest.raises(NotFitted, match="no surfaces"):
        plot.history([])
    with pytest.raises(
        InvalidRequest, match=r"'vega' is neither a handle .* nor a parameter \(a, b"
    ):
        plot.history([surface_of()], ["vega"])
    with pytest.raises(InvalidRequest, match="ABC, XYZ"):
        plot.history([surface_of(), surface_of(name="ABC")])
    with pytest.raises(NotFitted, match="none of the 1 surfaces holds the expiry 2030-01-01"):
        plot.history([surface_of()], expiries=["2030-01-01"])


@pytest.fixture(scope="module")
def fitted() -> Fit:
    return fit(quoted_of(surface_of()).slices.chain.quotes, model="essvi")


def test_leverage_is_drawn_quote_by_quote_and_summed_by_expiry(fitted: Fit) -> None:
    figure = plot.leverage(fitted, 97.0, MONTH)
    axes, sums = axes_of(figure)
    table = fitted.leverage(97.0, MONTH)
    found = table["leverage"].to_numpy()
    by_expiry = [
        found[fitted.slices.slice_index == place].sum()
        for place in range(len(fitted.slices.expiry))
    ]
    np.testing.assert_allclose([bar.get_width() for bar in sums.patches], by_expiry, atol=1e-12)
    bubbles = [c for c in axes.collections if isinstance(c, PathCollection) and c.get_gid()]
    areas = np.concatenate(
        [(1.0 if c.get_gid() == "follows" else -1.0) * c.get_sizes() for c in bubbles]
    )
    expected = found[found != 0.0]
    assert len(areas) == len(expected)
    np.testing.assert_allclose(
        np.sort(areas) / np.abs(areas).max(), np.sort(expected) / np.abs(expected).max()
    )
    (star,) = (line for line in axes.lines if line.get_marker() == "*")
    (depth,), (place,) = star.get_data()
    root = float(np.sqrt(fitted.surface.total_variance(0.0, MONTH)))
    assert depth == pytest.approx(float(fitted.surface.place(97.0, MONTH)[0]) / root)
    assert fitted.slices.expiry[int(place)] == MONTH


DRAWINGS: dict[str, Callable[[], Figure]] = {
    "crossings": lambda: plot.total_variance(steeper(surface_of())),
    "contour": lambda: plot.contour(surface_of()),
    "strips": lambda: plot.contour(surface_of(ExpiryCalendar.INDEPENDENT)),
    "surface": lambda: plot.surface(surface_of()),
    "density": lambda: plot.density(surface_of(), MONTH),
    "densities": lambda: plot.density(surface_of()),
    "map by delta": lambda: plot.residual_map(quoted_of(surface_of())),
    "map by strike": lambda: plot.residual_map(quoted_of(surface_of()), "strike"),
    "residuals": lambda: plot.residuals(quoted_of(surface_of())),
    "smiles": lambda: plot.smiles(quoted_of(surface_of())),
    "history": lambda: plot.history([surface_of(), later(surface_of(), 3, 1.1)]),
}


def ink(axes: Any) -> int:
    """How many pixels the drawn data change within a pair of axes."""

    def rendered() -> np.ndarray:
        axes.figure.canvas.draw()
        return np.asarray(axes.figure.canvas.buffer_rgba())[..., :3].astype(int)

    axes.figure.set_layout_engine("none")
    before = rendered()
    for each in (*axes.lines, *axes.collections, *axes.patches, *axes.images, *axes.texts):
        each.set_visible(False)
    return int((np.abs(rendered() - before).max(axis=-1) > 8).sum())


@pytest.mark.parametrize("name", DRAWINGS)
def test_no_picture_is_empty_and_every_axis_is_labelled(name: str) -> None:
    figure = DRAWINGS[name]()
    figure.canvas.draw()
    text = figure.get_suptitle()
    assert "XYZ" in text
    assert "SVI" in text
    for axes in axes_of(figure):
        if axes.get_label() == "<colorbar>":
            assert axes.get_ylabel()
            continue
        words = axes.get_xlabel() + axes.get_ylabel() + axes.get_title(loc="left")
        assert words, name
        assert ink(axes) > 300, name


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_pictures_are_written_as_png_and_svg(kind: str) -> None:
    buffer = BytesIO()
    plot.contour(surface_of()).savefig(buffer, format=kind)
    start = {"png": b"\x89PNG", "svg": b"<?xml"}[kind]
    assert buffer.getvalue().startswith(start)
    assert len(buffer.getvalue()) > 20_000


@pytest.mark.parametrize("calendar", list(ExpiryCalendar))
def test_surfaces_without_and_with_one_expiry_can_be_drawn(calendar: ExpiryCalendar) -> None:
    whole = quoted_of(surface_of(calendar))
    for kept in (0, 1):
        surface = replace(whole.surface, expiries=whole.surface.expiries[:kept])
        for figure in (
            plot.contour(surface),
            plot.density(surface),
            plot.total_variance(surface),
            plot.residual_map(QuotedSurface(surface, whole.slices)),
        ):
            figure.canvas.draw()
