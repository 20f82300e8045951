"""What the fitter asks of a smile model, and the models that answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import NamedTuple

from calib.errors import InvalidRequest
from calib.models import essvi, sabr, svi
from calib.models.arrays import Array, namespace
from calib.states import ModelName


class RoughSmile(NamedTuple):
    """What can be read off quotes without a fit, per lane: ATM total variance and dw/dk there."""

    theta: Array
    skew: Array
    years: Array


class Start(NamedTuple):
    """Where a fit begins, and a prior to go with it: coordinates, and how far from them (one
    standard deviation) a smile may well lie. Both of shape (coordinates, lanes)."""

    coordinates: Array
    spread: Array


PRIOR_SPREAD = 5.0
"""In logarithms and logits: factors of 150 either way, which only matter to what no quote says."""
_STEEPEST = 0.99  # of the cap on wings, so far inside that a fit may leave it again


class Model(NamedTuple):
    """A smile model as pure functions; parameters and coordinates lie on axis 0.

    ``total_variance(parameters, k, years)``; ``from_chart`` maps any real coordinates to valid
    parameters and ``to_chart`` back; ``start`` gives coordinates of a sane smile for rough facts.
    """

    name: ModelName
    parameter_names: tuple[str, ...]
    coordinates: int
    total_variance: Callable[[Array, Array, Array], Array]
    from_chart: Callable[[Array], Array]
    to_chart: Callable[[Array], Array]
    start: Callable[[RoughSmile], Start]


def model_named(name: str | ModelName, *, beta: float = 1.0) -> Model:
    """The model called ``svi``, ``essvi`` or ``sabr`` (whose elasticity ``beta`` is fixed).

    Raises InvalidRequest for any other name and for a ``beta`` outside [0, 1].
    """
    try:
        known = name if isinstance(name, ModelName) else ModelName[name.upper()]
    except KeyError:
        names = ", ".join(repr(model.name.lower()) for model in ModelName)
        raise InvalidRequest(f"no model {name!r}: choose one of {names}") from None
    match known:
        case ModelName.SVI:
            return SVI
        case ModelName.ESSVI:
            return ESSVI
        case ModelName.SABR:
            if not 0.0 <= beta <= 1.0:
                raise InvalidRequest(f"beta must lie in [0, 1], not {beta}")
            return _sabr(beta)


def essvi_shape(rough: RoughSmile) -> tuple[Array, Array, Array]:
    """θ, ρ, ψ of a slice that is free of butterfly arbitrage and has about the skew seen.

    ψ = min(1.2√θ, 1.5) and ρ = w′(0)/ψ, kept off ±1 so that no wing starts flat.
    """
    xp = namespace(rough.theta)
    psi = xp.minimum(1.2 * xp.sqrt(rough.theta), 1.5)
    rho = xp.clip(rough.skew / psi, -0.7, 0.7)
    return rough.theta, rho, psi


def svi_near(anchor: Sequence[Array] | Array) -> Start:
    """Slices (θ, ρ, ψ) of eSSVI as SVI; the vertex may be some ATM standard deviations off.

    Wings of eSSVI, ½ψ(1 ± ρ), may rise up to 2, and those of SVI's coordinates not up to 1.95:
    there a slice is less curved.
    """
    theta, rho, psi = anchor
    xp = namespace(theta)
    steepest = _STEEPEST * svi.WING_CAP
    at = svi.to_chart(
        essvi.to_svi((theta, rho, xp.minimum(psi, 2.0 * steepest / (1.0 + abs(rho)))))
    )
    unit = xp.ones_like(theta)
    return Start(at, PRIOR_SPREAD * xp.stack([unit, unit, unit, xp.sqrt(theta), unit]))


def _svi_start(rough: RoughSmile) -> Start:
    return svi_near(essvi_shape(rough))


SVI = Model(
    name=ModelName.SVI,
    parameter_names=svi.SviParameters._fields,
    coordinates=5,
    total_variance=svi.total_variance,
    from_chart=svi.from_chart,
    to_chart=svi.to_chart,
    start=_svi_start,
)


def _essvi_from_chart(q: Array) -> Array:
    xp = namespace(q)
    return xp.stack([xp.exp(q[0]), xp.tanh(q[1]), xp.exp(q[2])])


def _essvi_to_chart(parameters: Array) -> Array:
    theta, rho, psi = parameters
    xp = namespace(theta)
    return xp.stack([xp.log(theta), xp.arctanh(rho), xp.log(psi)])


def _essvi_start(rough: RoughSmile) -> Start:
    xp = namespace(rough.theta)
    at = _essvi_to_chart(xp.stack(essvi_shape(rough)))
    return Start(at, xp.full_like(at, PRIOR_SPREAD))


ESSVI = Model(
    name=ModelName.ESSVI,
    parameter_names=essvi.EssviParameters._fields,
    coordinates=3,
    total_variance=essvi.total_variance,
    from_chart=_essvi_from_chart,
    to_chart=_essvi_to_chart,
    start=_essvi_start,
)


def _sabr_from_chart(beta: float, q: Array) -> Array:
    xp = namespace(q)
    return xp.stack([xp.exp(q[0]), xp.full_like(q[0], beta), xp.tanh(q[1]), xp.exp(q[2])])


def _sabr_to_chart(parameters: Array) -> Array:
    alpha, _, rho, nu = parameters
    xp = namespace(alpha)
    return xp.stack([xp.log(alpha), xp.arctanh(rho), xp.log(nu)])


def _sabr_start(rough: RoughSmile) -> Start:
    """α from the ATM vol, ρν from the skew dσ/dk = ½(ρν − (1−β)α), ν of a common smile."""
    theta, rho, psi = essvi_shape(rough)
    xp = namespace(theta)
    vol = xp.sqrt(theta / rough.years)
    nu = psi / theta * vol
    at = xp.stack([xp.log(vol), xp.arctanh(rho), xp.log(nu)])
    return Start(at, xp.full_like(at, PRIOR_SPREAD))


@cache
def _sabr(beta: float) -> Model:
    """One object a β: compiled fits are kept by the identity of the model."""
    return Model(
        name=ModelName.SABR,
        parameter_names=sabr.SabrParameters._fields,
        coordinates=3,
        total_variance=sabr.total_variance,
        from_chart=partial(_sabr_from_chart, beta),
        to_chart=_sabr_to_chart,
        start=_sabr_start,
    )
