"""One smile on one pair of axes: quotes as sticks from bid to ask, and the model through them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from calib.conventions import Bools, Floats
from calib.report.smiles import Smile
from calib.report.style import (
    BAND,
    CEILING,
    FAINT,
    FLOOR,
    INK,
    MODEL,
    NORMAL,
    QUOTE,
    QUOTED,
    REJECTED,
    SMALL,
    XAxis,
    percent_text,
    plain_axes,
    price_text,
    tenor_text,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A panel reaches past the two-sided quotes by this share of their range, and past all quotes by
# that: the model goes on there as a dashed line. One-sided quotes further out are cut off, because
# they would press the smile into a corner.
BESIDE_TWO_SIDED, BESIDE_ALL = 0.3, 0.12

Place = Callable[[Floats], Floats]


def draw_smile(axes: Axes, smile: Smile, x: XAxis = "log_moneyness", *, legend: bool) -> None:
    """Draw quotes, model, quoted range and the at-the-money point, and say the key numbers.

    Sticks run from bid vol to ask vol; ▼ is an ask without a bid (a ceiling), ▲ a bid without an
    ask (a floor); grey is what the fit did not use. Axes are cut to where the smile is: a quote
    whose spread leaves them is drawn as far as the edge.
    """
    plain_axes(axes, "strike" if x == "strike" else "log-moneyness ln(K/F)", "vol, %")
    axes.set_title(_heading(smile), fontsize=NORMAL, color=INK, loc="left")
    low, high = _range(smile)
    if not np.isfinite(low):
        axes.set_xticks([])
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no vols", transform=axes.transAxes, ha="center", color=FAINT)
        return
    window = _window(smile, low, high)
    bottom, top = _vol_window(smile, max(low, window[0]), min(high, window[1]))

    def place(k: Floats) -> Floats:
        return smile.forward * np.exp(k) if x == "strike" else k

    edges = place(np.array([*window, low, high]))
    axes.axvspan(edges[2], edges[3], color=QUOTED, zorder=0)
    _sticks(axes, smile, smile.two_sided, QUOTE, place, "bid to ask")
    _sticks(axes, smile, smile.rejected, REJECTED, place, "not used")
    _triangles(
        axes, smile, smile.ceiling, smile.ask_vol, "v", CEILING, place, "ask only: a ceiling"
    )
    _triangles(axes, smile, smile.floor, smile.bid_vol, "^", FLOOR, place, "bid only: a floor")
    if smile.fitted is not None:
        k = np.linspace(*window, 241)
        vol = 100.0 * smile.model_vol(k)
        inside = (k >= low) & (k <= high)
        error = 100.0 * smile.vol_error(k)
        if np.isfinite(error).any():
            axes.fill_between(
                place(k),
                vol - error,
                vol + error,
                color=BAND,
                linewidth=0,
                zorder=1,
                label="± one standard error",
            )
        axes.plot(place(k), vol, color=MODEL, linewidth=1.0, linestyle=(0, (3, 2)), zorder=4)
        axes.plot(
            place(k),
            np.where(inside, vol, np.nan),
            color=MODEL,
            linewidth=1.5,
            zorder=4,
            label=smile.surface.model.name,
        )
        axes.plot(
            place(np.zeros(1)),
            [100.0 * smile.atm_vol],
            marker="o",
            markersize=5.5,
            zorder=5,
            markerfacecolor="white",
            markeredgecolor=MODEL,
            linestyle="none",
            label="at the money",
        )
    axes.set_xlim(edges[0], edges[1])
    axes.locator_params(axis="x", nbins=6)
    axes.set_ylim(100.0 * bottom, 100.0 * top)
    if x == "strike":
        axes.xaxis.set_major_formatter("{x:,.6g}")
    if legend:
        axes.legend(fontsize=SMALL - 0.5, frameon=False, labelcolor=INK, loc="best")


def _window(smile: Smile, low: float, high: float) -> tuple[float, float]:
    air = BESIDE_ALL * max(high - low, 0.02)
    left, right = low - air, high + air
    k = smile.log_moneyness[smile.two_sided]
    if len(k) > 1:
        air = BESIDE_TWO_SIDED * float(np.ptp(k))
        left, right = max(left, float(k.min()) - air), min(right, float(k.max()) + air)
    return left, right


def _range(smile: Smile) -> tuple[float, float]:
    low, high = smile.quoted_range
    if np.isfinite(low) or not smile.rejected.any():
        return low, high
    k = smile.log_moneyness[smile.rejected]
    return float(k.min()), float(k.max())


def _sticks(axes: Axes, smile: Smile, rows: Bools, colour: str, place: Place, label: str) -> None:
    both = rows & np.isfinite(smile.bid_vol) & np.isfinite(smile.ask_vol)
    if not both.any():
        return
    bid, ask = 100.0 * smile.bid_vol[both], 100.0 * smile.ask_vol[both]
    mid = 0.5 * (bid + ask)
    axes.errorbar(
        place(smile.log_moneyness[both]),
        mid,
        yerr=np.abs(ask - bid) / 2.0,
        fmt="none",
        ecolor=colour,
        elinewidth=1.1,
        capsize=1.8,
        capthick=1.1,
        label=label,
        zorder=2.5,
    )


def _triangles(
    axes: Axes,
    smile: Smile,
    rows: Bools,
    vol: Floats,
    marker: str,
    colour: str,
    place: Place,
    label: str,
) -> None:
    if rows.any():
        axes.scatter(
            place(smile.log_moneyness[rows]),
            100.0 * vol[rows],
            marker=marker,
            s=16,
            color=colour,
            linewidths=0,
            label=label,
            zorder=3,
        )


def _vol_window(smile: Smile, low: float, high: float) -> tuple[float, float]:
    """Bottom and top of the vol axis: the model and the bulk of the quotes, with some air."""
    seen = [smile.model_vol(np.linspace(low, high, 81))]
    rows = (
        smile.two_sided if smile.two_sided.any() else smile.rejected | smile.ceiling | smile.floor
    )
    for vols, shares in ((smile.bid_vol[rows], (0.02, 1.0)), (smile.ask_vol[rows], (0.0, 0.96))):
        finite = vols[np.isfinite(vols)]
        seen.append(np.quantile(finite, shares) if len(finite) else finite)
    values = np.concatenate([part[np.isfinite(part)] for part in seen])
    bottom, top = float(values.min()), float(values.max())
    air = 0.08 * max(top - bottom, 0.02)
    return max(bottom - air, 0.0), top + air


def _heading(smile: Smile) -> str:
    text = f"{smile.label} ({tenor_text(smile.years)})   F {price_text(smile.forward)}"
    if smile.fitted is None:
        return f"{text}   not fitted"
    shape, text = smile.fitted.diagnostics, f"{text}   ATM {percent_text(smile.atm_vol)}"
    if smile.fitted.hold:  # what is known of its fit is of other quotes, or not to be relied on
        return f"{text}\n{smile.fitted.hold}"
    return (
        f"{text}   rms {percent_text(shape.rms_vol_error, 2)}"
        f"\n{percent_text(shape.in_spread_share, 0)} of quotes inside bid–ask"
    )
