"""What fitting a group of chains comes to, before it is made into surfaces."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from calib.arbitrage.certificate import Certificate
from calib.conventions import Floats, Ints
from calib.fitting.certified import CertifiedFit
from calib.fitting.universe import Universe
from calib.states import FitState


class Outcome(NamedTuple):
    """Fits of a universe of n slices in g chains.

    Over slices: ``parameters`` (P, n) and their ``covariance`` (P, P, n), nan where a slice has
    none; ``anchor`` (3, n), nan where there is none; ``states``, ``steps``, ``quote_share``,
    ``memory_share``, ``noise_scale``, ``covariance_scale`` (n,). Over chains: ``certificates`` and
    ``blend``. The covariance of a fit is that under the stated noise, both scales 1; see
    `calib.fitting.uncertainty` for what is made of it.
    """

    parameters: Floats
    covariance: Floats
    anchor: Floats
    states: Ints
    steps: Ints
    quote_share: Floats
    memory_share: Floats
    noise_scale: Floats
    covariance_scale: Floats
    certificates: tuple[Certificate, ...]
    blend: tuple[float, ...]

    @classmethod
    def nothing(cls, parameters: int, universe: Universe) -> Outcome:
        """Of a universe that nobody has fitted yet."""
        n, chains = len(universe.years), len(universe.slice_bounds) - 1
        return cls(
            np.full((parameters, n), np.nan),
            np.full((parameters, parameters, n), np.nan),
            np.full((3, n), np.nan),
            np.full(n, FitState.TOO_FEW_QUOTES, np.int64),
            np.zeros(n, np.int64),
            np.full(n, np.nan),
            np.full(n, np.nan),
            np.ones(n),
            np.ones(n),
            (Certificate.not_checked(),) * chains,
            (0.0,) * chains,
        )

    @classmethod
    def of(cls, fits: list[CertifiedFit], parameters: int, universe: Universe) -> Outcome:
        """From fits of whole surfaces. One that could not be certified leaves no parameters: its
        expiries say UNCERTIFIED."""
        found = cls.nothing(parameters, universe)
        for first, last, fit in zip(
            universe.slice_bounds, universe.slice_bounds[1:], fits, strict=False
        ):
            found.states[first:last] = fit.states
            places = first + fit.expiries
            if not len(places):
                continue
            if not fit.certificate.arbitrage_free:
                states = found.states[places]
                usable = np.isin(states, [state for state in FitState if state.usable])
                found.states[places] = np.where(usable, FitState.UNCERTIFIED, states)
                continue
            found.parameters[:, places] = fit.parameters
            found.covariance[:, :, places] = fit.covariance
            if fit.anchor.shape[1]:
                found.anchor[:, places] = fit.anchor
            found.steps[places] = fit.steps
            found.quote_share[places] = fit.quote_share
            found.memory_share[places] = fit.memory_share
        return found._replace(
            certificates=tuple(_proof_of(fit) for fit in fits),
            blend=tuple(fit.blend for fit in fits),
        )


def _proof_of(fit: CertifiedFit) -> Certificate:
    """The certificate, where there is a surface for it to speak of: not of smiles that no step
    was accepted for, which are in none."""
    if fit.certificate.arbitrage_free and not any(state.usable for state in fit.states):
        return Certificate.not_checked()
    return fit.certificate
