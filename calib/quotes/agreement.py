"""Agreement: of several witnesses of one number, those that bear each other out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import fsum, isfinite, nan


def agreeing(
    values: Mapping[str, float], limit: float, voters: Collection[str] | None = None
) -> tuple[str, ...]:
    """Who says what most say, to within ``limit`` of one of them.

    Where as many say one thing as another, those count that are nearer to 0: values are told as
    changes since what was last believed. Only ``voters`` are heard, if any of them says a finite
    number; None: all are. Empty where nobody says one.
    """
    said = {name: value for name, value in values.items() if isfinite(value)}
    if voters is not None:
        said = {name: said[name] for name in said if name in voters} or said
    if not said:
        return ()

    def standing(name: str) -> tuple[int, float]:
        value = said[name]
        return sum(abs(other - value) <= limit for other in said.values()), -abs(value)

    witness = said[max(said, key=standing)]
    return tuple(name for name, value in said.items() if abs(value - witness) <= limit)


def mean_of(values: Mapping[str, float], names: Collection[str]) -> float:
    """The mean of the finite ones of these values, nan without any."""
    finite = [values[name] for name in names if name in values and isfinite(values[name])]
    return fsum(finite) / len(finite) if finite else nan
