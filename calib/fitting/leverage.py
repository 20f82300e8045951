"""Which quotes hold a surface up: derivatives of a fitted vol by the vols that were quoted.

A fit is where the gradient of what it minimises is zero, ∇C(q, y) = 0 with q the coordinates of all
smiles and y the quoted vols. The implicit function theorem gives dq/dy = −H⁻¹ ∂∇C/∂y with H the
Hessian of C, and so for a vol v(q), with one solve of Hλ = ∂v/∂q,

    ∂v/∂y = −∂(λ·∇C)/∂y.

C is all that the fit weighs: quotes under their loss, prior, memory, neighbours and the
no-arbitrage conditions that hold it back, those that do being held fixed, at the weight of the
level at which the fit ended: the one of two at which ∇C is smaller. ∇C is the one that the fit
itself descends by; H and ∂∇C/∂y are central differences of it, because the exact second
derivatives of some models take minutes to compile. The anchor is held.
Source: Krantz & Parks, The Implicit Function Theorem (2002), §1.3; leverage as in Cook & Weisberg,
Residuals and Influence in Regression (1982), §2.2.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from calib.conventions import Floats, Ints
from calib.errors import InvalidRequest, NotFitted
from calib.fitting import essvi_surface, joint
from calib.fitting.certified import JointSettings, svi_prior
from calib.fitting.essvi_box import from_box, to_box
from calib.fitting.joint import JOINT_SVI, JointModel, Penalty, Prior, joint_sabr
from calib.fitting.sabr_surface import PENALTY, sabr_prior
from calib.fitting.settings import FitSettings
from calib.fitting.smile import LossName
from calib.fitting.surface_batches import SurfaceBatch, row_places, surface_batches
from calib.fitting.surface_quotes import SurfaceQuotes
from calib.market.slices import Slices
from calib.models.model import model_named
from calib.states import ModelName
from calib.surface.surface import Surface

_STEP = 1e-4  # in coordinates
_RESTLESS = 1e-3  # of vol
_INSIDE = 2e-3  # of the eSSVI box: its coordinates end a thousandth from its sides


class _Found(NamedTuple):
    """∂v/∂y by targets (Q, C, 1), and how far v lies from where ∇C would be zero."""

    by_target: Array
    unrest: Array


def leverage(
    surface: Surface,
    slices: Slices,
    settings: FitSettings,
    previous: Surface | None,
    weights: Floats | None,
    strike: float,
    expiry: Any,
) -> Floats:
    """∂v/∂y of the vol v at a strike and expiry by the vol y of every row of the chain.

    y is the mid of a two-sided quote, the bound of a one-sided one; 0 for rows that take no part.
    The arguments are those of the fit that ``surface`` came from. Raises InvalidRequest where each
    expiry was fitted alone, for a surface that was blended, which is at no optimum, for one whose
    fit ended too far from its optimum (λ·∇C says how far in v), and for one that is ``previous``
    itself, its quotes being unchanged; NotFitted where it has no expiry.
    """
    if not settings.arbitrage_free:
        raise InvalidRequest("leverage is known of surfaces that are fitted as a whole")
    if surface.blend > 0.0:
        raise InvalidRequest(
            f"the surface was blended by {surface.blend:.3g} after its fit: no quote holds it there"
        )
    if not surface.expiries:
        raise NotFitted("the surface has no fitted expiry")
    if surface is previous:
        raise InvalidRequest(
            "the quotes had not changed and the surface stood: ask the fit that it came from"
        )
    chosen = _numbers(surface, slices)
    (batch,) = surface_batches([slices], [chosen], [weights])
    with jax.enable_x64(True):
        by_target, unrest = map(
            np.asarray,
            _of_essvi(surface, settings, batch, strike, expiry)
            if surface.model is ModelName.ESSVI
            else _of_joint(surface, slices, settings, previous, batch, strike, expiry),
        )
    if not abs(unrest) <= _RESTLESS:
        raise InvalidRequest(
            f"the fit ended {abs(unrest):.2g} of this vol from where it would come to rest: what "
            "quotes do to it is not known"
        )
    found = by_target[..., 0]
    rows = row_places(slices, chosen, batch.quotes.owner.shape[0])
    by_row = np.zeros(len(slices.kind))
    by_row[rows[rows >= 0]] = found[rows >= 0]
    return by_row


def _numbers(surface: Surface, slices: Slices) -> Ints:
    """The expiries of the chain that the surface has."""
    moments = slices.expiry.astype(np.int64)
    return np.searchsorted(moments, [one.expiry.astype(np.int64) for one in surface.expiries])


def _of_essvi(
    surface: Surface, settings: FitSettings, batch: SurfaceBatch, strike: float, expiry: Any
) -> _Found:
    quotes = batch.quotes
    parameters = _padded(surface, quotes.years.shape[0])
    slope = _slope(surface, strike, expiry, parameters)
    found: _Found = _essvi_by_target(settings.loss, quotes, parameters, slope)
    return found


def _of_joint(
    surface: Surface,
    slices: Slices,
    settings: FitSettings,
    previous: Surface | None,
    batch: SurfaceBatch,
    strike: float,
    expiry: Any,
) -> _Found:
    quotes = batch.quotes
    chosen = JointSettings(settings.loss, settings.min_quotes, settings.coupling, settings.memory)
    model = model_named(surface.model, beta=settings.beta)
    if surface.model is ModelName.SVI:
        prior = svi_prior(slices, previous, chosen, batch)
        of, penalty = JOINT_SVI, chosen.penalty
    else:
        prior = sabr_prior(model, settings.coupling, quotes)
        of, penalty = joint_sabr(settings.beta), PENALTY
    parameters = _padded(surface, quotes.years.shape[0])
    at = (model.to_chart(parameters) - np.asarray(prior.coordinates)) / np.asarray(prior.spread)
    slope = _slope(surface, strike, expiry, parameters)
    found: _Found = _joint_by_target(of, settings.loss, penalty, quotes, prior, at, slope)
    return found


def _padded(surface: Surface, length: int) -> Floats:
    """Parameters (P, N, 1), the last expiry repeated."""
    parameters = np.array([one.parameters for one in surface.expiries]).T
    return parameters[:, np.minimum(np.arange(length), len(surface.expiries) - 1), None]


def _slope(surface: Surface, strike: float, expiry: Any, parameters: Floats) -> Floats:
    """∂v/∂p (P, N, 1) of the vol v = √(w/t) by the parameters of all smiles."""
    k, at = surface.place(float(strike), expiry)
    vol = surface.implied_vol(float(strike), expiry)
    slope = np.zeros_like(parameters)
    last = len(surface.expiries) - 1
    for number, k_there, weight in (
        (at.lower, k, at.lower_weight),
        (at.upper, k, at.upper_weight),
        (last, 0.0, at.last_weight),
    ):
        if weight:
            by = surface.smiles.parameter_gradient(number, k_there)
            slope[:, number, 0] += weight * by
    by_parameter: Floats = slope / (2.0 * vol * at.years)
    return by_parameter


@partial(jax.jit, static_argnums=(0, 1, 2))
def _joint_by_target(
    model: JointModel,
    loss: LossName,
    penalty: Penalty,
    quotes: SurfaceQuotes,
    prior: Prior,
    at: Array,
    slope: Array,
) -> _Found:
    fixed = (model, loss, penalty, quotes, prior)
    last = jnp.full(at.shape[-1], len(penalty.weights) - 1)
    size, sizes = (jnp.linalg.norm(joint.gradient(*fixed, at, n)[0]) for n in (last, last + 1))
    level = last + (sizes < size)
    _, broken = joint.gradient(*fixed, at, level)
    _, chart = joint.with_jacobian(model, prior, at)
    return _by_target(
        lambda q: joint.gradient(*fixed, q, level, broken)[0],
        lambda q: joint.quote_pulls(model, loss, quotes, prior, q),
        at,
        (slope[:, None] * chart).sum(axis=0),
    )


@partial(jax.jit, static_argnums=0)
def _essvi_by_target(
    loss: LossName, quotes: SurfaceQuotes, parameters: Array, slope: Array
) -> _Found:
    centre = essvi_surface.start_of(quotes)
    at = to_box(parameters[0], parameters[1], parameters[2], inside=_INSIDE)
    _, back = jax.vjp(from_box, at)
    return _by_target(
        lambda q: essvi_surface.gradient(loss, quotes, centre, q),
        lambda q: essvi_surface.quote_pulls(loss, quotes, q),
        at,
        back(slope)[0],
    )


def _by_target(
    gradient: Callable[[Array], Array],
    pulls: Callable[[Array], Array],
    at: Array,
    by_coordinate: Array,
) -> _Found:
    """−∂(λ·∇C)/∂y with Hλ = ∂v/∂q, shaped as the targets y, and λ·∇C; ``pulls`` are ∂C/∂y."""

    def along(of: Callable[[Array], Array], direction: Array) -> Array:
        """The derivative in a direction."""
        step = _STEP * direction.reshape(at.shape)
        return (of(at + step) - of(at - step)) / (2.0 * _STEP)

    hessian = jax.lax.map(lambda direction: along(gradient, direction).ravel(), jnp.eye(at.size))
    weight = jnp.linalg.solve(hessian, by_coordinate.ravel())
    size = jnp.linalg.norm(weight)
    by_target = -along(pulls, weight / size) * size
    return _Found(by_target, weight @ gradient(at).ravel())
