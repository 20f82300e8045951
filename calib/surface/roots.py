"""The root of a function that rises, for many functions at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from calib.conventions import Floats

_DOUBLINGS = 60
_STEPS = 100
_TOLERANCE = 1e-15
_GRID = 1024.0 * np.sinh(np.linspace(-12.0, 12.0, 193)) / np.sinh(12.0)
"""Where the sign is looked at, in units of a bracket: denser toward the middle, and well beyond."""


def increasing_root(function: Callable[[Floats], tuple[Floats, Floats]], scale: Floats) -> Floats:
    """x with f(x) = 0 for every element; the function gives f and f′, elementwise, and takes more
    axes in front of those of ``scale``.

    ``scale`` is where to begin: the bracket [−scale, scale] doubles until f is not positive at its
    left end and not negative at the right one. The sign is then looked at in 193 points out to a
    thousand brackets: nan where it turns more than once, for then f does not rise, and where it
    does not turn. Newton's steps, halvings where these leave the bracket.
    """
    with np.errstate(all="ignore"):
        reach = np.where(scale > 0.0, scale, 1.0)
        reach = np.where(np.isfinite(scale), reach, np.nan)
        low, high = -reach, reach
        for _ in range(_DOUBLINGS):
            left, right = function(low)[0] > 0.0, function(high)[0] < 0.0
            if not (left | right).any():
                break
            low, high = (
                np.where(left | right, 2.0 * low, low),
                np.where(left | right, 2.0 * high, high),
            )
        low, high = _bracket(function, high)
        x = 0.5 * (low + high)
        for _ in range(_STEPS):
            value, derivative = function(x)
            low, high = np.where(value <= 0.0, x, low), np.where(value >= 0.0, x, high)
            step = x - value / derivative
            following = np.where((step >= low) & (step <= high), step, 0.5 * (low + high))
            small = _TOLERANCE * (np.abs(x) + 1e-2 * reach)
            done = ~(np.abs(following - x) > small) | (value == 0.0)
            x = np.where(value == 0.0, x, following)
            if done.all():
                break
        return x


def _bracket(
    function: Callable[[Floats], tuple[Floats, Floats]], reach: Floats
) -> tuple[Floats, Floats]:
    """The step of the grid in which the sign turns; nan unless it turns once."""
    points = reach * _GRID.reshape(-1, *[1] * reach.ndim)
    below = function(points)[0] < 0.0
    turns = below[:-1] & ~below[1:]
    once = (turns.sum(axis=0) == 1) & ~(~below[:-1] & below[1:]).any(axis=0)
    place = np.argmax(turns, axis=0)[None]
    low = np.take_along_axis(points, place, axis=0)[0]
    high = np.take_along_axis(points, place + 1, axis=0)[0]
    return np.where(once, low, np.nan), np.where(once, high, np.nan)
