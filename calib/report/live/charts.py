"""Smiles and the surface as options of Apache ECharts; vols in percent."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, TypeAlias

import numpy as np

from calib.conventions import Floats
from calib.report.style import BAND, FAINT, GRID, INK, REACH, expiry_texts
from calib.surface.surface import ExpirySlice, Surface

Options: TypeAlias = dict[str, Any]
XAxis: TypeAlias = Literal["log-moneyness", "strike"]

NOTHING: Options = {"series": []}
"""An empty picture."""
POINTS = 41
"""Points of a line."""
CELLS = 26
"""Columns of the heat map."""

VIRIDIS = ("#440154", "#443983", "#31688e", "#21918c", "#35b779", "#90d743", "#fde725")
CHOSEN = "#c8322b"

_FONT = {"color": INK, "fontSize": 11, "fontFamily": "inherit"}
_AXIS = {
    "nameLocation": "middle",
    "nameTextStyle": _FONT,
    "axisLabel": {**_FONT, "hideOverlap": True},
    "axisLine": {"onZero": False, "lineStyle": {"color": FAINT}},
    "splitLine": {"lineStyle": {"color": GRID}},
}


@lru_cache(maxsize=64)
def smiles(surface: Surface, chosen: np.datetime64 | None, x: XAxis) -> Options:
    """A line for each expiry over its quoted range, dark is near; the chosen one stands out, with
    one standard error to either side. By strike the axis is that of the chosen one."""
    names = expiry_texts(each.expiry for each in surface.expiries)
    colours = _ramp(len(names))
    series: list[Options] = []
    reach: Options = {}
    band: list[Options] = [_band_line("low", []), _band_line("band", [], fill=True)]
    for each, name, colour in zip(surface.expiries, names, colours, strict=True):
        k, vol = _line(surface, each)
        at = k if x == "log-moneyness" else each.forward * np.exp(k)
        is_chosen = each.expiry == chosen
        if is_chosen:
            reach = {"min": _two_digits(0.9 * at[0]), "max": _two_digits(1.1 * at[-1])}
            error = 100.0 * np.asarray(surface.vol_error(each.forward * np.exp(k), each.expiry))
            if np.isfinite(error).all():
                band = [
                    _band_line("low", _pairs(at, vol - error)),
                    _band_line("band", _pairs(at, 2.0 * error), fill=True),
                ]
        series.append(
            {
                "type": "line",
                "name": name,
                "data": _pairs(at, vol),
                "showSymbol": False,
                "lineStyle": {
                    "color": CHOSEN if is_chosen else colour,
                    "width": 2.6 if is_chosen else 1.3,
                },
                "itemStyle": {"color": CHOSEN if is_chosen else colour},
                "z": 5 if is_chosen else 3,
            }
        )
    unit = "log-moneyness ln(K/F)" if x == "log-moneyness" else "strike, quote currency"
    return {
        "animation": False,
        "grid": {"left": 54, "right": 128, "top": 12, "bottom": 42},
        "legend": {
            "type": "scroll",
            "orient": "vertical",
            "right": 0,
            "top": 8,
            "bottom": 8,
            "data": names,
            "textStyle": _FONT,
            "itemWidth": 16,
            "itemHeight": 3,
            "icon": "rect",
            "selectedMode": False,
        },
        "tooltip": {
            "trigger": "item",
            ":formatter": "p => p.seriesName + '<br>' + p.value[0].toPrecision(4) + ': ' "
            "+ p.value[1].toFixed(2) + ' %'",
        },
        "xAxis": _AXIS
        | {"type": "value", "name": unit, "nameGap": 26, "scale": True}
        | (reach if x == "strike" else {"min": None, "max": None}),
        "yAxis": _AXIS
        | {
            "type": "value",
            "name": "implied vol, %",
            "nameGap": 38,
            "scale": True,
        },
        "series": [*band, *series],
    }


@lru_cache(maxsize=64)
def heat_map(surface: Surface) -> Options:
    """Vols by expiry and standardised moneyness ln(K/F)/(σ√t), σ at the money; empty where no
    quote reaches."""
    edges = np.linspace(-REACH, REACH, CELLS + 1)
    columns = 0.5 * (edges[1:] + edges[:-1])
    cells: list[list[float | int | str]] = []
    seen: list[float] = []
    for row, each in enumerate(surface.expiries):
        deviation = float(np.sqrt(surface.total_variance(0.0, each.expiry)))
        k = columns * deviation
        vol = 100.0 * np.asarray(surface.implied_vol(each.forward * np.exp(k), each.expiry))
        inside = (k >= each.log_moneyness_min) & (k <= each.log_moneyness_max)
        for column in np.flatnonzero(inside & np.isfinite(vol)):
            cells.append([int(column), row, round(float(vol[column]), 2)])
            seen.append(float(vol[column]))
    low, high = float(np.floor(min(seen, default=0.0))), float(np.ceil(max(seen, default=1.0)))
    return {
        "animation": False,
        "grid": {"left": 84, "right": 76, "top": 8, "bottom": 42},
        "tooltip": {
            "position": "top",
            ":formatter": "p => p.value[2].toFixed(2) + ' %'",
        },
        "xAxis": _AXIS
        | {
            "type": "category",
            "data": [f"{column:+.1f}".replace("-", "−") for column in columns],
            "name": "moneyness in ATM standard deviations, ln(K/F) / σ√t",
            "nameGap": 26,
        },
        "yAxis": _AXIS
        | {
            "type": "category",
            "data": expiry_texts(each.expiry for each in surface.expiries),
            "axisLabel": {**_FONT, "interval": 0 if len(surface.expiries) <= 14 else "auto"},
        },
        "visualMap": {
            "type": "continuous",
            "min": low,
            "max": high,
            "orient": "vertical",
            "right": 4,
            "top": "middle",
            "itemHeight": 110,
            "itemWidth": 12,
            "precision": 0,
            "text": [f"{high:.0f} %", f"{low:.0f} %"],
            "textStyle": _FONT,
            "inRange": {"color": list(VIRIDIS)},
        },
        "series": [{"type": "heatmap", "data": cells, "progressive": 0}],
    }


def _line(surface: Surface, each: ExpirySlice) -> tuple[Floats, Floats]:
    k = np.linspace(each.log_moneyness_min, each.log_moneyness_max, POINTS)
    vol = np.asarray(surface.implied_vol(each.forward * np.exp(k), each.expiry))
    return k, 100.0 * vol


def _pairs(x: Floats, y: Floats) -> list[list[float]]:
    return [[round(float(a), 6), round(float(b), 4)] for a, b in zip(x, y, strict=True)]


def _band_line(name: str, data: list[list[float]], *, fill: bool = False) -> Options:
    return {
        "type": "line",
        "name": name,
        "data": data,
        "stack": "error",
        "stackStrategy": "all",
        "showSymbol": False,
        "silent": True,
        "lineStyle": {"opacity": 0.0},
        "areaStyle": {"color": BAND if fill else "transparent", "opacity": 1.0 if fill else 0.0},
        "z": 1,
    }


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")


def _ramp(count: int) -> list[str]:
    """Colours from dark to light, the lightest of the map left out: it is lost on white."""
    stops = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in VIRIDIS[:-1]])
    at = np.linspace(0.0, len(stops) - 1.0, max(count, 2))[:count]
    mixed = [np.interp(at, np.arange(len(stops)), stops[:, i]) for i in range(3)]
    return ["#" + "".join(f"{round(part):02x}" for part in rgb) for rgb in zip(*mixed, strict=True)]
