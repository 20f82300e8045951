"""Pictures of the law of the price at expiry that smiles imply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from calib.conventions import Floats, to_instant
from calib.errors import NotFitted
from calib.report.style import (
    BAND,
    DASHED,
    FAINT,
    INK,
    MODEL,
    NORMAL,
    SMALL,
    expiry_colours,
    expiry_texts,
    new_figure,
    percent_text,
    plain_axes,
    price_text,
    surface_title,
    tenor_text,
)
from calib.surface.surface import ExpirySlice, Surface

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHOWN = np.linspace(-5.0, 4.0, 541)  # in ATM standard deviations
_FAR = np.sinh(np.linspace(-9.0, 9.0, 20_001))  # likewise: dense at the forward, far at the ends
_MOST_NAMED = 16


class _Law(NamedTuple):
    """The density of one expiry, by normalised strike and per unit of it."""

    density: Floats
    inside: Floats  # nan beyond the quotes
    mass: float
    quoted_mass: float


def density(surface: Surface, expiry: Any = None) -> Figure:
    """The risk-neutral density of the price at expiry; dashed beyond the quoted strikes.

    Of one ``expiry``, a fitted one, per unit of the strike and beside the lognormal density of the
    vol at the money; or of all of them, over the normalised strike. ∫ is the integral over all
    strikes: 1, less point masses where a wing is continued at another slope (SABR). Below 0 there
    is butterfly arbitrage. Raises NotFitted where the surface has no such expiry.
    """
    if expiry is None:
        return _all(surface)
    moment = to_instant(expiry)
    found = next((each for each in surface.expiries if each.expiry == moment), None)
    if found is None:
        held = ", ".join(str(each.expiry)[:16] for each in surface.expiries) or "none"
        raise NotFitted(f"no expiry {expiry} in the surface; it has {held}")
    return _one(surface, found)


def _one(surface: Surface, each: ExpirySlice) -> Figure:
    figure = new_figure(7.6, 4.4)
    axes = figure.add_subplot()
    plain_axes(axes, "strike, quote currency", "density, per unit of strike")
    width = _width(surface, each)
    strike = each.forward * np.exp(_SHOWN * width)
    law = _law(surface, each)
    jacobian = strike * width
    low, high = each.log_moneyness_min, each.log_moneyness_max
    axes.axvline(each.forward, color=FAINT, linewidth=0.8)
    minus_d2 = _SHOWN + 0.5 * width
    lognormal = np.exp(-0.5 * minus_d2 * minus_d2) / np.sqrt(2.0 * np.pi) / jacobian
    axes.plot(strike, lognormal, color=FAINT, linewidth=1.1, label="lognormal at the ATM vol")
    value = law.density / jacobian
    inside = np.isfinite(law.inside)
    axes.fill_between(strike, np.where(inside, value, np.nan), color=BAND, alpha=0.6, linewidth=0)
    axes.plot(
        strike, value, color=MODEL, linewidth=1.1, linestyle=DASHED, label="beyond the quotes"
    )
    axes.plot(
        strike,
        np.where(inside, value, np.nan),
        color=MODEL,
        linewidth=1.7,
        label=surface.model.name,
    )
    _mark_negative(axes, strike, value)
    axes.set_xlim(*each.forward * np.exp(width * np.array([_SHOWN[0], _SHOWN[-1]])))
    axes.xaxis.set_major_formatter("{x:,.6g}")
    axes.yaxis.get_offset_text().set_fontsize(SMALL)
    axes.set_title(
        f"{expiry_texts([each.expiry])[0]} ({tenor_text(each.years)})   "
        f"F {price_text(each.forward)}   ∫ {law.mass:.4f}, of it {percent_text(law.quoted_mass)} "
        f"within quotes, {price_text(each.forward * np.exp(low))} to "
        f"{price_text(each.forward * np.exp(high))}",
        fontsize=NORMAL,
        color=INK,
        loc="left",
    )
    axes.legend(fontsize=SMALL, frameon=False, labelcolor=INK)
    surface_title(figure, surface, "density of the price at expiry")
    return figure


def _all(surface: Surface) -> Figure:
    figure = new_figure(8.2, 4.6)
    axes = figure.add_subplot()
    plain_axes(
        axes, "normalised strike ln(K/F) / (ATM vol √T)", "density, per unit of normalised strike"
    )
    axes.set_title("dashed: beyond the quotes", fontsize=NORMAL, color=FAINT, loc="left")
    normal = np.exp(-0.5 * _SHOWN * _SHOWN) / np.sqrt(2.0 * np.pi)
    axes.plot(_SHOWN, normal, color=FAINT, linewidth=1.1, label="normal")
    count = len(surface.expiries)
    texts = expiry_texts(each.expiry for each in surface.expiries)
    named = np.unique(np.linspace(0, max(count - 1, 0), _MOST_NAMED).round())
    for i, (each, colour) in enumerate(zip(surface.expiries, expiry_colours(count), strict=True)):
        law = _law(surface, each)
        label = f"{texts[i]} ({tenor_text(each.years)})  ∫ {law.mass:.4f}" if i in named else None
        axes.plot(_SHOWN, law.density, color=colour, linewidth=0.9, linestyle=DASHED)
        axes.plot(_SHOWN, law.inside, color=colour, linewidth=1.6, label=label)
        _mark_negative(axes, _SHOWN, law.density)
    axes.set_xlim(_SHOWN[0], _SHOWN[-1])
    axes.legend(
        fontsize=SMALL,
        frameon=False,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        labelcolor=INK,
    )
    surface_title(figure, surface, "densities of the price at expiry")
    return figure


def _law(surface: Surface, each: ExpirySlice) -> _Law:
    width = _width(surface, each)
    value = _by_depth(surface, each, _SHOWN, width)
    k = _SHOWN * width
    inside = (k >= each.log_moneyness_min) & (k <= each.log_moneyness_max)
    mass = float(np.trapezoid(np.nan_to_num(_by_depth(surface, each, _FAR, width)), _FAR))
    ends = each.forward * np.exp([each.log_moneyness_min, each.log_moneyness_max])
    below, above = surface.distribution(ends, each.expiry)
    return _Law(value, np.where(inside, value, np.nan), mass, float(above - below))


def _by_depth(surface: Surface, each: ExpirySlice, depth: Floats, width: float) -> Floats:
    with np.errstate(over="ignore", invalid="ignore"):
        strike = each.forward * np.exp(depth * width)
        value = np.asarray(surface.density(strike, each.expiry), np.float64)
        return value * strike * width


def _width(surface: Surface, each: ExpirySlice) -> float:
    return float(np.sqrt(surface.total_variance(0.0, each.expiry)))


def _mark_negative(axes: Axes, x: Floats, value: Floats) -> None:
    """What lies below 0 in red: butterfly arbitrage."""
    if (value < 0.0).any():
        axes.fill_between(
            x, np.minimum(value, 0.0), color=MODEL, linewidth=0, label="below 0: arbitrage"
        )
