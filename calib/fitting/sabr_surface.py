"""SABR over all expiries of a chain, certified within the range of its quotes.

The same descent as SVI's, under conditions scanned over the quotes; what fails the proof is
drawn toward a surface of one common smile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from calib.arbitrage.certificate import Certificate
from calib.arbitrage.sabr import certify_sabr_surfaces
from calib.conventions import Floats, Ints
from calib.fitting.blend import Blended, blend
from calib.fitting.certified import (
    CertifiedFit,
    JointSettings,
    is_coupled,
    nothing,
    state_of,
    states_of,
)
from calib.fitting.joint import Joint, Penalty, Prior, fit_joint, joint_sabr
from calib.fitting.surface_batches import chosen_expiries, surface_batches
from calib.fitting.surface_quotes import SurfaceQuotes, rough_smiles
from calib.market.slices import Slices
from calib.models.model import Model, model_named
from calib.states import ModelName

PENALTY = Penalty(tuple(float(x) for x in np.geomspace(3.0, 3e4, 7)))
"""One decade above SVI's: the quotes of one expiry may reach far beyond those of the next, where
only a little is left between the formula and its neighbour's straight continuation."""

_CALMER = ((1.0, 0.01), (0.7, 0.02), (0.4, 0.03), (0.1, 0.03), (0.01, 0.03), (0.001, 0.03))
"""Anchors that are tried, the first that can be proved being it: the share of the usual vol of
vol, and by how much total variance grows from one expiry to the next at least."""


def fit_sabr_surfaces(
    chains: Sequence[Slices],
    beta: float,
    settings: JointSettings = JointSettings(),  # noqa: B008 - frozen
    weights: Sequence[Floats | None] = (),
) -> list[CertifiedFit]:
    """SABR over all expiries of each chain, free of arbitrage within the quotes, or said not to be.

    ``beta``: elasticity, fixed. The coordinates are those of `calib.models.model`.
    """
    model = model_named(ModelName.SABR, beta=beta)
    chosen = chosen_expiries(chains, settings.min_quotes, weights)
    found: dict[int, CertifiedFit] = {}
    for batch in surface_batches(chains, chosen, weights):
        with jax.enable_x64(True):
            prior = sabr_prior(model, settings.coupling, batch.quotes)
            joint = fit_joint(
                joint_sabr(beta),
                settings.loss,
                PENALTY,
                settings.schedule,
                batch.quotes,
                prior,
            )
            low, high = map(np.asarray, _ranges(batch.quotes))
            rough = np.asarray(model.from_chart(prior.coordinates))
        i, n = batch.chain, len(batch.expiries)
        ranges, seen = (low[:n, 0], high[:n, 0]), rough[:, :n, 0]
        found[i] = _concluded(model, chains[i], batch.expiries, joint, ranges, seen)
    return [found.get(i) or nothing(slices, 4) for i, slices in enumerate(chains)]


def sabr_prior(model: Model, coupling: float, quotes: SurfaceQuotes) -> Prior:
    """A smile near the quotes of each expiry, and nothing remembered."""
    prior: Prior = _prior_of(model, coupling, quotes)
    return prior


def _read_off(model: Model, coupling: Array, quotes: SurfaceQuotes) -> Prior:
    start = model.start(rough_smiles(quotes))
    nothing_yet = jnp.zeros_like(start.coordinates)
    memory = jnp.zeros((start.coordinates.shape[0], *start.coordinates.shape))
    anchor = jnp.full_like(start.coordinates, jnp.nan)
    return Prior(
        anchor, start.coordinates, start.spread, memory, nothing_yet, coupling * quotes.linked
    )


_prior_of = jax.jit(_read_off, static_argnums=0)
_ranges = jax.jit(SurfaceQuotes.quoted_range)


def _concluded(
    model: Model,
    slices: Slices,
    expiries: Ints,
    joint: Joint,
    ranges: tuple[Floats, Floats],
    rough: Floats,
) -> CertifiedFit:
    numbers = [np.asarray(part)[..., 0] for part in joint]
    surface, covariance, own, memory = (part[..., : len(expiries)] for part in numbers[:4])
    steps, settled, moved = numbers[4:]
    n = len(expiries)
    years = slices.years[expiries]

    def certify(tried: Floats) -> Certificate:
        return certify_sabr_surfaces(tried, years, *ranges, [n], is_coupled(slices))[0]

    done = Blended(surface, 0.0, certify(surface))
    if not done.certificate.arbitrage_free:
        done = _drawn(model, surface, rough, years, certify)
    state = state_of(bool(moved), bool(settled), done.parameters)
    return CertifiedFit(
        expiries,
        done.parameters,
        covariance,
        own,
        memory,
        np.zeros((3, 0)),
        states_of(slices, expiries, state),
        int(steps),
        done.amount,
        done.certificate,
    )


def _drawn(
    model: Model,
    surface: Floats,
    rough: Floats,
    years: Floats,
    certify: Callable[[Floats], Certificate],
) -> Blended:
    """Blended toward slices of one shape in ATM standard deviations, calm enough to be proved.

    They are made of ``rough`` ones, read off the quotes: what no proof holds for may be far from
    any smile, with an α near zero under a vol of vol that makes up for it.
    """
    alpha, beta, rho, nu = rough
    own = alpha * alpha * years
    common = np.full_like(rho, np.median(rho))
    usual = np.median(nu * np.sqrt(years)) / np.sqrt(years)
    best = Blended(surface, 1.0, Certificate.not_checked())
    for share, growth in _CALMER:
        rising = (1.0 + growth) ** np.arange(len(years))
        theta = rising * np.maximum.accumulate(own / rising)
        anchor = np.stack([np.sqrt(theta / years), beta, common, share * usual])
        best = blend(surface, anchor, certify, model.to_chart, model.from_chart)
        if best.certificate.arbitrage_free:
            break
    return best
