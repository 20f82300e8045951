"""Which quotes hold a surface up: derivatives of a fitted vol by the vols that were quoted.

A fit is where the gradient of what it minimises is zero, ∇C(q, y) = 0 with q the coordinates of all
smiles and y the quoted vols. The implicit function theorem gives dq/dy = −H⁻¹ ∂∇C/∂y with H the
Hessian of C, and so for a vol v(q), with one solve of Hλ = ∂v/∂q,

    ∂v/∂y = −∂(λ·∇C)/∂y.

C is all that the fit weighs: quotes under their loss, prior, memory, neighbours and the
no-arbitrage conditions that hold it back. JAX gives ∇C; H and ∂∇C/∂y are central differences of
it, because the exact second derivatives of some models take minutes to compile. The anchor is held.
Source: Krantz & Parks, The Implicit Function Theorem (2002), §1.3; leverage as in Cook & Weisberg,
Residuals and Influence in Regression (1982), §2.2.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

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
_INSIDE = 2e-3  # of the eSSVI box: its coordinates end a thousandth from its sides


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
    expiry was fitted alone, for a surface that was blended, which is at no optimum, and for one
    that is ``previous`` itself, its quotes being unchanged; NotFitted where it has no expiry.
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
        found = np.asarray(
            _of_essvi(surface, settings, batch, strike, expiry)
            if surface.model is ModelName.ESSVI
            else _of_joint(surface, slices, settings, previous, batch, strike, expiry)
        )[..., 0]
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
) -> Array:
    quotes = batch.quotes
    parameters = _padded(surface, quotes.years.shape[0])
    slope = _slope(surface, strike, expiry, parameters)
    found: Array = _essvi_by_target(settings.loss, quotes, parameters, slope)
    return found


def _of_joint(
    surface: Surface,
    slices: Slices,
    settings: FitSettings,
    previous: Surface | None,
    batch: SurfaceBatch,
    strike: float,
    expiry: Any,
) -> Array:
    quotes = batch.quotes
    chosen = JointSettings(settings.loss, settings.min_quotes, settings.coupling, settings.memory)
    model = model_named(surface.model, beta=settings.beta)
    if surface.model is ModelName.SVI:
        prior = svi_prior([slices], [previous], chosen, batch)
        of, penalty = JOINT_SVI, chosen.penalty
    else:
        prior = sabr_prior(model, settings.coupling, quotes)
        of, penalty = joint_sabr(settings.beta), PENALTY
    parameters = _padded(surface, quotes.years.shape[0])
    at = (model.to_chart(parameters) - np.asarray(prior.coordinates)) / np.asarray(prior.spread)
    slope = _slope(surface, strike, expiry, parameters)
    found: Array = _joint_by_target(of, settings.loss, penalty, quotes, prior, at, slope)
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
) -> Array:
    return _by_target(
        lambda q, y: joint.final_cost(model, loss, penalty, quotes._replace(target=y), prior, q),
        lambda q: joint.with_jacobian(model, prior, q)[0],
        at,
        quotes.target,
        slope,
    )


@partial(jax.jit, static_argnums=0)
def _essvi_by_target(
    loss: LossName, quotes: SurfaceQuotes, parameters: Array, slope: Array
) -> Array:
    centre = essvi_surface.start_of(quotes)
    return _by_target(
        lambda q, y: essvi_surface.final_cost(loss, quotes._replace(target=y), centre, q),
        from_box,
        to_box(parameters[0], parameters[1], parameters[2], inside=_INSIDE),
        quotes.target,
        slope,
    )


def _by_target(
    cost: Callable[[Array, Array], Array],
    parameters: Callable[[Array], Array],
    at: Array,
    target: Array,
    slope: Array,
) -> Array:
    """−∂(λ·∇C)/∂y with Hλ = ∂v/∂q, shaped as the targets y."""

    def gradients(flat: Array) -> tuple[Array, Array]:
        """∇C by coordinates and by targets."""
        found: tuple[Array, Array] = jax.grad(
            lambda q, y: cost(q.reshape(at.shape), y).sum(), argnums=(0, 1)
        )(flat, target)
        return found

    def along(direction: Array) -> tuple[Array, Array]:
        """Their derivatives in a direction."""
        ahead, behind = gradients(flat + _STEP * direction), gradients(flat - _STEP * direction)
        width = 2.0 * _STEP
        return (ahead[0] - behind[0]) / width, (ahead[1] - behind[1]) / width

    flat = at.ravel()
    _, back = jax.vjp(parameters, at)
    hessian = jax.lax.map(lambda direction: along(direction)[0], jnp.eye(flat.shape[0]))
    weight = jnp.linalg.solve(hessian, back(slope)[0].ravel())
    size = jnp.linalg.norm(weight)
    by_target: Array = -along(weight / size)[1] * size
    return by_target
