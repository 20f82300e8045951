"""The models that are not in force, fitted to the same chain, and what follows from that."""

from __future__ import annotations

from dataclasses import dataclass, replace

from calib.fitting.fit import fit_chains
from calib.fitting.settings import DEFAULT, FitSettings
from calib.modelrisk.comparison import ExpiryComparison, compare
from calib.modelrisk.prudence import PrudentLine, prudent_lines
from calib.quotes.chain import Chain
from calib.states import ModelName
from calib.surface.surface import Surface


@dataclass(frozen=True)
class ModelComparison:
    """One chain by several models, the one in force first, and its prudent lines."""

    surface: Surface
    expiries: tuple[ExpiryComparison, ...]
    lines: tuple[PrudentLine, ...]


def compared(chain: Chain, surface: Surface, settings: FitSettings = DEFAULT) -> ModelComparison:
    """``surface`` against each other model's cold fit of the chain that it was fitted to.

    A model that gives no surface is left out.
    """
    others = []
    for model in ModelName:
        if model is not surface.model:
            (fit,) = fit_chains([chain], settings=replace(settings, model=model))
            if fit.surface.expiries:
                others.append(fit.surface)
    found = compare([surface, *others])
    return ModelComparison(surface, found, prudent_lines(surface, found))
