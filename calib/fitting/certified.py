"""Certified surfaces from chains: joint fits in batches, proofs, the least blend where needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np

from calib.arbitrage.certificate import Certificate
from calib.arbitrage.essvi import EssviSlices, as_svi
from calib.conventions import ExpiryCalendar, Floats, Ints
from calib.fitting.blend import Blended, blend, certify_all
from calib.fitting.descent import Schedule
from calib.fitting.essvi_surface import SCHEDULE, EssviSurface, essvi_parameters, fit_essvi
from calib.fitting.joint import JOINT_SVI, Joint, Penalty, Prior, fit_joint
from calib.fitting.memory import Memory, Remembered, remember
from calib.fitting.smile import LossName
from calib.fitting.surface_batches import (
    SurfaceBatch,
    chosen_expiries,
    surface_batches,
)
from calib.fitting.surface_prior import anchor_of, remembered
from calib.fitting.surface_quotes import SurfaceQuotes
from calib.market.slices import Slices
from calib.models import svi
from calib.states import FitState
from calib.surface.surface import Surface

_PENALTY = Penalty(tuple(float(x) for x in np.geomspace(3.0, 3e3, 6)))

_SCHEDULE = Schedule(cost=1e-4, max_steps=120)


@dataclass(frozen=True)
class JointSettings:
    """How surfaces are fitted.

    ``min_quotes``: two-sided quotes that an expiry needs to be fitted; one is enough where others
    lend it a shape. ``coupling``: precision of the difference between neighbouring expiries'
    deviations from the prior, in prior spreads. ``memory``: how the last surface counts; None:
    not at all.
    """

    loss: LossName = LossName.DEAD_ZONE
    min_quotes: int = 1
    coupling: float = 4.0
    memory: Memory | None = field(default_factory=Memory)
    penalty: Penalty = _PENALTY
    schedule: Schedule = _SCHEDULE


@dataclass(frozen=True)
class CertifiedFit:
    """One surface, with its proof.

    ``expiries``: numbers, in the chain, of the n that were fitted; ``parameters`` (P, n) and their
    ``covariance`` (P, P, n) under the stated noise, of raw SVI (P = 5) or eSSVI (3);
    ``quote_share`` and ``memory_share`` (n,): what a smile's own quotes, and the last surface,
    decide of it; ``anchor`` (3, n): the eSSVI smiles that they are drawn to, or (3, 0).
    ``states``: of all expiries of the chain. ``blend``: how far the fit was drawn toward its eSSVI
    anchor, 0 to 1.
    """

    expiries: Ints
    parameters: Floats
    covariance: Floats
    quote_share: Floats
    memory_share: Floats
    anchor: Floats
    states: tuple[FitState, ...]
    steps: int
    blend: float
    certificate: Certificate


def fit_svi_surfaces(
    chains: Sequence[Slices],
    previous: Sequence[Surface | None] = (),
    settings: JointSettings = JointSettings(),
    weights: Sequence[Floats | None] = (),
) -> list[CertifiedFit]:
    """SVI over all expiries of each chain, free of arbitrage on the whole line or said not to be.

    ``previous``: for each chain the surface to start from and to remember, or None; empty for none
    at all. ``weights``: see `calib.fitting.surface_batches.surface_batches`.
    """
    chosen = chosen_expiries(chains, settings.min_quotes, weights)
    last = list(previous) if settings.memory and len(previous) else [None] * len(chains)
    # All are begun before the first is waited for: jax computes while the next is made ready.
    begun = [
        _begun(chains[batch.chain], last[batch.chain], settings, batch)
        for batch in surface_batches(chains, chosen, weights)
    ]
    fitted = [_fitted(each) for each in begun]
    # One proof for all surfaces: its cost is nearly all in the number of its calls.
    proofs = certify_all(
        [each.parameters for each in fitted],
        [is_coupled(chains[each.batch.chain]) for each in fitted],
    )
    found = {
        each.batch.chain: _concluded(chains[each.batch.chain], settings, each, proof)
        for each, proof in zip(fitted, proofs, strict=True)
    }
    return [found.get(i) or nothing(slices, 5) for i, slices in enumerate(chains)]


def fit_essvi_surfaces(
    chains: Sequence[Slices],
    settings: JointSettings = JointSettings(),
    weights: Sequence[Floats | None] = (),
) -> list[CertifiedFit]:
    """eSSVI over all expiries of each chain, free of arbitrage by construction, and proved so."""
    chosen = chosen_expiries(chains, settings.min_quotes, weights)
    found: dict[int, CertifiedFit] = {}
    for batch in surface_batches(chains, chosen, weights):
        slices, n = chains[batch.chain], len(batch.expiries)
        coupled = is_coupled(slices)
        fitted = _essvi(settings.loss, batch, coupled)
        surface = fitted.parameters[:, :n]
        (proof,) = certify_all([np.stack(as_svi(EssviSlices(*surface)))], [coupled])
        own = 1.0 - fitted.lean[:n]
        found[batch.chain] = CertifiedFit(
            batch.expiries,
            surface,
            fitted.covariance[:, :, :n],
            own,
            np.zeros_like(own),
            np.zeros((3, 0)),
            states_of(slices, batch.expiries, state_of(fitted.moved, fitted.settled, surface)),
            fitted.steps,
            0.0,
            proof,
        )
    return [found.get(i) or nothing(slices, 3) for i, slices in enumerate(chains)]


class _Fitted(NamedTuple):
    """A surface after its joint fit: ``parameters`` (5, n) and what goes with them."""

    batch: SurfaceBatch
    prior: Prior
    parameters: Floats
    covariance: Floats
    own: Floats
    memory: Floats
    steps: int
    settled: bool
    moved: bool

    @classmethod
    def of(cls, batch: SurfaceBatch, prior: Prior, joint: Joint) -> _Fitted:
        """When it is computed, without its padding."""
        n, numbers = len(batch.expiries), [np.asarray(part)[..., 0] for part in joint]
        parameters, covariance, own, memory = (part[..., :n] for part in numbers[:4])
        steps, settled, moved = int(numbers[4]), bool(numbers[5]), bool(numbers[6])
        return cls(batch, prior, parameters, covariance, own, memory, steps, settled, moved)


class _Begun(NamedTuple):
    """A surface whose fit is being computed."""

    batch: SurfaceBatch
    prior: Prior
    joint: Joint


def _begun(
    slices: Slices, previous: Surface | None, settings: JointSettings, batch: SurfaceBatch
) -> _Begun:
    with jax.enable_x64(True):
        prior = svi_prior(slices, previous, settings, batch)
        return _Begun(batch, prior, _joint(settings, batch, prior))


def _joint(
    settings: JointSettings, batch: SurfaceBatch, prior: Prior, start: Floats | None = None
) -> Joint:
    return fit_joint(
        JOINT_SVI, settings.loss, settings.penalty, settings.schedule, batch.quotes, prior, start
    )


def _fitted(begun: _Begun) -> _Fitted:
    """The surface when its fit has ended."""
    fitted = _Fitted.of(*begun)
    # The last surface may be the optimum already; but where it had no cost nothing was settled.
    stood = fitted.settled and bool(np.asarray(fitted.prior.last).any())
    return fitted._replace(moved=fitted.moved or stood)


def _concluded(
    slices: Slices, settings: JointSettings, fitted: _Fitted, proof: Certificate
) -> CertifiedFit:
    """What failed its proof is blended until it passes, and fitted on from there."""
    source, done = fitted, Blended(fitted.parameters, 0.0, proof)
    if not proof.arbitrage_free:
        source, done = _mended(settings, fitted, coupled=is_coupled(slices))
    state = state_of(source.moved, source.settled, done.parameters)
    expiries = source.batch.expiries
    return CertifiedFit(
        expiries,
        done.parameters,
        source.covariance,
        source.own,
        source.memory,
        np.asarray(source.prior.anchor)[:, : len(expiries), 0],
        states_of(slices, expiries, state),
        source.steps,
        done.amount,
        done.certificate,
    )


class _End(NamedTuple):
    """A surface with the fit that its numbers come from."""

    source: _Fitted
    done: Blended


def _mended(settings: JointSettings, fitted: _Fitted, *, coupled: bool) -> _End:
    """A surface that failed its proof: blended, and fitted on from there where that proves."""
    blended = _blended(settings, fitted, coupled=coupled)
    if blended.amount < 1.0:
        again = _fitted_on(settings, fitted, blended.parameters)
        (proof,) = certify_all([again.parameters], [coupled])
        if proof.arbitrage_free and again.moved:
            return _End(again, Blended(again.parameters, 0.0, proof))
    return _End(fitted, blended)


def _fitted_on(settings: JointSettings, fitted: _Fitted, start: Floats) -> _Fitted:
    """A surface fitted on from parameters (5, n)."""
    batch, prior = fitted.batch, fitted.prior
    coordinates, spread = np.asarray(prior.coordinates), np.asarray(prior.spread)
    n, at = start.shape[1], np.zeros_like(coordinates)
    at[:, :n, 0] = (svi.to_chart(start) - coordinates[:, :n, 0]) / spread[:, :n, 0]
    with jax.enable_x64(True):
        again = _Fitted.of(batch, prior, _joint(settings, batch, prior, at))
    return again._replace(steps=fitted.steps + again.steps)


def svi_prior(
    slices: Slices, previous: Surface | None, settings: JointSettings, batch: SurfaceBatch
) -> Prior:
    """What a surface is taken to be before its quotes are seen."""
    quotes, memory = batch.quotes, settings.memory
    if memory is None or previous is None:
        return anchor_of(settings.loss, settings.coupling, quotes)
    known = remember(previous, slices, batch.expiries, memory)
    place = np.minimum(np.arange(quotes.years.shape[0]), len(known.known) - 1)
    padded: list[Any] = [part[..., place, None] for part in known]  # the last expiry is repeated
    last = Remembered(*padded)
    fresh: Any = last.anchor  # where all are known no other is wanted
    if not last.known.all():
        fresh = anchor_of(settings.loss, settings.coupling, quotes).anchor
    prior: Prior = remembered(last, settings.coupling, quotes, fresh)
    return prior


class _EssviFits(NamedTuple):
    """An `EssviSurface` as numpy arrays, of one surface and with its padding."""

    parameters: Floats
    covariance: Floats
    lean: Floats
    steps: int
    settled: bool
    moved: bool

    @classmethod
    def of(cls, fitted: EssviSurface) -> _EssviFits:
        """When it is computed."""
        parts = [np.asarray(part)[..., 0] for part in fitted]
        parameters, covariance, lean, steps, settled, moved = parts
        return cls(parameters, covariance, lean, int(steps), bool(settled), bool(moved))


def _essvi(loss: LossName, batch: SurfaceBatch, coupled: bool) -> _EssviFits:
    """A surface; of expiries that are not linked, each is a surface of its own."""
    quotes = batch.quotes
    with jax.enable_x64(True):
        if coupled:
            return _EssviFits.of(fit_essvi(loss, SCHEDULE, quotes))
        alone = [
            _EssviFits.of(fit_essvi(loss, SCHEDULE, _only(quotes, number)))
            for number in range(len(batch.expiries))
        ]
    padding = [alone[-1]] * (quotes.years.shape[0] - len(alone))
    every = [*alone, *padding]
    return _EssviFits(
        np.concatenate([one.parameters for one in every], axis=-1),
        np.concatenate([one.covariance for one in every], axis=-1),
        np.concatenate([one.lean for one in every], axis=-1),
        max(one.steps for one in alone),
        all(one.settled for one in alone),
        any(one.moved for one in alone),
    )


def _only(quotes: SurfaceQuotes, number: int) -> SurfaceQuotes:
    """One expiry of every lane, as a surface of one: the others' quotes count for nothing."""
    mine: Any = quotes.owner == np.minimum(number, quotes.present.sum(axis=0) - 1)
    one = slice(number, number + 1)
    changed: dict[str, Any] = {
        "above": np.where(mine, quotes.above, np.inf),
        "below": np.where(mine, quotes.below, np.inf),
        "owner": np.zeros_like(quotes.owner),
        "years": quotes.years[one],
        "present": np.ones_like(quotes.present[one]),
        "linked": np.zeros_like(quotes.linked[one]),
    }
    return quotes._replace(**changed)


def _blended(settings: JointSettings, fitted: _Fitted, *, coupled: bool) -> Blended:
    """A blend toward the eSSVI surface of the same quotes."""
    if coupled:
        # What the rough anchor was found with is compiled already: no live fit waits for this one.
        with jax.enable_x64(True):
            found = essvi_parameters(settings.loss, SCHEDULE, fitted.batch.quotes)
            calm = np.asarray(found)[..., 0]
    else:
        calm = _essvi(settings.loss, fitted.batch, coupled=False).parameters
    surface = fitted.parameters
    anchor = np.stack(as_svi(EssviSlices(*calm[:, : surface.shape[1]])))

    def certify(tried: Floats) -> Certificate:
        return certify_all([tried], [coupled])[0]

    return blend(surface, anchor, certify, svi.to_chart, svi.from_chart)


def is_coupled(slices: Slices) -> bool:
    """Whether all expiries of a chain are of one asset."""
    return slices.calendar == ExpiryCalendar.SAME_ASSET


def state_of(moved: bool, settled: bool, parameters: Floats) -> FitState:
    """How the fit of a surface ended."""
    if not np.isfinite(parameters).all():
        return FitState.NON_FINITE
    if not moved:
        return FitState.NO_STEP_ACCEPTED
    return FitState.CONVERGED if settled else FitState.STEP_LIMIT


def states_of(slices: Slices, expiries: Ints, fitted: FitState) -> tuple[FitState, ...]:
    """``fitted`` for the fitted expiries, and why the others were not."""
    states = np.full(len(slices.expiry), FitState.TOO_FEW_QUOTES, np.int64)
    states[(slices.forward_source == 0) | ~np.isfinite(slices.forward)] = FitState.NO_FORWARD
    states[slices.years <= 0.0] = FitState.EXPIRED
    states[expiries] = fitted
    return tuple(FitState(int(state)) for state in states)


def nothing(slices: Slices, parameters: int) -> CertifiedFit:
    """What a chain without a single expiry that can be fitted comes to."""
    none, size = np.zeros(0, np.int64), parameters
    states = states_of(slices, none, FitState.TOO_FEW_QUOTES)
    return CertifiedFit(
        none, np.zeros((size, 0)), np.zeros((size, size, 0)), np.zeros(0), np.zeros(0),
        np.zeros((3, 0)), states, 0, 0.0, Certificate.not_checked(),
    )  # fmt: skip
