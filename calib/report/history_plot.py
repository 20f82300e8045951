"""Pictures of how smiles went: parameters and handles over several surfaces of an underlying."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from calib.conventions import Floats, to_instant
from calib.errors import InvalidRequest, NotFitted
from calib.report.style import (
    INK,
    NORMAL,
    SMALL,
    date_axes,
    date_numbers,
    expiry_colours,
    expiry_texts,
    figure_title,
    new_figure,
    plain_axes,
    tenor_text,
)
from calib.surface.handles import Handles
from calib.surface.surface import ExpirySlice, Surface
from calib.surface.validation import PARAMETER_NAMES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_EXPIRIES = 6
_WORDS = {
    "atm_vol": ("ATM vol, %", 100.0),
    "skew": ("ATM skew dσ/dk, vol points per 0.01", 1.0),
    "curvature": ("ATM curvature d²σ/dk²", 1.0),
    "left_slope": ("left wing slope dw/dk", 1.0),
    "right_slope": ("right wing slope dw/dk", 1.0),
    **{
        f"{side}_{delta}_vol": (f"{delta}-delta {side} vol, %", 100.0)
        for side in ("put", "call")
        for delta in (25, 10)
    },
    **{
        f"{side}_{delta}_strike": (f"{delta}-delta {side} strike, quote currency", 1.0)
        for side in ("put", "call")
        for delta in (25, 10)
    },
    **{
        f"{name}_{delta}": (f"{delta}-delta {name.replace('_', ' ')}, vol points", 100.0)
        for name in ("risk_reversal", "butterfly")
        for delta in (25, 10)
    },
}
"""Axis labels, and what values are multiplied with; all others are shown by name, as they are."""


class _Course(NamedTuple):
    """One number over time, with one standard error; times as matplotlib counts them."""

    at: Floats
    value: Floats
    error: Floats


def history(
    surfaces: Iterable[Surface],
    what: Sequence[str] = ("atm_vol", "skew", "risk_reversal_25", "butterfly_25"),
    expiries: Sequence[Any] | None = None,
) -> Figure:
    """Handles or parameters over several surfaces of one underlying, ± one standard error.

    ``what`` are names of handles (see `calib.surface.handles`) or parameters of the model, a panel
    each. ``expiries`` are datetime-like, or years as numbers for constant times to expiry, which
    only handles have; by default up to six of the expiries that most surfaces hold. Raises
    NotFitted without surfaces or where none holds an expiry, InvalidRequest for surfaces of several
    underlyings or models and for an unknown name.
    """
    ordered = sorted(surfaces, key=lambda each: each.quote_time)
    if not ordered:
        raise NotFitted("there are no surfaces to draw a history of")
    parameters = _parameter_names(ordered)
    if unknown := [name for name in what if name not in (*Handles._fields, *parameters)]:
        raise InvalidRequest(
            f"{unknown[0]!r} is neither a handle ({', '.join(Handles._fields)}) nor a parameter "
            f"({', '.join(parameters)})"
        )
    chosen = _usual_expiries(ordered) if expiries is None else list(expiries)
    columns = 1 if len(what) <= 3 else 2
    rows = -(-len(what) // columns)
    figure = new_figure((7.0, 11.8)[columns - 1], 2.3 * rows + 0.6)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for axes, name in zip(panels, what, strict=False):
        words, scale = _WORDS.get(name, (f"{name} of {ordered[0].model.name}", 1.0))
        plain_axes(axes)
        axes.set_title(words, fontsize=NORMAL, color=INK, loc="left")
        courses = []
        for expiry, label, colour in zip(
            chosen, _labels(chosen), expiry_colours(len(chosen)), strict=True
        ):
            at, value, error = _course(ordered, name, expiry, scale)
            courses.append((value, error))
            axes.fill_between(at, value - error, value + error, color=colour, alpha=0.15, lw=0)
            axes.plot(
                at,
                value,
                color=colour,
                linewidth=1.2,
                marker="o",
                markersize=3.0 if len(at) < 40 else 0.0,
                label=label,
            )
        axes.set_ylim(*_window(*(np.concatenate(part) for part in zip(*courses, strict=True))))
    for axes in panels[len(what) :]:
        axes.set_visible(False)
    date_axes(panels[max(len(what) - columns, 0) : len(what)])
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, fontsize=SMALL, frameon=False, loc="outside right center", labelcolor=INK
    )
    first, last = (str(one.quote_time)[:16].replace("T", " ") for one in (ordered[0], ordered[-1]))
    figure_title(
        figure,
        f"{ordered[0].underlying}  {first} to {last} UTC  {ordered[0].model.name}, "
        f"{len(ordered)} surfaces, band ± one standard error",
    )
    return figure


def _window(value: Floats, error: Floats) -> tuple[float, float]:
    """All values and the usual bands: one very wide band would press the rest flat."""
    known = error[np.isfinite(error)]
    seen = value[np.isfinite(value)]
    if not len(seen):
        return 0.0, 1.0
    room = 1.5 * float(np.median(known)) if len(known) else 0.0
    bottom, top = float(seen.min()) - room, float(seen.max()) + room
    air = 0.05 * (top - bottom) or 0.05 * abs(top) or 1.0
    return bottom - air, top + air


def _course(surfaces: Sequence[Surface], name: str, expiry: Any, scale: float) -> _Course:
    by_tenor = isinstance(expiry, int | float)
    if by_tenor and name not in Handles._fields:
        raise InvalidRequest(
            f"parameter {name!r} at {expiry} years: only fitted expiries have parameters"
        )
    rows = []
    for surface in surfaces:
        each = None if by_tenor else _slice(surface, expiry)
        if not by_tenor and each is None:
            continue
        if name in Handles._fields:
            (smile,) = surface.handle_values(float(expiry) if by_tenor else expiry)
            pair = (getattr(smile.value, name), getattr(smile.error, name))
        else:
            assert each is not None
            pair = _parameter(each, name)
        rows.append((surface.quote_time, *pair))
    if not rows:
        raise NotFitted(f"none of the {len(surfaces)} surfaces holds the expiry {expiry}")
    times, values, errors = zip(*rows, strict=True)
    return _Course(
        date_numbers(np.array(times)), scale * np.array(values), scale * np.array(errors)
    )


def _slice(surface: Surface, expiry: Any) -> ExpirySlice | None:
    moment = to_instant(expiry)
    return next((each for each in surface.expiries if each.expiry == moment), None)


def _parameter(each: ExpirySlice, name: str) -> tuple[float, float]:
    names: Any = each.parameters
    place, size = names._fields.index(name), len(each.parameters)
    if not each.covariance:
        return each.parameters[place], np.nan
    return each.parameters[place], float(np.sqrt(each.covariance[place * (size + 1)]))


def _parameter_names(surfaces: Sequence[Surface]) -> tuple[str, ...]:
    for what in ("underlying", "model"):
        found = sorted({str(getattr(each, what)) for each in surfaces})
        if len(found) > 1:
            raise InvalidRequest(f"a history is of one {what}; these are of {', '.join(found)}")
    return PARAMETER_NAMES[surfaces[0].model]


def _usual_expiries(surfaces: Sequence[Surface]) -> list[np.datetime64]:
    """Up to six expiries that most surfaces hold, in order of time."""
    counted = Counter(each.expiry for surface in surfaces for each in surface.expiries)
    most = sorted(counted, key=lambda expiry: (-counted[expiry], expiry))
    if not most:
        raise NotFitted(f"none of the {len(surfaces)} surfaces has an expiry")
    always = sorted(each for each in most if counted[each] == counted[most[0]])
    if len(always) <= _MOST_EXPIRIES:
        return sorted(most[:_MOST_EXPIRIES])
    places = np.linspace(0, len(always) - 1, _MOST_EXPIRIES).round().astype(int)
    return [always[i] for i in places]


def _labels(expiries: Sequence[Any]) -> list[str]:
    if all(isinstance(each, int | float) for each in expiries):
        return [tenor_text(float(each)) for each in expiries]
    return expiry_texts(to_instant(each) for each in expiries)
